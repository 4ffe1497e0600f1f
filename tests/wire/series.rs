//! Whatever callers invent, the number of series stays within the budget of `docs/metrics.md`.

use std::{sync::Arc, time::Duration};

use rand::{RngExt as _, SeedableRng as _, rngs::SmallRng};
use serde_json::json;
use surgetank::telemetry::labels::{Size, most_series};
use tokio::{task::JoinSet, time::Instant};

use super::harness::{Caller, Recipe, Request, Tongue};

const CALLERS: u64 = 16;

/// How many requests; set it to 100000 for the figure in docs/metrics.md.
fn requests() -> u64 {
    let count = std::env::var("SURGETANK_TEST_SERIES_REQUESTS");
    let count = count.ok().and_then(|count| count.parse().ok());
    count.unwrap_or(3_000)
}

/// Series of the client library's own, about the process.
const PROCESS: usize = 9;

/// A request that nobody has sent before, with whatever a caller can choose chosen by chance.
fn invented(random: &mut SmallRng) -> Request {
    let any = |random: &mut SmallRng| format!("{:016x}", random.random::<u64>());
    // Models are mostly new, and partly repeated: only those that answer often become labels.
    let model = if random.random_bool(0.5) {
        any(random)
    } else {
        format!("model-{}", random.random_range(0..200))
    };
    let fault = match random.random_range(0..10) {
        0..6 => "ok;words=2".to_owned(),
        6 => "error-first".to_owned(),
        7 => "cut;after=1".to_owned(),
        _ => random.random_range(400..600).to_string(),
    };
    let stream = random.random_bool(0.5);
    let body = json!({ "model": model, "stream": stream, "user": any(random), "messages": [], "input": "x" });
    let path = match random.random_range(0..5) {
        0 => format!("/v1/{}", any(random)),
        1 => format!("/{}?{}={}", any(random), any(random), any(random)),
        2 => Tongue::Messages.path().to_owned(),
        3 => Tongue::Responses.path().to_owned(),
        _ => Tongue::Chat.path().to_owned(),
    };
    let method = if random.random_bool(0.1) {
        any(random).to_uppercase()
    } else {
        "POST".to_owned()
    };
    let mut request = Request::post(&path, body.to_string());
    if method.starts_with(|first: char| first.is_ascii_alphabetic()) {
        request.method = method;
    }
    request
        .header("authorization", &format!("Bearer {}", any(random)))
        .header("x-surgetank-user", &any(random))
        .header(&format!("x-{}", any(random)), &any(random))
        .header("x-lab-fault", &fault)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn series_stay_within_their_budget_whatever_callers_invent() {
    let lab =
        surgetank::lab::Lab::start(surgetank::lab::LabConfig::default()).expect("a free port");
    // No retries: each would be a wait, and none makes a series that the rest does not.
    let recipe = Recipe::over(&lab.url())
        .workers(2)
        .retry_anew("max_retries: 0, base: 1ms, patience: 1s");
    let limit = "limits: { per_user: { requests: 1000/s } }";
    let tank = Arc::new(recipe.fallback("[ { reply: 'Sorry.' } ]").start_with(limit));
    let (began, per_caller) = (Instant::now(), requests().div_ceil(CALLERS));
    let mut callers = JoinSet::new();
    for seed in 0..CALLERS {
        let addr = tank.addr;
        callers.spawn(async move {
            let mut random = SmallRng::seed_from_u64(seed);
            let mut caller = Caller::connect(addr).await;
            for _ in 0..per_caller {
                let answered = caller.try_call(&invented(&mut random)).await;
                let goes_on = answered.is_ok_and(|answer| {
                    answer.end == super::harness::End::Whole
                        && answer.head.one("connection") != Some("close")
                });
                if !goes_on {
                    caller = Caller::connect(addr).await;
                }
            }
        });
    }
    while let Some(done) = callers.join_next().await {
        done.expect("no caller failed");
    }
    tank.at_rest().await;
    let asked = tank.count("surgetank_requests_total", &[]);
    assert!(asked >= per_caller * CALLERS, "{asked}");
    let size = Size {
        routes: 1,
        upstreams: 1,
        models: 32,
    };
    let budget: usize = tank
        .proxy
        .metrics()
        .families()
        .iter()
        .map(|family| most_series(family, size).expect("every label is bounded"))
        .sum();
    let rendered = String::from_utf8(tank.proxy.metrics().render()).expect("text");
    let series = rendered
        .lines()
        .filter(|line| !line.starts_with('#'))
        .count();
    let rate = asked as f64 / began.elapsed().max(Duration::from_millis(1)).as_secs_f64();
    eprintln!(
        "{asked} requests ({rate:.0}/s) made {series} series of at most {}",
        budget + PROCESS
    );
    assert!(
        series <= budget + PROCESS,
        "{series} series, {budget} at most:\n{rendered}"
    );
    // Far below it, too: what is invented shares its series.
    assert!(series < 3_000, "{series} series:\n{rendered}");
}

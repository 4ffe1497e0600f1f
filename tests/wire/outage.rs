//! An outage under load with the queue as its fallback: everybody is answered in the end, in fair order, and whoever
//! waits himself does not notice that there is a queue.
//!
//! `SURGETANK_OUTAGE_SECONDS` says how long it lasts; two seconds by default.

use std::{collections::HashMap, time::Duration};

use surgetank::lab::{AnswerConfig, Lab, LabConfig, LabHandle, RecordConfig};
use tokio::{task::JoinSet, time::Instant};

use super::harness::{Caller, Folder, Recipe, Request, Tank, Tongue, soon};

/// Requests a second.
const RATE: u32 = 50;

/// Half of all requests are this one's; the others share the rest.
const GREEDY: &str = "greedy";
const USERS: u32 = 9;

/// Requests of the live caller, one behind the other.
const LIVE: usize = 60;

fn seconds() -> u32 {
    let told = std::env::var("SURGETANK_OUTAGE_SECONDS").ok();
    told.map_or(2, |seconds| seconds.parse().expect("a number of seconds"))
}

fn lab() -> LabHandle {
    let config = LabConfig {
        answer: AnswerConfig {
            words: 2,
            headers_after: Duration::from_millis(20),
            first_token: Duration::ZERO,
            interval: Duration::ZERO,
            ..AnswerConfig::default()
        },
        record: RecordConfig {
            requests: 100_000,
            body_bytes: 0,
        },
        ..LabConfig::default()
    };
    Lab::start(config).expect("a free port")
}

fn tank(lab: &LabHandle, folder: &Folder, chain: &str) -> Tank {
    let file = folder.path("queue.db");
    Recipe::over(&lab.url())
        .upstream("credential: { env: TEST_KEY }")
        .retry("max_retries: 0, patience: 300ms")
        .fallback(chain)
        .start_with(&format!(
            "store: {{ url: 'sqlite:{}' }}\nqueue: {{ retry_base: 50ms, retry_cap: 300ms, max_attempts: 100000 }}",
            file.display()
        ))
}

fn request(user: &str, key: &str) -> Request {
    Tongue::Chat
        .plain()
        .header("x-surgetank-user", user)
        .header("x-lab-key", key)
}

/// Whose the n-th request is.
fn user_of(number: u32) -> String {
    if number.is_multiple_of(2) {
        GREEDY.to_owned()
    } else {
        format!("user-{}", number / 2 % USERS)
    }
}

/// Load for as long as the outage lasts; what each request was told, and where its answer will be.
async fn outage(lab: &LabHandle, tank: &Tank) -> HashMap<String, Option<String>> {
    lab.script("503*").expect("a script");
    let mut callers = JoinSet::new();
    for number in 0..RATE * seconds() {
        let (addr, user) = (tank.addr, user_of(number));
        let key = format!("{user}#{number}");
        callers.spawn(async move {
            let answer = Caller::connect(addr)
                .await
                .call(&request(&user, &key))
                .await;
            let is_substituted = answer.head.has("x-surgetank-fallback");
            assert!(is_substituted, "{}: {}", answer.status, answer.text());
            (key, answer.head.one("location").map(str::to_owned))
        });
        tokio::time::sleep(Duration::from_secs(1) / RATE).await;
    }
    let told = soon(
        "every caller of the outage is told something",
        callers.join_all(),
    )
    .await;
    lab.script("ok*").expect("a script");
    told.into_iter().collect()
}

/// How long a caller waits who asks while the queue is worked off, on average and at the 90th percentile.
async fn live(tank: &Tank) -> (Duration, Duration) {
    let mut caller = tank.caller().await;
    // The breaker has its probe before anybody is measured.
    soon("the upstream is back", async {
        loop {
            let answer = caller.call(&request("live", "live")).await;
            if !answer.head.has("x-surgetank-fallback") {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let mut waits = Vec::new();
    for _ in 0..LIVE {
        let began = Instant::now();
        let answer = caller.call(&request("live", "live")).await;
        waits.push(began.elapsed());
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert!(
            !answer.head.has("x-surgetank-fallback"),
            "{}",
            answer.text()
        );
    }
    waits.sort_unstable();
    let sum: Duration = waits.iter().sum();
    (sum / u32::try_from(LIVE).unwrap_or(1), waits[LIVE * 9 / 10])
}

/// Waits for the answers of all who were queued; how many there were.
async fn answered(tank: &Tank, told: &HashMap<String, Option<String>>) -> usize {
    let mut caller = tank.caller().await;
    let all = async {
        for (key, location) in told {
            let Some(location) = location else { continue };
            loop {
                let get = Request::get(location).header("authorization", "Bearer k");
                let answer = caller.call(&get).await;
                if answer.status != 202 {
                    assert_eq!(answer.status, 200, "{key}: {}", answer.text());
                    break;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    };
    let patience = Duration::from_secs(60 + 10 * u64::from(seconds()));
    tokio::time::timeout(patience, all)
        .await
        .expect("all queued requests are answered");
    told.values().flatten().count()
}

/// In how many answers of the greedy user the others have nine of ten of theirs, and how many each of them has at most.
/// The last of them may have been tried just before the end of the outage, and wait for their own backoff.
fn greedy_before_the_others(lab: &LabHandle) -> (usize, usize) {
    let answered = lab
        .requests()
        .into_iter()
        .filter(|request| request.status == Some(200));
    let keys: Vec<String> = answered
        .filter_map(|request| request.key)
        .filter(|key| key.contains('#'))
        .collect();
    let is_greedy = |key: &String| key.starts_with(GREEDY);
    let others = || (0..keys.len()).filter(|at| !is_greedy(&keys[*at]));
    let most = others()
        .nth(others().count() * 9 / 10)
        .expect("the others were answered");
    let mut of_each: HashMap<&str, usize> = HashMap::new();
    for key in keys.iter().filter(|key| !is_greedy(key)) {
        *of_each
            .entry(key.split('#').next().unwrap_or_default())
            .or_default() += 1;
    }
    let rounds = of_each.values().copied().max().unwrap_or(0);
    (
        keys[..=most].iter().filter(|key| is_greedy(key)).count(),
        rounds,
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everybody_is_answered_in_fair_order_and_who_waits_himself_does_not_notice() {
    let (lab, folder) = (lab(), Folder::new());
    let with_queue = tank(&lab, &folder, "[queue]");
    let told = outage(&lab, &with_queue).await;
    let waits_beside_a_queue = live(&with_queue).await;
    let queued = answered(&with_queue, &told).await;
    assert_eq!(queued, told.len(), "every request of the outage was queued");
    for key in told.keys() {
        let executions = lab
            .requests_of(key)
            .iter()
            .filter(|request| request.status == Some(200))
            .count();
        assert_eq!(executions, 1, "{key}");
    }
    let (greedy, rounds) = greedy_before_the_others(&lab);
    with_queue.at_rest().await;
    with_queue.stop().await;

    let other = Folder::new();
    let without = tank(&lab, &other, "[{ reply: sorry }]");
    lab.reset();
    outage(&lab, &without).await;
    let waits_without = live(&without).await;
    println!(
        "outage of {} s at {RATE}/s: {queued} of {} queued and answered; the greedy user had {greedy} answers when the others had \
         nine of ten of theirs ({rounds} each at most); live mean and p90 {waits_beside_a_queue:?} beside the queue, {waits_without:?} without",
        seconds(),
        told.len(),
    );
    // One a round, and as many as are under way at once, and what was answered while the load still came.
    assert!(
        greedy <= rounds + 4 + 4,
        "{greedy} answers of the greedy user in {rounds} rounds"
    );
    // The machine may be busy; what a queue in the way would cost is far more.
    let patience = waits_without.0 * 4 + Duration::from_millis(100);
    assert!(
        waits_beside_a_queue.0 < patience,
        "{waits_beside_a_queue:?} against {waits_without:?}"
    );
    without.at_rest().await;
}

//! What vendors tell of their quota on answers that succeed, in each form that is known: a lane slows down before its first
//! refusal, and the operator sees what is left.

use std::time::{Duration, SystemTime};

use super::harness::{Caller, Origin, Recipe, Request, Tongue, soon};

/// The least that the calls after the telling answer have to wait together: half of the shortest time that is told.
const LEAST_WAIT: u64 = 300;

/// A moment in the form of `2026-11-27T05:12:22+00:00`, from the form of `Fri, 27 Nov 2026 05:12:22 GMT`.
fn rfc3339(at: SystemTime) -> String {
    const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";
    let date = httpdate::fmt_http_date(at);
    let parts: Vec<&str> = date.split(' ').collect();
    let month = MONTHS.find(parts[2]).expect("a month") / 3 + 1;
    format!("{}-{month:02}-{}T{}+00:00", parts[3], parts[1], parts[4])
}

/// How a vendor tells that this quota is spent, and when it is whole again; and the label under which that is shown.
struct Telling {
    case: &'static str,
    tongue: Tongue,
    fields: String,
    quota: &'static str,
}

impl Telling {
    fn new(
        case: &'static str,
        tongue: Tongue,
        quota: &'static str,
        fields: &[(&str, &str)],
    ) -> Self {
        let fields = fields.iter();
        let fields = fields.map(|(name, value)| format!("{name}: {value}\r\n"));
        Self {
            case,
            tongue,
            fields: fields.collect(),
            quota,
        }
    }

    /// What OpenAI and those compatible with it send of requests and tokens.
    fn openai(case: &'static str, quota: &'static str, reset: &str) -> Self {
        let left = |of: &str| if of == quota { "0" } else { "90000" };
        Self::new(
            case,
            Tongue::Chat,
            quota,
            &[
                ("x-ratelimit-limit-requests", "100000"),
                ("x-ratelimit-remaining-requests", left("requests")),
                ("x-ratelimit-reset-requests", reset),
                ("x-ratelimit-limit-tokens", "100000"),
                ("x-ratelimit-remaining-tokens", left("tokens")),
                ("x-ratelimit-reset-tokens", reset),
            ],
        )
    }

    /// What Anthropic sends, of all that it counts.
    fn anthropic(quota: &'static str, what: &str) -> Self {
        let reset = rfc3339(SystemTime::now() + Duration::from_secs(3));
        let mut fields = Vec::new();
        for of in ["requests", "tokens", "input-tokens", "output-tokens"] {
            let left = if of == what { "0" } else { "90000" };
            for (property, value) in [("limit", "100000"), ("remaining", left), ("reset", &reset)] {
                fields.push((format!("anthropic-ratelimit-{of}-{property}"), value));
            }
        }
        let fields: Vec<(&str, &str)> = fields.iter().map(|(n, v)| (n.as_str(), *v)).collect();
        Self::new("Anthropic", Tongue::Messages, quota, &fields)
    }
}

/// Three calls of one lane: the first is told the quota. How long the others waited together, in milliseconds, and the
/// part of the quota that is shown as used.
async fn three_calls(telling: &Telling) -> (u64, Option<f64>) {
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n{}content-length: 2\r\n\r\n{{}}",
        telling.fields
    );
    let origin = Origin::start()
        .await
        .serve(move |_| Some(head.clone().into()));
    let tank = Recipe::over(&origin.url()).start();
    let request = telling.tongue.plain();
    let first = soon("the first", tank.call(&request)).await;
    assert_eq!(first.status, 200, "{}", telling.case);
    let (admin, _serving) = tank.admin();
    let mut operator = Caller::connect(admin).await;
    let exposition = operator.call(&Request::get("/metrics")).await.text();
    let quota = format!("quota=\"{}\"", telling.quota);
    let used = exposition
        .lines()
        .find(|line| line.starts_with("surgetank_vendor_quota_used_ratio") && line.contains(&quota))
        .and_then(|line| line.rsplit_once(' ')?.1.parse().ok());
    let mut waited = 0;
    for _ in 0..2 {
        let answer = soon("the next", tank.call(&request)).await;
        assert_eq!(answer.status, 200, "{}", telling.case);
        waited += answer.number("x-surgetank-waited-ms");
    }
    assert_eq!(
        origin.seen().len(),
        3,
        "{}: nothing was repeated",
        telling.case
    );
    (waited, used)
}

/// A lane waits at this word, and the quota is shown as spent.
async fn is_heeded(telling: Telling) {
    let (waited, used) = three_calls(&telling).await;
    let told = format!("{} ({}): {}", telling.case, telling.quota, telling.fields);
    assert_eq!(used, Some(1.0), "{told}");
    assert!(waited >= LEAST_WAIT, "waited {waited} ms. {told}");
}

#[tokio::test]
async fn a_lane_slows_down_at_openais_word_and_azures_that_a_quota_is_spent() {
    for (case, quota, reset) in [
        ("a duration as Go prints it", "requests", "700ms"),
        ("one of two units", "requests", "0m0.75s"),
        ("tokens", "tokens", "700ms"),
        ("Azure's whole seconds", "requests", "1"),
        ("Azure's whole seconds, tokens", "tokens", "1"),
    ] {
        is_heeded(Telling::openai(case, quota, reset)).await;
    }
}

#[tokio::test]
async fn a_lane_slows_down_at_anthropics_word_that_a_quota_is_spent() {
    for (quota, what) in [
        ("requests", "requests"),
        ("tokens", "tokens"),
        ("input_tokens", "input-tokens"),
        ("output_tokens", "output-tokens"),
    ] {
        is_heeded(Telling::anthropic(quota, what)).await;
    }
}

#[tokio::test]
async fn what_says_nothing_of_use_slows_nobody_down() {
    let odd = |case, fields: &[(&str, &str)]| Telling::new(case, Tongue::Chat, "requests", fields);
    for telling in [
        Telling::openai("plenty is left", "none of them", "700ms"),
        odd(
            "no time of reset, as some of Azure's answers",
            &[
                ("x-ratelimit-limit-requests", "100"),
                ("x-ratelimit-remaining-requests", "0"),
            ],
        ),
        odd(
            "placeholders",
            &[
                ("x-ratelimit-limit-requests", "-1"),
                ("x-ratelimit-remaining-requests", "-1"),
                ("x-ratelimit-reset-requests", "1s"),
            ],
        ),
        odd(
            "a day's quota, as Groq tells it: nobody waits for tomorrow",
            &[
                ("x-ratelimit-limit-requests", "14400"),
                ("x-ratelimit-remaining-requests", "0"),
                ("x-ratelimit-reset-requests", "2h59m56.5s"),
            ],
        ),
        odd(
            "what is no time",
            &[
                ("x-ratelimit-limit-requests", "100"),
                ("x-ratelimit-remaining-requests", "0"),
                ("x-ratelimit-reset-requests", "soon"),
            ],
        ),
        odd(
            "a moment in milliseconds, under names without a quota",
            &[
                ("x-ratelimit-limit", "100"),
                ("x-ratelimit-remaining", "0"),
                ("x-ratelimit-reset", "1764115200000"),
            ],
        ),
    ] {
        let (waited, _) = three_calls(&telling).await;
        assert_eq!(waited, 0, "{}", telling.case);
    }
}

//! A user's own limits: who is meant, what is counted, and how a refusal is told.

use serde_json::json;

use super::harness::{Answer, PATIENCE, Recipe, Request, Rig, Tank, Tongue};

/// The proxy with these limits, in front of the lab.
pub(super) struct Limited {
    pub(super) rig: Rig,
}

impl Limited {
    pub(super) fn by(per_user: &str) -> Self {
        Self::with(&format!("limits: {{ per_user: {{ {per_user} }} }}"))
    }

    pub(super) fn with(block: &str) -> Self {
        let lab =
            surgetank::lab::Lab::start(surgetank::lab::LabConfig::default()).expect("a free port");
        // A refusal of a user is never covered up by a reply.
        let tank = Recipe::over(&lab.url())
            .fallback("[ { reply: 'Please wait.' } ]")
            .start_with(block);
        Self {
            rig: Rig { lab, tank },
        }
    }

    pub(super) fn tank(&self) -> &Tank {
        &self.rig.tank
    }

    pub(super) async fn call(&self, user: &str) -> Answer {
        self.tank()
            .call(&Tongue::Chat.plain().header("x-surgetank-user", user))
            .await
    }
}

#[tokio::test]
async fn a_burst_passes_and_what_exceeds_it_is_refused_before_it_costs_anything() {
    let limited = Limited::by("requests: 60/min, burst: 3");
    for left in [2, 1, 0] {
        let answer = limited.call("ann").await;
        assert_eq!(answer.status, 200);
        assert_eq!(
            answer.head.one("ratelimit-policy"),
            Some("\"user\";q=60;w=60")
        );
        let state = answer.head.one("ratelimit").expect("what is left");
        assert!(
            state.starts_with(&format!("\"user\";r={left};t=")),
            "{state}"
        );
    }
    let refused = limited.call("ann").await;
    assert_eq!(refused.status, 429);
    assert!(refused.number("retry-after") >= 1);
    assert!(
        refused
            .head
            .one("ratelimit")
            .is_some_and(|state| state.starts_with("\"user\";r=0;t=")),
        "{:?}",
        refused.head
    );
    assert!(refused.head.has("ratelimit-policy"));
    assert!(!refused.head.has("x-surgetank-fallback"));
    assert_eq!(
        limited.rig.lab.stats().requests,
        3,
        "the refused one reached nobody"
    );
    assert_eq!(limited.tank().outcomes("limited"), 1);
    assert_eq!(
        limited
            .tank()
            .count("surgetank_limited_total", &[("rule", "rate")]),
        1
    );
    assert_eq!(
        limited.call("bob").await.status,
        200,
        "another user is not concerned"
    );
    limited.tank().at_rest().await;
}

#[tokio::test]
async fn a_refusal_speaks_the_callers_dialect() {
    let limited = Limited::by("requests: 1/hour");
    for tongue in Tongue::ALL {
        for stream in [false, true] {
            let request = if stream {
                tongue.stream()
            } else {
                tongue.plain()
            }
            .header("x-surgetank-user", &format!("{tongue:?}{stream}"));
            assert_eq!(limited.tank().call(&request).await.status, 200);
            let refused = limited.tank().call(&request).await;
            assert_eq!(
                (refused.status, refused.head.one("content-type")),
                (429, Some("application/json"))
            );
            let error = refused.json();
            if tongue == Tongue::Messages {
                assert_eq!(
                    (&error["type"], &error["error"]["type"]),
                    (&json!("error"), &json!("rate_limit_error"))
                );
            } else {
                assert_eq!(error["error"]["code"], "rate_limit_exceeded", "{error}");
            }
            assert!((1..=3600).contains(&refused.number("retry-after")));
            assert!(
                error["error"]["message"]
                    .as_str()
                    .is_some_and(|text| text.contains("try again")),
                "{error}"
            );
        }
    }
}

/// A source; two requests of one user, and one of another.
fn users() -> Vec<(&'static str, Request, Request, Request)> {
    let ann = |request: Request| request.header("x-surgetank-user", "ann");
    let body = |extra| Tongue::Chat.with(false, &extra);
    let bare = || Request::post("/v1/chat/completions", r#"{"model":"m","messages":[]}"#);
    vec![
        (
            "header",
            ann(Tongue::Chat.plain()),
            ann(Tongue::Messages.plain()),
            Tongue::Chat.plain().header("x-surgetank-user", "bob"),
        ),
        (
            "header before body",
            ann(body(json!({ "user": "x" }))),
            ann(body(json!({ "user": "y" }))),
            body(json!({ "user": "z" })),
        ),
        (
            "safety_identifier",
            body(json!({ "safety_identifier": "s1" })),
            body(json!({ "safety_identifier": "s1", "user": "u" })),
            body(json!({ "safety_identifier": "s2" })),
        ),
        (
            "user",
            body(json!({ "user": "u1" })),
            body(json!({ "user": "u1" })),
            body(json!({ "user": "u2" })),
        ),
        (
            "metadata.user_id",
            Tongue::Messages.with(false, &json!({ "metadata": { "user_id": "m1" } })),
            Tongue::Messages.with(false, &json!({ "metadata": { "user_id": "m1" } })),
            Tongue::Messages.with(false, &json!({ "metadata": { "user_id": "m2" } })),
        ),
        (
            "credential",
            bare().header("authorization", "Bearer c1"),
            bare().header("x-api-key", "c1"),
            bare().header("authorization", "Bearer c2"),
        ),
    ]
}

#[tokio::test]
async fn users_are_told_apart_by_the_first_source_that_names_them() {
    for (source, first, again, other) in users() {
        let limited = Limited::by("requests: 1/hour");
        assert_eq!(limited.tank().call(&first).await.status, 200, "{source}");
        assert_eq!(
            limited.tank().call(&again).await.status,
            429,
            "{source}: the same user"
        );
        assert_eq!(
            limited.tank().call(&other).await.status,
            200,
            "{source}: another user"
        );
    }
    // The order of the sources is the operator's.
    let limited = Limited::with("limits: { identify: [ peer ], per_user: { requests: 1/hour } }");
    assert_eq!(limited.call("ann").await.status, 200);
    assert_eq!(
        limited.call("bob").await.status,
        429,
        "one address is one user here"
    );
}

#[tokio::test]
async fn a_running_answer_counts_until_its_last_byte() {
    let limited = Limited::by("concurrent: 1");
    let mut first = limited.tank().caller().await;
    let slow = Tongue::Chat
        .stream()
        .header("x-surgetank-user", "ann")
        .script("slow", "hang-body;for=700ms");
    first.send(slow.bytes()).await;
    first.wire.through(b"\n\n").await;
    let refused = limited.call("ann").await;
    assert_eq!(refused.status, 429);
    assert!(refused.number("retry-after") >= 1);
    assert!(
        refused
            .head
            .one("ratelimit-policy")
            .is_some_and(|policy| policy.contains("\"user-concurrent\";q=1")),
        "{:?}",
        refused.head
    );
    assert_eq!(
        limited
            .tank()
            .count("surgetank_limited_total", &[("rule", "concurrency")]),
        1
    );
    assert_eq!(
        limited.call("bob").await.status,
        200,
        "another user is not concerned"
    );
    first.wire.closed().await;
    limited.tank().at_rest().await;
    assert_eq!(limited.call("ann").await.status, 200, "the place is free");
}

#[tokio::test]
async fn who_may_wait_is_served_in_time_and_who_cannot_is_refused_at_once() {
    let limited = Limited::by("requests: 120/min, burst: 1, when_exceeded: wait, max_wait: 5s");
    assert_eq!(limited.call("ann").await.status, 200);
    let waited = limited.call("ann").await;
    assert_eq!(waited.status, 200);
    let time = waited.number("x-surgetank-waited-ms");
    assert!((100..=5000).contains(&time), "two a second: {time} ms");

    let limited = Limited::by("requests: 1/min, burst: 1, when_exceeded: wait, max_wait: 2s");
    assert_eq!(limited.call("ann").await.status, 200);
    let began = tokio::time::Instant::now();
    assert_eq!(limited.call("ann").await.status, 429);
    assert!(began.elapsed().as_secs() < 2, "a wait in vain is not begun");
}

#[tokio::test]
async fn a_place_among_the_running_is_waited_for() {
    let limited = Limited::by("concurrent: 1, when_exceeded: wait, max_wait: 20s");
    let mut first = limited.tank().caller().await;
    first
        .send(
            Tongue::Chat
                .stream()
                .header("x-surgetank-user", "ann")
                .script("slow", "ok;interval=20ms;words=20")
                .bytes(),
        )
        .await;
    first.wire.through(b"\n\n").await;
    let second = limited.call("ann").await;
    assert_eq!(second.status, 200);
    let records = limited.rig.lab.requests();
    let (slow, next) = (&records[0], &records[1]);
    assert!(
        next.arrived >= slow.ended.expect("it ended"),
        "the second began after the first had ended"
    );
    limited
        .rig
        .lab
        .wait_for(|stats| stats.answered == 2, PATIENCE)
        .await
        .expect("both are whole");
}

#[tokio::test]
async fn twenty_at_once_share_exactly_what_there_is() {
    let limited = Limited::by("requests: 5/hour");
    let calls = (0..20).map(|_| limited.call("ann"));
    let answers = futures_util::future::join_all(calls).await;
    let served = answers.iter().filter(|answer| answer.status == 200).count();
    assert_eq!(served, 5);
    assert_eq!(limited.tank().outcomes("limited"), 15);
}

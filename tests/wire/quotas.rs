//! Limits beyond one rate of requests: tokens, days, classes, all users together, and who is meant by whom.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::{
    harness::{Answer, End, Log, Request, Tongue, until},
    limits::Limited,
};

/// One token a second, so that a test sees at most a few come back.
const TOKENS: &str = "tokens: 86400/day";

/// What an answer says is left of a limit.
fn left(answer: &Answer, name: &str) -> u64 {
    let fields = answer.head.all("ratelimit").into_iter();
    let text: Vec<_> = fields.map(String::from_utf8_lossy).collect();
    let items: Vec<&str> = text.iter().flat_map(|field| field.split(", ")).collect();
    let named = format!("\"{name}\";r=");
    let item = items.iter().find_map(|item| item.strip_prefix(&named));
    let item = item.unwrap_or_else(|| panic!("{name} is not in {items:?}"));
    item.split(';')
        .next()
        .expect("a number")
        .parse()
        .expect("a number")
}

/// The tokens that a user has been charged for so far. What generates nothing costs nothing, and tells.
async fn charged(limited: &Limited, user: &str) -> u64 {
    limited.tank().at_rest().await;
    let models = Request::get("/v1/models").header("x-surgetank-user", user);
    86_400 - left(&limited.tank().call(&models).await, "user-tokens")
}

#[tokio::test]
async fn tokens_are_settled_by_what_the_vendor_counted() {
    for tongue in Tongue::ALL {
        for stream in [false, true] {
            let limited = Limited::by(TOKENS);
            let usage = match tongue {
                Tongue::Chat if stream => json!({ "stream_options": { "include_usage": true } }),
                _ => json!({}),
            };
            let request = tongue
                .with(stream, &usage)
                .header("x-surgetank-user", "ann")
                .script("k", "ok;words=300");
            let answer = limited.tank().call(&request).await;
            assert_eq!((answer.status, answer.end), (200, End::Whole));
            // 300 written, and what the lab counts for the prompt.
            let charged = charged(&limited, "ann").await;
            assert!(
                (310..=370).contains(&charged),
                "{tongue:?}, stream {stream}: {charged}"
            );
        }
    }
}

#[tokio::test]
async fn tokens_are_settled_however_the_answer_ends() {
    for (case, script, extra, expected) in [
        (
            "a stream without usage",
            "ok;words=300",
            json!({ "stream": true }),
            300..=360,
        ),
        (
            "cut",
            "cut;after=100;words=900",
            json!({ "stream": true }),
            80..=160,
        ),
        (
            "more than was reserved",
            "ok;words=3000",
            json!({}),
            3_000..=3_070,
        ),
        (
            "less, though much was allowed",
            "ok;words=5",
            json!({ "max_tokens": 900 }),
            5..=70,
        ),
        ("refused", "400*", json!({}), 0..=0),
        ("failed, and replied to by us", "500*", json!({}), 0..=0),
        (
            "failed once, then whole",
            "503,ok;words=50",
            json!({}),
            50..=110,
        ),
    ] {
        let limited = Limited::by(TOKENS);
        let stream = extra["stream"] == true;
        let request = Tongue::Chat
            .with(stream, &extra)
            .header("x-surgetank-user", "ann")
            .script("k", script);
        limited.tank().call(&request).await;
        let charged = charged(&limited, "ann").await;
        assert!(expected.contains(&charged), "{case}: {charged}");
    }
}

#[tokio::test]
async fn who_leaves_in_the_middle_pays_for_what_came() {
    let limited = Limited::by(TOKENS);
    let request = |script: &str| {
        Tongue::Chat
            .stream()
            .header("x-surgetank-user", "ann")
            .script("k", script)
    };
    let mut caller = limited.tank().caller().await;
    caller
        .send(request("ok;words=1000;interval=10ms").bytes())
        .await;
    for _ in 0..5 {
        caller.wire.through(b"\n\n").await;
    }
    drop(caller);
    let charged = charged(&limited, "ann").await;
    assert!(
        (4..=400).contains(&charged),
        "{charged}: some words, and the prompt"
    );
}

#[tokio::test]
async fn a_reservation_holds_others_back_until_it_is_settled() {
    // The prompt and 1024 tokens of answer are reserved; what is left is too little for another.
    let limited = Limited::by("tokens: 1500/day");
    let mut first = limited.tank().caller().await;
    let slow = Tongue::Chat
        .stream()
        .header("x-surgetank-user", "ann")
        .script("slow", "ok;words=20;interval=40ms");
    first.send(slow.bytes()).await;
    first.wire.through(b"\n\n").await;
    let refused = limited.call("ann").await;
    assert_eq!(refused.status, 429);
    let text = refused.json()["error"]["message"].to_string();
    assert!(text.contains("1500 tokens per"), "{text}");
    assert_eq!(refused.head.one("x-ratelimit-limit-tokens"), Some("1500"));
    let limited_by = |rule| {
        limited
            .tank()
            .count("surgetank_limited_total", &[("rule", rule)])
    };
    assert_eq!(limited_by("tokens"), 1);
    limited.tank().at_rest().await;
    assert_eq!(limited.call("ann").await.status, 200, "most was given back");
}

#[tokio::test]
async fn a_request_larger_than_the_whole_limit_waits_for_all_of_it() {
    let limited = Limited::by("tokens: 100/day");
    assert_eq!(
        limited.call("ann").await.status,
        200,
        "no estimate refuses for ever"
    );
    limited.tank().at_rest().await;
    assert_eq!(limited.call("ann").await.status, 429);
}

#[tokio::test]
async fn several_rates_hold_at_once() {
    let limited = Limited::by("requests: [1000/min, 3/day]");
    for more in [2, 1, 0] {
        let answer = limited.call("ann").await;
        assert_eq!((answer.status, left(&answer, "user-per-day")), (200, more));
        assert!(left(&answer, "user") >= 997 + more);
    }
    let refused = limited.call("ann").await;
    assert_eq!(refused.status, 429);
    let wait = refused.number("retry-after");
    assert!(
        (28_000..=28_800).contains(&wait),
        "a third of a day: {wait}"
    );
    // Some SDKs would sleep for hours, others come back at once.
    assert_eq!(refused.head.one("x-should-retry"), Some("false"));
    assert!(!refused.head.has("retry-after-ms"));
    let fields = [
        "x-ratelimit-limit-requests",
        "x-ratelimit-remaining-requests",
    ];
    assert_eq!(
        fields.map(|name| refused.head.one(name)),
        [Some("3"), Some("0")]
    );
}

#[tokio::test]
async fn a_short_wait_is_told_to_the_millisecond_and_in_the_vendors_words() {
    let limited = Limited::by("requests: 2/s, burst: 1");
    for (tongue, limit, reset) in [
        (
            Tongue::Chat,
            "x-ratelimit-limit-requests",
            "x-ratelimit-reset-requests",
        ),
        (
            Tongue::Messages,
            "anthropic-ratelimit-requests-limit",
            "anthropic-ratelimit-requests-reset",
        ),
    ] {
        let request = tongue
            .plain()
            .header("x-surgetank-user", &format!("{tongue:?}"));
        let served = limited.tank().call(&request).await;
        assert!(
            !served.head.has(limit),
            "on the vendor's answer it is the vendor's"
        );
        let refused = limited.tank().call(&request).await;
        assert_eq!((refused.status, refused.number("retry-after")), (429, 1));
        assert!((1..=500).contains(&refused.number("retry-after-ms")));
        assert_eq!(refused.head.one(limit), Some("2"));
        assert!(refused.head.has(reset) && !refused.head.has("x-should-retry"));
        let again = Duration::from_millis(refused.number("retry-after-ms"));
        tokio::time::sleep(again).await;
        assert_eq!(
            limited.tank().call(&request).await.status,
            200,
            "as it was told"
        );
    }
}

#[tokio::test]
async fn classes_have_limits_of_their_own() {
    let limited = Limited::with(
        "limits:
  per_user: { requests: 1/hour }
  classes:
    staff: { match: { users: '*@example.com' }, per_user: none }
    gold: { match: { headers: { x-plan: gold } }, per_user: { requests: 3/hour } }",
    );
    let served = async |user: &str, plan: &str| {
        let request = Tongue::Chat
            .plain()
            .header("x-surgetank-user", user)
            .header("x-plan", plan);
        let mut served = 0;
        for _ in 0..5 {
            let answer = limited.tank().call(&request).await;
            served += u32::from(answer.status == 200);
        }
        served
    };
    assert_eq!(served("ann", "none").await, 1);
    assert_eq!(served("bob", "gold").await, 3);
    assert_eq!(served("eve@example.com", "none").await, 5);
    assert_eq!(
        served("ann", "gold").await,
        3,
        "another class, another account"
    );
}

#[tokio::test]
async fn all_users_together_have_a_limit_too() {
    let limited =
        Limited::with("limits: { per_user: { requests: 9/hour }, total: { requests: 2/hour } }");
    assert_eq!(limited.call("ann").await.status, 200);
    assert_eq!(limited.call("bob").await.status, 200);
    let refused = limited.call("cid").await;
    assert_eq!(refused.status, 429);
    let text = refused.json()["error"]["message"].to_string();
    assert!(text.contains("all users together"), "{text}");
    let rule = [("rule", "total_rate")];
    assert_eq!(limited.tank().count("surgetank_limited_total", &rule), 1);
    assert_eq!(limited.rig.lab.stats().requests, 2);
    let limited = Limited::with("limits: { total: { concurrent: 1 } }");
    let mut first = limited.tank().caller().await;
    let slow = Tongue::Chat.stream().script("slow", "hang-body;for=500ms");
    first.send(slow.bytes()).await;
    first.wire.through(b"\n\n").await;
    assert_eq!(limited.call("bob").await.status, 429);
    first.wire.closed().await;
    limited.tank().at_rest().await;
    assert_eq!(limited.call("bob").await.status, 200);
}

#[tokio::test]
async fn what_all_together_refuse_is_not_charged_to_the_user() {
    let limited = Limited::with(
        "limits: { per_user: { requests: 2/hour }, total: { requests: 4/s, burst: 1 } }",
    );
    assert_eq!(limited.call("bob").await.status, 200);
    assert_eq!(limited.call("ann").await.status, 429);
    tokio::time::sleep(Duration::from_millis(300)).await;
    let answer = limited.call("ann").await;
    assert_eq!(
        (answer.status, left(&answer, "user")),
        (200, 1),
        "the refusal cost nothing"
    );
}

#[tokio::test]
async fn waiting_is_fair_among_users_who_share_a_limit() {
    let limited = Limited::with(
        "limits:
  per_user: { when_exceeded: wait, max_wait: 20s }
  total: { requests: 20/s, burst: 1 }",
    );
    let many = (0..20).map(|number| {
        let limited = &limited;
        async move {
            let request = Tongue::Chat.plain().header("x-surgetank-user", "many");
            let key = format!("many{number}");
            limited.tank().call(&request.script(&key, "ok")).await
        }
    });
    let few = async {
        until("the others are waiting", || {
            limited.rig.lab.stats().requests > 0
        })
        .await;
        let request = Tongue::Chat.plain().header("x-surgetank-user", "few");
        limited.tank().call(&request.script("few", "ok")).await
    };
    let (many, few) = tokio::join!(futures_util::future::join_all(many), few);
    assert!(many.iter().chain([&few]).all(|answer| answer.status == 200));
    let records = limited.rig.lab.requests();
    let place = records
        .iter()
        .position(|record| record.key.as_deref() == Some("few"));
    let place = place.expect("it was served");
    assert!(place <= 6, "it came as number {place} of 21");
}

#[tokio::test]
async fn requests_of_one_user_are_let_in_in_their_order_and_no_more_than_can_be_wait() {
    let limited = Limited::by("requests: 20/s, burst: 1, when_exceeded: wait, max_wait: 400ms");
    let calls = (0..20).map(|number| {
        let limited = &limited;
        async move {
            // One after the other, well within the first wait.
            tokio::time::sleep(Duration::from_millis(number)).await;
            let request = Tongue::Chat.plain().header("x-surgetank-user", "ann");
            let answer = limited
                .tank()
                .call(&request.script(&format!("{number:02}"), "ok"))
                .await;
            (number, answer)
        }
    });
    let began = tokio::time::Instant::now();
    let answers = futures_util::future::join_all(calls).await;
    assert!(began.elapsed() < Duration::from_secs(5));
    let served = answers
        .iter()
        .filter(|(_, answer)| answer.status == 200)
        .count();
    assert!(
        (5..=10).contains(&served),
        "about one in 50 ms for 400 ms: {served}"
    );
    let keys: Vec<_> = limited
        .rig
        .lab
        .requests()
        .into_iter()
        .map(|record| record.key)
        .collect();
    assert!(keys.is_sorted(), "{keys:?}");
    let refused = answers.iter().filter(|(_, answer)| answer.status == 429);
    let (late, at_once): (Vec<_>, Vec<_>) =
        refused.partition(|(_, answer)| answer.number("x-surgetank-waited-ms") > 100);
    assert!(
        late.len() <= 2,
        "a wait in vain is not begun, unless it is a close call"
    );
    for (_, refused) in at_once {
        assert!(
            refused.number("retry-after-ms") >= 300,
            "as long as the line is"
        );
    }
}

#[tokio::test]
async fn a_waiter_that_leaves_makes_room() {
    let limited = Limited::by("requests: 2/s, burst: 1, when_exceeded: wait, max_wait: 10s");
    assert_eq!(limited.call("ann").await.status, 200);
    let ann = || Tongue::Chat.plain().header("x-surgetank-user", "ann");
    let mut gone = Vec::new();
    for _ in 0..10 {
        let mut caller = limited.tank().caller().await;
        caller.send(ann().bytes()).await;
        gone.push(caller);
    }
    until("all are waiting", || {
        limited.tank().metric("surgetank_in_flight_requests", &[]) >= 10.0
    })
    .await;
    drop(gone);
    let answer = limited.tank().call(&ann()).await;
    assert_eq!(answer.status, 200);
    assert!(
        answer.number("x-surgetank-waited-ms") < 3_000,
        "ten waiters would be five seconds"
    );
    assert_eq!(
        limited.rig.lab.stats().requests,
        2,
        "who left was never sent"
    );
}

/// A token that nobody has signed.
fn token(claims: &Value, signature: &str) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!(
        "Bearer {}.{}.{signature}",
        part(&json!({ "alg": "none" })),
        part(claims)
    )
}

#[tokio::test]
async fn a_claim_names_the_user() {
    let limited = Limited::with(
        "limits: { identify: [ jwt:sub, credential ], per_user: { requests: 1/hour } }",
    );
    let call = async |authorization: String| {
        let request = Request::post("/v1/chat/completions", r#"{"model":"m","messages":[]}"#);
        let request = request.header("authorization", &authorization);
        limited.tank().call(&request).await.status
    };
    assert_eq!(call(token(&json!({ "sub": "ann" }), "AAAA")).await, 200);
    assert_eq!(
        call(token(&json!({ "sub": "ann", "jti": 2 }), "BBBB")).await,
        429,
        "the same user"
    );
    assert_eq!(call(token(&json!({ "sub": "bob" }), "AAAA")).await, 200);
    assert_eq!(
        call("Bearer sk-1".into()).await,
        200,
        "no token: the credential counts"
    );
    assert_eq!(call("Bearer sk-1".into()).await, 429);
}

#[tokio::test]
async fn a_token_that_is_checked_cannot_be_made_up() {
    let limited = Limited::with(
        "limits:
  identify: [ jwt:sub, peer ]
  jwt: { key: { env: TEST_JWT_SECRET }, algorithm: HS256 }
  per_user: { requests: 1/hour }",
    );
    let made_up = |name: &str| {
        Request::post("/v1/chat/completions", r#"{"model":"m","messages":[]}"#)
            .header("authorization", &token(&json!({ "sub": name }), "AAAA"))
    };
    assert_eq!(limited.tank().call(&made_up("ann")).await.status, 200);
    let again = limited.tank().call(&made_up("bob")).await;
    assert_eq!(again.status, 429, "both are the peer");
}

#[tokio::test]
async fn a_large_body_does_not_leave_its_users_limits() {
    let limited = Limited::with(
        "limits: { identify: [ body:user, peer ], per_user: { requests: 1/hour } }\n\
         replay: { per_request: 1KiB, total: 1MiB }",
    );
    let filler = "x ".repeat(200_000);
    let before = |user: &str| {
        format!(
            r#"{{"model":"m","user":"{user}","messages":[{{"role":"user","content":"{filler}"}}]}}"#
        )
    };
    let call = async |body: String| {
        let request = Request::post("/v1/chat/completions", body);
        limited.tank().call(&request).await.status
    };
    let small = r#"{"model":"m","user":"ann","messages":[]}"#;
    assert_eq!(call(small.into()).await, 200);
    assert_eq!(
        call(before("ann")).await,
        429,
        "she is known by the beginning"
    );
    assert_eq!(call(before("bob")).await, 200);
    // Out of sight, a name counts as none: all of these are one user more, and no further.
    let behind = |user: &str| format!(r#"{{"model":"m","messages":["{filler}"],"user":"{user}"}}"#);
    assert_eq!(call(behind("cid")).await, 200);
    assert_eq!(call(behind("dan")).await, 429);
}

#[tokio::test]
async fn malicious_names_change_no_line_header_or_metric() {
    let log = Log::listen();
    let limited = Limited::by("requests: 1/hour");
    let names = [
        format!("MARK{}", "a".repeat(10 * 1024)),
        "MARK\nlevel=error msg=forged".to_owned(),
        "MARK\r\nx-forged: yes".to_owned(),
        "MARK\0nul".to_owned(),
        "MARK\u{1b}[31mred".to_owned(),
        "MARK\",rule=\"forged\"} 1".to_owned(),
        "MARK🦀".to_owned(),
        r#"MARK{"user_id":[1,2,3]}"#.to_owned(),
        "MARK{user}*".to_owned(),
    ];
    let families = || {
        let rendered = String::from_utf8(limited.tank().proxy.metrics().render()).expect("text");
        let series = rendered.lines().filter(|line| !line.starts_with('#'));
        let series = series.filter_map(|line| Some(line.rsplit_once(' ')?.0.to_owned()));
        series
            .filter(|name| name.starts_with("surgetank_"))
            .collect::<Vec<_>>()
    };
    for name in &names {
        for tongue in [Tongue::Chat, Tongue::Messages] {
            let body = match tongue {
                Tongue::Messages => json!({ "metadata": { "user_id": name } }),
                _ => json!({ "user": name }),
            };
            for _ in 0..2 {
                let answer = limited.tank().call(&tongue.with(false, &body)).await;
                assert!(matches!(answer.status, 200 | 429), "{}", answer.status);
                let head = format!("{:?}", answer.head);
                assert!(
                    !head.contains("MARK") && !head.contains("x-forged"),
                    "{head}"
                );
                assert!(!answer.text().contains("MARK"), "{}", answer.text());
            }
        }
    }
    limited.tank().at_rest().await;
    // That every label has one of its listed values is looked at after every test.
    let forged = families()
        .into_iter()
        .find(|name| name.contains("MARK") || name.contains("forged"));
    assert_eq!(forged, None);
    let lines = log.everything();
    assert!(lines.len() >= 2 * names.len(), "requests are logged");
    let forged = lines
        .iter()
        .find(|line| line.contains("MARK") || line.contains("forged"));
    assert_eq!(forged, None);
}

//! `retry_larger`: a plain answer that its limit has cut is asked for once more, with a larger one.

use serde_json::json;

use super::harness::{
    Answer, Caller, End, Origin, Recipe, Request, Rig, Serving, Tank, Tongue, soon,
};

const BLOCK: &str = "answers: { on_truncated: retry_larger, largest_output: 100 }";

fn cap(tongue: Tongue) -> &'static str {
    match tongue {
        Tongue::Messages => "max_tokens",
        Tongue::Chat => "max_completion_tokens",
        Tongue::Responses => "max_output_tokens",
    }
}

fn capped(tongue: Tongue, cap_at: u64, stream: bool) -> Request {
    let mut extra = json!({});
    extra[cap(tongue)] = cap_at.into();
    tongue.with(stream, &extra)
}

fn outcomes(tank: &Tank, outcome: &str) -> u64 {
    tank.count(
        "surgetank_larger_total",
        &[("route", "route-1"), ("outcome", outcome)],
    )
}

fn words(tongue: Tongue, answer: &Answer) -> usize {
    tongue
        .text_of_answer(&answer.json())
        .split_whitespace()
        .count()
}

#[tokio::test]
async fn the_larger_answer_is_given() {
    for tongue in Tongue::ALL {
        let rig = Rig::start();
        let tank = Recipe::over(&rig.lab.url()).start_with(BLOCK);
        let answer = tank
            .call(&capped(tongue, 3, false).script("k", "ok*;words=9"))
            .await;
        assert_eq!((answer.status, answer.end), (200, End::Whole));
        assert_eq!(words(tongue, &answer), 9, "{tongue:?}");
        assert!(!answer.head.has("x-surgetank-truncated"));
        assert_eq!(answer.number("x-surgetank-retried-larger"), 12);
        assert_eq!(answer.number("x-surgetank-attempts"), 2);
        tank.at_rest().await;
        assert_eq!(outcomes(&tank, "whole"), 1);
        let written = tank.count("surgetank_tokens_total", &[("kind", "output")]);
        assert_eq!(written, 3 + 9, "both answers were paid for");
        assert_eq!(
            tank.count("surgetank_answers_total", &[("finish", "stop")]),
            1
        );
        assert_eq!(tank.count("surgetank_truncated_total", &[]), 0);
    }
}

#[tokio::test]
async fn a_larger_answer_that_is_cut_too_is_given_and_marked() {
    let rig = Rig::start();
    let tank = Recipe::over(&rig.lab.url()).start_with(BLOCK);
    for (limit, expected) in [(3, 12), (80, 100)] {
        let request =
            capped(Tongue::Chat, limit, false).script(&format!("k{limit}"), "ok*;words=200");
        let answer = tank.call(&request).await;
        assert_eq!(words(Tongue::Chat, &answer), expected);
        assert_eq!(answer.head.one("x-surgetank-truncated"), Some("true"));
    }
    assert_eq!(outcomes(&tank, "cut"), 2);
}

#[tokio::test]
async fn where_the_second_try_fails_the_first_answer_is_given() {
    for second in [
        "400",
        "503",
        "429;retry-after=none",
        "cut;after=20",
        "reset",
        "hang;for=1ms",
    ] {
        let rig = Rig::start();
        let tank = Recipe::over(&rig.lab.url()).start_with(BLOCK);
        let script = format!("ok;words=9,{second},ok;words=9");
        let answer = tank
            .call(&capped(Tongue::Messages, 3, false).script("k", &script))
            .await;
        assert_eq!((answer.status, answer.end), (200, End::Whole), "{second}");
        assert_eq!(words(Tongue::Messages, &answer), 3, "{second}");
        assert_eq!(
            answer.head.one("x-surgetank-truncated"),
            Some("true"),
            "{second}"
        );
        assert!(!answer.head.has("x-surgetank-retried-larger"), "{second}");
        tank.at_rest().await;
        assert_eq!(
            rig.attempts("k").len(),
            2,
            "{second}: once more, not more often"
        );
        assert_eq!(
            (tank.outcomes("served"), outcomes(&tank, "failed")),
            (1, 1),
            "{second}"
        );
        assert_eq!(tank.count("surgetank_truncated_total", &[]), 1, "{second}");
    }
}

/// An origin that cuts every answer.
fn cutting(origin: Origin) -> Serving {
    origin.serve(|_| {
        let body = r#"{"choices":[{"message":{"content":"so"},"finish_reason":"length"}]}"#;
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        Some((head + body).into_bytes())
    })
}

#[tokio::test]
async fn only_the_numbers_bytes_change() {
    let origin = cutting(Origin::start().await);
    let tank = Recipe::over(&origin.url()).start_with(BLOCK);
    let body = "{ \"max_tokens\" :7, \"x\":[1,2.50],\n \"messages\":[{\"role\":\"user\",\"content\":\"caf\\u00e9 7\"}],\"n\":7 }";
    tank.call(&Request::post("/v1/chat/completions?a=7", body).header("x-own", "1"))
        .await;
    let seen = origin.seen();
    assert_eq!(seen.len(), 2);
    assert_eq!(seen[0].body, body.as_bytes());
    let expected = body.replace("\"max_tokens\" :7", "\"max_tokens\" :28");
    assert_eq!(super::harness::text(&seen[1].body), expected);
    assert_eq!(seen[1].head.start, seen[0].head.start);
    let dropped = ["content-length", "via"];
    assert_eq!(
        seen[1].head.lines_without(&dropped),
        seen[0].head.lines_without(&dropped)
    );
}

#[tokio::test]
async fn nothing_is_asked_again_where_it_cannot_help() {
    let rig = Rig::start();
    let tank = Recipe::over(&rig.lab.url()).start_with(BLOCK);
    let mut number = 0;
    let mut attempts = async |request: Request| {
        number += 1;
        let key = format!("k{number}");
        let answer = tank.call(&request.script(&key, "ok*;words=200")).await;
        assert_eq!((answer.status, answer.end), (200, End::Whole));
        rig.attempts(&key).len()
    };
    assert_eq!(
        attempts(capped(Tongue::Chat, 100, false)).await,
        1,
        "the largest already"
    );
    assert_eq!(attempts(capped(Tongue::Chat, 3, true)).await, 1, "a stream");
    assert_eq!(
        attempts(Tongue::Chat.plain()).await,
        1,
        "no limit, and not cut"
    );
    let own = capped(Tongue::Chat, 3, false).header("x-surgetank-max-retries", "0");
    assert_eq!(attempts(own).await, 2, "it is no retry");
    assert_eq!(outcomes(&tank, "largest"), 1);
}

#[tokio::test]
async fn nothing_is_asked_again_beyond_the_deadline() {
    let rig = Rig::start();
    let tank = Recipe::over(&rig.lab.url()).start_with(BLOCK);
    for (time, asked) in [("600", 1), ("30000", 2)] {
        let request = capped(Tongue::Chat, 3, false)
            .header("x-surgetank-timeout-ms", time)
            .script(time, "ok;words=9;headers-after=200ms,ok;words=9");
        assert_eq!(tank.call(&request).await.status, 200);
        assert_eq!(rig.attempts(time).len(), asked, "{time} ms");
    }
    assert_eq!(
        (outcomes(&tank, "deadline"), outcomes(&tank, "whole")),
        (1, 1)
    );
}

/// The first answer is held meanwhile, but not its turn: with one place in the lane the second could never come.
#[tokio::test]
async fn the_first_answer_holds_no_place() {
    let rig = Rig::start();
    let tank = Recipe::over(&rig.lab.url()).start_with(&format!(
        "{BLOCK}\nlimits: {{ per_user: {{ concurrent: 4 }} }}"
    ));
    let calls = (0..4).map(|number| {
        let request = capped(Tongue::Chat, 3, false).script(&format!("k{number}"), "ok*;words=9");
        let addr = tank.addr;
        async move { Caller::connect(addr).await.call(&request).await }
    });
    let answers = soon("all answers", futures_util::future::join_all(calls)).await;
    assert!(
        answers
            .iter()
            .all(|answer| words(Tongue::Chat, answer) == 9)
    );
    tank.at_rest().await;
}

#[tokio::test]
async fn a_caller_who_leaves_ends_the_second_try_too() {
    let rig = Rig::start();
    let tank = Recipe::over(&rig.lab.url()).start_with(BLOCK);
    let mut caller = tank.caller().await;
    let request =
        capped(Tongue::Chat, 3, false).script("k", "ok;words=9,ok;words=9;headers-after=20s");
    caller.send(request.bytes()).await;
    rig.lab_has("the second try", |stats| stats.requests >= 2)
        .await;
    drop(caller);
    tank.at_rest().await;
    assert_eq!(tank.outcomes("abandoned"), 1);
}

//! What answers tell of themselves is read on their way, from every kind of answer and however it ends.

use super::harness::{End, Origin, Play, Recipe, Request, Rig, Tank, Tongue, soon, until};

/// Tokens of all kinds in this direction.
fn tokens(tank: &Tank, kind: &str, model: &str) -> u64 {
    let labels = [("route", "route-1"), ("kind", kind), ("model", model)];
    tank.count("surgetank_tokens_total", &labels)
}

fn answers(tank: &Tank, finish: &str) -> u64 {
    tank.count("surgetank_answers_total", &[("finish", finish)])
}

fn model(tongue: Tongue) -> &'static str {
    match tongue {
        Tongue::Messages => "claude-lab",
        Tongue::Chat | Tongue::Responses => "gpt-lab",
    }
}

/// What is added to a request so that its stream tells its usage.
fn asking_for_usage(tongue: Tongue) -> serde_json::Value {
    match tongue {
        Tongue::Chat => serde_json::json!({ "stream_options": { "include_usage": true } }),
        Tongue::Messages | Tongue::Responses => serde_json::json!({}),
    }
}

#[tokio::test]
async fn plain_answers_and_streams_are_counted_in_tokens() {
    for tongue in Tongue::ALL {
        for stream in [false, true] {
            let rig = Rig::start();
            let request = tongue.with(stream, &asking_for_usage(tongue));
            let answer = rig.tank.call(&request.script("k", "ok;words=9")).await;
            assert_eq!((answer.status, answer.end), (200, End::Whole));
            rig.tank.at_rest().await;
            let what = format!("{tongue:?}, stream: {stream}");
            assert_eq!(tokens(&rig.tank, "output", model(tongue)), 9, "{what}");
            // The lab counts a token for four bytes of the request.
            let read = tokens(&rig.tank, "input", model(tongue));
            assert!((20..60).contains(&read), "{what}: {read}");
            assert_eq!(answers(&rig.tank, "stop"), 1, "{what}");
            assert_eq!(rig.tank.count("surgetank_truncated_total", &[]), 0);
        }
    }
}

#[tokio::test]
async fn every_attempt_that_was_answered_is_counted_and_failed_ones_are_not() {
    let rig = Rig::start();
    let request = Tongue::Chat
        .plain()
        .script("k", "503,429;retry-after=none,ok;words=3");
    assert_eq!(rig.tank.call(&request).await.status, 200);
    rig.tank.at_rest().await;
    assert_eq!(tokens(&rig.tank, "output", "gpt-lab"), 3);
    assert_eq!(answers(&rig.tank, "stop"), 1);
}

#[tokio::test]
async fn what_a_broken_stream_had_told_is_counted() {
    let rig = Rig::start();
    let request = Tongue::Messages.stream().script("k", "cut;after=3;words=9");
    let answer = rig.tank.call(&request).await;
    assert_ne!(answer.end, End::Whole);
    rig.tank.at_rest().await;
    assert!(
        tokens(&rig.tank, "input", "claude-lab") > 0,
        "its start tells the input"
    );
    assert_eq!(
        tokens(&rig.tank, "output", "claude-lab"),
        1,
        "and a first figure of the output"
    );
    assert_eq!(
        rig.tank.count("surgetank_answers_total", &[]),
        0,
        "it did not end"
    );
}

#[tokio::test]
async fn what_a_caller_who_left_has_used_is_counted() {
    let rig = Rig::start();
    let mut caller = rig.tank.caller().await;
    let request = Tongue::Messages
        .stream()
        .script("k", "ok;words=1000;interval=10ms");
    caller.send(request.bytes()).await;
    caller.wire.through(b"content_block_delta").await;
    drop(caller);
    rig.tank.at_rest().await;
    assert_eq!(rig.tank.outcomes("abandoned"), 1);
    assert_eq!(tokens(&rig.tank, "output", "claude-lab"), 1);
}

#[tokio::test]
async fn an_answer_too_large_to_hold_is_read_as_it_passes() {
    let text = "x".repeat(3 << 20);
    let body = format!(
        r#"{{"choices":[{{"index":0,"message":{{"content":"{text}"}},"finish_reason":"length"}}],"usage":{{"prompt_tokens":5,"completion_tokens":700}}}}"#
    );
    for has_length in [true, false] {
        let body = body.clone();
        let origin = Origin::start().await.play(move |_| {
            let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n";
            if has_length {
                let head = format!("{head}content-length: {}\r\n\r\n{body}", body.len());
                Play::Answer(head.into_bytes())
            } else {
                let chunk = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
                Play::Answer(
                    format!("{head}transfer-encoding: chunked\r\n\r\n{chunk}").into_bytes(),
                )
            }
        });
        let tank = Recipe::over(&origin.url()).start();
        let answer = soon("an answer", tank.call(&Tongue::Chat.plain())).await;
        assert_eq!((answer.status, answer.end), (200, End::Whole));
        assert!(answer.body.len() > 3 << 20);
        tank.at_rest().await;
        assert_eq!(
            tokens(&tank, "output", "gpt-lab"),
            700,
            "length known: {has_length}"
        );
        assert_eq!(
            tank.count("surgetank_truncated_total", &[("model", "gpt-lab")]),
            1
        );
    }
}

#[tokio::test]
async fn embeddings_and_legacy_completions_are_counted() {
    let origin = Origin::start().await.serve(|seen| {
        let body = if seen.head.start.contains("/embeddings") {
            r#"{"object":"list","data":[{"embedding":[0.25,-1e3]}],"usage":{"prompt_tokens":8,"total_tokens":8}}"#
        } else {
            r#"{"object":"text_completion","choices":[{"text":"so","finish_reason":"length"}],"usage":{"prompt_tokens":4,"completion_tokens":16,"prompt_tokens_details":{"cached_tokens":1}}}"#
        };
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n";
        Some(format!("{head}content-length: {}\r\n\r\n{body}", body.len()).into_bytes())
    });
    let tank = Recipe::over(&origin.url()).start();
    tank.call(&Request::post(
        "/v1/embeddings",
        r#"{"model":"small","input":"x"}"#,
    ))
    .await;
    let answer = tank
        .call(&Request::post(
            "/v1/completions",
            r#"{"model":"old","prompt":"x"}"#,
        ))
        .await;
    assert_eq!(answer.head.one("x-surgetank-truncated"), Some("true"));
    tank.at_rest().await;
    assert_eq!(
        (
            tokens(&tank, "input", "small"),
            tokens(&tank, "output", "small")
        ),
        (8, 0)
    );
    assert_eq!(
        (
            tokens(&tank, "input", "old"),
            tokens(&tank, "output", "old")
        ),
        (3, 16)
    );
    assert_eq!(tokens(&tank, "cached_input", "old"), 1);
    assert_eq!(answers(&tank, "length"), 1);
    assert_eq!(
        tank.count("surgetank_truncated_total", &[("model", "old")]),
        1
    );
}

#[tokio::test]
async fn names_of_models_cannot_fill_the_metrics() {
    let rig = Rig::start();
    for number in 0..80 {
        let name = serde_json::json!({ "model": format!("name-{number}") });
        let request = Tongue::Chat
            .with(false, &name)
            .script(&format!("k{number}"), "404");
        assert_eq!(rig.tank.call(&request).await.status, 404);
    }
    for number in 0..80 {
        let name = serde_json::json!({ "model": format!("model-{number}") });
        let request = Tongue::Chat.with(false, &name).script("ok", "ok;words=1");
        assert_eq!(rig.tank.call(&request).await.status, 200);
    }
    until("all are counted", || answers(&rig.tank, "stop") == 80).await;
    let of = |model| {
        rig.tank
            .count("surgetank_answers_total", &[("model", model)])
    };
    assert_eq!(
        (of("model-0"), of("model-31")),
        (1, 1),
        "names without an answer took no place"
    );
    assert_eq!((of("model-32"), of("other")), (0, 48));
}

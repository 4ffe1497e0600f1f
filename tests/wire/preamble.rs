//! What a vendor sends before the first of the answer is held back for a moment, and released as it came.

use std::time::Duration;

use super::harness::{Caller, Origin, OriginConnection, Recipe, Tank, Tongue, soon, text};

/// A caller whose stream has begun at the upstream.
async fn begun(tank: &Tank, origin: &Origin, tongue: Tongue) -> (Caller, OriginConnection) {
    let mut caller = tank.caller().await;
    caller.send(tongue.stream().bytes()).await;
    let mut upstream = origin.accept().await;
    upstream.request().await;
    upstream.begin_stream().await;
    (caller, upstream)
}

/// Nothing arrives for as long as a busy machine could take for what should not be held.
async fn nothing_yet(caller: &mut Caller) {
    let silence = tokio::time::timeout(Duration::from_millis(150), caller.wire.fill()).await;
    assert!(silence.is_err(), "{}", text(&caller.wire.inbox));
}

#[tokio::test]
async fn it_waits_for_the_first_content() {
    for tongue in Tongue::ALL {
        let origin = Origin::start().await;
        let tank = Recipe::over(&origin.url()).start_with("stream: { hold_preamble: 30s }");
        let (mut caller, mut upstream) = begun(&tank, &origin, tongue).await;
        let events = tongue.events();
        let (preamble, rest) = events.split_at(tongue.preamble());
        upstream.send_chunk(": a comment\n\n").await;
        for event in preamble {
            upstream.send_chunk(event).await;
        }
        nothing_yet(&mut caller).await;
        let (half, other) = rest[0].split_at(rest[0].len() / 2);
        upstream.send_chunk(half).await;
        nothing_yet(&mut caller).await;
        upstream.send_chunk(other).await;
        upstream.send_chunk(rest[1..].concat()).await;
        upstream.end_chunks().await;
        let answer = soon("the answer", caller.answer()).await;
        let whole = format!(": a comment\n\n{}", events.concat());
        assert_eq!((answer.status, answer.text()), (200, whole), "{tongue:?}");
        tank.at_rest().await;
    }
}

#[tokio::test]
async fn it_is_released_when_its_time_is_over() {
    for tongue in Tongue::ALL {
        let origin = Origin::start().await;
        let tank = Recipe::over(&origin.url()).start_with("stream: { hold_preamble: 100ms }");
        let (mut caller, mut upstream) = begun(&tank, &origin, tongue).await;
        let events = tongue.events();
        let (preamble, rest) = events.split_at(tongue.preamble());
        upstream.send_chunk(preamble.concat()).await;
        // Half an event is no reason to wait any longer either.
        let (half, other) = rest[0].split_at(rest[0].len() / 2);
        upstream.send_chunk(half).await;
        caller.wire.through(preamble.concat().as_bytes()).await;
        caller.wire.through(half.as_bytes()).await;
        // From here on nothing can be taken back, and so nothing is tried again.
        upstream.send_chunk(other).await;
        upstream.send(b"0\r\n\r\n").await;
        caller.wire.through(other.as_bytes()).await;
        let (end, _) = soon("the end", caller.wire.rest()).await;
        assert!(
            text(&end).contains(tongue.error_mark()),
            "{tongue:?}: {}",
            text(&end)
        );
        tank.at_rest().await;
        assert_eq!(
            tank.count("surgetank_stream_broken_total", &[("cause", "incomplete")]),
            1
        );
    }
}

#[tokio::test]
async fn more_than_may_be_held_is_released_at_once() {
    let origin = Origin::start().await;
    let tank = Recipe::over(&origin.url()).start_with("stream: { hold_preamble: 30s }");
    let (mut caller, mut upstream) = begun(&tank, &origin, Tongue::Responses).await;
    let greeting = |kind: &str| {
        let tools = "t".repeat(400 << 10);
        format!(
            "event: {kind}\ndata: {{\"type\":\"{kind}\",\"response\":{{\"tools\":\"{tools}\"}}}}\n\n"
        )
    };
    upstream.send_chunk(greeting("response.created")).await;
    nothing_yet(&mut caller).await;
    upstream.send_chunk(greeting("response.in_progress")).await;
    // The head, and then both to their last byte.
    caller.wire.through(b"\r\n\r\n").await;
    caller.wire.through(b"}}\n\n").await;
    caller.wire.through(b"}}\n\n").await;
}

#[tokio::test]
async fn an_error_behind_it_that_no_retry_mends_arrives_as_it_came() {
    for tongue in Tongue::ALL {
        let origin = Origin::start().await;
        let tank = Recipe::over(&origin.url()).retry("max_retries: 0").start();
        let (mut caller, mut upstream) = begun(&tank, &origin, tongue).await;
        let events = tongue.events();
        let error = match tongue {
            Tongue::Messages => {
                "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}\n\n"
            }
            Tongue::Chat => {
                "data: {\"error\":{\"message\":\"Overloaded\",\"type\":\"server_error\",\"param\":null,\"code\":null}}\n\n"
            }
            Tongue::Responses => {
                "event: response.failed\ndata: {\"type\":\"response.failed\",\"sequence_number\":1,\"response\":{\"id\":\"r\",\"status\":\"failed\",\"error\":{\"code\":\"server_error\",\"message\":\"Overloaded\"}}}\n\n"
            }
        };
        let stream = events[..tongue.preamble()].concat() + error;
        upstream.send_chunk(&stream).await;
        upstream.end_chunks().await;
        let answer = soon("the answer", caller.answer()).await;
        assert_eq!((answer.status, answer.text()), (200, stream), "{tongue:?}");
        assert_eq!(answer.head.one("x-should-retry"), Some("false"));
        tank.at_rest().await;
        assert_eq!(tank.outcomes("failed"), 1, "{tongue:?}");
    }
}

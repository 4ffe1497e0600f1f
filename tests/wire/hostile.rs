//! Upstreams that break the rules of their protocol: what they do stays between them and the proxy.

use std::time::Duration;

use super::harness::{End, Origin, Play, Recipe, Request, Tongue, chunked, find, soon, text};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

#[tokio::test]
async fn a_body_in_a_coding_that_nobody_undoes_is_no_answer() {
    for fields in [
        "transfer-encoding: gzip, chunked",
        "transfer-encoding: chunked, chunked",
        "transfer-encoding: chunked\r\ntransfer-encoding: chunked",
        "transfer-encoding: gzip",
        "transfer-encoding: xchunked",
        "transfer-encoding: chunked, gzip",
        "transfer-encoding: identity\r\ncontent-length: 2",
        "transfer-encoding:\r\ncontent-length: 2",
    ] {
        let origin = Origin::start().await.serve(move |seen| {
            let reply = format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n2\r\nok\r\n0\r\n\r\n");
            let is_next = seen.head.start.contains("/next");
            Some(if is_next { OK.into() } else { reply.into() })
        });
        let tank = Recipe::over(&origin.url()).retry("max_retries: 0").start();
        for request in [Request::get("/x"), Tongue::Chat.plain()] {
            let mut caller = tank.caller().await;
            let answer = soon(fields, caller.call(&request)).await;
            assert_eq!(answer.status, 502, "{fields}: {}", answer.text());
            let next = caller.call(&Request::get("/next")).await;
            assert_eq!(next.text(), "ok", "{fields}");
        }
        tank.at_rest().await;
    }
}

#[tokio::test]
async fn a_length_that_is_listed_twice_is_said_once() {
    let origin = Origin::start()
        .await
        .serve(|_| Some("HTTP/1.1 200 OK\r\ncontent-length: 2, 2\r\n\r\nok".into()));
    let tank = Recipe::over(&origin.url()).start();
    let answer = tank.call(&Request::get("/x")).await;
    assert_eq!(answer.head.one("content-length"), Some("2"));
    assert_eq!((answer.text().as_str(), answer.end), ("ok", End::Whole));
}

/// An upstream of HTTP/1.0 ends its answers by closing; whether one broke can be told by how it closed.
#[tokio::test]
async fn an_answer_of_an_old_upstream_that_breaks_does_not_look_whole() {
    for (kind, breaks) in [("text/plain", true), ("text/plain", false)] {
        let reply = format!("HTTP/1.0 200 OK\r\ncontent-type: {kind}\r\n\r\nhalf");
        let origin = Origin::start().await;
        let tank = Recipe::over(&origin.url()).start();
        let mut caller = tank.caller().await;
        caller.send(Request::get("/x").bytes()).await;
        let mut upstream = origin.accept().await;
        upstream.request().await;
        upstream.send(&reply).await;
        let head = caller.head().await;
        assert!(head.start.starts_with("HTTP/1.1 "), "{}", head.start);
        assert_eq!(head.one("transfer-encoding"), Some("chunked"));
        // It has arrived before its connection is reset, which throws away what has not.
        caller.wire.through(b"half").await;
        if breaks {
            upstream.wire.reset();
            let (rest, _) = soon("the end", caller.wire.rest()).await;
            assert_eq!(find(&rest, b"0\r\n\r\n"), None, "{}", text(&rest));
        } else {
            drop(upstream);
            caller.wire.through(b"\r\n0\r\n\r\n").await;
        }
    }
}

#[tokio::test]
async fn an_answer_that_nobody_asked_for_is_nobodys() {
    let origin = Origin::start().await;
    let tank = Recipe::over(&origin.url()).start();
    let mut caller = tank.caller().await;
    for round in 0..4 {
        caller.send(Request::get("/x").bytes()).await;
        let mut upstream = origin.accept().await;
        upstream.request().await;
        upstream.send(OK).await;
        assert_eq!(caller.answer_to("GET").await.text(), "ok", "round {round}");
        // The connection is idle now, and the proxy notices that it is not fit any more.
        upstream
            .send("HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison")
            .await;
        upstream.wire.closed().await;
    }
}

/// An event that is too long to be read may be the end of a stream, but only when it has ended itself.
#[tokio::test]
async fn a_stream_that_ends_within_a_giant_event_does_not_look_whole() {
    let giant = |tongue: Tongue, end: &str| {
        let events = tongue.events();
        let begin = events[..events.len() - 1].concat();
        format!("{begin}data: {}{end}", "x".repeat(3 << 20))
    };
    for (tongue, end, is_whole) in [
        (Tongue::Messages, "", false),
        (Tongue::Messages, "\n\n", false),
        (Tongue::Responses, "", false),
        (Tongue::Responses, "\n\n", true),
    ] {
        let stream = giant(tongue, end);
        let origin = Origin::start().await.play(move |_| {
            let mut reply = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
            reply.extend(chunked(&stream));
            reply.extend(b"0\r\n\r\n");
            Play::Answer(reply)
        });
        let tank = Recipe::over(&origin.url()).start();
        let answer = tank.call(&tongue.stream()).await;
        assert_eq!(answer.status, 200);
        assert!(answer.body.len() > 3 << 20, "{tongue:?}: it was passed on");
        assert_eq!(answer.end == End::Whole, is_whole, "{tongue:?} {end:?}");
        tank.at_rest().await;
    }
}

#[tokio::test]
async fn answers_before_the_answer_are_borne_a_hundred_times() {
    for (interim, status) in [(100, 200), (101, 502), (100_000, 502)] {
        let reply = "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n".repeat(interim) + OK;
        let origin = Origin::start()
            .await
            .serve(move |_| Some(reply.clone().into()));
        let tank = Recipe::over(&origin.url()).retry("max_retries: 0").start();
        let answer = tank.call(&Request::get("/x")).await;
        assert_eq!(answer.status, status, "{interim}: {}", answer.text());
        tank.at_rest().await;
    }
}

/// A pause that is long enough for what was sent to be read, and short enough to be waited for.
const MOMENT: Duration = Duration::from_millis(100);

#[tokio::test]
async fn a_refusal_is_read_also_where_the_rest_of_the_upload_was_not_taken() {
    let origin = Origin::start().await;
    let tank = Recipe::over(&origin.url()).retry("max_retries: 0").start();
    let upload = Request::post("/x", vec![b' '; 4 << 20]);
    for round in 0..30 {
        let mut caller = tank.caller().await;
        let calling = tokio::spawn({
            let upload = upload.clone();
            async move { caller.call(&upload).await }
        });
        let mut upstream = origin.accept().await;
        upstream.wire.head().await.expect("the head of the upload");
        upstream
            .send("HTTP/1.1 413 Too Large\r\nconnection: close\r\ncontent-length: 2\r\n\r\nno")
            .await;
        // Unread bytes are left behind, so this resets the connection.
        drop(upstream);
        let answer = soon("an answer", calling).await.expect("no panic");
        assert_eq!(answer.status, 413, "round {round}: {}", answer.text());
    }
    tank.at_rest().await;
}

#[tokio::test]
async fn an_early_refusal_is_not_followed_by_the_rest_of_the_upload() {
    // The upstream answers before the body is there, and keeps the connection. What is still to come of the body
    // must not become the beginning of the next request on it.
    let origin = Origin::start().await;
    let tank = Recipe::over(&origin.url()).start_with("replay: { per_request: 16B, total: 1MiB }");
    let mut caller = tank.caller().await;
    let canary = "GET /canary HTTP/1.1\r\nhost: app\r\n\r\n";
    let length = canary.len() * 2;
    caller
        .send(format!(
            "POST /x HTTP/1.1\r\nhost: app\r\ncontent-length: {length}\r\n\r\n{canary}"
        ))
        .await;
    let mut upstream = origin.accept().await;
    upstream.wire.head().await.expect("the head of the upload");
    upstream
        .send("HTTP/1.1 401 Unauthorized\r\ncontent-length: 2\r\n\r\nno")
        .await;
    assert_eq!(caller.answer().await.status, 401);
    // Whatever comes of the caller's connection, the next request finds another one upstream.
    let next = tokio::spawn(async move {
        let answer = tank.call(&Request::get("/next")).await;
        tank.at_rest().await;
        answer.status
    });
    let mut other = origin.accept().await;
    let seen = other.request().await;
    assert!(
        seen.head.start.starts_with("GET /next "),
        "{}",
        seen.head.start
    );
    other.send(OK).await;
    assert_eq!(soon("the next answer", next).await.expect("no panic"), 200);
    tokio::time::sleep(MOMENT).await;
    drop(caller);
    let (left, _) = soon("the first connection ends", upstream.wire.rest()).await;
    assert!(left.len() <= length, "{}", text(&left));
}

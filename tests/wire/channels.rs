//! Streams that nothing is generated in, and connections that many streams share.

use std::time::Duration;

use tokio::time::Instant;

use super::harness::{Origin, Play, Recipe, Request, Tongue, soon};

const HEAD: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";

#[tokio::test]
async fn a_channel_for_notices_is_open_before_its_first_event() {
    let origin = Origin::start().await;
    let tank = Recipe::over(&origin.url())
        .timeouts("first_byte: 300ms")
        .start();
    let mut caller = tank.caller().await;
    let request = Request::get("/mcp").header("accept", "text/event-stream");
    caller.send(request.bytes()).await;
    let mut upstream = origin.accept().await;
    upstream.request().await;
    upstream.begin_stream().await;
    // Its head comes alone.
    assert_eq!(caller.head().await.status(), 200);
    tokio::time::sleep(Duration::from_millis(400)).await;
    upstream.send_chunk("data: {\"error\":{}}\n\n").await;
    let event = caller.wire.through(b"\n\n").await;
    assert!(event.ends_with(b"data: {\"error\":{}}\n\n"), "as it came");
}

#[tokio::test]
async fn asking_for_the_head_of_a_stream_gives_it() {
    let origin = Origin::start().await.play(|_| Play::Answer(HEAD.into()));
    let tank = Recipe::over(&origin.url()).start();
    for path in ["/v1/chat/completions", "/v1/messages", "/mcp"] {
        let answer = tank.call(&Request::new("HEAD", path)).await;
        assert_eq!(answer.status, 200, "{path}");
        assert_eq!(answer.head.one("content-type"), Some("text/event-stream"));
    }
    tank.at_rest().await;
    assert_eq!(tank.outcomes("served"), 3);
}

#[tokio::test]
async fn a_connection_of_http2_that_has_died_without_a_word_is_noticed() {
    let origin = Origin::start().await;
    let tank = Recipe::over(&origin.url())
        .upstream("http2: true")
        .timeouts("first_byte: 60s")
        .retry("max_retries: 0")
        .start();
    let mut caller = tank.caller().await;
    let asked = Instant::now();
    caller.send(Tongue::Chat.plain().bytes()).await;
    let stream = origin.accept().await.wire.into_tcp();
    let mut connection = h2::server::handshake(stream).await.expect("HTTP/2");
    let request = soon("a request", connection.accept()).await;
    let _unanswered = request.expect("not the end").expect("a request");
    // From here on nobody reads the connection, so no ping is answered.
    let answer = caller.answer().await;
    assert_eq!(answer.status, 502, "{}", answer.text());
    let waited = asked.elapsed();
    assert!(
        (Duration::from_secs(10)..Duration::from_secs(30)).contains(&waited),
        "{waited:?}"
    );
    drop(connection);
}

//! Connections to the upstream: which of them carry another request, and which do not.

use std::time::Duration;

use super::harness::{
    Filled, Origin, OriginConnection, Recipe, Request, Tank, Tongue, chunked, soon, until,
};

/// A stream in full, its head first, in the framing of an upstream.
fn stream(head: &str) -> Vec<u8> {
    let mut bytes = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n{head}\r\n"
    )
    .into_bytes();
    for event in Tongue::Chat.events() {
        bytes.extend_from_slice(&chunked(event));
    }
    bytes.extend_from_slice(b"0\r\n\r\n");
    bytes
}

/// Asks, and answers by `bytes` on `upstream`. The status that the caller gets.
async fn exchange(
    tank: &Tank,
    upstream: &mut OriginConnection,
    request: &Request,
    bytes: impl AsRef<[u8]>,
) -> u16 {
    let played = async {
        upstream.request().await;
        upstream.send(bytes).await;
    };
    let (answer, ()) = tokio::join!(tank.call(request), played);
    tank.at_rest().await;
    answer.status
}

/// The first request of `tank`, which opens a connection.
async fn opened(
    tank: &Tank,
    origin: &Origin,
    request: &Request,
    bytes: impl AsRef<[u8]>,
) -> OriginConnection {
    let played = async {
        let mut upstream = origin.accept().await;
        upstream.request().await;
        upstream.send(bytes).await;
        upstream
    };
    let (_, upstream) = tokio::join!(tank.call(request), played);
    tank.at_rest().await;
    upstream
}

#[tokio::test]
async fn one_connection_carries_answers_of_all_kinds() {
    let origin = Origin::start().await;
    let tank = Recipe::over(&origin.url()).start();
    let (plain, streamed) = (Tongue::Chat.plain(), Tongue::Chat.stream());
    let mut upstream = opened(&tank, &origin, &streamed, stream("")).await;
    for _ in 0..2 {
        for (request, status, bytes) in [
            (&streamed, 200, stream("")),
            (&streamed, 200, stream("connection: keep-alive\r\n")),
            (&plain, 200, b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}".to_vec()),
            (&plain, 204, b"HTTP/1.1 204 No Content\r\n\r\n".to_vec()),
            (&plain, 200, b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_vec()),
            (&plain, 200, b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n".to_vec()),
            (&plain, 200, b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\nx-sum: 1\r\n\r\n".to_vec()),
            (&plain, 200, b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}".to_vec()),
            (&plain, 400, b"HTTP/1.1 400 Bad Request\r\ncontent-length: 2\r\n\r\n{}".to_vec()),
            (&Request::new("HEAD", "/v1/models"), 200, b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n".to_vec()),
            (&Request::new("HEAD", "/v1/models"), 200, b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n".to_vec()),
            (&plain, 304, b"HTTP/1.1 304 Not Modified\r\ncontent-length: 2\r\n\r\n".to_vec()),
        ] {
            let got = soon("an answer", exchange(&tank, &mut upstream, request, &bytes)).await;
            assert_eq!(got, status, "{}", super::harness::text(&bytes));
        }
    }
}

#[tokio::test]
async fn a_stream_may_come_in_any_two_pieces() {
    let origin = Origin::start().await;
    let tank = Recipe::over(&origin.url()).start();
    let request = Tongue::Chat.stream();
    let whole = stream("");
    let mut upstream = opened(&tank, &origin, &request, &whole).await;
    let mut caller = tank.caller().await;
    let expected = Tongue::Chat.events().concat();
    for cut in (1..whole.len()).step_by(3) {
        caller.send(request.bytes()).await;
        upstream.request().await;
        upstream.send(&whole[..cut]).await;
        tokio::task::yield_now().await;
        upstream.send(&whole[cut..]).await;
        let answer = caller.answer().await;
        assert_eq!(answer.text(), expected, "cut at {cut}");
    }
}

#[tokio::test]
async fn what_follows_a_stream_unasked_is_never_an_answer() {
    let origin = Origin::start().await;
    let tank = Recipe::over(&origin.url()).start();
    let request = Tongue::Chat.stream();
    let another = b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\nfoisted";
    for late in [false, true] {
        let mut bytes = stream("");
        if !late {
            bytes.extend_from_slice(another);
        }
        let mut upstream = opened(&tank, &origin, &request, bytes).await;
        if late {
            let _ = upstream.wire.try_send(another).await;
            // It has arrived when it is looked at: both sides are on this machine, and so is the kernel between them.
            tokio::time::sleep(Duration::from_millis(50)).await;
            let next = opened(&tank, &origin, &request, stream("connection: close\r\n")).await;
            drop(next);
        }
        soon("the end of it", upstream.wire.closed()).await;
    }
}

#[tokio::test]
async fn a_connection_that_is_to_close_carries_nothing_more() {
    let origin = Origin::start().await;
    let tank = Recipe::over(&origin.url()).start();
    let plain = |field: &str| {
        format!("HTTP/1.1 200 OK\r\n{field}content-length: 2\r\n\r\n{{}}").into_bytes()
    };
    for (request, bytes) in [
        (Tongue::Chat.stream(), stream("connection: close\r\n")),
        (
            Tongue::Chat.stream(),
            stream("connection: x-hop, Close\r\n"),
        ),
        (Tongue::Chat.plain(), plain("connection: close\r\n")),
        (
            Tongue::Chat.plain(),
            b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\n{}".to_vec(),
        ),
        (
            Tongue::Chat.plain(),
            b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\n{}".to_vec(),
        ),
    ] {
        let mut upstream = opened(&tank, &origin, &request, bytes).await;
        soon("the end of it", upstream.wire.closed()).await;
    }
}

#[tokio::test]
async fn a_connection_that_its_peer_has_closed_costs_no_attempt_and_is_let_go() {
    let origin = Origin::start().await;
    let tank = Recipe::over(&origin.url()).start();
    let answer = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
    for _ in 0..3 {
        let upstream = opened(&tank, &origin, &Tongue::Chat.plain(), answer).await;
        drop(upstream);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(tank.count("surgetank_retries_total", &[]), 0);

    let upstream = opened(&tank, &origin, &Tongue::Chat.plain(), answer).await;
    let mut stream = upstream.wire.into_tcp();
    tokio::io::AsyncWriteExt::shutdown(&mut stream)
        .await
        .expect("half of it closes");
    let mut wire = super::harness::Wire::new(stream);
    assert_ne!(
        soon("its end, though nobody asks for it", wire.fill()).await,
        Filled::Bytes
    );
}

#[tokio::test]
async fn an_answer_that_nobody_reads_to_its_end_frees_its_connection_if_it_is_short() {
    let origin = Origin::start().await;
    let tank = Recipe::over(&origin.url()).retry("max_retries: 1").start();
    // Longer than what is read of an error to judge it; then the attempt is over.
    let error = "x".repeat(80 * 1024);
    let busy = format!(
        "HTTP/1.1 503 Busy\r\ncontent-length: {}\r\n\r\n{error}",
        error.len()
    );
    let played = async {
        let mut upstream = origin.accept().await;
        upstream.request().await;
        upstream.send(busy).await;
        upstream.request().await;
        upstream.send_json("{}").await;
    };
    let request = Tongue::Chat.plain();
    let (answer, ()) = tokio::join!(tank.call(&request), played);
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn an_upload_that_its_peer_takes_no_more_of_after_its_answer_is_let_go() {
    let origin = Origin::start().await;
    let tank =
        Recipe::over(&origin.url()).start_with("replay: { per_request: 32MiB, total: 64MiB }");
    let upload = Request::post("/v1/files", "x".repeat(24 << 20));
    let played = async {
        let mut upstream = origin.accept().await;
        upstream.wire.head().await.expect("a request");
        upstream
            .send("HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\n{}")
            .await;
        upstream
    };
    let (answer, upstream) = tokio::join!(tank.call(&upload), played);
    assert_eq!(answer.status, 413);
    until("what it holds is given back", || {
        tank.proxy.budget().used() == 0
    })
    .await;
    drop(upstream);
}

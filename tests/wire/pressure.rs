//! Who takes nothing slows who sends: nothing between the two collects, whatever passes and whichever way.

use std::time::Duration;

use super::harness::{
    Caller, Origin, OriginConnection, Recipe, Request, Tank, Tongue, Wire, chunked, soon,
};

/// More than the socket buffers of both hops ever hold, and far less than what a proxy would take that collects.
const BOUND: u64 = 24 << 20;

/// The proxy may hold this much of all bodies.
const BUDGET: usize = 1 << 20;

/// Pushes the same piece until the peer takes no more for a while; gives how much it took.
async fn pushed(wire: &mut Wire, piece: &[u8]) -> u64 {
    let mut taken = 0;
    while taken < 2 * BOUND {
        match tokio::time::timeout(Duration::from_secs(1), wire.try_send(piece)).await {
            Ok(sent) => sent.expect("the peer lives"),
            Err(_) => break,
        }
        taken += piece.len() as u64;
    }
    taken
}

async fn asked(blocks: &str, request: &Request) -> (Tank, Caller, OriginConnection) {
    let origin = Origin::start().await;
    let tank = Recipe::over(&origin.url()).start_with(blocks);
    let mut caller = tank.caller().await;
    caller.send(request.bytes()).await;
    let mut upstream = origin.accept().await;
    upstream.request().await;
    (tank, caller, upstream)
}

#[tokio::test]
async fn a_reader_that_stops_slows_its_upstream() {
    let event = Tongue::Chat.events()[1].repeat(400);
    for (kind, request, piece) in [
        ("text/event-stream", Tongue::Chat.stream(), chunked(&event)),
        (
            "application/json",
            Tongue::Chat.plain(),
            chunked(vec![b' '; 64 * 1024]),
        ),
        (
            "audio/mpeg",
            Request::post("/v1/audio/speech", "{}"),
            chunked(vec![7; 64 * 1024]),
        ),
    ] {
        let (tank, caller, mut upstream) = asked("", &request).await;
        upstream
            .send(format!(
                "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ntransfer-encoding: chunked\r\n\r\n"
            ))
            .await;
        let took = pushed(&mut upstream.wire, &piece).await;
        assert!(
            took < BOUND,
            "{kind}: {took} bytes for a caller that reads none"
        );
        assert!(tank.proxy.budget().used() <= 8 << 20, "{kind}");
        drop((caller, upstream));
        tank.at_rest().await;
    }
}

#[tokio::test]
async fn an_upstream_that_stops_slows_an_upload() {
    let origin = Origin::start().await;
    let tank =
        Recipe::over(&origin.url()).start_with("replay: { per_request: 64KiB, total: 1MiB }");
    let mut caller = tank.caller().await;
    caller
        .send("POST /v1/files HTTP/1.1\r\nhost: app\r\ncontent-type: multipart/form-data; boundary=b\r\ntransfer-encoding: chunked\r\n\r\n")
        .await;
    let piece = chunked(vec![b'x'; 64 * 1024]);
    let took = pushed(&mut caller.wire, &piece).await;
    assert!(took < BOUND, "{took} bytes for an upstream that reads none");
    assert!(tank.proxy.budget().used() <= BUDGET);
}

#[tokio::test]
async fn uploads_and_downloads_beyond_the_budget_pass_within_it() {
    const PIECE: usize = 256 * 1024;
    const PIECES: usize = 96; // 24 MiB either way
    let origin = Origin::start().await;
    let tank =
        Recipe::over(&origin.url()).start_with("replay: { per_request: 64KiB, total: 1MiB }");
    let (mut caller, length) = (tank.caller().await, PIECE * PIECES);
    let upload = async {
        caller
            .send(format!("POST /v1/files HTTP/1.1\r\nhost: app\r\ncontent-type: multipart/form-data; boundary=b\r\ncontent-length: {length}\r\n\r\n"))
            .await;
        for _ in 0..PIECES {
            caller.send(vec![b'x'; PIECE]).await;
            assert!(tank.proxy.budget().used() <= BUDGET);
        }
    };
    let takes = async {
        let mut upstream = origin.accept().await;
        let seen = upstream.request().await;
        assert_eq!(seen.body.len(), length);
        upstream
    };
    let ((), mut upstream) = soon("the upload", async { tokio::join!(upload, takes) }).await;
    let gives = async {
        upstream
            .send(format!("HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\ncontent-length: {length}\r\n\r\n"))
            .await;
        for _ in 0..PIECES {
            upstream.send(vec![b'y'; PIECE]).await;
            assert!(tank.proxy.budget().used() <= BUDGET);
        }
    };
    let reads = caller.answer();
    let ((), answer) = soon("the download", async { tokio::join!(gives, reads) }).await;
    assert_eq!((answer.status, answer.body.len()), (200, length));
    assert_eq!(tank.count("surgetank_unprotected_requests_total", &[]), 1);
    tank.at_rest().await;
}

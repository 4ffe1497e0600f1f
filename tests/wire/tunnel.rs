//! Tunnels: the handshake is a request like any other; after the 101 every byte passes, both ways, until an honest end.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::{SinkExt as _, StreamExt as _};
use surgetank::server::Stage;
use tokio::{net::TcpListener, time::Instant};
use tokio_tungstenite::{
    WebSocketStream, accept_async, client_async,
    tungstenite::{
        Error as WsError, Message,
        error::ProtocolError,
        protocol::{CloseFrame, frame::coding::CloseCode},
    },
};

use super::harness::{
    Caller, End, Folder, Origin, OriginConnection, Recipe, Tank, Wire, soon, text, until,
};

/// The handshake of RFC 6455 §1.3, and its answer.
const ASK: &str = "GET /v1/realtime?model=m HTTP/1.1\r\nhost: app\r\nconnection: keep-alive, Upgrade\r\nupgrade: websocket\r\n\
    sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nauthorization: Bearer k\r\n\
    sec-websocket-protocol: realtime\r\nx-surgetank-user: me\r\n";
const GRANT: &str = "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
    sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nsec-websocket-protocol: realtime\r\n\r\n";
const BUSY: &str =
    "HTTP/1.1 503 Service Unavailable\r\ncontent-type: text/plain\r\ncontent-length: 4\r\n\r\nbusy";

fn ask() -> String {
    format!("{ASK}\r\n")
}

/// A tunnel of which a test plays both ends byte by byte.
struct Open {
    tank: Tank,
    caller: Caller,
    upstream: OriginConnection,
}

impl Open {
    async fn with(change: impl FnOnce(Recipe) -> Recipe) -> Self {
        let origin = Origin::start().await;
        let tank = change(Recipe::over(&origin.url())).start();
        let mut caller = tank.caller().await;
        caller.send(ask()).await;
        let mut upstream = origin.accept().await;
        upstream.request().await;
        upstream.send(GRANT).await;
        let head = caller.wire.head().await.expect("an answer");
        assert_eq!(head.status(), 101);
        Self {
            tank,
            caller,
            upstream,
        }
    }
}

/// A WebSocket server that says everything back, and its address.
async fn echo_server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let addr = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let Ok(mut socket) = accept_async(stream).await else {
                    return;
                };
                while let Some(Ok(message)) = socket.next().await {
                    if matches!(message, Message::Text(_) | Message::Binary(_))
                        && socket.send(message).await.is_err()
                    {
                        return;
                    }
                }
            });
        }
    });
    addr
}

async fn connect(tank: &Tank) -> WebSocketStream<tokio::net::TcpStream> {
    let stream = Wire::connect(tank.addr).await.into_tcp();
    let url = format!("ws://{}/v1/realtime", tank.addr);
    let (socket, answer) = soon("the handshake", client_async(url, stream))
        .await
        .expect("it is granted");
    let attempts = answer.headers().get("x-surgetank-attempts");
    assert_eq!(attempts.expect("counted"), "1");
    socket
}

#[tokio::test]
async fn a_real_client_and_a_real_server_talk_through_it() {
    let echo = echo_server().await;
    let tank = Recipe::over(&format!("http://{echo}")).start();
    let mut socket = connect(&tank).await;
    assert_eq!(tank.count("surgetank_tunnels", &[]), 1);
    for length in [0, 1, 125, 126, 65_535, 65_536, 300_000] {
        let sent = Message::binary(vec![7; length]);
        socket.send(sent.clone()).await.expect("sent");
        let came = soon("the echo", socket.next()).await.expect("a message");
        assert!(came.expect("whole") == sent, "{length} bytes");
    }
    let word = Message::text("\u{20ac} and more");
    socket.send(word.clone()).await.expect("sent");
    assert_eq!(
        socket.next().await.expect("a message").expect("whole"),
        word
    );
    socket.send(Message::Ping("?".into())).await.expect("sent");
    let pong = soon("the pong", socket.next()).await.expect("a message");
    assert_eq!(pong.expect("whole"), Message::Pong("?".into()));
    let bye = CloseFrame {
        code: CloseCode::Normal,
        reason: "done".into(),
    };
    socket.close(Some(bye.clone())).await.expect("sent");
    let closed = soon("the close", socket.next()).await.expect("a message");
    assert_eq!(closed.expect("whole"), Message::Close(Some(bye)));
    assert!(
        soon("the end", socket.next()).await.is_none(),
        "a clean end"
    );
    tank.at_rest().await;
    assert_eq!(tank.count("surgetank_tunnels", &[]), 0);
    assert_eq!(tank.outcomes("served"), 1);
    for direction in ["up", "down"] {
        let labels = [("upstream", "lab"), ("direction", direction)];
        let bytes = tank.count("surgetank_tunnel_bytes_total", &labels);
        assert!(bytes > 431_000, "{direction}: {bytes}");
    }
}

#[tokio::test]
async fn many_talk_at_once() {
    let echo = echo_server().await;
    let tank = Recipe::over(&format!("http://{echo}")).workers(2).start();
    let mut talks = tokio::task::JoinSet::new();
    for number in 0..100_u32 {
        let mut socket = connect(&tank).await;
        talks.spawn(async move {
            for round in 0..20_u32 {
                let word = Message::text(format!("{number} {round}"));
                socket.send(word.clone()).await.expect("sent");
                let came = soon("the echo", socket.next()).await.expect("a message");
                assert_eq!(came.expect("whole"), word);
            }
        });
    }
    while let Some(talk) = talks.join_next().await {
        talk.expect("it talked");
    }
    tank.at_rest().await;
}

#[tokio::test]
async fn the_handshake_passes_as_it_is_and_nothing_goes_before_the_101() {
    let origin = Origin::start().await;
    let tank = Recipe::over(&origin.url()).start();
    let mut caller = tank.caller().await;
    // A caller that cannot wait: its first frame comes with its request.
    caller.send(format!("{}early", ask())).await;
    let mut upstream = origin.accept().await;
    let seen = upstream.request().await;
    assert_eq!(seen.head.start, "GET /v1/realtime?model=m HTTP/1.1");
    for (name, value) in [
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("sec-websocket-version", "13"),
        ("sec-websocket-protocol", "realtime"),
        ("authorization", "Bearer k"),
    ] {
        assert_eq!(seen.head.one(name), Some(value), "{name}");
    }
    assert!(!seen.head.has("x-surgetank-user") && !seen.head.has("keep-alive"));
    assert!(upstream.wire.inbox.is_empty(), "no byte before the 101");
    upstream.send(format!("{GRANT}first")).await;
    let head = caller.wire.head().await.expect("an answer");
    assert_eq!(head.status(), 101);
    assert_eq!(head.one("upgrade"), Some("websocket"));
    assert_eq!(head.one("connection"), Some("Upgrade"));
    assert_eq!(head.one("sec-websocket-protocol"), Some("realtime"));
    assert!(head.has("x-surgetank-request-id"));
    assert_eq!(caller.wire.through(b"first").await, b"first");
    assert_eq!(upstream.wire.through(b"early").await, b"early");
}

#[tokio::test]
async fn what_is_no_whole_handshake_is_plain_http() {
    let origin = Origin::start().await;
    let tank = Recipe::over(&origin.url()).retry("max_retries: 0").start();
    let key = "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let rest = "sec-websocket-version: 13\r\n";
    for (fields, what) in [
        (
            format!("upgrade: h2c\r\nconnection: upgrade\r\n{key}{rest}"),
            "another protocol",
        ),
        (
            format!("upgrade: websocket\r\n{key}{rest}"),
            "no connection field",
        ),
        (
            format!("upgrade: websocket\r\nconnection: upgrade\r\n{rest}"),
            "no key",
        ),
        (
            format!("upgrade: websocket\r\nconnection: upgrade\r\n{key}"),
            "no version",
        ),
        (
            format!("upgrade: websocket, h2c\r\nconnection: upgrade\r\n{key}{rest}"),
            "two protocols",
        ),
    ] {
        let mut caller = tank.caller().await;
        caller
            .send(format!(
                "GET /v1/realtime HTTP/1.1\r\nhost: app\r\n{fields}\r\n"
            ))
            .await;
        let mut upstream = origin.accept().await;
        let seen = upstream.request().await;
        assert!(
            !seen.head.has("upgrade") && !seen.head.has("connection"),
            "{what}"
        );
        // And an upstream that switches all the same is not believed.
        upstream.send(format!("{GRANT}raw")).await;
        let refused = caller.answer_to("GET").await;
        assert_eq!(refused.status, 502, "{what}");
        assert!(!text(&refused.body).contains("raw"));
    }
}

#[tokio::test]
async fn only_the_true_answer_to_a_handshake_opens_a_tunnel() {
    let origin = Origin::start().await;
    let tank = Recipe::over(&origin.url()).retry("max_retries: 0").start();
    for grant in [
        GRANT.replace(
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
            "AAAALMBiTxaQ9kYGzzhZRbK+xOo=",
        ),
        GRANT.replace("upgrade: websocket", "upgrade: h2c"),
        GRANT.replace("connection: Upgrade\r\n", ""),
        GRANT.replace("101 Switching Protocols", "102 Processing"),
    ] {
        let mut caller = tank.caller().await;
        caller.send(ask()).await;
        let mut upstream = origin.accept().await;
        upstream.request().await;
        upstream.send(format!("{grant}raw")).await;
        drop(upstream);
        let refused = caller.answer_to("GET").await;
        assert_eq!(refused.status, 502, "{grant}");
        assert!(!text(&refused.body).contains("raw"), "{grant}");
    }
    assert_eq!(tank.count("surgetank_tunnels", &[]), 0);
}

#[tokio::test]
async fn a_handshake_is_retried_and_a_refusal_is_passed_on() {
    let origin = Origin::start().await;
    let tank = Recipe::over(&origin.url()).start();
    let mut caller = tank.caller().await;
    caller.send(ask()).await;
    let mut upstream = origin.accept().await;
    for _ in 0..2 {
        upstream.request().await;
        upstream.send(BUSY).await;
    }
    upstream.request().await;
    upstream.send(GRANT).await;
    let head = caller.wire.head().await.expect("an answer");
    assert_eq!(head.status(), 101);
    assert_eq!(head.one("x-surgetank-attempts"), Some("3"));
    upstream.send("hello").await;
    caller.wire.through(b"hello").await;
    drop(caller);
    tank.at_rest().await;

    let mut caller = tank.caller().await;
    caller.send(ask()).await;
    let mut upstream = origin.accept().await;
    upstream.request().await;
    upstream
        .send("HTTP/1.1 401 Unauthorized\r\ncontent-length: 2\r\n\r\nno")
        .await;
    let refused = caller.answer_to("GET").await;
    assert_eq!((refused.status, refused.body), (401, b"no".to_vec()));
    // The connection is HTTP still.
    caller.send("GET /x HTTP/1.1\r\nhost: app\r\n\r\n").await;
    upstream.request().await;
    upstream.send_json("{}").await;
    assert_eq!(caller.answer_to("GET").await.status, 200);
}

#[tokio::test]
async fn who_may_not_call_or_has_too_many_opens_none() {
    let origin = Origin::start().await;
    let folder = Folder::new();
    let file = folder.write("tokens", "a-token-that-is-long-enough\n");
    let tank = Recipe::over(&origin.url()).start_with(&format!(
        "auth: {{ tokens: {{ file: '{}' }} }}\nlimits: {{ per_user: {{ concurrent: 1 }} }}",
        file.display()
    ));
    let mut stranger = tank.caller().await;
    stranger.send(ask()).await;
    assert_eq!(stranger.answer_to("GET").await.status, 401);

    let known = format!("{ASK}x-surgetank-token: a-token-that-is-long-enough\r\n\r\n");
    let mut first = tank.caller().await;
    first.send(&known).await;
    let mut upstream = origin.accept().await;
    assert!(!upstream.request().await.head.has("x-surgetank-token"));
    upstream.send(GRANT).await;
    assert_eq!(first.wire.head().await.expect("an answer").status(), 101);
    let mut second = tank.caller().await;
    second.send(&known).await;
    assert_eq!(
        second.answer_to("GET").await.status,
        429,
        "the user has one"
    );
    drop(first);
    tank.at_rest().await;
    second.send(&known).await;
    let mut upstream = origin.accept().await;
    upstream.request().await;
    upstream.send(GRANT).await;
    assert_eq!(second.wire.head().await.expect("an answer").status(), 101);
}

#[tokio::test]
async fn tunnels_take_no_place_in_the_window() {
    let origin = Origin::start().await;
    let tank = Recipe::over(&origin.url()).start();
    let mut open = Vec::new();
    for _ in 0..60 {
        let mut caller = tank.caller().await;
        caller.send(ask()).await;
        let mut upstream = origin.accept().await;
        upstream.request().await;
        upstream.send(GRANT).await;
        assert_eq!(caller.wire.head().await.expect("an answer").status(), 101);
        open.push((caller, upstream));
    }
    assert_eq!(tank.count("surgetank_tunnels", &[]), 60);
    drop(open);
    tank.at_rest().await;
}

#[tokio::test]
async fn a_tunnel_lives_as_long_as_something_passes_either_way_and_no_longer() {
    let idle = Duration::from_millis(1600);
    let Open {
        tank,
        mut caller,
        mut upstream,
    } = Open::with(|recipe| recipe.timeouts("tunnel_idle: 1600ms").total("1s")).await;
    let began = Instant::now();
    // Beyond the request's own total, kept alive from one side alone at a time.
    for _ in 0..7 {
        tokio::time::sleep(idle / 8).await;
        caller.send("up").await;
        upstream.wire.through(b"up").await;
    }
    for _ in 0..7 {
        tokio::time::sleep(idle / 8).await;
        upstream.send(b"\x81\x04down").await;
        caller.wire.through(b"down").await;
    }
    assert!(began.elapsed() > idle);
    let (last, end) = caller.wire.rest().await;
    assert_eq!(
        &last[..4],
        b"\x88\x1f\x03\xe9",
        "a close frame, going away: {last:?}"
    );
    assert_eq!(end, End::Fin);
    upstream.wire.closed().await;
    tank.at_rest().await;
    assert_eq!(tank.outcomes("broken"), 1);
    let idle = [("cause", "idle")];
    assert_eq!(tank.count("surgetank_stream_broken_total", &idle), 1);
}

#[tokio::test]
async fn a_process_that_drains_waits_for_its_tunnels_and_then_says_that_it_goes() {
    let echo = echo_server().await;
    let tank = Recipe::over(&format!("http://{echo}")).start();
    let mut socket = connect(&tank).await;
    tank.proxy.lifecycle().advance(Stage::Draining);
    for _ in 0..3 {
        socket
            .send(Message::text("still here"))
            .await
            .expect("sent");
        let came = soon("the echo", socket.next()).await.expect("a message");
        assert_eq!(came.expect("whole"), Message::text("still here"));
    }
    assert_eq!(tank.proxy.fleet().live(), 1, "the drain waits for it");
    tank.proxy.lifecycle().advance(Stage::Ending);
    let closed = soon("the close", socket.next()).await.expect("a message");
    let Message::Close(Some(frame)) = closed.expect("whole") else {
        panic!("no close frame");
    };
    assert_eq!(frame.code, CloseCode::Away);
    soon("the drain", tank.proxy.fleet().drained()).await;
    tank.at_rest().await;
    let stopping = [("cause", "stopping")];
    assert_eq!(tank.count("surgetank_stream_broken_total", &stopping), 1);
}

#[tokio::test]
async fn inside_a_frame_nothing_is_said_and_the_end_is_abrupt() {
    let Open {
        tank,
        mut caller,
        mut upstream,
    } = Open::with(|recipe| recipe).await;
    upstream.send(b"\x81\x7e\x01\x00half").await;
    caller.wire.through(b"half").await;
    tank.proxy.lifecycle().advance(Stage::Ending);
    let (rest, _) = caller.wire.rest().await;
    assert!(rest.is_empty(), "{rest:?}");
    tank.at_rest().await;
}

#[tokio::test]
async fn a_caller_that_leaves_is_seen_at_once() {
    for resets in [false, true] {
        let mut quickest = Duration::MAX;
        for _ in 0..3 {
            let Open {
                tank,
                caller,
                mut upstream,
            } = Open::with(|recipe| recipe).await;
            upstream.send("words").await;
            let mut caller = caller;
            caller.wire.through(b"words").await;
            let left = Instant::now();
            if resets {
                caller.wire.reset();
            } else {
                drop(caller);
            }
            upstream.wire.closed().await;
            quickest = quickest.min(left.elapsed());
            drop(upstream);
            tank.at_rest().await;
        }
        assert!(quickest < Duration::from_millis(100), "{quickest:?}");
    }
}

#[tokio::test]
async fn an_upstream_that_breaks_is_seen_as_a_break_behind_all_that_it_said() {
    let Open {
        tank,
        mut caller,
        mut upstream,
    } = Open::with(|recipe| recipe).await;
    upstream.send(b"\x81\x05words").await;
    caller.wire.through(b"words").await;
    upstream.wire.reset();
    let (rest, _) = caller.wire.rest().await;
    assert!(rest.is_empty(), "no close frame: {rest:?}");
    tank.at_rest().await;
    let cut = [("cause", "cut")];
    assert_eq!(tank.count("surgetank_stream_broken_total", &cut), 1);

    let echo = echo_server().await;
    let tank = Recipe::over(&format!("http://{echo}")).start();
    let mut socket = connect(&tank).await;
    socket.send(Message::text("x")).await.expect("sent");
    drop(tank);
    let came = soon("the echo", socket.next()).await;
    let is_corrupted = matches!(
        came,
        Some(Err(WsError::Protocol(ref error))) if *error != ProtocolError::ResetWithoutClosingHandshake
    );
    assert!(!is_corrupted, "{came:?}");
}

#[tokio::test]
async fn one_side_may_end_before_the_other() {
    let Open {
        tank,
        caller,
        mut upstream,
    } = Open::with(|recipe| recipe).await;
    let mut stream = caller.wire.into_tcp();
    tokio::io::AsyncWriteExt::shutdown(&mut stream)
        .await
        .expect("half closed");
    let (_, end) = upstream.wire.rest().await;
    assert_eq!(end, End::Fin);
    upstream.send("the last word").await;
    drop(upstream);
    let mut caller = Wire::new(stream);
    let (last, end) = caller.rest().await;
    assert_eq!((text(&last).as_str(), end), ("the last word", End::Fin));
    tank.at_rest().await;
    assert_eq!(tank.outcomes("served"), 1);
}

/// Pushes until the peer takes no more for a while; gives how much it took.
async fn pushed(wire: &mut Wire) -> u64 {
    let taken = Arc::new(AtomicU64::new(0));
    let piece = vec![0_u8; 64 * 1024];
    loop {
        let pushing = wire.try_send(&piece);
        match tokio::time::timeout(Duration::from_secs(1), pushing).await {
            Ok(sent) => sent.expect("the peer lives"),
            Err(_) => return taken.load(Ordering::Relaxed),
        }
        taken.fetch_add(piece.len() as u64, Ordering::Relaxed);
    }
}

#[tokio::test]
async fn who_does_not_read_slows_who_sends_in_both_directions() {
    // Socket buffers of both hops, and far less than what would show a tunnel that collects.
    const BOUND: u64 = 24 << 20;
    let Open {
        tank,
        mut caller,
        mut upstream,
    } = Open::with(|recipe| recipe.timeouts("tunnel_idle: 60s")).await;
    let down = pushed(&mut upstream.wire).await;
    let up = pushed(&mut caller.wire).await;
    assert!(down < BOUND && up < BOUND, "{down} down, {up} up");
    drop((caller, upstream));
    tank.at_rest().await;
}

#[tokio::test]
async fn an_upstream_of_http2_is_shaken_hands_with_in_http1() {
    let echo = echo_server().await;
    let tank = Recipe::over(&format!("http://{echo}"))
        .upstream("http2: true")
        .start();
    let mut socket = connect(&tank).await;
    socket.send(Message::text("x")).await.expect("sent");
    let came = soon("the echo", socket.next()).await.expect("a message");
    assert_eq!(came.expect("whole"), Message::text("x"));
    drop(socket);
    until("no tunnel", || tank.count("surgetank_tunnels", &[]) == 0).await;
}

//! Callers of HTTP/2 who cost more than they pay, and those who let others wait.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::Instant,
};

use super::harness::{H2Caller, Origin, Play, Recipe, Request, Serving, Tank, Tongue, soon, until};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const DATA: u8 = 0;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// A field that is not put into the table (RFC 7541 §6.2.2).
fn field(name: &str, value: &str) -> Vec<u8> {
    let mut field = vec![0];
    for text in [name, value] {
        field.push(u8::try_from(text.len()).expect("below 127"));
        field.extend_from_slice(text.as_bytes());
    }
    field
}

fn get(path: &str) -> Vec<u8> {
    [
        field(":method", "GET"),
        field(":scheme", "http"),
        field(":authority", "app"),
        field(":path", path),
    ]
    .concat()
}

/// What a hostile caller sends, piece by piece: the number of the piece is given.
type Flood = fn(u32) -> Vec<u8>;

fn stream_of(round: u32) -> u32 {
    round * 2 + 1
}

/// Each request is taken back as soon as it is made (CVE-2023-44487).
fn rapid_resets(round: u32) -> Vec<u8> {
    let stream = stream_of(round);
    let request = frame(HEADERS, END_HEADERS | END_STREAM, stream, &get("/x"));
    [request, frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())].concat()
}

/// Each request is broken so that the server takes it back itself (CVE-2025-8671).
fn made_resets(round: u32) -> Vec<u8> {
    let stream = stream_of(round);
    let request = frame(HEADERS, END_HEADERS | END_STREAM, stream, &get("/x"));
    [request, frame(WINDOW_UPDATE, 0, stream, &[0; 4])].concat()
}

/// A head that never ends (CVE-2024-27316).
fn continuations(round: u32) -> Vec<u8> {
    match round {
        0 => frame(HEADERS, END_STREAM, 1, &get("/x")),
        _ => frame(CONTINUATION, 0, 1, &field("x-more", "of it")),
    }
}

/// A head that never grows and never ends.
fn empty_continuations(round: u32) -> Vec<u8> {
    match round {
        0 => frame(HEADERS, END_STREAM, 1, &get("/x")),
        _ => frame(CONTINUATION, 0, 1, &[]),
    }
}

/// A body of nothing (CVE-2019-9518).
fn empty_pieces(round: u32) -> Vec<u8> {
    match round {
        0 => frame(HEADERS, END_HEADERS, 1, &get("/x")),
        _ => frame(DATA, 0, 1, &[]),
    }
}

/// A few bytes that stand for a large field each (an "HPACK bomb").
fn packed_heads(round: u32) -> Vec<u8> {
    let mut head = get("/x");
    if round == 0 {
        // Into the table (RFC 7541 §6.2.1): 3,900 bytes, their length in the prefix integer of §5.1.
        head.extend([0x40, 1, b'x', 127, 0x80 | 0x3d, 29]);
        head.extend(std::iter::repeat_n(b'a', 127 + 0x3d + 29 * 128));
    } else {
        head.extend(std::iter::repeat_n(0xbe, 8_000)); // and from it, again and again
    }
    frame(HEADERS, END_HEADERS | END_STREAM, stream_of(round), &head)
}

/// Sends until the connection is closed; gives how many pieces that took.
async fn flood(tank: &Tank, piece: Flood) -> u32 {
    const MOST: u32 = 100_000;
    let stream = tokio::net::TcpStream::connect(tank.addr)
        .await
        .expect("it listens");
    let (mut from, mut to) = stream.into_split();
    let reading = tokio::spawn(async move {
        let mut buffer = vec![0; 64 << 10];
        while from.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
    });
    if to.write_all(PREFACE).await.is_err() {
        return 0;
    }
    for round in 0..MOST {
        if reading.is_finished() || to.write_all(&piece(round)).await.is_err() {
            return round;
        }
        if round % 64 == 0 {
            tokio::task::yield_now().await;
        }
    }
    MOST
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_of_http2_end_their_own_connection_and_nothing_else() {
    let ok = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    let origin = Origin::start().await.serve(|_| Some(ok.to_vec()));
    let tank = Recipe::over(&origin.url()).start();
    let floods: [(&str, Flood, u32); 6] = [
        ("rapid resets", rapid_resets, 50_000),
        ("resets that the server makes", made_resets, 50_000),
        ("a head without an end", continuations, 50_000),
        ("a head of empty frames", empty_continuations, 99_000),
        ("a body of empty frames", empty_pieces, 99_000),
        ("packed heads", packed_heads, 500),
    ];
    let mut beside = tank.caller().await;
    for (name, piece, most) in floods {
        let sent = soon(name, flood(&tank, piece)).await;
        assert!(sent < most, "{name}: {sent} pieces were taken");
        let answer = beside.call(&Request::get("/beside")).await;
        assert_eq!(answer.text(), "ok", "{name}");
    }
    tank.at_rest().await;
}

/// A chat that streams, or one that is refused for this long.
fn gated(origin: Origin) -> Serving {
    origin.play(|seen| {
        if seen.head.has("x-refuse") {
            let refusal = "HTTP/1.1 429 Too Many Requests\r\nretry-after: 1\r\ncontent-length: 0\r\n\r\n";
            return Play::Answer(refusal.into());
        }
        let stream = Tongue::Chat.events().concat();
        let length = stream.len();
        Play::Answer(
            format!("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: {length}\r\n\r\n{stream}")
                .into(),
        )
    })
}

#[tokio::test]
async fn who_grants_no_window_keeps_nobody_else_waiting() {
    let origin = gated(Origin::start().await);
    let recipe = Recipe::over(&origin.url()).waiting("max_retries: 0");
    let tank = recipe.start_with("stream: { notice_after: 50ms }");
    let refused = tank
        .call(&Tongue::Chat.stream().header("x-refuse", "1"))
        .await;
    assert_eq!(refused.status, 429);
    // The gate is closed. The first to wait is begun early, and its caller takes nothing of it.
    let mut stalled = H2Caller::connect(tank.addr, 0).await;
    let first = Tongue::Chat.stream().header("x-surgetank-user", "first");
    let _begun = stalled.call(&first).await;
    let began = Instant::now();
    let second = Tongue::Chat.stream().header("x-surgetank-user", "second");
    let answer = tank.call(&second).await;
    assert!(
        answer.text().contains(Tongue::Chat.terminator()),
        "{}",
        answer.text()
    );
    assert!(
        began.elapsed() < Duration::from_secs(20),
        "it had to wait for the other"
    );
    // And the first has gone on as well.
    until("both are served", || origin.seen().len() >= 3).await;
}

#[tokio::test]
async fn who_grants_no_window_is_not_kept_for_the_time_of_a_request() {
    let origin = gated(Origin::start().await);
    let tank = Recipe::over(&origin.url())
        .server("write_idle: 300ms")
        .start();
    let mut stalled = H2Caller::connect(tank.addr, 0).await;
    let _begun = stalled.call(&Tongue::Chat.stream()).await;
    tank.at_rest().await;
}

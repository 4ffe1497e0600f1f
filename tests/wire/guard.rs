//! What can be read in two ways goes no further, in neither direction.
//!
//! The upstream of these tests is strict: an ambiguous head fails its parser. A canary stands where a smuggled request
//! would: it must never be executed.

use super::harness::{Caller, End, Origin, Recipe, Request, Tank, find, soon, text};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const CANARY: &str = "GET /canary HTTP/1.1\r\nhost: app\r\n\r\n";

/// What has to come of a vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// A 4xx, and nothing at the upstream.
    Refused,
    /// Served as the one thing that it can mean once it was cleaned.
    Cleaned,
    /// The same, and the connection is not used again (RFC 9112 §6.1).
    Last,
}

use Fate::{Cleaned, Last, Refused};

fn vectors() -> Vec<(&'static str, String, Fate)> {
    let post =
        |fields: &str, body: &str| format!("POST /x HTTP/1.1\r\nhost: app\r\n{fields}\r\n{body}");
    let chunks = format!("0\r\n\r\n{CANARY}");
    let length = CANARY.len();
    let get = |fields: &str| format!("GET /x HTTP/1.1\r\n{fields}\r\n{CANARY}");
    vec![
        // Framing.
        ("chunked twice", post("transfer-encoding: chunked, chunked\r\n", &chunks), Refused),
        ("chunked in two fields", post("transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n", &chunks), Refused),
        ("an empty coding", post("transfer-encoding: , chunked\r\n", &chunks), Refused),
        ("a coding before chunked", post("transfer-encoding: gzip, chunked\r\n", &chunks), Refused),
        ("a coding after chunked", post("transfer-encoding: chunked, identity\r\n", &chunks), Refused),
        ("an unknown coding", post("transfer-encoding: xchunked\r\n", &chunks), Refused),
        ("a quoted coding", post("transfer-encoding: \"chunked\"\r\n", &chunks), Refused),
        ("a coding behind a tab", post("transfer-encoding: \x0bchunked\r\n", &chunks), Refused),
        ("identity", post("transfer-encoding: identity\r\ncontent-length: 2\r\n", "hi"), Refused),
        ("space before the colon", post("transfer-encoding : chunked\r\n", &chunks), Refused),
        ("length and chunked", post(&format!("content-length: {}\r\ntransfer-encoding: chunked\r\n", chunks.len()), &chunks), Last),
        ("chunked and length", post(&format!("transfer-encoding: chunked\r\ncontent-length: {}\r\n", chunks.len()), &chunks), Last),
        ("lengths that differ", post(&format!("content-length: 0\r\ncontent-length: {length}\r\n"), CANARY), Refused),
        ("lengths that differ in a list", post(&format!("content-length: 0, {length}\r\n"), CANARY), Refused),
        ("a signed length", post(&format!("content-length: +{length}\r\n"), CANARY), Refused),
        ("a negative length", post("content-length: -1\r\n", CANARY), Refused),
        ("a hexadecimal length", post("content-length: 0x10\r\n", CANARY), Refused),
        ("a length with a space", post("content-length: 1 0\r\n", CANARY), Refused),
        ("an endless length", post("content-length: 99999999999999999999999\r\n", CANARY), Refused),
        ("an empty length", post("content-length:\r\n", CANARY), Refused),
        // Chunks.
        ("a negative chunk", post("transfer-encoding: chunked\r\n", &format!("-1\r\n{CANARY}")), Refused),
        ("a chunk size that is no number", post("transfer-encoding: chunked\r\n", &format!("zz\r\n{CANARY}")), Refused),
        ("an endless chunk size", post("transfer-encoding: chunked\r\n", &format!("fffffffffffffffff\r\n{CANARY}")), Refused),
        ("a chunk longer than it says", post("transfer-encoding: chunked\r\n", &format!("1\r\nabc\r\n{chunks}")), Refused),
        ("a bare LF after a chunk size", post("transfer-encoding: chunked\r\n", &format!("2\nhi\r\n{chunks}")), Refused),
        ("a bare CR in a chunk extension", post("transfer-encoding: chunked\r\n", &format!("2;a=\rb\r\nhi\r\n{chunks}")), Refused),
        // Hosts and targets.
        ("no host", get(""), Refused),
        ("two hosts", get("host: app\r\nhost: other\r\n"), Refused),
        ("the same host twice", get("host: app\r\nhost: app\r\n"), Refused),
        ("a host with a space", get("host: a b\r\n"), Refused),
        ("a host with a path", get("host: a/b\r\n"), Refused),
        ("a host with a user", get("host: user@app\r\n"), Refused),
        ("an empty host", get("host:\r\n"), Refused),
        ("a target of another host", format!("GET http://other/x HTTP/1.1\r\nhost: app\r\n\r\n{CANARY}"), Refused),
        ("a tunnel", format!("CONNECT other:443 HTTP/1.1\r\nhost: other:443\r\n\r\n{CANARY}"), Refused),
        ("a tunnel to the own host", format!("CONNECT app HTTP/1.1\r\nhost: app\r\n\r\n{CANARY}"), Refused),
        ("a trace", format!("TRACE /x HTTP/1.1\r\nhost: app\r\n\r\n{CANARY}"), Refused),
        ("a space in the target", format!("GET /x y HTTP/1.1\r\nhost: app\r\n\r\n{CANARY}"), Refused),
        ("two spaces", format!("GET  /x HTTP/1.1\r\nhost: app\r\n\r\n{CANARY}"), Refused),
        ("no version", format!("GET /x\r\nhost: app\r\n\r\n{CANARY}"), Refused),
        ("version 1.9", format!("GET /x HTTP/1.9\r\nhost: app\r\n\r\n{CANARY}"), Refused),
        ("version 2 in words", format!("GET /x HTTP/2.0\r\nhost: app\r\n\r\n{CANARY}"), Refused),
        // Lines.
        ("a folded field", get("host: app\r\nx-a: 1\r\n 2\r\n"), Refused),
        ("a fold before the first field", get(" host: app\r\n"), Refused),
        ("a NUL in a value", get("host: app\r\nx-a: 1\x002\r\n"), Refused),
        ("a NUL in a name", get("host: app\r\nx\0a: 1\r\n"), Refused),
        ("a bare CR in a value", get("host: app\r\nx-a: 1\rx-b: 2\r\n"), Refused),
        ("a field without a colon", get("host: app\r\nx-a\r\n"), Refused),
        ("a field without a name", get("host: app\r\n: 1\r\n"), Refused),
        ("a name with a space", get("host: app\r\nx a: 1\r\n"), Refused),
        ("a name with a brace", get("host: app\r\nx{a: 1\r\n"), Refused),
        ("an expectation that nobody knows", post("expect: a pony\r\ncontent-length: 0\r\n", ""), Refused),
        // What has one meaning is served as that.
        ("the same length twice", post("content-length: 2\r\ncontent-length: 2\r\n", "hi"), Cleaned),
        ("an absolute target of the same host", "GET http://app/x HTTP/1.1\r\nhost: app\r\n\r\n".to_owned(), Cleaned),
        ("an upgrade", "GET /x HTTP/1.1\r\nhost: app\r\nconnection: upgrade\r\nupgrade: h2c\r\nhttp2-settings: AAAA\r\n\r\n".to_owned(), Cleaned),
        ("blank lines first", "\r\n\r\nGET /x HTTP/1.1\r\nhost: app\r\n\r\n".to_owned(), Cleaned),
        ("capital chunked", post("Transfer-Encoding: CHUNKED\r\n", "2\r\nhi\r\n0\r\n\r\n"), Cleaned),
        ("a chunk extension", post("transfer-encoding: chunked\r\n", "2;a=b\r\nhi\r\n0\r\n\r\n"), Cleaned),
    ]
}

/// What came of a vector: the status, and whether the connection serves on.
async fn play(tank: &Tank, vector: &[u8]) -> (Option<u16>, bool) {
    let mut caller = tank.caller().await;
    // A refusal may come, and the connection close, before all was sent.
    let _ = caller.wire.try_send(vector).await;
    let Ok(head) = caller.wire.head().await else {
        return (None, false);
    };
    let status = head.status();
    let framing = head.answer_framing("POST");
    caller.wire.body(framing).await;
    if caller
        .wire
        .try_send(Request::get("/probe").bytes())
        .await
        .is_err()
    {
        return (Some(status), false);
    }
    let Ok(head) = caller.wire.head().await else {
        return (Some(status), false);
    };
    let body = caller.wire.body(head.answer_framing("GET")).await;
    let in_step = head.status() == 200 && body.data == b"/probe";
    assert!(
        in_step,
        "out of step after {status}: {head:?} {}",
        text(&body.data)
    );
    (Some(status), true)
}

#[tokio::test]
async fn ambiguous_requests_are_refused_and_nothing_hidden_in_them_is_executed() {
    let origin = Origin::start().await.serve(|seen| {
        let target = seen.head.start.split(' ').nth(1).expect("a target");
        let target = target.strip_prefix("http://app").unwrap_or(target);
        Some(
            format!(
                "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{target}",
                target.len()
            )
            .into_bytes(),
        )
    });
    let tank = Recipe::over(&origin.url()).start();
    let mut wrong = Vec::new();
    for (name, vector, fate) in vectors() {
        let before = origin.seen().len();
        let (status, goes_on) = soon(name, play(&tank, vector.as_bytes())).await;
        let reached: Vec<_> = origin.seen()[before..]
            .iter()
            .map(|seen| seen.head.start.clone())
            .collect();
        let hidden = reached.iter().any(|start| start.contains("/canary"));
        let served = reached.iter().filter(|start| start.contains("/x")).count();
        let right = match fate {
            Refused => status.is_none_or(|status| (400..500).contains(&status)) && served == 0,
            Cleaned => status == Some(200) && served == 1,
            Last => status == Some(200) && served == 1 && !goes_on,
        };
        if hidden || !right {
            wrong.push(format!(
                "{name}: {status:?}, reached the upstream: {reached:?}"
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {} vectors:\n{}",
        wrong.len(),
        vectors().len(),
        wrong.join("\n")
    );
    tank.at_rest().await;
}

#[tokio::test]
async fn a_refused_request_with_a_body_does_not_leave_its_body_as_the_next_request() {
    let origin = Origin::start().await.serve(|_| Some(OK.into()));
    let tank = Recipe::over(&origin.url()).start();
    for refused in [
        "host: app\r\nhost: app",
        "host: a b",
        "host: app\r\nexpect: a pony",
        "host: app\r\ntransfer-encoding: gzip, chunked",
    ] {
        let framing = if refused.contains("transfer") {
            String::new()
        } else {
            format!("content-length: {}\r\n", CANARY.len())
        };
        let vector = format!("POST /x HTTP/1.1\r\n{refused}\r\n{framing}\r\n{CANARY}");
        let (status, _) = play(&tank, vector.as_bytes()).await;
        assert!(
            status.is_some_and(|status| (400..500).contains(&status)),
            "{refused}: {status:?}"
        );
    }
    assert!(
        origin
            .seen()
            .iter()
            .all(|seen| seen.head.start.contains("/probe")),
        "{:?}",
        origin.seen()
    );
}

/// Sends until refused; gives how much was taken and the status, if there was one.
async fn flood(tank: &Tank, begin: &str, piece: &[u8], most: usize) -> (usize, Option<u16>) {
    let mut caller = tank.caller().await;
    caller.send(begin).await;
    let mut sent = 0;
    while sent < most && caller.wire.try_send(piece).await.is_ok() {
        sent += piece.len();
    }
    let status = caller.wire.head().await.ok().map(|head| head.status());
    (sent, status)
}

#[tokio::test]
async fn endless_heads_and_trailers_are_refused_early() {
    const MOST: usize = 64 << 20;
    let origin = Origin::start().await.serve(|_| Some(OK.into()));
    let tank = Recipe::over(&origin.url()).start();
    let chunked = "POST /x HTTP/1.1\r\nhost: app\r\ntransfer-encoding: chunked\r\n\r\n";
    let field = format!("x-field: {}\r\n", "v".repeat(16_000));
    for (name, begin, piece) in [
        ("an endless target", "GET /", "a".repeat(16 << 10)),
        (
            "an endless field",
            "GET / HTTP/1.1\r\nhost: app\r\nx: ",
            "a".repeat(16 << 10),
        ),
        (
            "endless fields",
            "GET / HTTP/1.1\r\nhost: app\r\n",
            field.clone(),
        ),
        (
            "many small fields",
            "GET / HTTP/1.1\r\nhost: app\r\n",
            "a: 1\r\n".repeat(2_000),
        ),
        ("an endless method", "", "A".repeat(16 << 10)),
        (
            "an endless chunk extension",
            &format!("{chunked}1;a="),
            "b".repeat(16 << 10),
        ),
        ("endless trailers", &format!("{chunked}0\r\n"), field),
        ("blank lines", "", "\r\n".repeat(8 << 10)),
    ] {
        let (sent, status) = soon(name, flood(&tank, begin, piece.as_bytes(), MOST)).await;
        assert!(sent <= 8 << 20, "{name}: {sent} bytes were taken");
        assert!(
            status.is_none_or(|status| (400..500).contains(&status)),
            "{name}: {status:?}"
        );
    }
    assert!(origin.seen().is_empty(), "{:?}", origin.seen());
    tank.at_rest().await;
}

#[tokio::test]
async fn a_chain_that_leads_back_is_noticed() {
    // The port is known only once it is bound, so the loop is closed by a relay that plays the upstream.
    let relay = Origin::start().await;
    let tank = Recipe::over(&relay.url()).start();
    let mut caller = tank.caller().await;
    caller.send(Request::get("/x").bytes()).await;
    let mut upstream = relay.accept().await;
    let seen = upstream.request().await;
    let via = text(seen.head.all("via")[0]);
    let again = tank.call(&Request::get("/x").header("via", &via)).await;
    assert_eq!(again.status, 508);
    assert_eq!(again.head.one("x-should-retry"), Some("false"));
    upstream.send(OK).await;
    assert_eq!(caller.answer_to("GET").await.status, 200);
}

#[tokio::test]
async fn answers_that_can_be_read_in_two_ways_never_reach_a_caller() {
    let body = "content-type: text/plain\r\n";
    let table: &[(&str, String, bool)] = &[
        (
            "two lengths",
            format!("HTTP/1.1 200 OK\r\n{body}content-length: 2\r\ncontent-length: 3\r\n\r\noka"),
            false,
        ),
        (
            "a length in words",
            format!("HTTP/1.1 200 OK\r\n{body}content-length: two\r\n\r\nok"),
            false,
        ),
        (
            "a negative length",
            format!("HTTP/1.1 200 OK\r\n{body}content-length: -2\r\n\r\nok"),
            false,
        ),
        (
            "a bad version",
            format!("HTTQ/1.1 200 OK\r\n{body}content-length: 2\r\n\r\nok"),
            false,
        ),
        (
            "no status",
            format!("HTTP/1.1 OK\r\n{body}content-length: 2\r\n\r\nok"),
            false,
        ),
        (
            "a status of two digits",
            format!("HTTP/1.1 20 OK\r\n{body}content-length: 2\r\n\r\nok"),
            false,
        ),
        (
            "a NUL",
            format!("HTTP/1.1 200 OK\r\n{body}x: a\0b\r\ncontent-length: 2\r\n\r\nok"),
            false,
        ),
        (
            "space before the colon",
            format!("HTTP/1.1 200 OK\r\n{body}x-a : 1\r\ncontent-length: 2\r\n\r\nok"),
            false,
        ),
        ("no HTTP", "\x16\x03\x01 hello\r\n\r\n".to_owned(), false),
        (
            "a giant head",
            format!(
                "HTTP/1.1 200 OK\r\nx-a: {}\r\ncontent-length: 2\r\n\r\nok",
                "a".repeat(700 << 10)
            ),
            false,
        ),
        (
            "a switch nobody asked for",
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\nraw"
                .to_owned(),
            false,
        ),
        // One meaning is left once it was cleaned.
        (
            "length and chunked",
            format!(
                "HTTP/1.1 200 OK\r\n{body}content-length: 9\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
            ),
            true,
        ),
    ];
    let mut wrong = Vec::new();
    for (name, reply, cleaned) in table {
        let reply = reply.clone();
        let origin = Origin::start().await.serve(move |seen| {
            Some(if seen.head.start.contains("/next") {
                OK.into()
            } else {
                reply.clone().into_bytes()
            })
        });
        let tank = Recipe::over(&origin.url()).retry("max_retries: 0").start();
        let mut caller = tank.caller().await;
        let answer = soon(name, caller.call(&Request::get("/x"))).await;
        let right = if *cleaned {
            answer.status == 200
                && answer.body == b"ok"
                && answer.end == End::Whole
                && !answer.head.has("content-length")
        } else {
            answer.status == 502 && find(&answer.body, b"upstream").is_some()
        };
        // The caller's connection was not at fault and goes on.
        let next = soon(name, caller.call(&Request::get("/next"))).await;
        if !right || next.text() != "ok" {
            wrong.push(format!(
                "{name}: {} {:?}, then {} {:?}",
                answer.status,
                answer.text(),
                next.status,
                next.text()
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn what_an_upstream_sends_behind_its_answer_is_nobodys_answer() {
    for extra in [
        "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison",
        "x",
        "\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\n",
    ] {
        let origin = Origin::start().await.serve(move |seen| {
            let target = seen.head.start.split(' ').nth(1).expect("a target");
            Some(
                format!(
                    "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{target}{extra}",
                    target.len()
                )
                .into_bytes(),
            )
        });
        let tank = Recipe::over(&origin.url()).start();
        for number in 0..40 {
            let target = format!("/{number}");
            let answer = tank.call(&Request::get(&target)).await;
            assert_eq!(
                (answer.status, answer.text()),
                (200, target),
                "behind it: {extra:?}"
            );
        }
    }
}

#[tokio::test]
async fn bodies_where_none_may_be_do_not_shift_the_next_answer() {
    for (method, reply) in [
        ("HEAD", "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison"),
        (
            "GET",
            "HTTP/1.1 204 No Content\r\ncontent-length: 6\r\n\r\npoison",
        ),
        (
            "GET",
            "HTTP/1.1 304 Not Modified\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison",
        ),
    ] {
        let origin = Origin::start().await.serve(move |seen| {
            Some(if seen.head.start.contains("/next") {
                OK.into()
            } else {
                reply.into()
            })
        });
        let tank = Recipe::over(&origin.url()).start();
        let mut caller = Caller::connect(tank.addr).await;
        for _ in 0..20 {
            let answer = caller.call(&Request::new(method, "/x")).await;
            assert!(answer.status < 400, "{method} {reply:?}: {}", answer.status);
            let next = caller.call(&Request::get("/next")).await;
            assert_eq!(next.text(), "ok", "{method} {reply:?}");
        }
    }
}

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

/// Name, bytes, fate.
type Vector = (&'static str, String, Fate);

fn post(fields: &str, body: &str) -> String {
    format!("POST /x HTTP/1.1\r\nhost: app\r\n{fields}\r\n{body}")
}

/// A request with these fields, and the canary behind it.
fn get(fields: &str) -> String {
    format!("GET /x HTTP/1.1\r\n{fields}\r\n{CANARY}")
}

/// The end of a chunked body, and the canary behind it.
fn chunks() -> String {
    format!("0\r\n\r\n{CANARY}")
}

fn vectors() -> Vec<Vector> {
    [
        codings(),
        lengths(),
        chunking(),
        hosts_and_targets(),
        lines(),
        cleaned(),
    ]
    .concat()
}

fn codings() -> Vec<Vector> {
    let chunks = chunks();
    let codings = [
        ("chunked twice", "chunked, chunked"),
        (
            "chunked in two fields",
            "chunked\r\ntransfer-encoding: chunked",
        ),
        ("an empty coding", ", chunked"),
        ("a coding before chunked", "gzip, chunked"),
        ("a coding after chunked", "chunked, identity"),
        ("an unknown coding", "xchunked"),
        ("a quoted coding", "\"chunked\""),
        ("a coding behind a vertical tab", "\x0bchunked"),
        ("identity", "identity\r\ncontent-length: 2"),
    ];
    let refused = codings.map(|(name, coding)| {
        let request = post(&format!("transfer-encoding: {coding}\r\n"), &chunks);
        (name, request, Refused)
    });
    let spaced = post("transfer-encoding : chunked\r\n", &chunks);
    let length = format!("content-length: {}\r\n", chunks.len());
    let before = post(&format!("{length}transfer-encoding: chunked\r\n"), &chunks);
    let behind = post(&format!("transfer-encoding: chunked\r\n{length}"), &chunks);
    let others = [
        ("space before the colon", spaced, Refused),
        ("length and chunked", before, Last),
        ("chunked and length", behind, Last),
    ];
    refused.into_iter().chain(others).collect()
}

fn lengths() -> Vec<Vector> {
    let length = CANARY.len();
    let lengths = [
        (
            "lengths that differ",
            format!("0\r\ncontent-length: {length}"),
        ),
        ("lengths that differ in a list", format!("0, {length}")),
        ("a signed length", format!("+{length}")),
        ("a negative length", "-1".to_owned()),
        ("a hexadecimal length", "0x10".to_owned()),
        ("a length with a space", "1 0".to_owned()),
        ("an endless length", "9".repeat(23)),
        ("an empty length", String::new()),
    ];
    let request = |length| post(&format!("content-length: {length}\r\n"), CANARY);
    lengths
        .map(|(name, length)| (name, request(length), Refused))
        .to_vec()
}

fn chunking() -> Vec<Vector> {
    let chunks = chunks();
    let bodies = [
        ("a negative chunk", format!("-1\r\n{CANARY}")),
        ("a chunk size that is no number", format!("zz\r\n{CANARY}")),
        (
            "an endless chunk size",
            format!("fffffffffffffffff\r\n{CANARY}"),
        ),
        (
            "a chunk longer than it says",
            format!("1\r\nabc\r\n{chunks}"),
        ),
        ("a bare LF after a chunk size", format!("2\nhi\r\n{chunks}")),
        (
            "a bare CR in a chunk extension",
            format!("2;a=\rb\r\nhi\r\n{chunks}"),
        ),
    ];
    bodies
        .map(|(name, body)| (name, post("transfer-encoding: chunked\r\n", &body), Refused))
        .to_vec()
}

fn hosts_and_targets() -> Vec<Vector> {
    let hosts = [
        ("no host", ""),
        ("two hosts", "host: app\r\nhost: other\r\n"),
        ("the same host twice", "host: app\r\nhost: app\r\n"),
        ("a host with a space", "host: a b\r\n"),
        ("a host with a path", "host: a/b\r\n"),
        ("a host with a user", "host: user@app\r\n"),
        ("an empty host", "host:\r\n"),
    ];
    let starts = [
        ("a target of another host", "GET http://other/x HTTP/1.1"),
        ("a tunnel to another host", "CONNECT other:443 HTTP/1.1"),
        ("a tunnel to the own host", "CONNECT app HTTP/1.1"),
        ("a trace", "TRACE /x HTTP/1.1"),
        ("a space in the target", "GET /x y HTTP/1.1"),
        ("two spaces", "GET  /x HTTP/1.1"),
        ("no version", "GET /x"),
        ("version 1.9", "GET /x HTTP/1.9"),
        ("version 2 in words", "GET /x HTTP/2.0"),
    ];
    let hosts = hosts.map(|(name, fields)| (name, get(fields), Refused));
    let starts = starts.map(|(name, start)| {
        (
            name,
            format!("{start}\r\nhost: app\r\n\r\n{CANARY}"),
            Refused,
        )
    });
    hosts.into_iter().chain(starts).collect()
}

fn lines() -> Vec<Vector> {
    let fields = [
        ("a folded field", "host: app\r\nx-a: 1\r\n 2\r\n"),
        ("a fold before the first field", " host: app\r\n"),
        ("a NUL in a value", "host: app\r\nx-a: 1\x002\r\n"),
        ("a NUL in a name", "host: app\r\nx\0a: 1\r\n"),
        ("a bare CR in a value", "host: app\r\nx-a: 1\rx-b: 2\r\n"),
        ("a field without a colon", "host: app\r\nx-a\r\n"),
        ("a field without a name", "host: app\r\n: 1\r\n"),
        ("a name with a space", "host: app\r\nx a: 1\r\n"),
        ("a name with a brace", "host: app\r\nx{a: 1\r\n"),
        (
            "an expectation that nobody knows",
            "host: app\r\nexpect: a pony\r\n",
        ),
    ];
    fields
        .map(|(name, fields)| (name, get(fields), Refused))
        .to_vec()
}

/// What has one meaning is served as that.
fn cleaned() -> Vec<Vector> {
    let host = "host: app\r\n";
    let upgrade = "connection: upgrade\r\nupgrade: h2c\r\nhttp2-settings: AAAA\r\n";
    let chunked = "transfer-encoding: chunked\r\n";
    let requests = [
        (
            "the same length twice",
            post("content-length: 2\r\ncontent-length: 2\r\n", "hi"),
        ),
        (
            "an absolute target of the same host",
            format!("GET http://app/x HTTP/1.1\r\n{host}\r\n"),
        ),
        (
            "an upgrade",
            format!("GET /x HTTP/1.1\r\n{host}{upgrade}\r\n"),
        ),
        (
            "blank lines first",
            format!("\r\n\r\nGET /x HTTP/1.1\r\n{host}\r\n"),
        ),
        (
            "capital chunked",
            post("Transfer-Encoding: CHUNKED\r\n", "2\r\nhi\r\n0\r\n\r\n"),
        ),
        (
            "a chunk extension",
            post(chunked, "2;a=b\r\nhi\r\n0\r\n\r\n"),
        ),
    ];
    requests
        .map(|(name, request)| (name, request, Cleaned))
        .to_vec()
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

/// Answers of an upstream by name; those marked have one meaning left once they were cleaned.
fn answers() -> Vec<(&'static str, String, bool)> {
    let begun = |start: &str, fields: &str| {
        format!("{start}\r\ncontent-type: text/plain\r\n{fields}\r\n\r\nok")
    };
    let ok = |fields: &str| begun("HTTP/1.1 200 OK", fields);
    let giant = format!("x-a: {}\r\ncontent-length: 2", "a".repeat(700 << 10));
    let switch =
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\nraw";
    let both = "content-length: 9\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0";
    vec![
        (
            "two lengths",
            ok("content-length: 2\r\ncontent-length: 3"),
            false,
        ),
        ("a length in words", ok("content-length: two"), false),
        ("a negative length", ok("content-length: -2"), false),
        (
            "a bad version",
            begun("HTTQ/1.1 200 OK", "content-length: 2"),
            false,
        ),
        (
            "no status",
            begun("HTTP/1.1 OK", "content-length: 2"),
            false,
        ),
        (
            "a status of two digits",
            begun("HTTP/1.1 20 OK", "content-length: 2"),
            false,
        ),
        ("a NUL", ok("x: a\0b\r\ncontent-length: 2"), false),
        (
            "space before the colon",
            ok("x-a : 1\r\ncontent-length: 2"),
            false,
        ),
        ("no HTTP", "\x16\x03\x01 hello\r\n\r\n".to_owned(), false),
        ("a giant head", ok(&giant), false),
        ("a switch nobody asked for", switch.to_owned(), false),
        (
            "length and chunked",
            ok(both).replace("0\r\n\r\nok", "0\r\n\r\n"),
            true,
        ),
    ]
}

#[tokio::test]
async fn answers_that_can_be_read_in_two_ways_never_reach_a_caller() {
    let mut wrong = Vec::new();
    for (name, reply, cleaned) in answers() {
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
        let right = if cleaned {
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

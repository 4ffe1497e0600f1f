//! Bytes in are bytes out. Everything that surgetank changes in a message is in the lists here, and nothing else may.

use std::io::Write as _;

use super::harness::{
    Caller, End, H2Caller, Head, Origin, Recipe, Request, Seen, Tank, Tongue, soon, text,
};

const OK: &str = "HTTP/1.1 200 OK\r\ndate: today\r\ncontent-length: 2\r\n\r\nok";

/// What surgetank adds to an answer.
const ADDED_TO_ANSWERS: &[&str] = &[
    "x-surgetank-request-id",
    "x-surgetank-upstream",
    "x-surgetank-attempts",
    "x-surgetank-waited-ms",
    "server-timing",
];

/// What surgetank sets in a request.
const SET_IN_REQUESTS: &[&str] = &["host", "via"];

/// Sends `request` through a proxy to an upstream that answers `reply`; gives what either side got.
async fn exchange(request: &[u8], method: &str, reply: &[u8]) -> (Seen, super::harness::Answer) {
    let origin = Origin::start().await;
    let tank = Recipe::over(&origin.url()).start();
    let mut caller = tank.caller().await;
    caller.send(request).await;
    let mut upstream = origin.accept().await;
    let seen = upstream.request().await;
    upstream.send(reply).await;
    let answer = caller.answer_to(method).await;
    (seen, answer)
}

fn own_lines(head: &Head) -> Vec<String> {
    head.lines_without(SET_IN_REQUESTS)
}

#[tokio::test]
async fn targets_arrive_as_they_were_sent() {
    let origin = Origin::start().await.serve(|_| Some(OK.into()));
    let tank = Recipe::over(&origin.url()).start();
    let mut caller = tank.caller().await;
    let targets = [
        "/",
        "//",
        "/a//b/",
        "/a/../b",
        "/a/%2e%2e/b",
        "/a%2Fb",
        "/v1/x?",
        "/v1/x?a=b&a=c",
        "/v1/x?q='quoted'",
        "/v1/x?q=a|b",
        "/v1/x?q=%7C%27%20+",
        "/v1/x?a=b?c=d",
        "/v1/x?redirect=https://other.example/",
        "/;p=1/@:!$&()*,=",
        "/v1/%C3%A4",
        "/v1/x?key=%00%0d%0a",
        "/%",
    ];
    for target in targets {
        let answer = caller.call(&Request::get(target)).await;
        assert_eq!(answer.status, 200, "{target}");
    }
    let seen: Vec<_> = origin
        .seen()
        .iter()
        .map(|seen| seen.head.start.clone())
        .collect();
    assert_eq!(seen, targets.map(|target| format!("GET {target} HTTP/1.1")));
}

#[tokio::test]
async fn methods_are_passed_on_also_unknown_ones() {
    let origin = Origin::start().await.serve(|seen| {
        let head_only = seen.head.start.starts_with("HEAD");
        Some(if head_only {
            OK.strip_suffix("ok").expect("a body").into()
        } else {
            OK.into()
        })
    });
    let tank = Recipe::over(&origin.url()).start();
    let mut caller = tank.caller().await;
    let methods = [
        "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "BREW", "M-SEARCH",
        "get",
    ];
    for method in methods {
        let answer = caller.call(&Request::new(method, "/x")).await;
        assert_eq!(answer.status, 200, "{method}");
    }
    let seen: Vec<_> = origin
        .seen()
        .iter()
        .map(|seen| seen.head.start.clone())
        .collect();
    assert_eq!(seen, methods.map(|method| format!("{method} /x HTTP/1.1")));
}

#[tokio::test]
async fn request_fields_keep_their_spelling_repetition_order_and_bytes() {
    let request = b"POST /x HTTP/1.1\r\nhost: app\r\nX-CamelCase: One\r\nx-lower: two\r\nX-Repeat: 1\r\nX-Repeat: 2\r\n\
        x-repeat: 3\r\nX-Empty:\r\nX-Latin: caf\xe9\r\nX-Odd!#$%&'*+.^_`|~9: v\r\naccept-encoding: gzip, br\r\n\
        Cookie: a=1\r\ncookie: b=2\r\nAuthorization: Bearer k\r\nforwarded: for=1.2.3.4\r\nContent-Length: 3\r\n\r\nabc";
    let (seen, _) = exchange(request, "POST", OK.as_bytes()).await;
    let expected = [
        "X-CamelCase: One",
        "x-lower: two",
        "X-Repeat: 1",
        "X-Repeat: 2",
        "x-repeat: 3",
        "X-Empty: ",
        "X-Latin: caf\u{e9}",
        "X-Odd!#$%&'*+.^_`|~9: v",
        "accept-encoding: gzip, br",
        "Cookie: a=1",
        "cookie: b=2",
        "Authorization: Bearer k",
        "forwarded: for=1.2.3.4",
        "Content-Length: 3",
    ];
    assert_eq!(own_lines(&seen.head), expected);
    assert_eq!(seen.body, b"abc");
}

#[tokio::test]
async fn answer_fields_keep_their_spelling_repetition_order_and_bytes() {
    let reply = b"HTTP/1.1 200 OK\r\nServer: Odd\r\nSet-Cookie: a=1\r\nset-cookie: b=2\r\nX-Latin: caf\xe9\r\nX-Empty:\r\n\
        Server-Timing: app;dur=1\r\nDate: Mon, 01 Jan 2024 00:00:00 GMT\r\nretry-after: 3\r\nContent-Length: 2\r\n\r\nok";
    let (_, answer) = exchange(&Request::get("/x").bytes(), "GET", reply).await;
    let expected = [
        "Server: Odd",
        "Set-Cookie: a=1",
        "set-cookie: b=2",
        "X-Latin: caf\u{e9}",
        "X-Empty: ",
        "Date: Mon, 01 Jan 2024 00:00:00 GMT",
        "retry-after: 3",
        "Content-Length: 2",
    ];
    assert_eq!(answer.head.lines_without(ADDED_TO_ANSWERS), expected);
    let timings: Vec<_> = answer
        .head
        .all("server-timing")
        .into_iter()
        .map(text)
        .collect();
    assert_eq!(
        timings[0], "app;dur=1",
        "the upstream's own stays: {timings:?}"
    );
    assert!(timings[1].starts_with("upstream;dur="), "{timings:?}");
    for added in &ADDED_TO_ANSWERS[..4] {
        assert!(answer.head.has(added), "{added}");
    }
}

#[tokio::test]
async fn what_speaks_of_one_connection_is_removed_both_ways() {
    let request = "POST /x HTTP/1.1\r\nhost: app\r\nconnection: keep-alive, X-Hop, x-other-hop, content-length, host, authorization\r\n\
        x-hop: 1\r\nX-Other-Hop: 2\r\nkeep-alive: timeout=5\r\nproxy-connection: keep-alive\r\nproxy-authorization: Basic eA==\r\n\
        te: gzip, trailers\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\nauthorization: Bearer k\r\nx-kept: 3\r\ncontent-length: 2\r\n\r\nhi";
    let reply = "HTTP/1.1 200 OK\r\ndate: today\r\nconnection: X-Hop, content-type\r\nx-hop: 1\r\nkeep-alive: timeout=5\r\n\
        proxy-connection: keep-alive\r\nproxy-authenticate: Basic\r\nupgrade: h2c\r\nset-cookie: a=1\r\nset-cookie: b=2\r\ncontent-type: text/plain\r\nx-kept: 3\r\ncontent-length: 2\r\n\r\nok";
    let (seen, answer) = exchange(request.as_bytes(), "POST", reply.as_bytes()).await;
    let mut lines = own_lines(&seen.head);
    lines.sort();
    // Nominating a field that the message cannot do without has no effect.
    assert_eq!(
        lines,
        [
            "authorization: Bearer k",
            "content-length: 2",
            "te: trailers",
            "x-kept: 3"
        ]
    );
    assert_eq!(seen.body, b"hi");
    let left = answer.head.lines_without(ADDED_TO_ANSWERS);
    assert_eq!(
        left,
        [
            "date: today",
            "set-cookie: a=1",
            "set-cookie: b=2",
            "content-type: text/plain",
            "x-kept: 3",
            "content-length: 2"
        ]
    );
}

#[tokio::test]
async fn host_names_the_upstream_via_is_added_and_our_own_fields_end_here() {
    let origin = Origin::start().await;
    let host = origin.addr.to_string();
    let origin = origin.serve(|_| Some(OK.into()));
    let request = Request::get("/x")
        .header("via", "1.0 before")
        .header("x-surgetank-user", "ann")
        .header("X-Surgetank-Fallback", "none")
        .header("x-surgetank-anything", "1")
        .header("x-surge", "kept");
    Recipe::over(&origin.url()).start().call(&request).await;
    Recipe::over(&origin.url())
        .server("via: false")
        .start()
        .call(&request)
        .await;
    let [with, without]: [Seen; 2] = origin.seen().try_into().expect("two requests");
    assert_eq!(with.head.one("host"), Some(host.as_str()));
    let via: Vec<_> = with.head.all("via").into_iter().map(text).collect();
    assert_eq!(via.len(), 2, "{via:?}");
    assert_eq!(via[0], "1.0 before");
    assert!(via[1].starts_with("1.1 surgetank"), "{via:?}");
    assert_eq!(own_lines(&with.head), ["x-surge: kept"]);
    assert_eq!(
        without.head.all("via"),
        [b"1.0 before"],
        "`via: false` adds none"
    );
}

#[tokio::test]
async fn a_base_url_with_a_path_stands_before_every_target() {
    let origin = Origin::start().await.serve(|_| Some(OK.into()));
    let tank = Recipe::over(&format!("{}/openai/v9/", origin.url())).start();
    for target in ["/v1/x?a=b", "/../../up", "//x"] {
        tank.call(&Request::get(target)).await;
    }
    let seen: Vec<_> = origin
        .seen()
        .iter()
        .map(|seen| seen.head.start.clone())
        .collect();
    let expected = [
        "/openai/v9/v1/x?a=b",
        "/openai/v9/../../up",
        "/openai/v9//x",
    ];
    assert_eq!(
        seen,
        expected.map(|target| format!("GET {target} HTTP/1.1"))
    );
}

#[tokio::test]
async fn a_body_without_length_stays_none_and_one_with_length_keeps_it() {
    let (seen, _) = exchange(
        b"POST /x HTTP/1.1\r\nhost: app\r\n\r\n",
        "POST",
        OK.as_bytes(),
    )
    .await;
    assert!(!seen.head.has("transfer-encoding"), "{:?}", seen.head);
    assert_eq!(seen.body, b"");
    let zero = b"POST /x HTTP/1.1\r\nhost: app\r\ncontent-length: 0\r\n\r\n";
    let (seen, _) = exchange(zero, "POST", OK.as_bytes()).await;
    assert_eq!(seen.head.one("content-length"), Some("0"));
    let (seen, _) = exchange(&Request::get("/x").bytes(), "GET", OK.as_bytes()).await;
    assert!(
        !seen.head.has("content-length") && !seen.head.has("transfer-encoding"),
        "{:?}",
        seen.head
    );
}

#[tokio::test]
async fn chunked_bodies_and_trailers_pass_both_ways() {
    let request = "POST /x HTTP/1.1\r\nhost: app\r\nte: trailers\r\ntrailer: x-sum\r\ntransfer-encoding: chunked\r\n\r\n\
        3\r\nabc\r\n10\r\n0123456789abcdef\r\n0\r\nx-sum: 7\r\n\r\n";
    let reply = "HTTP/1.1 200 OK\r\ndate: today\r\ntrailer: x-sum\r\ntransfer-encoding: chunked\r\n\r\n\
        2\r\nok\r\n0\r\nx-sum: 9\r\n\r\n";
    let (seen, answer) = exchange(request.as_bytes(), "POST", reply.as_bytes()).await;
    assert_eq!(seen.body, b"abc0123456789abcdef");
    assert_eq!(seen.trailers, [("x-sum".to_owned(), b"7".to_vec())]);
    assert_eq!(answer.body, b"ok");
    assert_eq!(answer.trailers, [("x-sum".to_owned(), b"9".to_vec())]);
    assert_eq!(answer.end, End::Whole);
}

#[tokio::test]
async fn trailers_never_become_header_fields() {
    let request = "POST /x HTTP/1.1\r\nhost: app\r\ntransfer-encoding: chunked\r\n\r\n\
        2\r\nhi\r\n0\r\nauthorization: Bearer evil\r\ncontent-length: 99\r\nhost: evil\r\nx-sum: 1\r\n\r\n";
    let (seen, _) = exchange(request.as_bytes(), "POST", OK.as_bytes()).await;
    assert!(
        !seen.head.has("authorization") && !seen.head.has("x-sum"),
        "{:?}",
        seen.head
    );
    assert_eq!(seen.head.all("host").len(), 1);
    assert_eq!(seen.body, b"hi");
}

/// A body that no compression or repetition can make look right by accident.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// Sends `body`, lets the upstream fail first, and compares what each attempt brought.
async fn large(tank: &Tank, origin: Origin, body: &[u8], attempts: usize) -> u16 {
    let mut caller = tank.caller().await;
    let request = Request::post("/v1/files", body);
    let calling = async {
        caller.send(request.bytes()).await;
        caller.answer().await
    };
    let answering = async {
        for attempt in 1..=attempts {
            let mut upstream = origin.accept().await;
            let seen = upstream.request().await;
            assert!(
                seen.body == body,
                "attempt {attempt} brought {} other bytes",
                seen.body.len()
            );
            let status = if attempt == 1 { "500 Oh" } else { "200 OK" };
            let reply =
                format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok");
            upstream.send(reply).await;
        }
    };
    let (answer, ()) = soon("a large exchange", async {
        tokio::join!(calling, answering)
    })
    .await;
    answer.status
}

#[tokio::test]
async fn ten_mebibytes_are_held_and_sent_again() {
    let origin = Origin::start().await;
    let tank = Recipe::over(&origin.url()).start();
    assert_eq!(large(&tank, origin, &noise(10 << 20), 2).await, 200);
    assert_eq!(tank.count("surgetank_unprotected_requests_total", &[]), 0);
    assert_eq!(tank.count("surgetank_resent_bytes_total", &[]), 10 << 20);
    tank.at_rest().await;
}

#[tokio::test]
async fn forty_mebibytes_pass_through_once_and_are_counted() {
    let origin = Origin::start().await;
    let tank = Recipe::over(&origin.url()).start();
    assert_eq!(
        large(&tank, origin, &noise(40 << 20), 1).await,
        500,
        "a body that was not kept is not retried"
    );
    assert_eq!(tank.count("surgetank_unprotected_requests_total", &[]), 1);
    assert_eq!(
        tank.count("surgetank_retries_denied_total", &[("reason", "body")]),
        1
    );
    tank.at_rest().await;
}

#[tokio::test]
async fn a_long_chunked_upload_of_unknown_length_passes_whole() {
    let origin = Origin::start().await;
    let tank = Recipe::over(&origin.url()).start_with("replay: { per_request: 1MiB, total: 4MiB }");
    let body = noise(3 << 20);
    let mut caller = tank.caller().await;
    let calling = async {
        caller
            .send("POST /v1/files HTTP/1.1\r\nhost: app\r\ntransfer-encoding: chunked\r\n\r\n")
            .await;
        for piece in body.chunks(100_000) {
            caller.send(format!("{:x}\r\n", piece.len())).await;
            caller.send(piece).await;
            caller.send("\r\n").await;
        }
        caller.send("0\r\n\r\n").await;
        caller.answer().await
    };
    let answering = async {
        let mut upstream = origin.accept().await;
        let seen = upstream.request().await;
        upstream.send(OK).await;
        seen
    };
    let (answer, seen) = tokio::join!(calling, answering);
    assert_eq!(answer.status, 200);
    assert!(seen.body == body);
    tank.at_rest().await;
}

fn gzipped(data: &[u8]) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(data).expect("memory");
    gzip.finish().expect("memory")
}

#[tokio::test]
async fn compressed_bodies_are_not_touched() {
    let (asked, told) = (gzipped(br#"{"model":"m"}"#), gzipped(br#"{"id":"x"}"#));
    let mut request =
        format!("POST /v1/chat/completions HTTP/1.1\r\nhost: app\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n", asked.len())
            .into_bytes();
    request.extend_from_slice(&asked);
    let mut reply = format!(
        "HTTP/1.1 200 OK\r\ndate: today\r\ncontent-type: application/json\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n",
        told.len()
    )
    .into_bytes();
    reply.extend_from_slice(&told);
    let (seen, answer) = exchange(&request, "POST", &reply).await;
    assert_eq!(seen.body, asked);
    assert!(
        !seen.head.has("accept-encoding"),
        "surgetank asks for no coding of its own"
    );
    assert_eq!(answer.body, told);
    assert_eq!(answer.head.one("content-encoding"), Some("gzip"));
}

#[tokio::test]
async fn bodyless_answers_keep_their_fields_and_the_connection_stays_in_step() {
    for (method, reply, status, fields) in [
        (
            "GET",
            "HTTP/1.1 204 No Content\r\ndate: today\r\nx-a: 1\r\n\r\n",
            204,
            vec!["date: today", "x-a: 1"],
        ),
        (
            "GET",
            "HTTP/1.1 304 Not Modified\r\ndate: today\r\netag: \"x\"\r\ncontent-length: 1234\r\n\r\n",
            304,
            vec!["date: today", "etag: \"x\"", "content-length: 1234"],
        ),
        (
            "HEAD",
            "HTTP/1.1 200 OK\r\ndate: today\r\ncontent-length: 1234\r\n\r\n",
            200,
            vec!["date: today", "content-length: 1234"],
        ),
        (
            "HEAD",
            "HTTP/1.1 200 OK\r\ndate: today\r\ntransfer-encoding: chunked\r\n\r\n",
            200,
            vec!["date: today"],
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
        let mut caller = tank.caller().await;
        let answer = caller.call(&Request::new(method, "/x")).await;
        assert_eq!(answer.status, status, "{reply}");
        let mut dropped = ADDED_TO_ANSWERS.to_vec();
        dropped.push("transfer-encoding");
        assert_eq!(
            answer.head.lines_without(&dropped),
            fields,
            "{method} {reply}"
        );
        let next = caller.call(&Request::get("/next")).await;
        assert_eq!(
            (next.status, next.text().as_str()),
            (200, "ok"),
            "{method} {reply}"
        );
    }
}

#[tokio::test]
async fn statuses_and_reasons_are_passed_on_also_unknown_ones() {
    for (line, expected) in [
        ("HTTP/1.1 299 \r\n", "HTTP/1.1 299 "),
        ("HTTP/1.1 299 Odd Thing\r\n", "HTTP/1.1 299 Odd Thing"),
        ("HTTP/1.1 200 Fine\r\n", "HTTP/1.1 200 Fine"),
        ("HTTP/1.1 999 Beyond\r\n", "HTTP/1.1 999 Beyond"),
        (
            "HTTP/1.1 302 Found\r\nlocation: /_lab/trap\r\n",
            "HTTP/1.1 302 Found",
        ),
    ] {
        let reply = format!("{line}date: today\r\ncontent-length: 2\r\n\r\nok");
        // No retry, so that one answer is all.
        let request = Request::get("/x").header("x-surgetank-max-retries", "0");
        let (_, answer) = exchange(&request.bytes(), "GET", reply.as_bytes()).await;
        assert_eq!(answer.head.start, expected);
        assert_eq!(answer.body, b"ok");
    }
}

#[tokio::test]
async fn interim_answers_do_no_harm() {
    let mut reply = String::new();
    for _ in 0..20 {
        reply += "HTTP/1.1 103 Early Hints\r\nlink: </a>; rel=preload\r\n\r\n";
    }
    reply += "HTTP/1.1 102 Processing\r\n\r\n";
    reply += OK;
    let (_, answer) = exchange(&Request::get("/x").bytes(), "GET", reply.as_bytes()).await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "ok"));
}

#[tokio::test]
async fn a_caller_who_waits_for_a_continue_gets_it() {
    let origin = Origin::start().await.serve(|_| Some(OK.into()));
    let tank = Recipe::over(&origin.url()).start();
    let mut caller = tank.caller().await;
    caller
        .send("POST /x HTTP/1.1\r\nhost: app\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n")
        .await;
    let interim = caller.wire.head().await.expect("an interim answer");
    assert_eq!(interim.status(), 100);
    caller.send("abc").await;
    assert_eq!(caller.answer().await.status, 200);
    let seen = &origin.seen()[0];
    assert_eq!(seen.body, b"abc");
    assert!(!seen.head.has("expect"), "the expectation was met here");
}

#[tokio::test]
async fn a_caller_of_the_first_version_is_answered_in_its_way() {
    let origin = Origin::start().await.serve(|seen| {
        Some(if seen.head.start.contains("/chunked") {
            "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\ndate: today\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n".into()
        } else {
            OK.into()
        })
    });
    let tank = Recipe::over(&origin.url()).start();
    for target in ["/length", "/chunked"] {
        let mut caller = tank.caller().await;
        caller.send(format!("GET {target} HTTP/1.0\r\n\r\n")).await;
        let (bytes, end) = caller.wire.rest().await;
        let answer = text(&bytes);
        assert_eq!(end, End::Fin, "the connection ends with the body");
        assert!(
            answer.starts_with("HTTP/1.0 200") || answer.starts_with("HTTP/1.1 200"),
            "{answer}"
        );
        assert!(
            answer.ends_with("\r\n\r\nok"),
            "neither chunks nor interim answers: {answer}"
        );
        assert!(
            !answer.to_ascii_lowercase().contains("transfer-encoding"),
            "{answer}"
        );
    }
    assert!(
        origin
            .seen()
            .iter()
            .all(|seen| seen.head.start.ends_with("HTTP/1.1")),
        "we speak 1.1 upstream"
    );
}

#[tokio::test]
async fn http2_over_clear_text_is_served_on_the_same_port() {
    use http_body_util::{BodyExt as _, Full};
    let origin = Origin::start().await.serve(|_| Some(OK.into()));
    let tank = Recipe::over(&origin.url()).start();
    let stream = tokio::net::TcpStream::connect(tank.addr)
        .await
        .expect("it listens");
    let io = hyper_util::rt::TokioIo::new(stream);
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(hyper_util::rt::TokioExecutor::new(), io)
            .await
            .expect("HTTP/2");
    let driving = tokio::spawn(connection);
    for _ in 0..3 {
        let request = http::Request::post(format!("http://{}/v1/x?a=b|c", tank.addr))
            .header("x-a", "1")
            .header("x-a", "2")
            .body(Full::new(bytes::Bytes::from_static(b"hi")))
            .expect("a request");
        let response = soon("an answer", sender.send_request(request))
            .await
            .expect("an answer");
        assert_eq!(response.status(), 200);
        let body = response
            .into_body()
            .collect()
            .await
            .expect("whole")
            .to_bytes();
        assert_eq!(body, "ok");
    }
    let seen = &origin.seen()[2];
    assert_eq!(seen.head.start, "POST /v1/x?a=b|c HTTP/1.1");
    assert_eq!(seen.head.all("x-a"), [b"1", b"2"]);
    assert_eq!(seen.head.all("host").len(), 1);
    assert_eq!(seen.body, b"hi");
    drop(sender);
    let _ = driving.await;
}

#[tokio::test]
async fn a_cookie_that_came_in_crumbs_is_one_field_upstream() {
    let origin = Origin::start().await.serve(|_| Some(OK.into()));
    let tank = Recipe::over(&origin.url()).start();
    let request = Request::get("/x")
        .header("cookie", "a=1")
        .header("cookie", "b=2; c=3");
    let mut modern = H2Caller::connect(tank.addr, 1 << 16).await;
    assert_eq!(modern.call(&request).await.status(), 200);
    // Whoever sends two in HTTP/1.1 has a reason.
    assert_eq!(tank.call(&request).await.status, 200);
    let cookies: Vec<_> = origin
        .seen()
        .iter()
        .map(|seen| seen.head.all("cookie").len())
        .collect();
    assert_eq!(cookies, [1, 2]);
    assert_eq!(origin.seen()[0].head.one("cookie"), Some("a=1; b=2; c=3"));
}

#[tokio::test]
async fn requests_in_one_packet_are_answered_in_order() {
    let origin = Origin::start().await.serve(|seen| {
        let target = seen
            .head
            .start
            .split(' ')
            .nth(1)
            .expect("a target")
            .to_owned();
        Some(
            format!(
                "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{target}",
                target.len()
            )
            .into_bytes(),
        )
    });
    let tank = Recipe::over(&origin.url()).start();
    let mut caller = tank.caller().await;
    let targets: Vec<_> = (0..200).map(|number| format!("/{number}")).collect();
    caller
        .send(
            targets
                .iter()
                .flat_map(|target| Request::get(target).bytes())
                .collect::<Vec<_>>(),
        )
        .await;
    for target in &targets {
        assert_eq!(&caller.answer().await.text(), target);
    }
}

#[tokio::test]
async fn a_configured_credential_takes_the_place_of_the_callers() {
    let origin = Origin::start().await.serve(|_| Some(OK.into()));
    let tank = Recipe::over(&origin.url())
        .upstream("credential: { env: TEST_KEY }")
        .start();
    let table: &[(Request, &str, &str)] = &[
        (Tongue::Messages.plain(), "x-api-key", "configured-key"),
        (
            Tongue::Chat.plain(),
            "authorization",
            "Bearer configured-key",
        ),
        (
            Request::post("/v1/messages", "{}"),
            "x-api-key",
            "configured-key",
        ),
        (
            Request::post("/v1/responses", "{}"),
            "authorization",
            "Bearer configured-key",
        ),
        (
            Request::post("/v1/messages", "{}").header("Authorization", "Bearer k"),
            "authorization",
            "Bearer configured-key",
        ),
        (
            Request::post("/v1/x", "{}").header("api-key", "k"),
            "api-key",
            "configured-key",
        ),
        (
            Request::post("/v1/messages", "{}")
                .header("X-Api-Key", "k")
                .header("authorization", "Bearer k"),
            "x-api-key",
            "configured-key",
        ),
    ];
    for (request, name, value) in table {
        tank.call(request).await;
        let seen = origin.seen().pop().expect("a request");
        let sent: Vec<_> = ["authorization", "x-api-key", "api-key"]
            .iter()
            .flat_map(|name| {
                seen.head
                    .all(name)
                    .into_iter()
                    .map(move |value| (*name, text(value)))
            })
            .collect();
        assert_eq!(sent, [(*name, (*value).to_owned())], "{request:?}");
    }
}

#[tokio::test]
async fn a_fallback_upstream_gets_its_own_model_and_every_other_byte() {
    let first = Origin::start()
        .await
        .serve(|_| Some("HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n".into()));
    let second = Origin::start().await.serve(|_| Some(OK.into()));
    let tank = Recipe::over(&first.url())
        .retry("max_retries: 0")
        .and_upstream(
            "small",
            &format!(
                "base_url: '{}', model: a-much-longer-model-name",
                second.url()
            ),
        )
        .fallback("[ { upstream: small } ]")
        .start();
    let before = r#"{ "messages" : [{"role":"user","content":"say \"model\": \u00e4 é"}],  "#;
    let after = ",\t\"unknown_field\": 1e2, \"n\": {\"model\":\"inner\"} }\r\n";
    let request = Request::post(
        "/v1/chat/completions?x=1",
        format!("{before}\"model\" : \"gpt-big\"{after}"),
    )
    .header("X-Custom", "kept");
    let answer = tank.call(&request).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.head.one("x-surgetank-fallback"), Some("upstream"));
    assert_eq!(answer.head.one("x-surgetank-upstream"), Some("small"));
    let seen = &second.seen()[0];
    let expected = format!("{before}\"model\" : \"a-much-longer-model-name\"{after}");
    assert_eq!(text(&seen.body), expected);
    assert_eq!(
        seen.head.one("content-length"),
        Some(expected.len().to_string().as_str())
    );
    assert_eq!(seen.head.start, "POST /v1/chat/completions?x=1 HTTP/1.1");
    assert!(
        seen.head
            .lines_without(&[])
            .contains(&"X-Custom: kept".to_owned())
    );
    assert!(
        text(&first.seen()[0].body).contains("gpt-big"),
        "the first upstream got the caller's model"
    );
}

#[tokio::test]
async fn an_early_answer_reaches_a_caller_who_still_uploads() {
    let origin = Origin::start().await;
    let tank =
        Recipe::over(&origin.url()).start_with("replay: { per_request: 64KiB, total: 1MiB }");
    let mut caller = Caller::connect(tank.addr).await;
    caller
        .send("POST /v1/files HTTP/1.1\r\nhost: app\r\ncontent-length: 8388608\r\n\r\n")
        .await;
    caller.send(noise(200_000)).await;
    let mut upstream = origin.accept().await;
    upstream.wire.through(b"\r\n\r\n").await;
    upstream
        .send("HTTP/1.1 413 Too Large\r\nconnection: close\r\ncontent-length: 5\r\n\r\nlarge")
        .await;
    let answer = caller.answer().await;
    assert_eq!((answer.status, answer.text().as_str()), (413, "large"));
}

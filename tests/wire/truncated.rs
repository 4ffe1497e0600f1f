//! An answer that its token limit has cut says so, and is otherwise what the upstream sent.

use std::io::Read as _;

use serde_json::{Value, json};

use super::harness::{
    Answer, End, Origin, Recipe, Request, Rig, Tank, Tongue, chunked, find, soon, text,
};

const COMMENT: &str = ": x-surgetank-truncated: true\n\n";

const MARK: &str = "x-surgetank-truncated";

/// A request that may have three tokens.
fn short(tongue: Tongue, stream: bool) -> Request {
    let cap = match tongue {
        Tongue::Messages => "max_tokens",
        Tongue::Chat => "max_completion_tokens",
        Tongue::Responses => "max_output_tokens",
    };
    let mut extra = json!({});
    extra[cap] = 3.into();
    if stream && tongue == Tongue::Chat {
        extra["stream_options"] = json!({ "include_usage": true });
    }
    tongue.with(stream, &extra)
}

/// The end of a stream of `tongue` that its limit has cut.
fn terminator(tongue: Tongue) -> &'static str {
    match tongue {
        Tongue::Responses => "event: response.incomplete",
        tongue => tongue.terminator(),
    }
}

/// The same answer without the proxy, byte by byte, but for its number.
async fn direct(rig: &Rig, request: &Request) -> Answer {
    let addr = rig
        .lab
        .url()
        .trim_start_matches("http://")
        .parse()
        .expect("an address");
    super::harness::Caller::connect(addr)
        .await
        .call(request)
        .await
}

/// A body without what differs between two answers of the lab: its serial number and the time.
fn without_serial(body: &[u8]) -> String {
    let body = text(body);
    let mut plain = String::new();
    let mut rest = body.as_str();
    while let Some(at) = ["lab-0", "lab_0", "\"created\":", "\"created_at\":"]
        .iter()
        .filter_map(|mark| rest.find(mark).map(|at| at + mark.len()))
        .min()
    {
        plain.push_str(&rest[..at]);
        rest = rest[at..].trim_start_matches(|digit: char| digit.is_ascii_digit());
    }
    plain + rest
}

#[tokio::test]
async fn plain_answers_are_marked_in_their_head_and_nowhere_else() {
    for tongue in Tongue::ALL {
        let rig = Rig::start();
        let request = short(tongue, false).script("k", "ok*;words=9");
        let answer = rig.tank.call(&request).await;
        assert_eq!((answer.status, answer.end), (200, End::Whole));
        assert_eq!(answer.head.one(MARK), Some("true"), "{tongue:?}");
        let original = direct(&rig, &request).await;
        assert_eq!(without_serial(&answer.body), without_serial(&original.body));
        let enough = tongue.plain().script("k", "ok*;words=9");
        assert!(!rig.tank.call(&enough).await.head.has(MARK), "{tongue:?}");
        rig.tank.at_rest().await;
        assert_eq!(
            rig.tank
                .count("surgetank_truncated_total", &[("route", "route-1")]),
            1
        );
    }
}

#[tokio::test]
async fn streams_are_marked_by_one_comment_before_their_terminator() {
    for tongue in Tongue::ALL {
        let rig = Rig::start();
        let request = short(tongue, true).script("k", "ok*;words=9");
        let answer = rig.tank.call(&request).await;
        assert_eq!((answer.status, answer.end), (200, End::Whole));
        let body = answer.text();
        let at = body
            .find(COMMENT)
            .unwrap_or_else(|| panic!("{tongue:?} has no mark: {body}"));
        assert!(
            at < body.find(terminator(tongue)).expect("it ends"),
            "{body}"
        );
        assert!(body[..at].ends_with("\n\n"), "not inside an event: {body}");
        let original = direct(&rig, &request).await;
        assert_eq!(
            without_serial(body.replacen(COMMENT, "", 1).as_bytes()),
            without_serial(&original.body),
            "all other bytes are the upstream's"
        );
        let enough = tongue.stream().script("k", "ok*;words=9");
        assert!(
            !rig.tank.call(&enough).await.text().contains(MARK),
            "{tongue:?}"
        );
        rig.tank.at_rest().await;
        assert_eq!(rig.tank.count("surgetank_truncated_total", &[]), 1);
    }
}

/// Where a stream comes in any pieces: the mark is never lost, never doubled, never inside an event.
#[tokio::test]
async fn the_mark_does_not_depend_on_the_pieces() {
    for tongue in Tongue::ALL {
        let lab = Rig::start();
        let stream = direct(&lab, &short(tongue, true).script("k", "ok*;words=9"))
            .await
            .body;
        let origin = Origin::start().await.serve(move |seen| {
            let len = seen.head.one("x-piece")?.parse().expect("a length");
            let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
            let mut reply = head.as_bytes().to_vec();
            stream.chunks(len).for_each(|piece| reply.extend(chunked(piece)));
            reply.extend_from_slice(b"0\r\n\r\n");
            Some(reply)
        });
        let tank = Recipe::over(&origin.url()).start();
        for len in ["1", "7", "64", "333", "100000"] {
            let request = short(tongue, true).header("x-piece", len);
            let answer = soon("a stream", tank.call(&request)).await;
            assert_eq!((answer.status, answer.end), (200, End::Whole));
            let body = answer.text();
            assert_eq!(
                body.matches(COMMENT).count(),
                1,
                "{tongue:?} in pieces of {len}: {body}"
            );
            let at = body.find(COMMENT).expect("counted");
            assert!(
                body[..at].ends_with("\n\n"),
                "{tongue:?} in pieces of {len}: {body}"
            );
        }
    }
}

#[tokio::test]
async fn marks_can_be_switched_off_and_the_count_stays() {
    for tongue in Tongue::ALL {
        let rig = Rig::start();
        let tank = Recipe::over(&rig.lab.url()).start_with("answers: { on_truncated: ignore }");
        for stream in [false, true] {
            let request = short(tongue, stream).script("k", "ok*;words=9");
            let answer = tank.call(&request).await;
            assert_eq!((answer.status, answer.end), (200, End::Whole));
            assert!(
                !answer.head.has(MARK) && !answer.text().contains(MARK),
                "{tongue:?}"
            );
        }
        tank.at_rest().await;
        assert_eq!(tank.count("surgetank_truncated_total", &[]), 2);
    }
}

fn unpacked(body: &[u8]) -> Vec<u8> {
    let mut clear = Vec::new();
    flate2::read::MultiGzDecoder::new(body)
        .read_to_end(&mut clear)
        .expect("gzip");
    clear
}

#[tokio::test]
async fn compressed_answers_are_read_and_not_touched() {
    for tongue in Tongue::ALL {
        let rig = Rig::start();
        let request = short(tongue, false).script("k", "gzip*");
        let answer = rig.tank.call(&request).await;
        assert_eq!(answer.head.one("content-encoding"), Some("gzip"));
        assert_eq!(answer.head.one(MARK), Some("true"), "{tongue:?}");
        let whole: Value = serde_json::from_slice(&unpacked(&answer.body)).expect("JSON");
        assert!(!tongue.text_of_answer(&whole).is_empty());

        let request = short(tongue, true).script("k", "gzip*");
        let answer = rig.tank.call(&request).await;
        assert_eq!((answer.status, answer.end), (200, End::Whole));
        assert_eq!(answer.head.one("content-encoding"), Some("gzip"));
        let clear = unpacked(&answer.body);
        assert!(find(&clear, terminator(tongue).as_bytes()).is_some());
        assert!(
            find(&clear, MARK.as_bytes()).is_none(),
            "no comment fits among packed bytes"
        );
        rig.tank.at_rest().await;
        assert_eq!(
            rig.tank.count("surgetank_truncated_total", &[]),
            2,
            "{tongue:?}"
        );
        let tokens = rig
            .tank
            .count("surgetank_tokens_total", &[("kind", "output")]);
        assert_eq!(tokens, 6, "{tongue:?}");
    }
}

#[tokio::test]
async fn compressed_answers_can_be_left_unread() {
    let rig = Rig::start();
    let tank = Recipe::over(&rig.lab.url()).start_with("answers: { read_compressed: false }");
    for stream in [false, true] {
        let request = short(Tongue::Messages, stream).script("k", "gzip*");
        let answer = tank.call(&request).await;
        assert_eq!(
            (answer.status, answer.end, answer.head.has(MARK)),
            (200, End::Whole, false)
        );
    }
    tank.at_rest().await;
    assert_eq!(tank.count("surgetank_tokens_total", &[]), 0);
}

/// A stream in gzip of `tongue`, each event flushed.
fn packed_events(tongue: Tongue) -> Vec<Vec<u8>> {
    use std::io::Write as _;
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let pack = |event: &&str| {
        gzip.write_all(event.as_bytes()).expect("memory");
        gzip.flush().expect("memory");
        std::mem::take(gzip.get_mut())
    };
    tongue.events().iter().map(pack).collect()
}

async fn played(tank: &Tank, tongue: Tongue) -> Answer {
    soon("an end", tank.call(&tongue.stream())).await
}

#[tokio::test]
async fn a_compressed_stream_without_its_end_is_never_ended_cleanly() {
    for tongue in Tongue::ALL {
        let mut events = packed_events(tongue);
        let last = if tongue == Tongue::Chat { 2 } else { 1 };
        events.truncate(events.len() - last);
        let sent = events.concat();
        let packed = sent.clone();
        let origin = Origin::start().await.serve(move |_| {
            let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-encoding: gzip\r\ntransfer-encoding: chunked\r\n\r\n";
            let mut reply = head.as_bytes().to_vec();
            reply.extend(chunked(&packed));
            reply.extend_from_slice(b"0\r\n\r\n");
            Some(reply)
        });
        let tank = Recipe::over(&origin.url()).start();
        let answer = played(&tank, tongue).await;
        assert_eq!(answer.status, 200);
        assert_ne!(answer.end, End::Whole, "{tongue:?}");
        assert_eq!(answer.body, sent, "and nothing is put among packed bytes");
        tank.at_rest().await;
        assert_eq!(
            tank.count("surgetank_stream_broken_total", &[("cause", "incomplete")]),
            1
        );
    }
}

#[tokio::test]
async fn an_error_in_a_compressed_stream_is_retried() {
    let rig = Rig::start();
    let error = "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"busy\"}}\n\n";
    let body = {
        use std::io::Write as _;
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(error.as_bytes()).expect("memory");
        gzip.finish().expect("memory")
    };
    let origin = Origin::start().await.serve(move |_| {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n", body.len());
        Some([head.as_bytes(), &body].concat())
    });
    let tank = Recipe::over(&origin.url()).retry("max_retries: 2").start();
    let answer = played(&tank, Tongue::Messages).await;
    assert_eq!(answer.number("x-surgetank-attempts"), 3);
    drop(rig);
}

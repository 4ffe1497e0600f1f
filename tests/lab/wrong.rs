//! Answers that are wrong in their framing, their head or their bytes.

use std::io::Write as _;
use std::process::{Command, Stdio};

use crate::client::{Call, End, dechunk, events, find, lab, split};

#[tokio::test]
async fn lengths_lie_in_both_directions() {
    let lab = lab("{}");
    for call in [Call::chat(false), Call::messages(true)] {
        for (fault, longer) in [("short-length", false), ("long-length", true)] {
            let (bytes, end) = call.clone().fault(fault).raw(&lab).await;
            assert_eq!(end, End::Fin);
            let (head, body) = split(&bytes);
            assert!(!head.contains("transfer-encoding"));
            let declared = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "))
                .unwrap();
            let declared: usize = declared.parse().unwrap();
            assert_eq!(
                declared > body.len(),
                longer,
                "{fault}: {declared} for {}",
                body.len()
            );
            assert_ne!(declared, body.len());
        }
    }
}

#[tokio::test]
async fn length_and_chunked_stand_together() {
    let lab = lab("{}");
    for call in [Call::chat(false), Call::chat(true)] {
        let (bytes, _) = call.fault("length-and-chunked").raw(&lab).await;
        let (head, body) = split(&bytes);
        assert!(
            head.contains("content-length: ") && head.contains("transfer-encoding: chunked"),
            "{head}"
        );
        assert!(dechunk(body).0.complete.is_some());
    }
}

#[tokio::test]
async fn trailers_follow_the_last_chunk() {
    let lab = lab("{}");
    for call in [Call::messages(false), Call::responses(true)] {
        let answer = call.fault("trailers").answer(&lab).await;
        assert_eq!(
            answer.header("trailer"),
            Some("x-lab-trailer, server-timing")
        );
        assert_eq!(
            answer.trailers,
            ["x-lab-trailer: one", "server-timing: lab;dur=1"]
        );
    }
}

#[tokio::test]
async fn heads_break_the_rules_one_at_a_time() {
    let lab = lab("{}");
    for (kind, sign) in [
        ("status-line", "HTTQ/1.1 200 OK\r\n"),
        ("two-lengths", "content-length: 7\r\ncontent-length: 8\r\n"),
        ("bad-length", "content-length: twelve\r\n"),
        ("negative-length", "content-length: -1\r\n"),
        ("unknown-coding", "transfer-encoding: rot13\r\n"),
        ("nul", "x-lab-nul: a\0b\r\n"),
        ("space-before-colon", "x-lab-space : 1\r\n"),
        ("folded", "x-lab-folded: one\r\n two\r\n"),
        ("garbage", "\u{16}\u{3}\u{1} this is not HTTP\r\n"),
    ] {
        let (bytes, end) = Call::chat(false)
            .fault(&format!("bad-head;kind={kind}"))
            .raw(&lab)
            .await;
        assert!(
            find(&bytes, sign.as_bytes()).is_some(),
            "{kind}: {:?}",
            String::from_utf8_lossy(&bytes)
        );
        assert_eq!(end, End::Fin, "{kind}");
    }
    let (bytes, _) = Call::chat(false)
        .fault("bad-head;kind=bad-length")
        .raw(&lab)
        .await;
    assert_eq!(
        split(&bytes).0.matches("content-length").count(),
        1,
        "nothing but the bad one"
    );
}

#[tokio::test]
async fn giants_are_as_large_as_told() {
    let lab = lab("{}");
    for call in [Call::messages(true), Call::chat(false)] {
        let answer = call.fault("giant-event;size=3MiB").answer(&lab).await;
        let longest = answer.text().lines().map(str::len).max().unwrap();
        assert!((3 << 20..(3 << 20) + 4096).contains(&longest), "{longest}");
    }
    let (bytes, _) = Call::chat(false)
        .fault("giant-headers;size=300KiB;count=150")
        .raw(&lab)
        .await;
    let (head, _) = split(&bytes);
    assert!(head.len() > 300 << 10, "{}", head.len());
    assert_eq!(head.matches("x-lab-giant-").count(), 150);
}

#[tokio::test]
async fn invalid_utf8_stands_in_the_text_alone() {
    let lab = lab("{}");
    for call in [
        Call::messages(true),
        Call::chat(true),
        Call::responses(true),
        Call::chat(false),
    ] {
        let answer = call.clone().fault("invalid-utf8").answer(&lab).await;
        assert!(str::from_utf8(&answer.body).is_err());
        // Apart from those bytes nothing is wrong with the answer.
        let mended = String::from_utf8_lossy(&answer.body).into_owned();
        if call.body.contains("\"stream\":true") {
            for (_, data) in events(mended.as_bytes())
                .iter()
                .filter(|(_, data)| data != "[DONE]")
            {
                assert!(
                    serde_json::from_str::<serde_json::Value>(data).is_ok(),
                    "{data}"
                );
            }
        } else {
            assert!(serde_json::from_str::<serde_json::Value>(&mended).is_ok());
        }
    }
}

#[tokio::test]
async fn interim_answers_come_before_the_final_one() {
    let lab = lab("{}");
    for (fault, interims) in [
        ("interim", vec![103]),
        ("interim;status=102;count=20", vec![102; 20]),
    ] {
        for stream in [false, true] {
            let answer = Call::messages(stream).fault(fault).answer(&lab).await;
            assert_eq!((answer.interims, answer.status), (interims.clone(), 200));
            assert!(!answer.body.is_empty());
        }
    }
}

#[tokio::test]
async fn gzip_is_gzip() {
    let lab = lab("answer: { words: 8 }");
    for call in [Call::chat(false), Call::messages(true)] {
        let plain = call.answer(&lab).await;
        let answer = call.clone().fault("gzip").answer(&lab).await;
        assert_eq!(answer.header("content-encoding"), Some("gzip"));
        let unpacked = gunzip(&answer.body);
        // Ids differ from answer to answer, lengths do not.
        assert_eq!(unpacked.len(), plain.body.len());
        assert!(unpacked.ends_with(&plain.body[plain.body.len() - 10..]));
    }
}

/// Unpacks with the gzip program, so that our encoder is not judged by ourselves.
fn gunzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = Command::new("gzip");
    let gzip = gzip
        .args(["-d", "-c"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut child = gzip.spawn().expect("gzip is installed");
    child
        .stdin
        .take()
        .expect("piped")
        .write_all(bytes)
        .expect("gzip reads");
    let output = child.wait_with_output().expect("gzip ends");
    assert!(output.status.success());
    output.stdout
}

#[tokio::test]
async fn raw_bytes_are_sent_as_they_are() {
    let lab = lab("{}");
    let (bytes, end) = Call::chat(false)
        .fault("raw;bytes=HTTP/1.1 200 OK%0D%0A%0D%0A%3B%2C")
        .raw(&lab)
        .await;
    assert_eq!(
        (bytes.as_slice(), end),
        (&b"HTTP/1.1 200 OK\r\n\r\n;,"[..], End::Fin)
    );
}

#[tokio::test]
async fn empty_answers_and_json_in_place_of_a_stream() {
    let lab = lab("{}");
    for stream in [false, true] {
        let answer = Call::messages(stream).fault("empty").answer(&lab).await;
        assert_eq!((answer.status, answer.body.len()), (200, 0));
    }
    let answer = Call::chat(true).fault("json").answer(&lab).await;
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.json()["object"], "chat.completion");
}

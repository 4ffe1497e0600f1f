//! Silences, resets and ends, before and inside the head and the body.

use std::time::Duration;

use surgetank::lab::ListenerState;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use crate::client::{Call, Client, End, PATIENCE, SILENCE, dechunk, events, lab, split};

#[tokio::test]
async fn before_the_head() {
    let lab = lab("{}");
    for (fault, end) in [
        ("hang", End::Silence),
        ("hang;for=20ms", End::Fin),
        ("reset", End::Reset),
        ("refuse", End::Reset),
        ("fin", End::Fin),
    ] {
        for call in [Call::messages(true), Call::chat(false)] {
            assert_eq!(
                call.fault(fault).raw(&lab).await,
                (Vec::new(), end),
                "{fault}"
            );
        }
    }
}

#[tokio::test]
async fn inside_the_head() {
    let lab = lab("{}");
    let (bytes, end) = Call::messages(true).fault("fin-head").raw(&lab).await;
    assert_eq!(end, End::Fin);
    assert!(bytes.starts_with(b"HTTP/1.1 200 OK\r\n"));
    assert!(
        !bytes.windows(4).any(|window| window == b"\r\n\r\n"),
        "the head is not ended"
    );
}

#[tokio::test]
async fn inside_a_stream() {
    let lab = lab("answer: { words: 6 }");
    for (fault, end) in [
        ("hang-body", End::Silence),
        ("cut", End::Fin),
        ("reset-body", End::Reset),
    ] {
        for (call, delta) in [
            (Call::messages(true), "content_block_delta"),
            (Call::responses(true), "response.output_text.delta"),
        ] {
            let (bytes, ended) = call
                .clone()
                .fault(&format!("{fault};after=2"))
                .raw(&lab)
                .await;
            // A reset may throw away what the caller's system had not yet handed over.
            if end == End::Reset && bytes.is_empty() {
                continue;
            }
            assert_eq!(ended, end, "{fault}");
            let (head, body) = split(&bytes);
            assert!(head.contains("transfer-encoding: chunked"), "{head}");
            let (chunks, used) = dechunk(body);
            assert!(
                chunks.complete.is_none() && used == body.len(),
                "{fault}: no last chunk, whole events"
            );
            let deltas = events(&chunks.data)
                .iter()
                .filter(|(name, _)| name == delta)
                .count();
            assert_eq!(deltas, 2, "{fault}");
        }
    }
}

#[tokio::test]
async fn a_break_inside_an_event_leaves_half_of_it() {
    let lab = lab("answer: { words: 6 }");
    let (bytes, _) = Call::chat(true).fault("cut;after=2;split").raw(&lab).await;
    let (chunks, _) = dechunk(split(&bytes).1);
    let text = String::from_utf8(chunks.data).unwrap();
    assert!(!text.ends_with("\n\n"), "{text:?}");
    assert_eq!(
        text.matches("data: ").count(),
        4,
        "the role, two words, and a part of the third"
    );
}

#[tokio::test]
async fn inside_json() {
    let lab = lab("{}");
    let whole = Call::chat(false).answer(&lab).await;
    for (fault, end) in [
        ("hang-body;after=20", End::Silence),
        ("cut;after=20", End::Fin),
    ] {
        let (bytes, ended) = Call::chat(false).fault(fault).raw(&lab).await;
        assert_eq!(ended, end, "{fault}");
        let (head, body) = split(&bytes);
        assert_eq!(body, &whole.body[..20]);
        assert!(
            head.contains(&format!("content-length: {}\r\n", whole.body.len())),
            "the head promises all: {head}"
        );
    }
    // Chunked JSON: the last chunk is missing.
    let (bytes, end) = Call::chat(false)
        .fault("cut;after=20;chunked")
        .raw(&lab)
        .await;
    let (chunks, _) = dechunk(split(&bytes).1);
    assert_eq!(
        (chunks.data.len(), chunks.complete, end),
        (20, None, End::Fin)
    );
}

#[tokio::test]
async fn a_clean_cut_is_framed_as_if_it_were_whole() {
    let lab = lab("answer: { words: 6 }");
    for (call, terminator) in [
        (Call::messages(true), "message_stop"),
        (Call::chat(true), "[DONE]"),
        (Call::responses(true), "response.completed"),
    ] {
        assert!(call.answer(&lab).await.text().contains(terminator));
        for after in ["", ";after=0", ";after=3", ";after=end"] {
            let answer = call
                .clone()
                .fault(&format!("cut-clean{after}"))
                .answer(&lab)
                .await;
            assert_eq!(answer.status, 200);
            assert!(
                !answer.text().contains(terminator),
                "{after}: {}",
                answer.text()
            );
        }
        let answer = call.clone().fault("cut-clean;after=end").answer(&lab).await;
        let whole = call.answer(&lab).await;
        let (cut, whole) = (events(&answer.body).len(), events(&whole.body).len());
        assert_eq!(cut + 1, whole, "only the terminator is missing");
    }
    // The connection goes on serving.
    let mut client = Client::connect(&lab).await;
    client
        .send(&Call::messages(true).fault("cut-clean").bytes())
        .await;
    client.answer().await;
    client.send(&Call::messages(true).bytes()).await;
    assert!(client.answer().await.text().contains("message_stop"));
}

#[tokio::test]
async fn dripping_takes_its_time_and_loses_nothing() {
    let lab = lab("answer: { text: hello }");
    let body = Call::chat(false).answer(&lab).await.body;
    let begun = Instant::now();
    let answer = Call::chat(false).fault("drip;every=1ms").answer(&lab).await;
    let least = Duration::from_millis(1) * u32::try_from(body.len() - 1).unwrap();
    assert!(
        begun.elapsed() >= least,
        "{:?} for {} bytes",
        begun.elapsed(),
        body.len()
    );
    // The second answer differs from the first only in its id.
    assert_eq!(answer.body.len(), body.len());

    let (bytes, _) = Call::chat(false)
        .fault("drip;every=60s;part=head")
        .raw(&lab)
        .await;
    assert_eq!(bytes, b"H");
}

#[tokio::test]
async fn an_idle_connection_is_closed_unannounced() {
    let lab = lab("{}");
    for fault in ["close-idle", "close-idle;for=30ms"] {
        let (bytes, end) = Call::messages(false).fault(fault).raw(&lab).await;
        assert_eq!(end, End::Fin, "{fault}");
        let (head, body) = split(&bytes);
        assert!(!head.contains("connection: close"));
        assert!(serde_json::from_slice::<serde_json::Value>(body).is_ok());
    }
    assert_eq!(lab.stats().answered, 2, "the answers were whole");
}

#[tokio::test]
async fn the_listener_resets_or_refuses_and_comes_back() {
    let lab = lab("{}");
    let mut old = Client::connect(&lab).await;
    old.send(&Call::chat(false).bytes()).await;
    assert_eq!(old.answer().await.status, 200);

    lab.set_listener(ListenerState::Closed);
    let refused = async || {
        while TcpStream::connect(lab.addr()).await.is_ok() {
            sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, refused())
        .await
        .expect("connects are refused");
    old.send(&Call::chat(false).bytes()).await;
    assert_eq!(
        old.answer().await.status,
        200,
        "existing connections live on"
    );

    lab.set_listener(ListenerState::Reset);
    let reset = async || {
        loop {
            if let Ok(stream) = TcpStream::connect(lab.addr()).await {
                let mut byte = [0];
                let read = tokio::io::AsyncReadExt::read(&mut { stream }, &mut byte).await;
                return read.expect_err("a reset").kind();
            }
            sleep(Duration::from_millis(1)).await;
        }
    };
    let kind = tokio::time::timeout(PATIENCE, reset())
        .await
        .expect("the listener is back");
    assert_eq!(kind, std::io::ErrorKind::ConnectionReset);
    lab.wait_for(|stats| stats.refused_connections >= 1, PATIENCE)
        .await
        .expect("counted");

    lab.set_listener(ListenerState::Open);
    healthy_again(&lab).await;
}

#[tokio::test]
async fn a_request_can_close_the_listener_for_a_while() {
    let lab = lab("{}");
    let begun = Instant::now();
    let (bytes, end) = Call::chat(false).fault("closed;for=200ms").raw(&lab).await;
    assert_eq!((bytes.len(), end), (0, End::Reset));
    let refused = async || {
        while TcpStream::connect(lab.addr()).await.is_ok() {
            sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(SILENCE, refused())
        .await
        .expect("connects are refused");
    healthy_again(&lab).await;
    assert!(begun.elapsed() >= Duration::from_millis(200));
}

/// Waits until connections are taken and answered.
async fn healthy_again(lab: &surgetank::lab::LabHandle) {
    let answered = async {
        loop {
            if let Ok(mut stream) = TcpStream::connect(lab.addr()).await {
                use tokio::io::{AsyncReadExt, AsyncWriteExt};
                let mut begin = [0; 12];
                let sent = stream.write_all(&Call::chat(false).bytes()).await;
                if sent.is_ok() && stream.read_exact(&mut begin).await.is_ok() {
                    return begin;
                }
            }
            sleep(Duration::from_millis(1)).await;
        }
    };
    assert_eq!(
        &tokio::time::timeout(PATIENCE, answered)
            .await
            .expect("healthy again"),
        b"HTTP/1.1 200"
    );
}

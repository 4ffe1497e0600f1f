//! A stream passes untouched and at once, and one that broke never looks whole.

use std::io::Write as _;

use rand::{RngExt as _, SeedableRng as _, rngs::SmallRng};

use super::harness::{
    Answer, Caller, End, Origin, Play, Recipe, Request, Rig, Tank, Tongue, chunked, soon, text,
};

const HEAD: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";

#[tokio::test]
async fn every_event_arrives_before_the_next_is_sent() {
    for tongue in Tongue::ALL {
        // What comes before the content may be held back, unless that is forbidden.
        for (blocks, together) in [
            ("stream: { hold_preamble: 0s }", 1),
            ("", tongue.preamble() + 1),
        ] {
            let origin = Origin::start().await;
            let tank = Recipe::over(&origin.url()).start_with(blocks);
            let mut caller = tank.caller().await;
            caller.send(tongue.stream().bytes()).await;
            let mut upstream = origin.accept().await;
            upstream.request().await;
            upstream.begin_stream().await;
            let (events, mut sent) = (tongue.events(), 0);
            while sent < events.len() {
                let next = if sent == 0 { together } else { 1 };
                for event in &events[sent..sent + next] {
                    upstream.send_chunk(event).await;
                }
                // Nothing follows from the upstream until the caller has these.
                for (number, event) in events[sent..sent + next].iter().enumerate() {
                    let got = caller.wire.through(b"\n\n").await;
                    assert!(
                        text(&got).ends_with(event),
                        "{tongue:?} event {}: {}",
                        sent + number,
                        text(&got)
                    );
                }
                sent += next;
            }
            upstream.end_chunks().await;
            assert!(text(&caller.wire.through(b"0\r\n\r\n").await).ends_with("0\r\n\r\n"));
        }
    }
}

#[tokio::test]
async fn half_an_event_is_not_held_back() {
    let origin = Origin::start().await;
    let tank = Recipe::over(&origin.url()).start();
    let mut caller = tank.caller().await;
    caller.send(Tongue::Chat.stream().bytes()).await;
    let mut upstream = origin.accept().await;
    upstream.request().await;
    upstream.begin_stream().await;
    let events = Tongue::Chat.events();
    upstream.send_chunk(events[..2].concat()).await;
    caller.wire.through(events[1].as_bytes()).await;
    upstream
        .send_chunk("data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"cho")
        .await;
    caller.wire.through(b"\"cho").await;
    upstream.send_chunk("ices\":[]}\n\n").await;
    caller.wire.through(b"ices\":[]}\n\n").await;
}

/// Streams that parsers have stumbled over; every one is whole.
fn odd_streams() -> Vec<(&'static str, Vec<u8>)> {
    let done = "data: [DONE]\n\n";
    let chunk = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"x\"}}]}";
    let giant = format!(
        "data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{}\"}}}}]}}\n\n{done}",
        "y".repeat(8 << 20)
    );
    let mut invalid = b"data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"".to_vec();
    invalid.extend_from_slice(b"\xff\xfe\x80\x00\"}}]}\n\n");
    invalid.extend_from_slice(done.as_bytes());
    let streams = [
        (
            "comments",
            format!(": hello\n\n:\n{chunk}\n\n: keep-alive\n\n{done}: bye\n\n"),
        ),
        ("CRLF", format!("{chunk}\r\n\r\ndata: [DONE]\r\n\r\n")),
        ("CR", format!("{chunk}\r\rdata: [DONE]\r\r")),
        (
            "mixed line ends",
            format!("{chunk}\r\n\n: c\r{chunk}\n\r\n{done}"),
        ),
        ("a byte order mark", format!("\u{feff}{chunk}\n\n{done}")),
        (
            "unknown fields",
            format!("id: 7\nretry: 10\nfoo: bar\nbaz\n{chunk}\n\n{done}"),
        ),
        (
            "data in several lines",
            format!("data: {{\"choices\":\ndata: [{{\"index\":0,\"delta\":{{}}}}]}}\n\n{done}"),
        ),
        (
            "no space behind the colon",
            "data:{\"choices\":[]}\n\ndata:[DONE]\n\n".to_owned(),
        ),
        ("blank lines", format!("\n\n\n{chunk}\n\n\n\n{done}\n\n")),
        (
            "text behind the end",
            format!("{chunk}\n\n{done}{chunk}\n\n"),
        ),
        (
            "a usage chunk without choices",
            format!("{chunk}\n\ndata: {{\"choices\":[],\"usage\":{{}}}}\n\n{done}"),
        ),
        ("no JSON", format!("data: hello\n\n{done}")),
        ("a giant event", giant),
    ];
    let mut streams: Vec<_> = streams
        .into_iter()
        .map(|(name, stream)| (name, stream.into_bytes()))
        .collect();
    streams.push(("bytes that are no text", invalid));
    streams
}

/// Sends `stream` in pieces of random length and gives what the caller got.
async fn relayed(
    tank: &Tank,
    origin: &Origin,
    request: &Request,
    stream: &[u8],
    rng: &mut SmallRng,
    fields: &str,
) -> Answer {
    let mut caller = tank.caller().await;
    caller.send(request.bytes()).await;
    let mut upstream = origin.accept().await;
    let sending = async {
        upstream.request().await;
        upstream
            .send(HEAD.replace(
                "\r\n\r\n",
                &format!("\r\n{fields}connection: close\r\n\r\n"),
            ))
            .await;
        let mut rest = stream;
        while !rest.is_empty() {
            let longest = if stream.len() > 100_000 { 200_000 } else { 40 };
            let (piece, behind) = rest.split_at(rng.random_range(1..=longest.min(rest.len())));
            upstream.send_chunk(piece).await;
            rest = behind;
        }
        upstream.end_chunks().await;
    };
    let (answer, ()) = soon("a stream", async { tokio::join!(caller.answer(), sending) }).await;
    answer
}

#[tokio::test]
async fn streams_arrive_byte_by_byte_as_they_were_sent() {
    let origin = Origin::start().await;
    let tank = Recipe::over(&origin.url()).start();
    let mut rng = SmallRng::seed_from_u64(4);
    for (name, stream) in odd_streams() {
        let answer = relayed(
            &tank,
            &origin,
            &Tongue::Chat.stream(),
            &stream,
            &mut rng,
            "",
        )
        .await;
        assert_eq!((answer.status, answer.end), (200, End::Whole), "{name}");
        assert!(
            answer.body == stream,
            "{name}: {:?}",
            text(&answer.body[..answer.body.len().min(500)])
        );
    }
    for tongue in Tongue::ALL {
        let stream = tongue.events().concat();
        for _ in 0..30 {
            let answer = relayed(
                &tank,
                &origin,
                &tongue.stream(),
                stream.as_bytes(),
                &mut rng,
                "",
            )
            .await;
            assert_eq!(
                (answer.end, answer.text().as_str()),
                (End::Whole, stream.as_str())
            );
        }
    }
    assert_eq!(tank.count("surgetank_stream_broken_total", &[]), 0);
    tank.at_rest().await;
}

#[tokio::test]
async fn a_compressed_stream_is_not_touched() {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(Tongue::Messages.events().concat().as_bytes())
        .expect("memory");
    let packed = gzip.finish().expect("memory");
    let origin = Origin::start().await;
    let tank = Recipe::over(&origin.url()).start();
    let mut rng = SmallRng::seed_from_u64(5);
    let answer = relayed(
        &tank,
        &origin,
        &Tongue::Messages.stream(),
        &packed,
        &mut rng,
        "content-encoding: gzip\r\n",
    )
    .await;
    assert_eq!((answer.status, answer.end), (200, End::Whole));
    assert_eq!(answer.head.one("content-encoding"), Some("gzip"));
    assert_eq!(answer.body, packed);
    let bare = Recipe::over(&origin.url()).start();
    let answer = relayed(
        &bare,
        &origin,
        &Tongue::Chat.stream(),
        Tongue::Chat.events().concat().as_bytes(),
        &mut rng,
        "",
    )
    .await;
    assert!(
        !answer.head.has("content-encoding"),
        "nothing is compressed by us"
    );
}

/// How a broken stream has to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Looks {
    /// An error event of the dialect, then an aborted connection.
    Told,
    /// Aborted without a word of ours.
    Aborted,
    /// Whole: nothing of the answer is missing.
    Whole,
}

fn looks(tongue: Tongue, answer: &Answer) -> Looks {
    let told = answer.text().contains(tongue.error_mark());
    match (answer.end, told) {
        (End::Whole, _) => Looks::Whole,
        (_, true) => Looks::Told,
        (_, false) => Looks::Aborted,
    }
}

#[tokio::test]
async fn a_stream_that_breaks_off_never_looks_whole() {
    use Looks::{Aborted, Told, Whole};
    let rig = Rig::with(|recipe| recipe.timeouts("idle: 200ms"));
    let table: &[(&str, [Looks; 3], &str)] = &[
        ("cut", [Told; 3], "cut"),
        ("cut;split", [Aborted; 3], "cut"),
        ("cut;after=end;split", [Aborted, Whole, Aborted], "cut"),
        // What is missing of a chat is no more than `[DONE]`, and its finish reason is there.
        ("cut;after=end", [Told, Whole, Told], "cut"),
        ("cut-clean", [Told; 3], "incomplete"),
        ("cut-clean;split", [Aborted; 3], "incomplete"),
        ("cut-clean;after=end", [Told, Whole, Told], "incomplete"),
        ("hang-body", [Told; 3], "idle"),
        ("hang-body;split", [Aborted; 3], "idle"),
        // The vendor has said it itself and nothing is added; but its flat event in Responses raises in no SDK.
        ("error-mid", [Whole, Whole, Told], "incomplete"),
    ];
    let mut wrong = Vec::new();
    for (tongue, at) in Tongue::ALL.into_iter().zip(0..) {
        for (script, expected, cause) in table {
            let broken = || {
                rig.tank
                    .count("surgetank_stream_broken_total", &[("cause", cause)])
            };
            let (key, before) = (
                format!("{tongue:?}-{script}").replace([';', '='], "-"),
                broken(),
            );
            let answer = soon(script, rig.tank.call(&tongue.stream().script(&key, script))).await;
            let (got, expected): (_, Looks) = (looks(tongue, &answer), expected[at]);
            rig.tank.at_rest().await;
            let counted = broken() - before;
            let marks = answer.text().matches(tongue.error_mark()).count();
            let right = answer.status == 200
                && got == expected
                && rig.attempts(&key).len() == 1
                && counted == u64::from(got != Whole)
                && marks == usize::from(got == Told) + usize::from(script.starts_with("error-mid"))
                && (got == Whole
                    || !answer.text().contains(tongue.terminator())
                    || script.starts_with("cut;after=end;split"));
            if !right {
                let end: String = answer
                    .text()
                    .chars()
                    .rev()
                    .take(150)
                    .collect::<Vec<_>>()
                    .into_iter()
                    .rev()
                    .collect();
                wrong.push(format!(
                    "{tongue:?} {script}: {} {got:?} ({marks} marks, {counted} counted): …{end}",
                    answer.status
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    rig.tank.at_rest().await;
}

#[tokio::test]
async fn an_error_event_that_some_sdks_swallow_is_no_end_however_the_connection_ends() {
    for (name, ending) in [
        ("a FIN", Play::Last as fn(Vec<u8>) -> Play),
        ("its end", Play::Answer),
    ] {
        let origin = Origin::start().await.play(move |_| {
            let error = "event: error\ndata: {\"type\":\"error\",\"sequence_number\":1,\"code\":\"server_error\",\"message\":\"no\",\"param\":null}\n\n";
            let mut reply = [HEAD.as_bytes(), &chunked(Tongue::Responses.events()[0]), &chunked(error)].concat();
            if name == "its end" {
                reply.extend_from_slice(b"0\r\n\r\n");
            }
            ending(reply)
        });
        let tank = Recipe::over(&origin.url()).start();
        let answer = tank.call(&Tongue::Responses.stream()).await;
        assert_eq!(
            looks(Tongue::Responses, &answer),
            Looks::Told,
            "{name}: {}",
            answer.text()
        );
        assert!(
            answer.text().trim_end().ends_with("}}"),
            "our event has the nested error: {}",
            answer.text()
        );
    }
}

#[tokio::test]
async fn a_stream_that_outlasts_its_time_is_ended_honestly() {
    for tongue in Tongue::ALL {
        let slow = tongue
            .stream()
            .script("slow", "ok;interval=50ms;words=2000");
        let rig = Rig::with(|recipe| recipe.total("700ms"));
        let answer = soon("the end", rig.tank.call(&slow)).await;
        assert_eq!(
            (answer.status, looks(tongue, &answer)),
            (200, Looks::Told),
            "{tongue:?}"
        );
        rig.lab_has("the upstream is let go", |stats| stats.cancelled == 1)
            .await;

        let rig = Rig::start();
        let answer = soon(
            "the end",
            rig.tank.call(&slow.header("x-surgetank-timeout-ms", "700")),
        )
        .await;
        assert_eq!(
            (answer.status, looks(tongue, &answer)),
            (200, Looks::Told),
            "{tongue:?}"
        );
        rig.lab_has("the upstream is let go", |stats| stats.cancelled == 1)
            .await;
    }
}

#[tokio::test]
async fn a_stream_of_an_unknown_kind_that_is_cut_does_not_end_cleanly() {
    let body = "data: one\n\ndata: two\n\n";
    for (name, ending, expected) in [
        ("its end", Play::Answer as fn(Vec<u8>) -> Play, End::Whole),
        ("a FIN", Play::Last, End::Fin),
        ("a reset", Play::Reset, End::Fin),
    ] {
        let origin = Origin::start().await.play(move |_| {
            let mut reply = [HEAD.as_bytes(), &chunked(body)].concat();
            if expected == End::Whole {
                reply.extend_from_slice(b"0\r\n\r\n");
            }
            ending(reply)
        });
        let tank = Recipe::over(&origin.url()).retry("max_retries: 0").start();
        let answer = tank.call(&Request::post("/v1/audio/speech", "{}")).await;
        if answer.status == 502 {
            assert_eq!(
                name, "a reset",
                "a reset may overtake what was sent before it"
            );
            continue;
        }
        assert_eq!(
            answer.end == End::Whole,
            expected == End::Whole,
            "{name}: {}",
            answer.text()
        );
    }
}

#[tokio::test]
async fn a_broken_stream_is_a_reset_stream_in_http2() {
    use http_body_util::{BodyExt as _, Full};
    let rig = Rig::start();
    let stream = tokio::net::TcpStream::connect(rig.tank.addr)
        .await
        .expect("it listens");
    let io = hyper_util::rt::TokioIo::new(stream);
    let executor = hyper_util::rt::TokioExecutor::new();
    let (mut sender, connection) = hyper::client::conn::http2::handshake(executor, io)
        .await
        .expect("HTTP/2");
    let driving = tokio::spawn(connection);
    for (fault, whole) in [
        ("cut", false),
        ("ok", true),
        ("cut-clean", false),
        ("cut;split", false),
    ] {
        let body = r#"{"model":"m","max_tokens":9,"stream":true,"messages":[{"role":"user","content":"x"}]}"#;
        let request = http::Request::post(format!("http://{}/v1/messages", rig.tank.addr))
            .header("x-lab-fault", fault)
            .header("content-type", "application/json")
            .body(Full::new(bytes::Bytes::from_static(body.as_bytes())))
            .expect("a request");
        let response = soon("an answer", sender.send_request(request))
            .await
            .expect("an answer");
        let mut body = response.into_body();
        let mut ended = true;
        while let Some(frame) = soon("a frame", body.frame()).await {
            ended &= frame.is_ok();
            if !ended {
                break;
            }
        }
        assert_eq!(ended, whole, "{fault}");
    }
    drop(sender);
    let _ = driving.await;
}

#[tokio::test]
async fn a_stream_with_a_declared_length_may_still_get_an_error_event() {
    let first = Tongue::Messages.events()[..4].concat();
    let begun = first.clone();
    let length = Tongue::Messages.events().concat().len();
    let origin = Origin::start().await.play(move |_| {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ncontent-length: {length}\r\n\r\n");
        Play::Last((head + &begun).into_bytes())
    });
    let tank = Recipe::over(&origin.url()).start();
    let answer = Caller::connect(tank.addr)
        .await
        .call(&Tongue::Messages.stream())
        .await;
    assert_eq!(
        (answer.status, looks(Tongue::Messages, &answer)),
        (200, Looks::Told),
        "{}",
        answer.text()
    );
    assert!(answer.text().starts_with(&first));
}

//! A stream that falls silent is kept alive, between its events and in a form that no client takes for one of them.

use std::time::Duration;

use super::harness::{
    Caller, Filled, Origin, OriginConnection, Play, Recipe, Request, Tank, Tongue, chunked, soon,
    text,
};

const OFTEN: &str = "stream: { keepalive: 40ms }";

/// The sign of life of each kind of stream.
fn sign(tongue: Tongue) -> &'static str {
    match tongue {
        Tongue::Messages => "event: ping\ndata: {\"type\": \"ping\"}\n\n",
        Tongue::Chat | Tongue::Responses => ": keep-alive\n\n",
    }
}

/// A stream whose first events have arrived at its caller, and then nothing more.
async fn silent(
    tank: &Tank,
    origin: &Origin,
    request: &Request,
    head: &str,
    begun: &str,
) -> (Caller, OriginConnection) {
    let mut caller = tank.caller().await;
    caller.send(request.bytes()).await;
    let mut upstream = origin.accept().await;
    upstream.request().await;
    upstream.send(format!("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n{head}transfer-encoding: chunked\r\n\r\n")).await;
    upstream.send_chunk(begun).await;
    caller.wire.through(begun.as_bytes()).await;
    (caller, upstream)
}

/// What arrives while nothing is sent.
async fn meanwhile(caller: &mut Caller) -> String {
    let listening = async {
        loop {
            caller.wire.fill().await;
        }
    };
    let _ = tokio::time::timeout(Duration::from_millis(300), listening).await;
    text(&caller.wire.inbox.split())
}

#[tokio::test]
async fn between_two_events_there_are_signs_of_life() {
    for tongue in Tongue::ALL {
        let origin = Origin::start().await;
        let tank = Recipe::over(&origin.url()).start_with(OFTEN);
        let events = tongue.events();
        let content = tongue.preamble() + 1;
        let begun = events[..content].concat();
        let (mut caller, mut upstream) = silent(&tank, &origin, &tongue.stream(), "", &begun).await;
        let signs = meanwhile(&mut caller).await.matches(sign(tongue)).count();
        assert!((2..=8).contains(&signs), "{tongue:?}: {signs}");
        let rest = events[content..].concat();
        upstream.send_chunk(&rest).await;
        caller.wire.through(rest.as_bytes()).await;
        upstream.end_chunks().await;
        soon("the end", caller.wire.through(b"0\r\n\r\n")).await;
        tank.at_rest().await;
        assert_eq!(tank.outcomes("served"), 1);
    }
}

#[tokio::test]
async fn inside_an_event_nothing_is_said() {
    for tongue in Tongue::ALL {
        let origin = Origin::start().await;
        let tank = Recipe::over(&origin.url()).start_with(OFTEN);
        let events = tongue.events();
        let content = tongue.preamble();
        let (half, other) = events[content + 1].split_at(30);
        let begun = events[..=content].concat() + half;
        let (mut caller, mut upstream) = silent(&tank, &origin, &tongue.stream(), "", &begun).await;
        assert_eq!(meanwhile(&mut caller).await, "\r\n", "{tongue:?}");
        upstream.send_chunk(other).await;
        caller.wire.through(other.as_bytes()).await;
        assert!(meanwhile(&mut caller).await.contains(sign(tongue)));
    }
}

#[tokio::test]
async fn behind_an_id_a_comment_has_no_blank_line() {
    for field in ["id: 7\n", "id\n"] {
        let origin = Origin::start().await;
        let tank = Recipe::over(&origin.url()).start_with(OFTEN);
        let begun = Tongue::Chat.events()[0].to_owned() + field + Tongue::Chat.events()[1];
        let (mut caller, _upstream) =
            silent(&tank, &origin, &Tongue::Chat.stream(), "", &begun).await;
        let said = meanwhile(&mut caller).await;
        assert!(said.contains(": keep-alive\n"), "{said:?}");
        assert!(!said.contains("\n\n"), "{said:?}");
    }
}

#[tokio::test]
async fn where_nobody_knows_what_may_be_said_nothing_is() {
    let whole = Tongue::Chat.events()[..2].concat();
    for (request, head) in [
        (Request::post("/v1/audio/speech", "{\"stream\":true}"), ""),
        (Tongue::Chat.stream(), "content-encoding: br\r\n"),
    ] {
        let origin = Origin::start().await;
        let tank = Recipe::over(&origin.url()).start_with(OFTEN);
        let (mut caller, _upstream) = silent(&tank, &origin, &request, head, &whole).await;
        assert_eq!(meanwhile(&mut caller).await, "\r\n");
    }
}

#[tokio::test]
async fn a_caller_who_reads_slowly_is_no_silent_upstream() {
    let origin = Origin::start().await.play(|_| {
        let event = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"x\"}}]}\n\n";
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
        let mut body = head.as_bytes().to_vec();
        // Much more than is read below: how much one read brings is the kernel's affair.
        for _ in 0..400 {
            body.extend_from_slice(&chunked(event.repeat(1000)));
        }
        body.extend_from_slice(&chunked("data: [DONE]\n\n"));
        body.extend_from_slice(b"0\r\n\r\n");
        Play::Answer(body)
    });
    let tank = Recipe::over(&origin.url())
        .timeouts("idle: 300ms")
        .start_with(OFTEN);
    let mut caller = tank.caller().await;
    caller.send(Tongue::Chat.stream().bytes()).await;
    caller.wire.through(b"\"x\"").await;
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(600)).await;
        // Enough that more is asked of the upstream.
        let had = caller.wire.inbox.len();
        while caller.wire.inbox.len() < had + (3 << 20) {
            assert_eq!(caller.wire.fill().await, Filled::Bytes, "it was given up");
        }
    }
    soon("the end", caller.wire.through(b"\r\n0\r\n\r\n")).await;
    tank.at_rest().await;
    assert_eq!(tank.outcomes("served"), 1);
}

#[tokio::test]
async fn signs_of_ours_are_no_life_of_the_upstreams() {
    for tongue in Tongue::ALL {
        let origin = Origin::start().await;
        let tank = Recipe::over(&origin.url())
            .timeouts("idle: 200ms")
            .start_with(OFTEN);
        let begun = tongue.events()[..=tongue.preamble()].concat();
        let (mut caller, _upstream) = silent(&tank, &origin, &tongue.stream(), "", &begun).await;
        let (rest, _) = soon("the end", caller.wire.rest()).await;
        let rest = text(&rest);
        assert!(
            rest.contains(sign(tongue)) && rest.contains(tongue.error_mark()),
            "{rest}"
        );
        tank.at_rest().await;
        let idle = [("cause", "idle")];
        assert_eq!(tank.count("surgetank_stream_broken_total", &idle), 1);
    }
}

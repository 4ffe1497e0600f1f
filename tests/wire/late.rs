//! A caller who waits keeps the chance of a real status for a while; then its answer is begun, it is told what is
//! awaited, and whatever comes in the end comes within.

use std::time::Duration;

use surgetank::server::Stage;
use tokio::time::Instant;

use super::harness::{Answer, End, Origin, Recipe, Request, Rig, Tongue, soon, text, until};

/// Waits of a retry that a test has the time to see, and a notice in the midst of the first.
const SLOW: &str = "base: 300ms, cap: 300ms";
const SOON: &str = "stream: { notice_after: 100ms }";

fn rig(blocks: &str, change: impl FnOnce(Recipe) -> Recipe) -> Rig {
    let lab =
        surgetank::lab::Lab::start(surgetank::lab::LabConfig::default()).expect("a free port");
    let tank = change(Recipe::over(&lab.url()).retry_anew(SLOW)).start_with(blocks);
    Rig { lab, tank }
}

/// What our side said, comment by comment, and the stream without it.
fn parted(answer: &Answer) -> (Vec<String>, String) {
    const PING: &str = "event: ping\ndata: {\"type\": \"ping\"}";
    let (mut comments, mut stream) = (Vec::new(), String::new());
    for block in answer.text().split_inclusive("\n\n") {
        match block.strip_prefix(": ") {
            Some(comment) => comments.push(comment.trim_end().to_owned()),
            None if block.trim_end() == PING => {}
            None => stream.push_str(block),
        }
    }
    (comments, stream)
}

/// The comment with what should have been in the head.
fn late_fields(comments: &[String]) -> Vec<&str> {
    let mut lines = comments
        .iter()
        .filter(|line| line.starts_with("x-surgetank-"));
    let line = lines.next().expect("the fields that came too late");
    assert_eq!(lines.next(), None, "they are told once");
    line.split("; ").collect()
}

fn is_begun(answer: &Answer) -> bool {
    let is = |name, value| answer.head.one(name) == Some(value);
    answer.status == 200
        && is("content-type", "text/event-stream; charset=utf-8")
        && is("cache-control", "no-cache, no-transform")
        && is("x-accel-buffering", "no")
        && answer.head.has("x-surgetank-request-id")
}

#[tokio::test]
async fn whoever_waits_is_told_and_then_gets_the_answer_unchanged() {
    for tongue in Tongue::ALL {
        let rig = rig(SOON, |recipe| recipe);
        let request = tongue.stream().script("wait", "503,529,ok;text=one%20two");
        let answer = soon("the answer", rig.tank.call(&request)).await;
        let direct = Recipe::over(&rig.lab.url()).start();
        let healthy = direct
            .call(&tongue.stream().script("direct", "ok;text=one%20two"))
            .await;
        let (comments, stream) = parted(&answer);
        assert!(is_begun(&answer), "{:?}", answer.head);
        assert_eq!(answer.end, End::Whole);
        assert_eq!(tongue.text_of_stream(stream.as_bytes()), "one two");
        assert_eq!(
            stream.matches("\n\n").count(),
            healthy.text().matches("\n\n").count()
        );
        let notices: Vec<_> = comments
            .iter()
            .filter_map(|line| {
                line.strip_prefix("We're experiencing high demand, please wait a moment; ")
            })
            .collect();
        assert_eq!(
            notices,
            [
                "retry 1 of 3 in 1 s",
                "retry 1 of 3 is under way",
                "retry 2 of 3 in 1 s",
                "retry 2 of 3 is under way"
            ]
            .into_iter()
            .filter(|told| notices.contains(told))
            .collect::<Vec<_>>(),
            "{comments:#?}"
        );
        assert!(
            notices.contains(&"retry 1 of 3 in 1 s") && notices.contains(&"retry 2 of 3 in 1 s")
        );
        let fields = late_fields(&comments);
        assert!(fields.contains(&"x-surgetank-upstream: lab"), "{fields:?}");
        assert!(fields.contains(&"x-surgetank-attempts: 3"), "{fields:?}");
        assert!(
            fields
                .iter()
                .any(|field| field.contains("request-id: req_lab_")),
            "{fields:?}"
        );
        rig.tank.at_rest().await;
        assert_eq!(
            (rig.tank.outcomes("served"), rig.attempts("wait").len()),
            (1, 3)
        );
        let joined = [("form", "events"), ("end", "joined")];
        assert_eq!(rig.tank.count("surgetank_begun_early_total", &joined), 1);
    }
}

#[tokio::test]
async fn a_failure_after_it_is_an_error_event_in_the_vendors_words() {
    for tongue in Tongue::ALL {
        let rig = rig(SOON, |recipe| recipe.retry("max_retries: 1"));
        let request = tongue.stream().script("fail", "503*;message=no%20room");
        let answer = soon("the answer", rig.tank.call(&request)).await;
        let (comments, stream) = parted(&answer);
        assert!(is_begun(&answer));
        assert_ne!(answer.end, End::Whole, "a failed stream never ends cleanly");
        assert!(stream.starts_with(tongue.error_mark()), "{stream}");
        assert_eq!(stream.matches("\n\n").count(), 1, "{stream}");
        assert!(stream.contains("no room"), "{stream}");
        let fields = late_fields(&comments);
        assert!(
            fields.contains(&"status: 503") && fields.contains(&"x-surgetank-attempts: 2"),
            "{fields:?}"
        );
        rig.tank.at_rest().await;
        assert_eq!(rig.tank.outcomes("failed"), 1);
        assert_eq!(
            rig.tank.count("surgetank_stream_broken_total", &[]),
            0,
            "no answer broke"
        );
    }
}

#[tokio::test]
async fn failures_without_an_answer_are_told_in_our_words() {
    for tongue in Tongue::ALL {
        for (script, said) in [
            ("hang*", "sent nothing for 0.3 s"),
            (
                "reset*;headers-after=200ms",
                "the upstream closed the connection",
            ),
            (
                "json;headers-after=200ms",
                "did not have the form that was asked for",
            ),
            ("empty;headers-after=200ms", "ended without an answer in it"),
        ] {
            let rig = rig(SOON, |recipe| {
                recipe.timeouts("first_byte: 300ms").retry("max_retries: 0")
            });
            let answer = soon(script, rig.tank.call(&tongue.stream().script("x", script))).await;
            let (_, stream) = parted(&answer);
            assert!(is_begun(&answer), "{script}: {:?}", answer.head);
            assert_ne!(answer.end, End::Whole, "{script}");
            assert!(
                stream.starts_with(tongue.error_mark()),
                "{script}: {stream}"
            );
            if !script.starts_with("reset") {
                assert!(stream.contains(said), "{script}: {stream}");
            }
            rig.tank.at_rest().await;
            assert_eq!(rig.tank.outcomes("failed"), 1, "{script}");
        }
    }
}

#[tokio::test]
async fn the_callers_own_fault_after_it_is_told_as_such() {
    let rig = rig(SOON, |recipe| recipe);
    let request = Tongue::Chat
        .stream()
        .script("fault", "400;headers-after=200ms;message=bad");
    let answer = soon("the answer", rig.tank.call(&request)).await;
    let (_, stream) = parted(&answer);
    assert!(
        stream.contains("\"bad\"") && stream.contains("invalid_request_error"),
        "{stream}"
    );
    rig.tank.at_rest().await;
    assert_eq!(
        (rig.tank.outcomes("refused"), rig.attempts("fault").len()),
        (1, 1)
    );
}

#[tokio::test]
async fn the_friendly_reply_after_it_is_a_stream() {
    for tongue in Tongue::ALL {
        let rig = rig(SOON, |recipe| {
            recipe
                .retry("max_retries: 1")
                .fallback("[ { reply: 'Please come back.' } ]")
        });
        let answer = soon(
            "the reply",
            rig.tank.call(&tongue.stream().script("r", "503*")),
        )
        .await;
        let (comments, stream) = parted(&answer);
        assert!(is_begun(&answer));
        assert_eq!(answer.end, End::Whole);
        assert_eq!(
            tongue.text_of_stream(stream.as_bytes()),
            "Please come back."
        );
        assert!(late_fields(&comments).contains(&"x-surgetank-fallback: reply"));
        rig.tank.at_rest().await;
        assert_eq!(rig.tank.outcomes("substituted"), 1);
    }
}

#[tokio::test]
async fn until_then_the_status_is_the_real_one() {
    for tongue in Tongue::ALL {
        let rig = rig("stream: { notice_after: 20s }", |recipe| {
            recipe.retry("max_retries: 1")
        });
        let answer = soon(
            "an answer",
            rig.tank.call(&tongue.stream().script("s", "503*")),
        )
        .await;
        assert_eq!((answer.status, answer.end), (503, End::Whole), "{tongue:?}");
        let healthy = rig.tank.call(&tongue.stream().script("h", "ok")).await;
        assert!(
            !healthy.text().contains(": We're"),
            "no word of ours: {}",
            healthy.text().len()
        );
        rig.tank.at_rest().await;
        assert_eq!(rig.tank.count("surgetank_begun_early_total", &[]), 0);
    }
}

#[tokio::test]
async fn a_users_limit_keeps_its_status_if_it_refuses_at_once() {
    let limits = |more: &str| {
        format!(
            "{SOON}\nlimits: {{ identify: [credential], per_user: {{ requests: 60/min, burst: 1, {more} }} }}"
        )
    };
    let rejecting = rig(&limits("when_exceeded: reject"), |recipe| recipe);
    let request = || Tongue::Messages.stream();
    assert_eq!(rejecting.tank.call(&request()).await.status, 200);
    let refused = rejecting.tank.call(&request()).await;
    assert_eq!(refused.status, 429);
    assert!(refused.head.has("retry-after"));

    let waiting = rig(&limits("when_exceeded: wait, max_wait: 5s"), |recipe| {
        recipe
    });
    assert_eq!(waiting.tank.call(&request()).await.status, 200);
    let waited = soon("its turn", waiting.tank.call(&request())).await;
    let (comments, stream) = parted(&waited);
    assert!(
        comments[0].ends_with("; the limit on this user admits it in 1 s"),
        "{comments:?}"
    );
    assert!(stream.contains(Tongue::Messages.terminator()));
}

#[tokio::test]
async fn a_silent_wait_is_filled_with_signs_of_life() {
    for tongue in Tongue::ALL {
        let rig = rig(
            "stream: { notice_after: 50ms, keepalive: 50ms }",
            |recipe| recipe,
        );
        let request = tongue.stream().script("slow", "ok;headers-after=600ms");
        let answer = soon("the answer", rig.tank.call(&request)).await;
        let (comments, stream) = parted(&answer);
        let waiting = comments
            .iter()
            .filter(|line| line.ends_with("; waiting for the answer to begin"))
            .count();
        assert!((3..=12).contains(&waiting), "{comments:?}");
        let pings = answer.text().matches("event: ping\n").count()
            - stream.matches("event: ping\n").count();
        assert_eq!(
            pings,
            if tongue == Tongue::Messages {
                waiting
            } else {
                0
            }
        );
        assert!(stream.contains(tongue.terminator()));
    }
}

#[tokio::test]
async fn a_preamble_that_is_there_is_a_better_beginning_than_a_notice() {
    for tongue in Tongue::ALL {
        let origin = Origin::start().await;
        let tank = Recipe::over(&origin.url())
            .start_with("stream: { notice_after: 200ms, hold_preamble: 30s }");
        let mut caller = tank.caller().await;
        caller.send(tongue.stream().bytes()).await;
        let mut upstream = origin.accept().await;
        upstream.request().await;
        upstream.send("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nrequest-id: theirs\r\ntransfer-encoding: chunked\r\n\r\n").await;
        let events = tongue.events();
        let (preamble, rest) = events.split_at(tongue.preamble());
        upstream.send_chunk(preamble.concat()).await;
        let head = caller.head().await;
        assert_eq!(head.one("request-id"), Some("theirs"), "the real head");
        caller.wire.through(preamble.concat().as_bytes()).await;
        upstream.send_chunk(rest.concat()).await;
        upstream.end_chunks().await;
        let left = caller.wire.through(b"0\r\n\r\n").await;
        assert!(!text(&left).contains(": We're"), "{}", text(&left));
    }
}

#[tokio::test]
async fn behind_a_notice_a_preamble_is_held_and_its_error_mended() {
    for tongue in Tongue::ALL {
        let rig = rig(SOON, |recipe| recipe);
        let request = tongue
            .stream()
            .script("p", "503,error-preamble,cut;after=0,ok;text=mended");
        let answer = soon("the answer", rig.tank.call(&request)).await;
        let (_, stream) = parted(&answer);
        assert!(is_begun(&answer));
        assert_eq!((answer.end, rig.attempts("p").len()), (End::Whole, 4));
        assert_eq!(tongue.text_of_stream(stream.as_bytes()), "mended");
    }
}

#[tokio::test]
async fn a_compressed_stream_is_joined_in_clear_text() {
    for tongue in Tongue::ALL {
        let rig = rig(SOON, |recipe| recipe);
        let request = tongue.stream().script("g", "gzip;headers-after=300ms");
        let answer = soon("the answer", rig.tank.call(&request)).await;
        let (_, stream) = parted(&answer);
        assert!(is_begun(&answer) && !answer.head.has("content-encoding"));
        assert_eq!(answer.end, End::Whole);
        assert!(stream.contains(tongue.terminator()), "{stream}");
        assert!(
            tongue
                .text_of_stream(stream.as_bytes())
                .starts_with("the tank takes")
        );
    }
}

#[tokio::test]
async fn a_compressed_stream_that_cannot_be_unpacked_does_not_end_cleanly() {
    for coding in ["gzip", "br"] {
        let origin = Origin::start().await;
        let tank = Recipe::over(&origin.url())
            .retry("max_retries: 0")
            .start_with(SOON);
        let mut caller = tank.caller().await;
        caller.send(Tongue::Chat.stream().bytes()).await;
        let mut upstream = origin.accept().await;
        upstream.request().await;
        caller.wire.through(b"high demand").await;
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-encoding: {coding}\r\ntransfer-encoding: chunked\r\n\r\n"
        );
        upstream.send(head).await;
        upstream.send_chunk(Tongue::Chat.events().concat()).await;
        upstream.end_chunks().await;
        let (rest, _) = soon("the end", caller.wire.rest()).await;
        let rest = text(&rest);
        assert!(
            !rest.contains("0\r\n\r\n") && !rest.contains("Hello"),
            "{rest}"
        );
    }
}

#[tokio::test]
async fn zero_begins_at_once() {
    let rig = rig("stream: { notice_after: 0s }", |recipe| recipe);
    let mut caller = rig.tank.caller().await;
    let request = Tongue::Responses.stream().script("z", "hang");
    caller.send(request.bytes()).await;
    assert_eq!(caller.head().await.status(), 200);
    caller
        .wire
        .through(b": We're experiencing high demand")
        .await;
}

#[tokio::test]
async fn a_caller_who_leaves_takes_the_wait_with_it() {
    let rig = rig("stream: { notice_after: 20ms, keepalive: 5s }", |recipe| {
        recipe
    });
    let mut caller = rig.tank.caller().await;
    caller
        .send(Tongue::Chat.stream().script("gone", "hang").bytes())
        .await;
    caller.wire.through(b"high demand").await;
    rig.lab_has("the upstream call", |stats| stats.live_requests == 1)
        .await;
    let left = Instant::now();
    drop(caller);
    rig.lab_has("it is cancelled", |stats| stats.live_requests == 0)
        .await;
    assert!(
        left.elapsed() < Duration::from_millis(300),
        "{:?}",
        left.elapsed()
    );
    rig.tank.at_rest().await;
    assert_eq!(rig.tank.outcomes("abandoned"), 1);
    let end = [("form", "events"), ("end", "abandoned")];
    assert_eq!(rig.tank.count("surgetank_begun_early_total", &end), 1);
}

#[tokio::test]
async fn the_end_of_the_process_is_told_to_who_still_waits() {
    for tongue in Tongue::ALL {
        let rig = rig("stream: { notice_after: 20ms }", |recipe| recipe);
        let mut caller = rig.tank.caller().await;
        caller
            .send(tongue.stream().script("end", "hang").bytes())
            .await;
        caller.wire.through(b"high demand").await;
        for stage in [Stage::Draining, Stage::Ending] {
            rig.tank.proxy.lifecycle().advance(stage);
        }
        let (rest, _) = soon("the end", caller.wire.rest()).await;
        assert!(text(&rest).contains(tongue.error_mark()), "{}", text(&rest));
        until("it is counted", || rig.tank.outcomes("broken") == 1).await;
    }
}

#[tokio::test]
async fn an_sdk_with_little_time_between_bytes_is_begun_with_in_time_and_waits_on() {
    let rig = rig("", |recipe| recipe);
    let request = Tongue::Chat
        .stream()
        .header("x-stainless-read-timeout", "0.6")
        .script("read", "ok;headers-after=1500ms");
    let mut caller = rig.tank.caller().await;
    let asked = Instant::now();
    caller.send(request.bytes()).await;
    let head = caller.head().await;
    let begun = asked.elapsed();
    assert_eq!(head.status(), 200);
    // A busy machine may be late, but not by as much as the notice would have been.
    assert!(begun < Duration::from_millis(1500), "{begun:?}");
    let mut last = Instant::now();
    let mut longest = Duration::ZERO;
    while !text(&caller.wire.inbox).contains("[DONE]") {
        caller.wire.fill().await;
        longest = longest.max(last.elapsed());
        last = Instant::now();
    }
    assert!(longest < Duration::from_millis(600), "{longest:?}");
    assert!(
        asked.elapsed() > Duration::from_secs(1),
        "the timeout did not end the wait"
    );
}

// === Plain answers ===

const WHITE: &str = "stream: { json_keepalive: 50ms }";

#[tokio::test]
async fn white_space_keeps_a_plain_caller_alive_where_it_is_allowed() {
    for tongue in Tongue::ALL {
        for script in [
            "ok;headers-after=400ms",
            "gzip;headers-after=400ms",
            "503,ok",
        ] {
            let request = || {
                tongue
                    .plain()
                    .script(&script.replace([';', ',', '='], "-"), script)
            };
            let silent = rig("", |recipe| recipe);
            let healthy = soon("an answer", silent.tank.call(&request())).await;
            let alive = rig(WHITE, |recipe| recipe);
            let answer = soon("an answer", alive.tank.call(&request())).await;
            assert_eq!((answer.status, answer.end), (200, End::Whole), "{script}");
            assert_eq!(answer.head.one("content-type"), Some("application/json"));
            assert!(!answer.head.has("content-length") && !answer.head.has("content-encoding"));
            let spaces = answer.body.iter().take_while(|byte| **byte == b' ').count();
            assert!((2..=12).contains(&spaces), "{script}: {spaces}");
            let said = tongue.text_of_answer(&answer.json());
            assert!(said.starts_with("the tank takes"), "{script}: {said}");
            if !script.starts_with("gzip") {
                assert_eq!(said, tongue.text_of_answer(&healthy.json()));
            }
            alive.tank.at_rest().await;
            assert_eq!(alive.tank.outcomes("served"), 1);
        }
    }
}

#[tokio::test]
async fn a_plain_failure_behind_white_space_does_not_pass_for_an_answer() {
    for tongue in Tongue::ALL {
        for script in ["503*", "reset*"] {
            let rig = rig(WHITE, |recipe| recipe.retry("max_retries: 1"));
            let answer = soon(script, rig.tank.call(&tongue.plain().script("f", script))).await;
            assert_eq!(answer.status, 200);
            assert_ne!(
                answer.end,
                End::Whole,
                "its caller must not take it for an answer"
            );
            let error = answer.json();
            assert!(error["error"]["message"].is_string(), "{error}");
            rig.tank.at_rest().await;
            assert_eq!(rig.tank.outcomes("failed"), 1);
        }
    }
}

#[tokio::test]
async fn what_has_no_known_form_is_never_begun() {
    let rig = rig(
        "stream: { notice_after: 0s, json_keepalive: 10ms }",
        |recipe| recipe,
    );
    for request in [
        Request::get("/v1/models"),
        Request::post("/v1/audio/speech", "{\"stream\":true}"),
        Request::post("/v1/files", "{}"),
    ] {
        let answer = rig
            .tank
            .call(
                &request
                    .script("o", "503*;headers-after=100ms")
                    .header("x-surgetank-max-retries", "0"),
            )
            .await;
        assert_eq!(answer.status, 503);
    }
    assert_eq!(rig.tank.count("surgetank_begun_early_total", &[]), 0);
}

//! Bodies of requests: late ones, broken ones, odd ones, and how long they are kept.

use std::time::Duration;

use tokio::time::Instant;

use super::harness::{Caller, End, H2Caller, Origin, Recipe, Request, Tongue, soon, until};

/// Sends `piece` again and again until the proxy has had enough, and reads what it says.
async fn trickle(caller: &mut Caller, piece: &str) -> super::harness::Answer {
    loop {
        if caller.wire.try_send(piece).await.is_err() {
            break;
        }
        let said = tokio::time::timeout(Duration::from_millis(40), caller.wire.fill()).await;
        if said.is_ok() {
            break;
        }
    }
    caller.answer().await
}

#[tokio::test]
async fn a_body_that_trickles_has_no_more_time_than_its_request() {
    let origin = Origin::start().await.serve(|_| None);
    let tank = Recipe::over(&origin.url()).total("600ms").start();
    let own = Recipe::over(&origin.url()).start();
    for (tank, field) in [(&tank, ""), (&own, "x-surgetank-timeout-ms: 600\r\n")] {
        let began = Instant::now();
        let mut caller = tank.caller().await;
        caller
            .send(format!(
                "POST /v1/messages HTTP/1.1\r\nhost: app\r\n{field}content-length: 100000\r\n\r\n"
            ))
            .await;
        let answer = trickle(&mut caller, "x").await;
        assert!(began.elapsed() >= Duration::from_millis(400));
        assert_eq!(answer.status, 408, "{}", answer.text());
        assert_eq!(answer.json()["error"]["type"], "timeout_error");
        assert_eq!(answer.head.one("connection"), Some("close"));
        tank.at_rest().await;
        assert_eq!(tank.outcomes("rejected"), 1);
    }
    assert!(origin.seen().is_empty(), "it reaches nobody");
}

#[tokio::test]
async fn a_body_that_trickles_through_is_blamed_on_its_caller() {
    let origin = Origin::start().await;
    let tank = Recipe::over(&origin.url())
        .total("700ms")
        .timeouts("first_byte: 300ms")
        .start_with("replay: { per_request: 64KiB, total: 1MiB }");
    let (mut caller, began) = (tank.caller().await, Instant::now());
    caller
        .send("POST /v1/files HTTP/1.1\r\nhost: app\r\ntransfer-encoding: chunked\r\n\r\n")
        .await;
    caller
        .send(format!("30000\r\n{}\r\n", "x".repeat(0x30000)))
        .await;
    let mut upstream = origin.accept().await;
    upstream.wire.through(b"\r\n\r\n").await;
    // Longer than the upstream may be silent; but it is not the upstream that keeps it waiting.
    let answer = caller.answer().await;
    assert_eq!(answer.status, 408, "{}", answer.text());
    assert!(began.elapsed() >= Duration::from_millis(600));
    assert_eq!(answer.head.one("connection"), Some("close"));
    let (rest, _) = soon("the upstream's connection ends", upstream.wire.rest()).await;
    assert!(
        !rest.ends_with(b"0\r\n\r\n"),
        "an upload that broke off must not look whole"
    );
    tank.at_rest().await;
    assert_eq!(tank.outcomes("rejected"), 1);
    let abandoned = [("class", "abandoned")];
    assert_eq!(
        tank.count("surgetank_upstream_attempts_total", &abandoned),
        1
    );
}

#[tokio::test]
async fn a_body_with_broken_framing_is_refused_and_not_taken_for_a_caller_who_left() {
    let origin = Origin::start().await.serve(|_| None);
    let tank = Recipe::over(&origin.url()).start();
    let mut caller = tank.caller().await;
    caller
        .send("POST /v1/messages HTTP/1.1\r\nhost: app\r\ntransfer-encoding: chunked\r\n\r\nZZ\r\nabc\r\n")
        .await;
    assert_eq!(caller.answer().await.status, 400);
    tank.at_rest().await;
    assert_eq!(tank.outcomes("rejected"), 1);
}

#[tokio::test]
async fn a_prompt_is_let_go_when_its_answer_has_begun() {
    let origin = Origin::start().await;
    let tank = Recipe::over(&origin.url()).start();
    for tongue in Tongue::ALL {
        let mut caller = tank.caller().await;
        let prompt = serde_json::json!({ "filler": "y".repeat(1 << 20) });
        caller.send(tongue.with(true, &prompt).bytes()).await;
        let mut upstream = origin.accept().await;
        upstream.request().await;
        until("it is held for a retry", || {
            tank.proxy.budget().used() >= 1 << 20
        })
        .await;
        upstream.begin_stream().await;
        let content = match tongue {
            Tongue::Messages => {
                "data: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"x\"}}\n\n"
            }
            Tongue::Chat => "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"x\"}}]}\n\n",
            Tongue::Responses => {
                "data: {\"type\":\"response.output_text.delta\",\"sequence_number\":1,\"delta\":\"x\"}\n\n"
            }
        };
        upstream.send_chunk(content).await;
        caller.wire.through(b"\n\n").await;
        until("it is let go", || tank.proxy.budget().used() == 0).await;
        // The answer goes on.
        upstream.send_chunk(content).await;
        caller.wire.through(b"\n\n").await;
    }
}

#[tokio::test]
async fn a_get_with_a_body_arrives_with_it() {
    let chunked = "GET /v1/search HTTP/1.1\r\nhost: app\r\ntransfer-encoding: chunked\r\n";
    let large = "z".repeat(0x18000);
    let large = format!("18000\r\n{large}\r\n0\r\n\r\n");
    for (what, fields, body, sent) in [
        ("held", "", "5\r\nhello\r\n0\r\n\r\n", 5),
        (
            "with trailers",
            "trailer: x-sum\r\n",
            "5\r\nhello\r\n0\r\nx-sum: 7\r\n\r\n",
            5,
        ),
        ("too large to be held", "", large.as_str(), 0x18000),
    ] {
        let origin = Origin::start().await;
        let tank =
            Recipe::over(&origin.url()).start_with("replay: { per_request: 64KiB, total: 1MiB }");
        let mut caller = tank.caller().await;
        caller.send(format!("{chunked}{fields}\r\n{body}")).await;
        let mut upstream = origin.accept().await;
        let seen = upstream.request().await;
        assert_eq!(seen.body.len(), sent, "{what}");
        assert_eq!(seen.trailers.len(), usize::from(what == "with trailers"));
        upstream.send_json("{}").await;
        assert_eq!(caller.answer_to("GET").await.status, 200, "{what}");
    }
}

#[tokio::test]
async fn a_length_that_stands_twice_in_http2_is_said_once() {
    let origin = Origin::start().await;
    let tank = Recipe::over(&origin.url()).start();
    let mut caller = H2Caller::connect(tank.addr, 1 << 20).await;
    let request = Request::post("/v1/messages", "{}").header("content-length", "2");
    let (answer, seen) = tokio::join!(caller.call(&request), async {
        let mut upstream = origin.accept().await;
        let seen = upstream.request().await;
        upstream.send_json("{}").await;
        seen
    });
    assert_eq!(answer.status(), 200);
    assert_eq!(seen.head.all("content-length"), [b"2"]);
}

#[tokio::test]
async fn an_error_without_a_body_is_a_failure_and_no_caller_who_left() {
    let gone = Origin::start().await;
    let tank = Recipe::over(&gone.url()).retry("max_retries: 0").start();
    drop(gone);
    let answer = tank.call(&Request::new("HEAD", "/v1/models")).await;
    assert_eq!((answer.status, answer.end), (502, End::Whole));
    tank.at_rest().await;
    assert_eq!(
        (tank.outcomes("failed"), tank.outcomes("abandoned")),
        (1, 0)
    );
}

#[tokio::test]
async fn only_answers_that_serve_tell_how_long_an_answer_takes() {
    let rig = super::harness::Rig::with(|recipe| recipe.retry("max_retries: 0"));
    for script in ["500", "429", "reset", "ok", "400"] {
        let request = Tongue::Chat.plain().script(script, script);
        rig.tank.call(&request).await;
    }
    assert_eq!(rig.tank.count("surgetank_first_byte_seconds_count", &[]), 1);
}

//! A thousand streams at once, each slow, each whole.
//!
//! `SURGETANK_STREAMS=4900` holds more, as far as the system gives descriptors: four a stream.

use tokio::task::JoinSet;

use super::harness::{Answer, Caller, End, Origin, Recipe, Tongue, soon};

const EVENT: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"x\"}}]}\n\n";

#[tokio::test]
async fn a_thousand_slow_streams_are_held_at_once_and_all_are_whole() {
    let streams = std::env::var("SURGETANK_STREAMS");
    let streams = streams.map_or(1_000, |streams| streams.parse().expect("a number"));
    let origin = Origin::start().await;
    let tank = Recipe::over(&origin.url()).workers(2).start();
    let addr = tank.addr;
    let mut callers = JoinSet::new();
    for number in 0..streams {
        callers.spawn(async move {
            let mut caller = Caller::connect(addr).await;
            caller
                .send(
                    Tongue::Chat
                        .stream()
                        .header("x-number", &number.to_string())
                        .bytes(),
                )
                .await;
            caller.answer().await
        });
    }
    // None is ended before all of them have begun.
    let mut upstreams = Vec::with_capacity(streams);
    for _ in 0..streams {
        let mut upstream = origin.accept().await;
        let seen = upstream.request().await;
        let number = seen.head.one("x-number").expect("its number").to_owned();
        upstream.begin_stream().await;
        upstream.send_chunk(EVENT).await;
        upstreams.push((upstream, number));
    }
    assert_eq!(
        tank.count("surgetank_in_flight_requests", &[]),
        streams as u64
    );
    for round in 0..3 {
        for (upstream, number) in &mut upstreams {
            upstream
                .send_chunk(format!(": {number} in round {round}\n\n{EVENT}"))
                .await;
        }
    }
    for (upstream, number) in &mut upstreams {
        upstream
            .send_chunk(format!(": {number} ends\n\ndata: [DONE]\n\n"))
            .await;
        upstream.end_chunks().await;
    }
    let mut whole = 0;
    while let Some(answer) = soon("every stream ends", callers.join_next()).await {
        check(&answer.expect("no caller fails"));
        whole += 1;
    }
    assert_eq!(whole, streams);
    tank.at_rest().await;
    assert_eq!(tank.outcomes("served"), streams as u64);
}

/// Whole, with every event, and with nobody else's.
fn check(answer: &Answer) {
    let body = answer.text();
    let before = body.split(" in round").next().unwrap_or_default();
    let number = before.rsplit(": ").next().expect("its number");
    let own = body.matches(&format!(": {number} ")).count();
    let events = body.matches(EVENT).count();
    assert_eq!(
        (answer.status, answer.end, events, own),
        (200, End::Whole, 4, 4),
        "{body}"
    );
}

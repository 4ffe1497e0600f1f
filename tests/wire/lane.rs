//! What callers of one quota share, on the wire, and what the operator sees of it.

use std::time::Duration;

use super::harness::{Caller, Log, Request, Rig, Tongue, soon, until};

/// A model's name is shown once it was served this often.
const PROVED: usize = 10;

/// One series of an exposition, told by what stands before its value.
fn value(exposition: &str, series: &str) -> Option<f64> {
    let line = exposition.lines().find(|line| line.starts_with(series))?;
    line.rsplit_once(' ')?.1.parse().ok()
}

#[tokio::test]
async fn one_refusal_holds_all_and_the_operator_reads_why() {
    let log = Log::listen();
    let rig = Rig::start();
    let (admin, _serving) = rig.tank.admin();
    let script = format!("{}429;retry-after-ms=400,ok*", "ok,".repeat(PROVED));
    let request = Tongue::Chat.plain().script("one lane", &script);
    for _ in 0..PROVED {
        rig.tank.call(&request).await;
    }
    let (first, second) = tokio::join!(soon("the first", rig.tank.call(&request)), async {
        let closings = || {
            rig.tank
                .count("surgetank_lane_changes_total", &[("change", "gate_closed")])
        };
        until("the gate closes", || closings() == 1).await;
        soon("the second", rig.tank.call(&request)).await
    });
    assert_eq!((first.status, second.status), (200, 200));
    for answer in [&first, &second] {
        assert!(
            answer.number("x-surgetank-waited-ms") >= 300,
            "{:?}",
            answer.head
        );
    }
    rig.tank.at_rest().await;

    let (first, second) = (log.line_of(&first).await, log.line_of(&second).await);
    let millis = |line: &std::collections::BTreeMap<String, String>, field: &str| {
        line.get(field)
            .map_or(0, |ms| ms.parse::<u64>().expect("a number"))
    };
    assert!(millis(&first, "wait_hint_ms") >= 400, "{first:?}");
    assert!(millis(&second, "wait_gate_ms") >= 300, "{second:?}");
    for line in [&first, &second] {
        let parts =
            ["hint", "gate", "probe", "pace"].map(|part| millis(line, &format!("wait_{part}_ms")));
        let told = parts.iter().sum::<u64>();
        assert!(millis(line, "waited_ms").abs_diff(told) <= 50, "{line:?}");
    }

    let exposition = Caller::connect(admin)
        .await
        .call(&Request::get("/metrics"))
        .await
        .text();
    let lane = "lane=\"gpt-lab\"";
    let is = |series: &str, least: f64, most: f64| {
        let value = value(&exposition, series);
        let fits = value.is_some_and(|value| (least..=most).contains(&value));
        assert!(fits, "{series} is {value:?}\n{exposition}");
    };
    let labels = format!("{{{lane},upstream=\"lab\"}}");
    is(
        &format!("surgetank_gate_closed_seconds_total{{{lane},reason=\"gate\""),
        0.4,
        5.0,
    );
    is(
        &format!("surgetank_gate_state{{{lane},state=\"open\""),
        1.0,
        1.0,
    );
    is(&format!("surgetank_hint_seconds_sum{labels}"), 0.4, 0.4);
    is(&format!("surgetank_hint_seconds_count{labels}"), 1.0, 1.0);
    is(&format!("surgetank_probes_total{labels}"), 1.0, 2.0);
    is(&format!("surgetank_queue_waiting{labels}"), 0.0, 0.0);
    is(&format!("surgetank_inflight{labels}"), 0.0, 0.0);
    is(&format!("surgetank_window_limit{labels}"), 1.0, 16384.0);
    is(
        &format!("surgetank_retry_quota_tokens{labels}"),
        1395.0,
        1400.0,
    );
    is(
        &format!("surgetank_queue_wait_seconds_count{{{lane},outcome=\"sent\""),
        3.0,
        3.0,
    );
    is(
        &format!("surgetank_queue_wait_seconds_sum{{{lane},outcome=\"sent\""),
        0.3,
        5.0,
    );
    is("surgetank_waited_seconds_total{reason=\"gate\"}", 0.3, 5.0);
    is("surgetank_waited_seconds_total{reason=\"hint\"}", 0.4, 5.0);
    is(
        &format!("surgetank_upstream_attempts_total{{attempt=\"first\",class=\"throttled\",{lane}"),
        1.0,
        1.0,
    );
}

#[tokio::test]
async fn who_would_wait_in_vain_is_told_at_once_and_the_log_has_the_reason() {
    let log = Log::listen();
    let rig = Rig::with(|recipe| recipe.retry("patience: 1s"));
    let request = Tongue::Chat
        .plain()
        .script("one lane", "429;retry-after-ms=30000,ok*");
    assert_eq!(rig.tank.call(&request).await.status, 429);
    let answer = soon("a refusal", rig.tank.call(&request)).await;
    assert_eq!(answer.status, 503);
    assert!(
        (29..=36).contains(&answer.number("retry-after")),
        "{:?}",
        answer.head
    );
    assert_eq!(rig.lab.stats().requests, 1, "it was not sent");
    let labels = [("reason", "patience"), ("lane", "other")];
    assert_eq!(rig.tank.count("surgetank_lane_refused_total", &labels), 1);
    let line = log.line_of(&answer).await;
    assert_eq!(
        line.get("gave_up").map(String::as_str),
        Some("patience"),
        "{line:?}"
    );
}

#[tokio::test]
async fn a_caller_who_leaves_the_queue_is_counted_and_costs_nobody_a_turn() {
    let rig = Rig::start();
    let request = Tongue::Chat
        .plain()
        .script("one lane", "429;retry-after-ms=600,ok*");
    let first = rig.tank.call(&request);
    let waits = |outcome| {
        let labels = [("outcome", outcome)];
        rig.tank
            .count("surgetank_queue_wait_seconds_count", &labels)
    };
    let leaving = async {
        until("the gate closes", || {
            rig.tank.count("surgetank_lane_changes_total", &[]) == 1
        })
        .await;
        let mut caller = rig.tank.caller().await;
        caller.send(request.bytes()).await;
        until("it is under way", || {
            rig.tank.count("surgetank_in_flight_requests", &[]) == 2
        })
        .await;
        // Nothing tells that it has taken its place; one who has not by then tests less, and fails nothing.
        tokio::time::sleep(Duration::from_millis(50)).await;
        drop(caller);
        until("its leaving is seen", || waits("abandoned") == 1).await;
    };
    let (first, ()) = tokio::join!(soon("the first", first), leaving);
    assert_eq!(first.status, 200);
    assert_eq!(rig.lab.stats().requests, 2);
    rig.tank.at_rest().await;
}

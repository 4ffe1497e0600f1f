//! What an operator needs to see a storm is on `/metrics` of a running surgetank, each with the lane that it is about.

use std::collections::BTreeSet;

use surgetank::lab::LabConfig;

use super::harness::{Caller, Recipe, Request, Rig, Tongue, soon};

/// A model's name is shown once it was served this often.
const PROVED: usize = 10;

/// Family without `surgetank_`, type, and labels beside `upstream` and `lane`.
const STORM: [(&str, &str, &[&str]); 14] = [
    ("upstream_attempts_total", "counter", &["class", "attempt"]),
    ("retries_denied_total", "counter", &["reason"]),
    ("retry_quota_tokens", "gauge", &[]),
    ("gate_closed_seconds_total", "counter", &["reason"]),
    ("gate_state", "gauge", &["state"]),
    ("pace_limit_per_second", "gauge", &[]),
    ("window_limit", "gauge", &[]),
    ("inflight", "gauge", &[]),
    ("queue_waiting", "gauge", &[]),
    ("queue_wait_seconds", "histogram", &["outcome"]),
    ("first_byte_seconds", "histogram", &[]),
    ("stream_broken_total", "counter", &["cause"]),
    ("fallback_total", "counter", &["kind", "cause"]),
    ("hint_seconds", "histogram", &[]),
];

/// The labels of a series of `family` that is about `lane`; `le` belongs to a histogram's own.
fn labels_of(exposition: &str, family: &str, lane: &str) -> Option<BTreeSet<String>> {
    let own = exposition.lines().find_map(|line| {
        let rest = line.strip_prefix(family)?;
        let rest = rest.strip_prefix("_count").unwrap_or(rest);
        let own = rest.strip_prefix('{')?.split_once('}')?.0;
        own.contains(&format!("lane=\"{lane}\"")).then_some(own)
    })?;
    let names = own.split(',').filter_map(|label| label.split_once('='));
    Some(names.map(|(name, _)| name.to_owned()).collect())
}

#[tokio::test]
async fn a_storm_shows_in_every_family_that_tells_of_one() {
    // A quota, so that there is a pace to learn.
    let lab = LabConfig::from_yaml("quota: { rate: 2400/min, burst: 40 }").expect("a scenario");
    let rig = Rig::with_lab(lab, |recipe: Recipe| {
        recipe
            .retry("max_retries: 1")
            .fallback("[ { reply: 'Sorry.' } ]")
    });
    let (admin, _serving) = rig.tank.admin();
    // Served often enough to have a name, then throttled, then out of order, then broken in the middle.
    let served = "ok,".repeat(PROVED);
    let script = format!("{served}429;retry-after-ms=100,ok,503,503,ok,cut;after=2");
    for number in 0..PROVED + 4 {
        let request = if number < PROVED + 3 {
            Tongue::Chat.plain()
        } else {
            Tongue::Chat.stream()
        };
        let request = request.script("storm", &script);
        let mut caller = rig.tank.caller().await;
        let _ = soon("an end, whichever", caller.try_call(&request)).await;
    }
    // And more at once than the quota has.
    let crowd = (0..120).map(|_| async {
        let mut caller = rig.tank.caller().await;
        let _ = caller
            .try_call(&Tongue::Chat.plain().script("storm", "ok"))
            .await;
    });
    soon("the crowd", futures_util::future::join_all(crowd)).await;
    rig.tank.at_rest().await;

    let told = Caller::connect(admin)
        .await
        .call(&Request::get("/metrics"))
        .await;
    let exposition = told.text();
    for (name, kind, more) in STORM {
        let family = format!("surgetank_{name}");
        let typed = format!("# TYPE {family} {kind}");
        assert!(
            exposition.lines().any(|line| line == typed),
            "no `{typed}` in\n{exposition}"
        );
        let wanted: BTreeSet<_> = [&["upstream", "lane"], more]
            .concat()
            .into_iter()
            .map(str::to_owned)
            .collect();
        let labels = labels_of(&exposition, &family, "gpt-lab");
        assert_eq!(labels.as_ref(), Some(&wanted), "{family}\n{exposition}");
    }
}

use proptest::prelude::*;

use super::*;
use crate::limit::plan::Limit;

const MINUTE: Duration = Duration::from_mins(1);
const DAY: Duration = Duration::from_hours(24);
const SECOND: u64 = 1_000_000;

fn limit(unit: Unit, count: u64, per: Duration, burst: u64) -> Limit {
    Limit {
        unit,
        count,
        per,
        burst,
    }
}

fn plan(limits: &[Limit], concurrent: Option<u32>) -> Plan {
    Plan::new(Scope::User, limits, concurrent).expect("sound rates")
}

fn remaining(plan: &Plan, state: &State, now: u64) -> Vec<u64> {
    let rules = plan.rules().iter().zip(state.tats);
    rules
        .map(|(metered, tat)| metered.rule.quota(tat, now).remaining)
        .collect()
}

#[test]
fn all_limits_hold_and_the_one_with_the_longest_wait_is_told() {
    let plan = plan(
        &[
            limit(Unit::Requests, 60, MINUTE, 2),
            limit(Unit::Requests, 3, DAY, 3),
        ],
        None,
    );
    let mut state = State::default();
    for now in [0, 0, SECOND] {
        assert_eq!(decide(&plan, &mut state, 0, now), Ok(()));
    }
    let refusal = decide(&plan, &mut state, 0, SECOND).expect_err("both are used up");
    assert_eq!(refusal.rule, Some(1), "the day is longer than the minute");
    assert_eq!(refusal.retry_after, Duration::from_secs(86_400 / 3 - 1));
    assert_eq!(refusal.spacing, DAY / 3);
    assert_eq!(refusal.by.as_str(), "rate");
}

#[test]
fn what_one_limit_refuses_no_other_has_charged() {
    let plan = plan(
        &[
            limit(Unit::Requests, 60, MINUTE, 60),
            limit(Unit::Tokens, 600, MINUTE, 600),
        ],
        Some(2),
    );
    let mut state = State::default();
    assert_eq!(decide(&plan, &mut state, 500, 0), Ok(()));
    let before = state;
    let refusal = decide(&plan, &mut state, 200, 0).expect_err("too many tokens");
    assert_eq!((state, refusal.by.as_str()), (before, "tokens"));
    assert_eq!(refusal.retry_after, Duration::from_secs(10));
    assert_eq!(decide(&plan, &mut state, 100, 0), Ok(()));
    let before = state;
    let refusal = decide(&plan, &mut state, 0, 0).expect_err("two are running");
    assert_eq!((state, refusal.by.as_str()), (before, "concurrency"));
    assert_eq!(refusal.retry_after, CONCURRENCY_RETRY);
}

#[test]
fn a_reservation_is_settled_in_both_directions() {
    let plan = plan(&[limit(Unit::Tokens, 600, MINUTE, 600)], None);
    let mut state = State::default();
    decide(&plan, &mut state, 500, 0).expect("there is room");
    settle(&plan, &mut state, 500, 120, 1, SECOND);
    assert_eq!(remaining(&plan, &state, SECOND), [490], "and ten a second");

    decide(&plan, &mut state, 90, SECOND).expect("there is room");
    settle(&plan, &mut state, 90, 1_000, 1, SECOND);
    assert_eq!(remaining(&plan, &state, SECOND), [0]);
    let refusal = decide(&plan, &mut state, 1, SECOND).expect_err("510 are owed");
    assert_eq!(refusal.retry_after, Duration::from_millis(51_100));
    let later = 60 * SECOND;
    assert_eq!(decide(&plan, &mut state, 1, later), Ok(()), "worked off");
}

#[test]
fn an_estimate_beyond_the_burst_waits_for_all_of_it_and_is_settled_as_such() {
    let plan = plan(&[limit(Unit::Tokens, 600, MINUTE, 600)], None);
    let mut state = State::default();
    decide(&plan, &mut state, 10_000, 0).expect("the quota is whole");
    assert_eq!(remaining(&plan, &state, 0), [0]);
    settle(&plan, &mut state, 10_000, 50, 1, 0);
    assert_eq!(remaining(&plan, &state, 0), [550]);
    assert!(decide(&plan, &mut state, 10_000, 0).is_err());
    settle(&plan, &mut state, 10_000, 10_000, 1, 0);
    assert_eq!(
        remaining(&plan, &state, 0),
        [0],
        "9400 more were used than taken"
    );
}

#[test]
fn a_debt_in_tokens_does_not_hold_up_what_costs_none() {
    let plan = plan(&[limit(Unit::Tokens, 600, MINUTE, 600)], None);
    let mut state = State::default();
    settle(&plan, &mut state, 0, 5_000, 1, 0);
    assert!(decide(&plan, &mut state, 1, 0).is_err());
    assert_eq!(decide(&plan, &mut state, 0, 0), Ok(()));
}

#[test]
fn what_was_not_let_in_after_all_costs_nothing() {
    let plan = plan(
        &[
            limit(Unit::Requests, 7, MINUTE, 7),
            limit(Unit::Tokens, 600, MINUTE, 600),
        ],
        None,
    );
    let mut state = State::default();
    decide(&plan, &mut state, 100, SECOND).expect("there is room");
    let before = remaining(&plan, &state, SECOND);
    decide(&plan, &mut state, 300, SECOND).expect("there is room");
    give_back(&plan, &mut state, 300, 1);
    assert_eq!(remaining(&plan, &state, SECOND), before);
}

proptest! {
    /// However requests of one account come, end and are settled: no rate is ever exceeded in any window by what was
    /// let in, and what is charged in the end is what was used.
    #[test]
    fn no_rate_is_exceeded_and_nothing_is_charged_twice(
        steps in prop::collection::vec((0..3_000_000_u64, 0..400_u64, 0..600_u64), 1..60),
    ) {
        let plan = plan(
            &[
                limit(Unit::Requests, 60, MINUTE, 5),
                limit(Unit::Tokens, 6_000, MINUTE, 1_000),
            ],
            None,
        );
        let (mut state, mut now) = (State::default(), 0);
        let mut admitted: Vec<u64> = Vec::new();
        let mut charged = 0;
        for (later, reserved, used) in steps {
            now += later;
            if decide(&plan, &mut state, reserved, now).is_ok() {
                admitted.push(now);
                settle(&plan, &mut state, reserved, used, 1, now);
                leave(&mut state);
                charged += used;
            }
        }
        for (first, &start) in admitted.iter().enumerate() {
            for (index, &end) in admitted[first..].iter().enumerate() {
                prop_assert!(index as u64 <= 5 + (end - start) / SECOND, "{start} to {end}");
            }
        }
        // 100 tokens a second have come in since the beginning; the rest is left or owed.
        let owed = state.tats[1].micros.saturating_sub(now) / 10_000;
        prop_assert!(charged <= owed + now / 10_000 + 1);
    }
}

#[test]
fn instances_that_cannot_ask_each_other_divide_what_there_is() {
    for (count, burst, concurrent, among) in [(60, 12, 8, 4_u32), (60, 1, 2, 4), (7, 5, 3, 3)] {
        let plan = plan(
            &[limit(Unit::Requests, count, MINUTE, burst)],
            Some(concurrent),
        );
        let minutes = 50;
        let mut admitted = 0;
        for _ in 0..among {
            let mut state = State::default();
            for now in (0..minutes * 60).map(|second| second * SECOND) {
                while decide_among(among, &plan, &mut state, 0, now).is_ok() {
                    admitted += 1;
                    leave(&mut state);
                }
            }
            for _ in 0..concurrent {
                let _ = decide_among(among, &plan, &mut state, 0, u64::MAX >> 12);
            }
            assert!(
                state.live <= (concurrent / among).max(1),
                "{concurrent} {among}"
            );
        }
        let allowed = burst + count * minutes;
        let most = allowed + u64::from(among);
        assert!(
            admitted <= most && admitted * 100 >= allowed * 97,
            "{count} {burst} {among}: {admitted} of {allowed}"
        );
    }
}

#[test]
fn what_is_divided_is_settled_and_given_back_divided() {
    let plan = plan(&[limit(Unit::Tokens, 600, MINUTE, 600)], None);
    let mut state = State::default();
    decide_among(3, &plan, &mut state, 100, 0).expect("the quota is whole");
    assert_eq!(remaining(&plan, &state, 0), [300]);
    settle(&plan, &mut state, 100, 40, 3, 0);
    assert_eq!(remaining(&plan, &state, 0), [480]);
    decide_among(3, &plan, &mut state, 160, 0).expect("480 are there");
    assert_eq!(remaining(&plan, &state, 0), [0]);
    give_back(&plan, &mut state, 160, 3);
    assert_eq!(remaining(&plan, &state, 0), [480]);
    assert!(decide_among(3, &plan, &mut state, 161, 0).is_err());
}

/// What is let in over an hour of random traffic is the limit to within a hundredth, however wrong the estimates are and
/// however long requests run before they are settled.
#[test]
fn an_hour_of_random_traffic_uses_the_limit_and_no_more() {
    use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
    let per_minute = 200_000;
    let hour = 3_600 * SECOND;
    let allowed = per_minute * 60 + per_minute;
    for seed in 0..20 {
        let mut random = StdRng::seed_from_u64(seed);
        let plan = plan(&[limit(Unit::Tokens, per_minute, MINUTE, per_minute)], None);
        let mut state = State::default();
        // When each running request ends, what was reserved for it, and what it will have used.
        let mut running: Vec<(u64, u64, u64)> = Vec::new();
        let (mut now, mut used_in_all) = (0, 0);
        while now < hour {
            now += random.random_range(0..200_000);
            running.sort_by_key(|(ends, ..)| std::cmp::Reverse(*ends));
            while let Some((ends, reserved, used)) = running.pop_if(|(ends, ..)| *ends <= now) {
                settle(&plan, &mut state, reserved, used, 1, ends);
                leave(&mut state);
            }
            let reserved = random.random_range(1..3_000);
            // From an early end to four times as much as was thought; on average about what was.
            let used = reserved * random.random_range(0..=20) / random.random_range(5..=15);
            if decide(&plan, &mut state, reserved, now).is_ok() {
                let runs = random.random_range(0..30 * SECOND);
                running.push((now + runs, reserved, used));
                used_in_all += used;
            }
        }
        let ratio = used_in_all as f64 / allowed as f64;
        assert!((0.99..=1.01).contains(&ratio), "seed {seed}: {ratio}");
    }
}

use std::num::NonZeroU32;

use governor::clock::FakeRelativeClock;
use governor::{Quota as GovernorQuota, RateLimiter};
use proptest::prelude::*;
use rand::{SeedableRng as _, rngs::StdRng};

use super::*;

const MINUTE: Duration = Duration::from_mins(1);

fn rule(count: u64, per: Duration, burst: u64) -> Rule {
    Rule::new(count, per, burst).expect("the rule of a test is sound")
}

/// A token bucket as the textbooks have it, in exact integers: a unit is `period` drops, and
/// `count` drops fall in every microsecond.
struct Bucket {
    count: i128,
    period: i128,
    capacity: i128,
    level: i128,
    filled_at: u64,
}

impl Bucket {
    fn of(rule: &Rule) -> Self {
        let period = i128::try_from(rule.per().as_micros()).expect("a period is short");
        let capacity = i128::from(rule.burst()) * period;
        Self {
            count: i128::from(rule.count()),
            period,
            capacity,
            level: capacity,
            filled_at: 0,
        }
    }

    fn fill(&mut self, now: u64) {
        let dropped = i128::from(now - self.filled_at) * self.count;
        self.level = (self.level + dropped).min(self.capacity);
        self.filled_at = now;
    }

    fn micros_for(&self, drops: i128) -> Duration {
        let micros = (drops + self.count - 1) / self.count;
        Duration::from_micros(u64::try_from(micros).expect("the bucket is never that empty"))
    }

    fn check(&mut self, now: u64, cost: u64) -> Decision {
        self.fill(now);
        let drops = i128::from(cost) * self.period;
        let answer = if drops > self.capacity {
            Answer::TooCostly
        } else if drops > self.level {
            Answer::RetryAfter(self.micros_for(drops - self.level))
        } else {
            self.level -= drops;
            Answer::Admitted
        };
        Decision {
            answer,
            quota: Quota {
                remaining: u64::try_from((self.level / self.period).max(0))
                    .expect("at most a burst"),
                reset_after: self.micros_for(self.capacity - self.level),
            },
        }
    }

    fn settle(&mut self, now: u64, units: i64) {
        self.fill(now);
        self.level = (self.level + i128::from(units) * self.period).min(self.capacity);
    }
}

#[test]
fn a_burst_and_then_the_rate() {
    let rule = rule(60, MINUTE, 3);
    let mut tat = Tat::default();
    for remaining in [2, 1, 0] {
        let decision = rule.check(&mut tat, 0, 1);
        assert_eq!(decision.answer, Answer::Admitted);
        assert_eq!(decision.quota.remaining, remaining);
    }
    let denied = rule.check(&mut tat, 0, 1);
    assert_eq!(denied.answer, Answer::RetryAfter(Duration::from_secs(1)));
    assert_eq!(denied.quota.reset_after, Duration::from_secs(3));
    assert_eq!(
        rule.check(&mut tat, 999_999, 1).answer,
        Answer::RetryAfter(Duration::from_micros(1))
    );
    assert_eq!(rule.check(&mut tat, 1_000_000, 1).answer, Answer::Admitted);
}

#[test]
fn an_arrival_that_costs_more_than_the_burst_can_never_come() {
    let rule = rule(60, MINUTE, 3);
    let mut tat = Tat::default();
    assert_eq!(rule.check(&mut tat, 0, 4).answer, Answer::TooCostly);
    assert_eq!(tat, Tat::default(), "a refusal takes nothing");
    assert_eq!(rule.check(&mut tat, 0, u64::MAX).answer, Answer::TooCostly);
}

#[test]
fn a_denial_takes_nothing() {
    let rule = rule(60, MINUTE, 3);
    let mut tat = Tat::default();
    rule.check(&mut tat, 0, 2);
    let before = tat;
    rule.check(&mut tat, 0, 2);
    assert_eq!(tat, before);
    assert_eq!(rule.check(&mut tat, 0, 1).answer, Answer::Admitted);
}

#[test]
fn a_clock_that_goes_back_admits_nothing_more() {
    let rule = rule(60, MINUTE, 3);
    let mut tat = Tat::default();
    rule.check(&mut tat, 10_000_000, 3);
    let denied = rule.check(&mut tat, 5_000_000, 1);
    assert_eq!(denied.answer, Answer::RetryAfter(Duration::from_secs(6)));
    assert_eq!(denied.quota.remaining, 0);
}

#[test]
fn what_is_refunded_can_be_had_again_and_no_more() {
    let rule = rule(7, MINUTE, 5);
    let mut tat = Tat::default();
    rule.check(&mut tat, 0, 5);
    rule.refund(&mut tat, 2);
    assert_eq!(rule.quota(tat, 0).remaining, 2);
    rule.refund(&mut tat, 100);
    assert_eq!(rule.quota(tat, 0).remaining, 5);
    assert_eq!(rule.check(&mut tat, 0, 5).answer, Answer::Admitted);
    assert_ne!(rule.check(&mut tat, 0, 1).answer, Answer::Admitted);
}

#[test]
fn a_debt_is_worked_off_before_anything_is_admitted() {
    let rule = rule(60, MINUTE, 3);
    let mut tat = Tat::default();
    rule.debit(&mut tat, 0, 10);
    assert_eq!(rule.quota(tat, 0).remaining, 0);
    assert_eq!(
        rule.check(&mut tat, 0, 1).answer,
        Answer::RetryAfter(Duration::from_secs(8))
    );
    assert_eq!(rule.check(&mut tat, 8_000_000, 1).answer, Answer::Admitted);
}

#[test]
fn an_absurd_debt_ends_at_the_end_of_time() {
    let rule = rule(3, MINUTE, 1);
    let mut tat = Tat::default();
    rule.debit(&mut tat, u64::MAX, u64::MAX);
    rule.debit(&mut tat, u64::MAX, u64::MAX);
    assert_eq!(tat.micros, END_OF_TIME);
    assert_ne!(rule.check(&mut tat, 0, 1).answer, Answer::Admitted);
}

#[test]
fn rules_that_make_no_sense_are_refused() {
    let nanos = Duration::from_nanos(1_500);
    for (count, per, burst, expected) in [
        (0, MINUTE, 1, RuleError::Nothing),
        (1, MINUTE, 0, RuleError::Nothing),
        (1, Duration::ZERO, 1, RuleError::Period(Duration::ZERO)),
        (1, nanos, 1, RuleError::Period(nanos)),
        (1, Duration::MAX, 1, RuleError::Period(Duration::MAX)),
    ] {
        assert_eq!(Rule::new(count, per, burst), Err(expected));
    }
    let odd = Rule::new(4_294_967_311, MINUTE, 1).expect_err("a prime beyond 32 bits");
    assert!(matches!(odd, RuleError::Odd { .. }), "{odd}");
    for (count, burst) in [(1, 1 << 40), (7, u64::MAX), (u64::from(u32::MAX), u64::MAX)] {
        let error = Rule::new(count, MINUTE, burst).expect_err("a burst of ages");
        assert!(matches!(error, RuleError::Span { .. }), "{error}");
    }
    for (count, per, burst) in [
        (u64::from(u32::MAX), MINUTE, 4_000_000_000),
        (5_000_000_000, Duration::from_hours(24), 5_000_000_000),
        (1, Duration::from_micros(1), 1),
        (200_000, MINUTE, 200_000),
        (10_000_000, Duration::from_hours(24), 10_000_000),
    ] {
        assert!(
            Rule::new(count, per, burst).is_ok(),
            "{count} {per:?} {burst}"
        );
    }
}

/// Arrivals that keep to the limit exactly, where an interval is no whole number of microseconds:
/// over a long time any rounding would add up and turn somebody away, or let somebody in.
#[test]
fn nothing_is_rounded_in_the_long_run() {
    for count in [7_u64, 60, 333, 99_991] {
        // The second unit of the burst is spent at once, so that no arrival finds a whole quota
        // and every one counts from the one before.
        let rule = rule(count, MINUTE, 2);
        let mut tat = Tat::default();
        rule.check(&mut tat, 0, 1);
        for n in 0..20_000_u64 {
            // The n-th arrival is due at n·60/count seconds: in the first microsecond from there on.
            let due = (n * 60_000_000).div_ceil(count);
            if let Some(early) = due.checked_sub(1) {
                let answer = rule.check(&mut tat, early, 1).answer;
                assert_ne!(answer, Answer::Admitted, "{count}/min, arrival {n}, early");
            }
            let answer = rule.check(&mut tat, due, 1).answer;
            assert_eq!(answer, Answer::Admitted, "{count}/min, arrival {n}");
        }
    }
}

/// D-01: over any window W, admitted ≤ burst + rate·W.
#[test]
fn no_window_of_a_hundred_thousand_random_sequences_admits_too_much() {
    let mut rng = StdRng::seed_from_u64(1);
    let mut denials = 0_u64;
    for _ in 0..100_000 {
        let rule = rule(
            rng.random_range(1..=1_000),
            Duration::from_micros(rng.random_range(1..=5_000_000)),
            rng.random_range(1..=8),
        );
        let (mut tat, mut now) = (Tat::default(), rng.random_range(0..1_000_000));
        let mut admitted: Vec<(u64, u64)> = Vec::new();
        let interval = rule.numerator / u64::from(rule.denominator);
        for _ in 0..12 {
            let random = rng.next_u64();
            now += (random >> 8) % (2 * interval + 1);
            let cost = 1 + random % 3;
            match rule.check(&mut tat, now, cost).answer {
                Answer::Admitted => admitted.push((now, cost)),
                _ => denials += 1,
            }
        }
        for (first, &(start, _)) in admitted.iter().enumerate() {
            let mut units = 0;
            for &(end, cost) in &admitted[first..] {
                units += cost;
                assert!(
                    units * rule.numerator
                        <= rule.burst() * rule.numerator
                            + (end - start) * u64::from(rule.denominator),
                    "{rule:?}: {units} units from {start} to {end} µs"
                );
            }
        }
    }
    assert!(
        denials > 50_000,
        "the sequences hardly touch the limit: {denials}"
    );
}

fn any_rule() -> impl Strategy<Value = Rule> {
    let counts = prop_oneof![1..100_u64, 1..10_000_000_u64];
    let periods = prop_oneof![
        Just(Duration::from_secs(1)),
        Just(MINUTE),
        Just(Duration::from_hours(24)),
        (1..1_000_000_u64).prop_map(Duration::from_micros),
    ];
    (counts, periods, 1..1_000_u64).prop_map(|(count, per, burst)| rule(count, per, burst))
}

#[derive(Clone, Copy, Debug)]
enum Step {
    /// An arrival some tenths of an interval later, of a cost in tenths of the burst.
    Arrive {
        later: u64,
        cost: u64,
    },
    Refund(u64),
    Debit(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (0..40_u64, 0..12_u64).prop_map(|(later, cost)| Step::Arrive { later, cost }),
        1 => (0..2_000_u64).prop_map(Step::Refund),
        1 => (0..2_000_u64).prop_map(Step::Debit),
    ];
    prop::collection::vec(step, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn it_is_the_token_bucket_to_the_last_drop(rule in any_rule(), steps in steps()) {
        let (mut tat, mut now) = (Tat::default(), 0_u64);
        let mut bucket = Bucket::of(&rule);
        let interval = rule.numerator / u64::from(rule.denominator);
        for step in steps {
            match step {
                Step::Arrive { later, cost } => {
                    now += later * interval / 10 + later % 2;
                    let cost = (cost * rule.burst()).div_ceil(10);
                    prop_assert_eq!(rule.check(&mut tat, now, cost), bucket.check(now, cost));
                }
                Step::Refund(units) => {
                    rule.refund(&mut tat, units);
                    bucket.settle(now, i64::try_from(units).expect("small"));
                }
                Step::Debit(units) => {
                    rule.debit(&mut tat, now, units);
                    bucket.settle(now, -i64::try_from(units).expect("small"));
                }
            }
            prop_assert_eq!(rule.quota(tat, now), bucket.check(now, 0).quota);
            prop_assert!(tat.parts < rule.denominator);
        }
    }

    #[test]
    fn the_time_to_come_back_is_exact(rule in any_rule(), cost in 1..1_000_u64, used in 0..1_000_u64) {
        let mut tat = Tat::default();
        rule.debit(&mut tat, 0, used);
        if let Answer::RetryAfter(wait) = rule.check(&mut tat, 0, cost).answer {
            let wait = u64::try_from(wait.as_micros()).expect("less than the end of time");
            let early = rule.check(&mut tat.clone(), wait - 1, cost).answer;
            prop_assert_ne!(early, Answer::Admitted);
            prop_assert_eq!(rule.check(&mut tat, wait, cost).answer, Answer::Admitted);
        }
    }

    /// An independent implementation, where both mean the same: intervals of whole microseconds.
    #[test]
    fn it_admits_what_governor_admits(
        interval in 1..5_000_000_u64,
        burst in 1..50_u32,
        arrivals in prop::collection::vec((0..30_u64, 1..6_u32), 1..80),
    ) {
        let interval = Duration::from_micros(interval);
        let rule = rule(1, interval, u64::from(burst));
        let burst = NonZeroU32::new(burst).expect("at least 1");
        let quota = GovernorQuota::with_period(interval).expect("not zero").allow_burst(burst);
        let clock = FakeRelativeClock::default();
        let oracle = RateLimiter::direct_with_clock(quota, clock.clone());

        let (mut tat, mut now) = (Tat::default(), Duration::ZERO);
        for (later, cost) in arrivals {
            let later = Duration::from_micros(
                later * u64::try_from(interval.as_micros()).expect("short") / 10,
            );
            clock.advance(later);
            now += later;
            let micros = u64::try_from(now.as_micros()).expect("short");
            let ours = rule.check(&mut tat, micros, u64::from(cost)).answer;
            let theirs = oracle.check_n(NonZeroU32::new(cost).expect("at least 1"));
            let same = match theirs {
                Ok(Ok(())) => ours == Answer::Admitted,
                Ok(Err(_)) => matches!(ours, Answer::RetryAfter(_)),
                Err(_) => ours == Answer::TooCostly,
            };
            prop_assert!(same, "{:?} but {:?}", ours, theirs);
        }
    }
}

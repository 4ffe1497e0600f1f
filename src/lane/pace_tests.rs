use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::SmallRng;

use super::*;
use crate::lane::Measure;

const SECOND: Duration = Duration::from_secs(1);

fn rng() -> SmallRng {
    SmallRng::seed_from_u64(3)
}

fn at(start: Instant, seconds: f64) -> Instant {
    start + Duration::from_secs_f64(seconds)
}

/// Plays a vendor's bucket against a pace whose callers always wait; returns the calls accepted and refused.
fn play(per_second: f64, burst: f64, seconds: f64) -> (f64, f64, Pace) {
    let (start, mut rng) = (Instant::now(), rng());
    let mut pace = Pace::new(1.0);
    let (mut now, mut tokens, mut accepted, mut refused) = (0.0, burst, 0.0, 0.0);
    while now < seconds {
        let next = pace
            .next(at(start, now))
            .map_or(now, |next| (next - start).as_secs_f64().max(now));
        tokens = f64::min(burst, tokens + (next - now) * per_second);
        now = next;
        let epoch = pace.on_sent(at(start, now), true, &mut rng);
        if tokens >= 1.0 {
            tokens -= 1.0;
            accepted += 1.0;
        } else {
            refused += 1.0;
            pace.on_not_accepted(at(start, now), epoch);
            pace.on_throttled(at(start, now), true, SECOND);
            // The gate's wait.
            now += 1.2;
            tokens = f64::min(burst, tokens + 1.2 * per_second);
        }
    }
    (accepted, refused, pace)
}

#[test]
fn a_lane_that_was_never_throttled_is_not_slowed() {
    let (start, mut pace) = (Instant::now(), Pace::new(1.0));
    for _ in 0..1_000 {
        pace.on_sent(start, true, &mut rng());
    }
    assert_eq!(pace.next(start), None);
    assert_eq!(pace.rate(start), None);
}

#[test]
fn a_first_refusal_without_a_crowd_sets_no_pace() {
    let (start, mut pace) = (Instant::now(), Pace::new(1.0));
    pace.on_throttled(start, false, SECOND);
    assert_eq!(pace.rate(start), None);
    pace.on_throttled(at(start, 5.0), true, SECOND);
    assert_eq!(pace.rate(at(start, 5.0)), Some(LEAST_GUESS));
    pace.on_throttled(at(start, 9.0), false, SECOND);
    assert_eq!(
        pace.rate(at(start, 9.0)),
        Some(LEAST_GUESS * RELIEF),
        "once there is a pace, every refusal counts"
    );
}

#[test]
fn two_refusals_measure_the_share() {
    let (start, mut pace) = (Instant::now(), Pace::new(1.0));
    pace.on_throttled(start, true, SECOND);
    for second in 1..=20 {
        pace.on_sent(at(start, f64::from(second) / 2.0), true, &mut rng());
    }
    pace.on_throttled(at(start, 10.0), true, SECOND);
    let rate = pace.rate(at(start, 10.0)).expect("learned");
    assert!((rate - RELIEF * 2.0).abs() < 0.05, "{rate}");
    assert!((pace.outlook(at(start, 10.0)).expect("learned") - 2.0).abs() < 0.05);
}

#[test]
fn quiet_times_do_not_pass_for_a_small_quota() {
    let (start, mut pace) = (Instant::now(), Pace::new(1.0));
    pace.on_throttled(start, true, SECOND);
    // Five minutes in which nobody waited, then twenty seconds at full use.
    for index in 0..30 {
        pace.on_sent(at(start, f64::from(index) * 10.0), false, &mut rng());
    }
    for index in 1..=20 {
        pace.on_sent(at(start, 290.0 + f64::from(index)), true, &mut rng());
    }
    pace.on_throttled(at(start, 310.0), true, SECOND);
    let share = pace.outlook(at(start, 310.0)).expect("learned");
    assert!((share - 1.0).abs() < 0.05, "{share}");
}

#[test]
fn an_outage_is_not_measured_by() {
    let (start, mut pace) = (Instant::now(), Pace::new(1.0));
    pace.on_throttled(start, true, SECOND);
    pace.on_recovery(at(start, 100.0));
    for index in 1..=20 {
        pace.on_sent(at(start, 100.0 + f64::from(index)), true, &mut rng());
    }
    pace.on_throttled(at(start, 120.0), true, SECOND);
    let share = pace.outlook(at(start, 120.0)).expect("learned");
    assert!((share - 1.0).abs() < 0.05, "{share}");
}

#[test]
fn it_finds_rates_from_six_a_minute_to_a_hundred_a_second() {
    for per_second in [0.1, 0.5, 1.0, 5.0, 20.0, 100.0] {
        let seconds = (300.0f64).max(400.0 / per_second);
        let burst = (10.0 * per_second).max(2.0);
        let (accepted, refused, _) = play(per_second, burst, seconds);
        let ideal = burst + per_second * seconds;
        assert!(
            accepted > 0.9 * ideal,
            "{per_second}/s: {accepted} of {ideal}"
        );
        assert!(
            refused < 0.08 * accepted + 4.0,
            "{per_second}/s: {refused} refused beside {accepted}"
        );
    }
}

#[test]
fn a_request_that_was_not_sent_gives_its_turn_back() {
    let (start, mut pace) = (Instant::now(), Pace::new(1.0));
    pace.on_throttled(start, true, SECOND);
    pace.on_sent(at(start, 1.0), true, &mut rng());
    let before = pace.next(at(start, 1.0));
    let released = before.expect("a pace is set");
    let epoch = pace.on_sent(released, true, &mut rng());
    assert!(pace.next(released).expect("a pace is set") > released);
    pace.undo_sent(released);
    pace.on_not_accepted(released, epoch);
    assert_eq!(pace.next(released), None, "the next may go in its stead");
}

#[test]
fn a_long_quiet_makes_it_forget() {
    let (start, mut pace) = (Instant::now(), Pace::new(1.0));
    pace.on_throttled(start, true, SECOND);
    pace.on_sent(at(start, 1.0), true, &mut rng());
    let later = at(start, 1.0) + FORGET_AFTER;
    let epoch = pace.on_sent(later, true, &mut rng());
    assert_eq!(pace.rate(later), None);
    pace.on_not_accepted(later, epoch);
}

#[test]
fn headers_slow_a_lane_before_its_first_refusal() {
    let (start, mut pace) = (Instant::now(), Pace::new(1.0));
    pace.on_sent(start, true, &mut rng());
    let report = QuotaReport {
        measure: Measure::Requests,
        limit: 60.0,
        remaining: 3.0,
        reset: Duration::from_secs(30),
        per_request: 1.0,
    };
    pace.on_report(start, &[report]);
    assert!(
        (pace.rate(start).expect("told") - 0.1).abs() < 1e-9,
        "three requests for thirty seconds"
    );
    assert_eq!(pace.rate(at(start, 31.0)), None, "the window is over");
}

proptest! {
    #[test]
    fn the_gap_between_two_sends_follows_the_rate(seed in any::<u64>(), throttles in prop::collection::vec(0u64..60_000, 1..30)) {
        let mut rng = SmallRng::seed_from_u64(seed);
        let (mut now, mut pace) = (Instant::now(), Pace::new(1.0));
        pace.on_throttled(now, true, SECOND);
        for passed in throttles {
            now += Duration::from_millis(passed);
            pace.on_sent(now, true, &mut rng);
            if passed % 3 == 0 {
                pace.on_throttled(now, true, SECOND);
            }
            let rate = pace.rate(now).expect("a pace is set");
            prop_assert!(rate.is_finite() && rate >= FLOOR * 0.999, "{rate}");
            let gap = (pace.next(now).expect("no two at once") - now).as_secs_f64() * rate;
            prop_assert!((1.0 - GAP_JITTER - 1e-3..=1.0 + GAP_JITTER + 1e-3).contains(&gap), "{gap}");
        }
        prop_assert!(pace.epochs.len() <= EPOCHS);
    }
}

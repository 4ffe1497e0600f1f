use proptest::prelude::*;

use super::*;

fn report(limit: f64, remaining: f64, reset: f64) -> QuotaReport {
    QuotaReport {
        measure: Measure::Requests,
        limit,
        remaining,
        reset: Duration::from_secs_f64(reset),
        per_request: 1.0,
    }
}

fn at(start: Instant, seconds: f64) -> Instant {
    start + Duration::from_secs_f64(seconds)
}

fn assert_rate(advice: Advice, expected: f64) {
    match advice {
        Advice::Rate(rate) => assert!(
            (rate - expected).abs() < 0.15 * expected,
            "{rate}, not {expected}"
        ),
        other => panic!("expected a rate of {expected}, got {other:?}"),
    }
}

#[test]
fn plenty_is_no_advice() {
    let (start, mut reports) = (Instant::now(), Reports::new(1.0));
    reports.update(start, &[report(60.0, 30.0, 30.0)]);
    assert_eq!(reports.advice(start), Advice::None);
}

#[test]
fn a_fixed_window_is_stretched_to_its_end_and_waited_for_when_spent() {
    let (start, mut reports) = (Instant::now(), Reports::new(1.0));
    // Three requests a second, of 60 in a minute; the end does not move.
    for second in 0..19 {
        let now = f64::from(second);
        reports.update(
            at(start, now),
            &[report(60.0, 57.0 - 3.0 * now, 60.0 - now)],
        );
    }
    assert_eq!(reports.families[0].kind, Kind::Fixed);
    assert_rate(reports.advice(at(start, 18.0)), 3.0 / 42.0);
    reports.update(at(start, 19.0), &[report(60.0, 0.0, 41.0)]);
    assert_eq!(
        reports.advice(at(start, 19.0)),
        Advice::HoldUntil(at(start, 60.0))
    );
    assert_eq!(reports.advice(at(start, 60.0)), Advice::None);
}

#[test]
fn a_rolling_quota_is_used_at_its_refill() {
    let (start, mut reports) = (Instant::now(), Reports::new(0.5));
    // Three a second against a refill of one a second: two are missing each second, and the full refill moves away.
    for second in 0..30 {
        let now = f64::from(second);
        let missing = 3.0 + 2.0 * now;
        reports.update(at(start, now), &[report(60.0, 60.0 - missing, missing)]);
    }
    assert_eq!(reports.families[0].kind, Kind::Rolling);
    reports.update(at(start, 30.0), &[report(60.0, 0.0, 60.0)]);
    assert_rate(reports.advice(at(start, 30.0)), 0.5);
}

#[test]
fn a_limit_is_known_by_what_it_counts_whatever_else_an_answer_tells() {
    let (start, mut reports) = (Instant::now(), Reports::new(1.0));
    let tokens = |remaining, reset| QuotaReport {
        measure: Measure::Tokens,
        ..report(60.0, remaining, reset)
    };
    // The tokens are a fixed window that every second answer tells of, and the requests before them are plenty.
    for second in 0..19 {
        let now = f64::from(second);
        let tokens = tokens(57.0 - 3.0 * now, 60.0 - now);
        let told = [report(60.0, 59.0, 1.0), tokens];
        let from = usize::from(second % 2 == 1);
        reports.update(at(start, now), &told[from..]);
    }
    let kinds = reports.families.iter();
    let kinds: Vec<_> = kinds
        .map(|family| (family.latest.1.measure, family.kind))
        .collect();
    assert_eq!(kinds[1], (Measure::Tokens, Kind::Fixed), "{kinds:?}");
    assert_eq!(kinds.len(), 2);
    reports.update(at(start, 19.0), &[tokens(0.0, 41.0)]);
    assert_eq!(
        reports.advice(at(start, 19.0)),
        Advice::HoldUntil(at(start, 60.0))
    );
}

#[test]
fn what_says_nothing_has_no_place_among_the_limits() {
    let (start, mut reports) = (Instant::now(), Reports::new(1.0));
    for second in 0..3 {
        let now = f64::from(second);
        let told = [report(0.0, 0.0, 1.0), report(60.0, 57.0 - now, 60.0 - now)];
        reports.update(at(start, now), &told);
    }
    assert_eq!(reports.families.len(), 1);
    assert!((reports.families[0].latest.1.remaining - 55.0).abs() < 0.1);
}

#[test]
fn a_token_limit_counts_in_requests() {
    let (start, mut reports) = (Instant::now(), Reports::new(1.0));
    let tokens = QuotaReport {
        measure: Measure::Requests,
        per_request: 1_000.0,
        ..report(100_000.0, 5_000.0, 10.0)
    };
    reports.update(start, &[report(1_000.0, 900.0, 10.0), tokens]);
    assert_rate(reports.advice(start), 0.5);
}

#[test]
fn the_strictest_of_all_limits_counts() {
    let until = Instant::now();
    let later = until + Duration::from_secs(1);
    let cases = [
        (Advice::None, Advice::Rate(1.0), Advice::Rate(1.0)),
        (Advice::Rate(2.0), Advice::Rate(1.0), Advice::Rate(1.0)),
        (
            Advice::Rate(2.0),
            Advice::HoldUntil(until),
            Advice::HoldUntil(until),
        ),
        (
            Advice::HoldUntil(later),
            Advice::HoldUntil(until),
            Advice::HoldUntil(later),
        ),
    ];
    for (a, b, expected) in cases {
        assert_eq!(a.stricter(b), expected);
        assert_eq!(b.stricter(a), expected);
    }
}

#[test]
fn placeholders_are_ignored() {
    let (start, mut reports) = (Instant::now(), Reports::new(1.0));
    let nonsense = [
        report(0.0, 0.0, 10.0),
        report(60.0, -1.0, 10.0),
        report(f64::NAN, 0.0, 10.0),
    ];
    for report in nonsense {
        reports.update(start, &[report]);
        assert_eq!(reports.advice(start), Advice::None);
    }
}

/// What is left of a day's quota serves whoever comes now, whatever kind of quota it is, and down to the last request.
#[test]
fn a_days_quota_is_not_stretched_over_the_day() {
    let fixed = |now: f64| report(1_000.0, 900.0 - 100.0 * now, 86_400.0 - now);
    let rolling = |now: f64| {
        let spent = 900.0 + 10.0 * now;
        report(1_000.0, 1_000.0 - spent, spent * 86.4)
    };
    let (kinds, start) = (
        [fixed, rolling] as [fn(f64) -> QuotaReport; 2],
        Instant::now(),
    );
    for (kind, told) in [Kind::Fixed, Kind::Rolling].into_iter().zip(kinds) {
        let mut reports = Reports::new(1.0);
        for second in 0..10 {
            let now = at(start, f64::from(second));
            reports.update(now, &[told(f64::from(second))]);
            assert_eq!(
                reports.advice(now),
                Advice::None,
                "{kind:?}, second {second}"
            );
        }
        assert_eq!(reports.families[0].kind, kind);
    }
    let mut reports = Reports::new(1.0);
    reports.update(start, &[report(200.0, 1.0, 7_000.0)]);
    assert_eq!(reports.advice(start), Advice::None, "at the first word");
}

#[test]
fn a_reset_beyond_all_time_is_no_advice() {
    let (start, mut reports) = (Instant::now(), Reports::new(1.0));
    let endless = QuotaReport {
        reset: Duration::MAX,
        ..report(60.0, 0.0, 1.0)
    };
    reports.update(start, &[endless]);
    reports.update(at(start, 9.0), &[endless]);
    assert_eq!(reports.advice(at(start, 9.0)), Advice::None);
}

proptest! {
    #[test]
    fn any_headers_give_usable_advice(
        raw in prop::collection::vec((any::<f64>(), any::<f64>(), prop_oneof![0u64..120, any::<u64>()], any::<f64>(), 0u64..100_000), 0..50),
    ) {
        let (mut now, mut reports) = (Instant::now(), Reports::new(1.0));
        for (limit, remaining, reset, per_request, passed) in raw {
            now += Duration::from_millis(passed);
            let reset = Duration::from_secs(reset);
            reports.update(now, &[QuotaReport { measure: Measure::Requests, limit, remaining, reset, per_request }]);
            if let Advice::Rate(rate) = reports.advice(now) {
                prop_assert!(rate >= 0.0 && !rate.is_nan());
            }
        }
    }
}

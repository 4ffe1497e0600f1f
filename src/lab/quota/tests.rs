use proptest::prelude::*;

use super::*;

fn quota(rate: f64, burst: f64, rejects_cost: f64) -> QuotaConfig {
    QuotaConfig {
        rate,
        burst,
        rejects_cost,
        per: Per::All,
        concurrent: None,
        hints: Hints::Seconds,
    }
}

/// Plays arrivals given as gaps in microseconds; returns the times of those admitted.
fn admitted(config: &QuotaConfig, gaps: &[u64]) -> Vec<Duration> {
    let start = Instant::now();
    let mut bucket = Bucket::new(config, start);
    let mut at = Duration::ZERO;
    let mut admitted = Vec::new();
    for gap in gaps {
        at += Duration::from_micros(*gap);
        if bucket.take(start + at) == Verdict::Admitted {
            admitted.push(at);
        }
    }
    admitted
}

proptest! {
    /// In no window whatever are more admitted than burst + rate × its length.
    #[test]
    fn never_more_than_burst_and_rate(
        rate in 0.0f64..2000.0,
        burst in 1.0f64..50.0,
        rejects_cost in 0.0f64..1.0,
        gaps in prop::collection::vec(0u64..20_000, 1..400),
    ) {
        let times = admitted(&quota(rate, burst, rejects_cost), &gaps);
        for (first, from) in times.iter().enumerate() {
            for (last, until) in times.iter().enumerate().skip(first) {
                let count = (last - first + 1) as f64;
                let bound = burst + rate * until.saturating_sub(*from).as_secs_f64();
                prop_assert!(count <= bound + 1e-6, "{count} admitted where {bound} may");
            }
        }
    }

    /// A caller who keeps to the rate is never rejected.
    #[test]
    fn a_conforming_caller_always_passes(rate in 0.1f64..1000.0, burst in 1.0f64..50.0, calls in 1usize..200) {
        let start = Instant::now();
        let mut bucket = Bucket::new(&quota(rate, burst, 0.0), start);
        // A nanosecond more than the exact gap, because times are whole nanoseconds.
        let gap = Duration::from_secs_f64(1.0 / rate) + Duration::from_nanos(1);
        for call in 0..calls {
            let now = start + gap * u32::try_from(call).expect("less than 200 calls");
            prop_assert_eq!(bucket.take(now), Verdict::Admitted);
        }
    }

    /// Whoever waits as long as told, alone, is admitted.
    #[test]
    fn the_hint_is_true(rate in 0.01f64..1000.0, burst in 1.0f64..20.0, rejects_cost in 0.0f64..1.0) {
        let start = Instant::now();
        let mut bucket = Bucket::new(&quota(rate, burst, rejects_cost), start);
        while bucket.take(start) == Verdict::Admitted {}
        let Verdict::Rejected { wait } = bucket.take(start) else { panic!("the bucket was emptied") };
        prop_assert!(wait > Duration::ZERO);
        prop_assert_eq!(bucket.take(start + wait + Duration::from_nanos(2)), Verdict::Admitted);
    }
}

#[test]
fn the_bucket_starts_full_and_tells_its_level() {
    let start = Instant::now();
    let mut bucket = Bucket::new(&quota(2.0, 4.0, 0.0), start);
    for _ in 0..4 {
        assert_eq!(bucket.take(start), Verdict::Admitted);
    }
    assert_eq!(
        bucket.take(start),
        Verdict::Rejected {
            wait: Duration::from_millis(500)
        }
    );
    let level = bucket.level(start + Duration::from_secs(1));
    assert_eq!(
        level,
        Level {
            limit: 4.0,
            remaining: 2.0,
            full_in: Duration::from_secs(1)
        }
    );
}

#[test]
fn a_rejected_call_costs_what_it_was_told_to() {
    let start = Instant::now();
    let mut bucket = Bucket::new(&quota(1.0, 1.0, 0.5), start);
    assert_eq!(bucket.take(start), Verdict::Admitted);
    // After 0.75 s three quarters of a token are there; the rejection takes half a token.
    let wait = bucket.take(start + Duration::from_millis(750));
    assert_eq!(
        wait,
        Verdict::Rejected {
            wait: Duration::from_millis(750)
        }
    );
    // Impatience starves: a caller every 0.4 s never finds a whole token.
    for step in 1..50u64 {
        let verdict = bucket.take(start + Duration::from_millis(750 + 400 * step));
        assert!(matches!(verdict, Verdict::Rejected { .. }), "step {step}");
    }
}

#[test]
fn a_quota_that_changes_keeps_what_is_in_the_bucket() {
    let start = Instant::now();
    let mut bucket = Bucket::new(&quota(1.0, 10.0, 0.0), start);
    bucket.reconfigure(&quota(5.0, 3.0, 0.0), start);
    assert!((bucket.level(start).remaining - 3.0).abs() < 1e-9);
    bucket.reconfigure(&quota(5.0, 10.0, 0.0), start);
    assert!(
        (bucket.level(start).remaining - 3.0).abs() < 1e-9,
        "a larger bucket is not fuller"
    );
    assert!((bucket.level(start + Duration::from_secs(1)).remaining - 8.0).abs() < 1e-9);
}

#[test]
fn an_empty_bucket_without_a_rate_tells_a_finite_wait() {
    let start = Instant::now();
    let mut bucket = Bucket::new(&quota(0.0, 1.0, 0.0), start);
    assert_eq!(bucket.take(start), Verdict::Admitted);
    assert_eq!(bucket.take(start), Verdict::Rejected { wait: LONGEST_WAIT });
}

#[test]
fn a_clock_that_steps_back_gives_nothing_away() {
    let start = Instant::now() + Duration::from_secs(10);
    let mut bucket = Bucket::new(&quota(1.0, 1.0, 0.0), start);
    assert_eq!(bucket.take(start), Verdict::Admitted);
    assert!(matches!(
        bucket.take(start - Duration::from_secs(5)),
        Verdict::Rejected { .. }
    ));
    assert!(
        matches!(bucket.take(start), Verdict::Rejected { .. }),
        "the same second is not refilled twice"
    );
}

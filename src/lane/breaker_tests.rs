use rand::SeedableRng;
use rand::rngs::SmallRng;

use super::*;

fn rng() -> SmallRng {
    SmallRng::seed_from_u64(1)
}

fn at(start: Instant, seconds: f64) -> Instant {
    start + Duration::from_secs_f64(seconds)
}

fn tripped(start: Instant) -> Breaker {
    let mut breaker = Breaker::new(1.0);
    for failure in 1..=CONSECUTIVE {
        assert_eq!(
            breaker.on_failure(start, start, false, &mut rng()),
            failure == CONSECUTIVE
        );
    }
    breaker
}

fn pause(breaker: &Breaker, now: Instant) -> Duration {
    match breaker.passage(now) {
        Passage::Shut(until) => until - now,
        other => panic!("expected a shut breaker, found {other:?}"),
    }
}

#[test]
fn five_failures_in_a_row_trip_it_and_an_answer_between_does_not_let_them() {
    let start = Instant::now();
    let mut breaker = Breaker::new(1.0);
    for _ in 0..3 {
        for _ in 1..CONSECUTIVE {
            assert!(!breaker.on_failure(start, start, false, &mut rng()));
        }
        // Many answers, so that only the row counts and not the share.
        for _ in 0..20 {
            breaker.on_alive(start, false);
        }
    }
    assert!(tripped(start).is_shut());
}

#[test]
fn a_bad_share_trips_it_without_a_row() {
    let start = Instant::now();
    let mut breaker = Breaker::new(1.0);
    let trips = (0..10).map(|index| {
        let now = at(start, f64::from(index));
        if index % 3 == 2 {
            breaker.on_alive(now, false)
        } else {
            breaker.on_failure(now, now, false, &mut rng())
        }
    });
    assert_eq!(
        trips.filter(|tripped| *tripped).count(),
        1,
        "at the tenth result, which makes it a share"
    );
}

#[test]
fn old_results_are_forgotten() {
    let start = Instant::now();
    let mut breaker = Breaker::new(1.0);
    for index in 0..9 {
        if index % 4 == 3 {
            breaker.on_alive(start, false);
        } else {
            breaker.on_failure(start, start, false, &mut rng());
        }
    }
    let later = at(start, 31.0);
    assert!(
        !breaker.on_failure(later, later, false, &mut rng()),
        "nine old results and a new one are no share"
    );
}

#[test]
fn the_pause_doubles_with_each_failed_probe_up_to_its_end() {
    let mut now = Instant::now();
    let mut breaker = tripped(now);
    for expected in [1.0, 2.0, 4.0, 8.0, 8.0] {
        let pause = pause(&breaker, now);
        let seconds = pause.as_secs_f64();
        assert!(
            (expected / 2.0..=expected).contains(&seconds),
            "{seconds} s for {expected} s"
        );
        now += pause;
        assert_eq!(breaker.passage(now), Passage::Probe);
        breaker.probe_sent(now);
        assert_eq!(breaker.passage(now), Passage::Probing);
        assert!(breaker.on_failure(now, now, true, &mut rng()));
    }
}

#[test]
fn only_the_probe_ends_an_outage() {
    let start = Instant::now();
    let mut breaker = tripped(start);
    let now = start + pause(&breaker, start);
    breaker.probe_sent(now);
    assert!(
        !breaker.on_alive(now, false),
        "an answer to an older request"
    );
    assert!(
        !breaker.on_failure(now, start, false, &mut rng()),
        "a failure of an older request"
    );
    assert_eq!(breaker.passage(now), Passage::Probing);
    assert!(breaker.on_alive(now, true));
    assert_eq!(breaker.passage(now), Passage::Open);
    for _ in 0..CONSECUTIVE {
        assert!(
            !breaker.on_failure(now, start, false, &mut rng()),
            "sent before the recovery"
        );
    }
}

#[test]
fn a_throttled_probe_keeps_it_shut_without_making_it_worse() {
    let start = Instant::now();
    let mut breaker = tripped(start);
    let now = start + pause(&breaker, start);
    breaker.probe_sent(now);
    breaker.on_probe_throttled(now, &mut rng());
    assert!(pause(&breaker, now) <= Duration::from_secs(1));
}

#[test]
fn a_probe_that_hangs_or_is_lost_does_not_hold_everybody_for_ever() {
    let start = Instant::now();
    let mut breaker = tripped(start);
    let now = start + pause(&breaker, start);
    breaker.probe_sent(now);
    assert_eq!(breaker.probe_ends(), Some(now + PROBE_PATIENCE));
    assert_eq!(breaker.passage(now + PROBE_PATIENCE), Passage::Probe);
    breaker.probe_lost(now);
    assert_eq!(breaker.passage(now), Passage::Probe);
}

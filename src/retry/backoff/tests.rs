use proptest::prelude::*;
use rand::{SeedableRng as _, rngs::StdRng};

use super::*;

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

#[test]
fn the_defaults_are_the_promised_two_four_eight_plus_up_to_two() {
    let backoff = Backoff::default();
    for (retry_index, floor) in [(0, 2), (1, 4), (2, 8)] {
        let window = backoff.window(retry_index);
        assert_eq!((window.floor, window.spread), (secs(floor), secs(2)));
    }
}

#[test]
fn later_waits_are_capped_and_their_jitter_stays_proportional() {
    let backoff = Backoff::default();
    assert_eq!(
        backoff.window(3),
        Window {
            floor: secs(16),
            spread: secs(4)
        }
    );
    let at_cap = Window {
        floor: secs(30),
        spread: Duration::from_millis(7_500),
    };
    for retry_index in [4, 5, 63, 64, 1_000, u32::MAX] {
        assert_eq!(backoff.window(retry_index), at_cap, "retry {retry_index}");
    }
}

#[test]
fn after_a_hint_the_spread_is_half_of_it_and_at_least_a_quarter_second() {
    for (hint_ms, spread_ms) in [(0, 250), (100, 250), (500, 250), (10_000, 5_000)] {
        let hint = Duration::from_millis(hint_ms);
        let expected = Window {
            floor: hint,
            spread: Duration::from_millis(spread_ms),
        };
        assert_eq!(Backoff::default().window_after_hint(hint), expected);
    }
}

#[test]
fn without_a_base_there_is_only_jitter() {
    let backoff = Backoff {
        base: Duration::ZERO,
        ..Backoff::default()
    };
    for retry_index in [0, 1, 100, 2_000, u32::MAX] {
        assert_eq!(backoff.window(retry_index).floor, Duration::ZERO);
    }
}

#[test]
fn no_jitter_means_exact_waits() {
    let backoff = Backoff {
        jitter: Duration::ZERO,
        ..Backoff::default()
    };
    let mut rng = StdRng::seed_from_u64(1);
    for (retry_index, wait) in [(0, 2), (1, 4), (2, 8), (9, 30)] {
        assert_eq!(backoff.wait(retry_index, &mut rng), secs(wait));
    }
    assert_eq!(backoff.window_after_hint(secs(10)).draw(&mut rng), secs(10));
}

/// One process, one moment, one fault: the waits must not be one wait.
#[test]
fn a_thousand_callers_who_fail_together_do_not_return_together() {
    let backoff = Backoff::default();
    let mut rng = StdRng::seed_from_u64(7);
    for retry_index in [0, 1, 2, 9] {
        let mut buckets = std::collections::HashMap::<u128, u32>::new();
        for _ in 0..1_000 {
            let wait = backoff.wait(retry_index, &mut rng);
            *buckets.entry(wait.as_millis() / 100).or_default() += 1;
        }
        // A spread of two seconds has twenty slices of 100 ms, with 50 callers each on average.
        let fullest = buckets.values().max().copied().unwrap_or_default();
        assert!(fullest < 100, "retry {retry_index}: {fullest} in 100 ms");
    }
}

#[test]
fn a_window_that_ends_too_late_is_cut_but_never_to_a_point() {
    let window = Window {
        floor: secs(4),
        spread: secs(2),
    };
    assert_eq!(window.within(secs(6)), Some(window));
    assert_eq!(
        window.within(secs(5)),
        Some(Window {
            floor: secs(4),
            spread: secs(1)
        })
    );
    let barely = secs(4) + MIN_SPREAD;
    assert!(window.within(barely).is_some());
    assert_eq!(
        window.within(barely.saturating_sub(Duration::from_nanos(1))),
        None
    );
    assert_eq!(window.within(secs(3)), None);
}

#[test]
fn a_window_without_width_needs_no_more_room_than_its_beginning() {
    let point = Window {
        floor: secs(4),
        spread: Duration::ZERO,
    };
    assert_eq!(point.within(secs(4)), Some(point));
}

fn duration() -> impl Strategy<Value = Duration> {
    prop_oneof![
        (0_u64..=10_000_000).prop_map(Duration::from_micros),
        any::<Duration>(),
    ]
}

/// Mostly the few retries that requests have, and now and then an absurd number of them.
fn retry_index() -> impl Strategy<Value = u32> {
    prop_oneof![3 => 0..12_u32, 1 => 0..u32::MAX]
}

fn any_backoff() -> impl Strategy<Value = Backoff> {
    let factor = prop_oneof![
        1.0_f64..10.0,
        0.0_f64..1.0,
        any::<f64>(),
        Just(f64::NAN),
        Just(f64::INFINITY),
    ];
    (duration(), factor, duration(), duration()).prop_map(|(base, factor, cap, jitter)| Backoff {
        base,
        factor,
        cap,
        jitter,
    })
}

proptest! {
    #[test]
    fn a_wait_lies_between_its_floor_and_its_jitter(
        backoff in any_backoff(), retry_index in retry_index(), seed: u64,
    ) {
        let mut rng = StdRng::seed_from_u64(seed);
        let wait = backoff.wait(retry_index, &mut rng);
        let floor = backoff.window(retry_index).floor;
        prop_assert!(floor <= backoff.cap);
        prop_assert!(wait >= floor);
        prop_assert!(wait <= floor.saturating_add(backoff.jitter.max(floor / 4)));
    }

    #[test]
    fn floors_never_shrink(backoff in any_backoff(), retry_index in retry_index()) {
        let (now, next) = (backoff.window(retry_index), backoff.window(retry_index + 1));
        prop_assert!(now.floor <= next.floor);
    }

    #[test]
    fn the_first_wait_is_the_base_unless_capped(backoff in any_backoff()) {
        let expected = backoff.base.min(backoff.cap).as_secs_f64();
        let floor = backoff.window(0).floor.as_secs_f64();
        prop_assert!((floor - expected).abs() <= expected * 1e-9);
    }

    #[test]
    fn two_draws_differ_also_at_the_cap(retry_index in retry_index(), seed: u64) {
        let mut rng = StdRng::seed_from_u64(seed);
        let backoff = Backoff::default();
        let first = backoff.wait(retry_index, &mut rng);
        prop_assert_ne!(first, backoff.wait(retry_index, &mut rng));
    }

    #[test]
    fn with_jitter_there_is_always_a_spread(
        mut backoff in any_backoff(), retry_index in retry_index(), hint in duration(),
    ) {
        backoff.jitter = backoff.jitter.max(Duration::from_nanos(1));
        prop_assert!(backoff.window(retry_index).spread >= backoff.jitter);
        prop_assert!(backoff.window_after_hint(hint).spread >= MIN_SPREAD);
    }

    #[test]
    fn the_later_of_two_windows_satisfies_both(
        a in (duration(), duration()), b in (duration(), duration()), seed: u64,
    ) {
        let [a, b] = [a, b].map(|(floor, spread)| Window { floor, spread });
        let both = a.later_of(b);
        prop_assert_eq!(both, b.later_of(a));
        prop_assert!(both.floor >= a.floor && both.floor >= b.floor);
        let wait = both.draw(&mut StdRng::seed_from_u64(seed));
        prop_assert!(wait >= a.floor && wait >= b.floor);
        prop_assert!(wait <= a.end().max(b.end()));
    }

    #[test]
    fn what_fits_ends_in_time(
        floor in duration(), spread in duration(), room in duration(), seed: u64,
    ) {
        if let Some(window) = (Window { floor, spread }).within(room) {
            prop_assert!(window.draw(&mut StdRng::seed_from_u64(seed)) <= room);
            prop_assert_eq!(window.floor, floor);
        }
    }
}

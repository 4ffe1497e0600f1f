use proptest::prelude::*;

use super::*;

/// A window whose flight limit is out of the way.
fn proved(limit: u32) -> Window {
    let mut window = Window::new(limit, 4_096);
    window.flight.value = 1_000.0;
    window
}

#[test]
fn an_unknown_lane_starts_with_a_few_and_doubles_with_each_flight_taken() {
    let mut window = Window::new(64, 4_096);
    let mut flights = Vec::new();
    for _ in 0..4 {
        let flight = (0..100)
            .take_while(|sent| window.has_room(0, *sent))
            .count();
        flights.push(flight);
        for unknown in (1..=flight).rev() {
            window.on_accepted(flight, unknown);
        }
    }
    assert_eq!(flights[0], 3);
    assert!(
        flights
            .windows(2)
            .all(|pair| pair[1] > pair[0] && pair[1] <= 2 * pair[0]),
        "{flights:?}"
    );
}

#[test]
fn what_is_not_used_is_not_raised() {
    let mut window = proved(8);
    for _ in 0..100 {
        window.on_accepted(3, 1);
    }
    assert_eq!(window.limit(), 8);
    window.on_accepted(4, 1);
    assert_eq!(window.limit(), 9);
}

#[test]
fn one_cut_for_one_event_and_slow_growth_after_it() {
    let start = Instant::now();
    let later = start + Duration::from_secs(1);
    let mut window = proved(18);
    window.on_throttled(later, start, 1);
    assert_eq!(window.limit(), 12);
    window.on_throttled(later, start, 1);
    assert_eq!(window.limit(), 12, "sent before the cut");
    window.on_accepted(12, 1);
    assert!(window.live.value < 12.7, "one a round trip from here");
    for _ in 0..24 {
        window.on_accepted(20, 1);
    }
    let value = window.live.value;
    assert!(
        (14.5..17.0).contains(&value),
        "and faster, the longer nothing is refused: {value}"
    );
    window.on_throttled(
        later + Duration::from_secs(1),
        later + Duration::from_millis(1),
        1,
    );
    assert!(window.live.value < 0.71 * value);
}

#[test]
fn a_large_window_is_cut_where_the_same_number_is_refused_again() {
    let start = Instant::now();
    let second = |second| start + Duration::from_secs(second);
    let mut window = proved(100);
    window.on_throttled(second(1), start, 60);
    assert_eq!(window.limit(), 100, "the rate is likelier to blame");
    window.on_throttled(second(3), second(2), 80);
    assert_eq!(window.limit(), 100, "sixty were not too many");
    window.on_throttled(second(5), second(4), 81);
    assert_eq!(window.limit(), 81);
}

#[test]
fn a_cut_does_not_go_below_what_the_upstream_holds() {
    let start = Instant::now();
    let mut window = proved(10);
    window.on_throttled(start, start, 9);
    assert_eq!(window.limit(), 9);
    let mut window = proved(10);
    window.on_throttled(start, start, 30);
    assert_eq!(window.limit(), 10, "and never raises");
}

#[test]
fn overload_cuts_no_deeper_than_the_start_and_is_soon_forgotten() {
    let (start, mut window) = (Instant::now(), proved(8));
    for _ in 0..12 {
        window.on_accepted(20, 1);
    }
    assert_eq!(window.limit(), 20);
    for _ in 0..10 {
        window.on_accepted(40, 1);
    }
    assert_eq!(window.limit(), 40, "a large one grows faster");
    for second in 1..10 {
        let sent = start + Duration::from_secs(second);
        window.on_overloaded(sent, sent, 0);
    }
    assert_eq!(window.limit(), 8);
    for live in 8..40 {
        window.on_accepted(live, 1);
    }
    assert_eq!(
        window.limit(),
        40,
        "one more with each answer, up to where it was"
    );
    window.on_accepted(40, 1);
    assert!(
        window.live.value < 42.1,
        "one a round trip beyond, at first"
    );
}

#[test]
fn after_an_outage_one_goes_first() {
    let mut window = proved(32);
    window.restart();
    assert!(window.has_room(0, 0) && !window.has_room(0, 1));
    window.on_accepted(1, 1);
    assert!(window.has_room(1, 1));
    assert_eq!(window.limit(), 32);
}

#[test]
fn only_a_lane_that_met_a_limit_forgets_how_large_its_bursts_may_be() {
    let start = Instant::now();
    let later = start + FORGET_AFTER;
    let mut healthy = proved(64);
    healthy.on_sent(start);
    healthy.on_sent(later);
    assert!(healthy.has_room(0, 50));
    let mut cut = proved(64);
    cut.on_throttled(start, start, 1);
    cut.on_sent(start);
    cut.on_sent(later);
    assert!(!cut.has_room(0, 3));
}

proptest! {
    #[test]
    fn the_limits_stay_within_their_bounds(
        initial in 0u32..200, max in 0u32..200,
        steps in prop::collection::vec((0u8..4, 0usize..300, 0u64..2_000), 0..200),
    ) {
        let mut now = Instant::now();
        let mut window = Window::new(initial, max);
        for (kind, used, passed) in steps {
            now += Duration::from_millis(passed);
            match kind {
                0 => window.on_accepted(used, used),
                1 => window.on_throttled(now, now, used),
                2 => window.on_overloaded(now, now, 1),
                _ => window.restart(),
            }
            prop_assert!((1..=max.max(1) as usize).contains(&window.limit()));
            prop_assert!(window.has_room(0, 0), "an empty lane always has room");
        }
    }
}

use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::SmallRng;

use super::*;

const CAP: Duration = Duration::from_mins(1);
const SECOND: Duration = Duration::from_secs(1);

fn rng() -> SmallRng {
    SmallRng::seed_from_u64(1)
}

fn shut_until(gate: &Gate, now: Instant) -> Instant {
    match gate.passage(now) {
        Passage::Shut(until) => until,
        other => panic!("expected a shut gate, found {other:?}"),
    }
}

#[test]
fn one_refusal_closes_it_and_one_probe_opens_it() {
    let (start, mut gate) = (Instant::now(), Gate::new(CAP, 1.0));
    assert_eq!(gate.passage(start), Passage::Open);
    assert!(gate.on_throttled(start, start, None, SECOND, &mut rng()));
    let until = shut_until(&gate, start);
    assert_eq!(gate.passage(until), Passage::Probe);
    gate.probe_sent();
    assert_eq!(gate.passage(until), Passage::Probing);
    gate.probe_accepted();
    assert_eq!(gate.passage(until), Passage::Open);
}

#[test]
fn the_refusals_of_one_flight_are_one_event() {
    let (start, mut gate) = (Instant::now(), Gate::new(CAP, 1.0));
    let later = start + Duration::from_millis(80);
    assert!(gate.on_throttled(start, start, None, SECOND, &mut rng()));
    let until = shut_until(&gate, start);
    assert!(
        !gate.on_throttled(later, start, None, SECOND, &mut rng()),
        "sent before the closing"
    );
    assert_eq!(shut_until(&gate, later), until, "no hint, no extension");
    assert!(!gate.on_throttled(
        later,
        start,
        Some(Duration::from_secs(20)),
        SECOND,
        &mut rng()
    ));
    assert_eq!(
        shut_until(&gate, later),
        later + Duration::from_secs(20),
        "a hint is kept whoever brought it"
    );
    assert_eq!(gate.failures(), 1);
}

#[test]
fn each_failed_probe_doubles_the_wait_up_to_a_minute() {
    let (mut now, mut gate) = (Instant::now(), Gate::new(CAP, 1.0));
    for expected in [1, 2, 4, 8, 16, 32, 60, 60] {
        assert!(gate.on_throttled(now, now, None, SECOND, &mut rng()));
        let until = shut_until(&gate, now);
        let wait = until - now;
        let least = Duration::from_secs(expected);
        assert!(
            wait >= least && wait <= least + MOST_JITTER,
            "{wait:?} for {expected} s"
        );
        now = until;
        gate.probe_sent();
        now += Duration::from_millis(50);
    }
}

#[test]
fn only_an_answer_sent_after_the_closing_ends_the_row_of_failures() {
    let (start, mut gate) = (Instant::now(), Gate::new(CAP, 1.0));
    let closing = start + Duration::from_secs(1);
    assert!(gate.on_throttled(closing, start, None, SECOND, &mut rng()));
    gate.on_served(start);
    assert_eq!(gate.failures(), 1, "an answer from before tells nothing");
    gate.on_served(closing + Duration::from_secs(3));
    assert_eq!(gate.failures(), 0);
}

#[test]
fn a_probe_without_a_verdict_is_followed_by_another() {
    let (start, mut gate) = (Instant::now(), Gate::new(CAP, 1.0));
    assert!(gate.on_throttled(start, start, None, SECOND, &mut rng()));
    let until = shut_until(&gate, start);
    gate.probe_sent();
    gate.probe_lost();
    assert_eq!(gate.passage(until), Passage::Probe);
    gate.probe_accepted();
    assert_eq!(
        gate.passage(until),
        Passage::Probe,
        "a verdict that nobody waits for opens nothing"
    );
}

#[test]
fn two_gates_do_not_reopen_together() {
    let start = Instant::now();
    let mut rng = rng();
    let mut until = || {
        let mut gate = Gate::new(CAP, 1.0);
        gate.on_throttled(
            start,
            start,
            Some(Duration::from_secs(10)),
            SECOND,
            &mut rng,
        );
        shut_until(&gate, start)
    };
    assert_ne!(until(), until());
}

proptest! {
    #[test]
    fn never_earlier_than_told_and_never_absurdly_late(
        hints in prop::collection::vec((0u64..5_000, prop::option::of(0u64..10_000_000_000)), 1..40),
        seed in any::<u64>(),
    ) {
        let mut rng = SmallRng::seed_from_u64(seed);
        let (mut now, mut gate) = (Instant::now(), Gate::new(CAP, 1.0));
        let mut promised = now;
        for (passed, hint) in hints {
            now += Duration::from_millis(passed);
            let hint = hint.map(Duration::from_millis);
            gate.on_throttled(now, now, hint, SECOND, &mut rng);
            if let Some(hint) = hint.filter(|hint| *hint <= CAP) {
                promised = promised.max(now + hint);
            }
            let until = shut_until(&gate, now);
            prop_assert!(until >= promised);
            prop_assert!(until <= now + CAP + MOST_JITTER);
        }
    }
}

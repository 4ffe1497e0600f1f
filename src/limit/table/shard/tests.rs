use std::collections::HashMap;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::limit::standing::Limits;
use crate::limit::table::decide;

fn user(number: u32) -> UserKey {
    UserKey::from_source("test", &number.to_be_bytes())
}

fn limits() -> Limits {
    let rate = Rule::new(60, Duration::from_mins(1), 3);
    Limits {
        rate: Some(rate.expect("the rule is sound")),
        concurrent: Some(2),
    }
}

const SECOND: u64 = 1_000_000;

/// A promise of the documentation: at most 100 bytes a user. The map keeps a byte beside each
/// slot and has at most 16/7 slots a user just after it has doubled; the ring has at most two
/// places a user just after *it* has doubled, which is when the map is 8/7 to 16/7 full.
#[test]
fn an_entry_is_as_small_as_promised() {
    assert_eq!(size_of::<Entry>(), 16);
    assert_eq!(size_of::<(UserKey, Entry)>(), 32);
    for users in 1..20_000_usize {
        let slots = (users * 8 / 7).next_power_of_two().max(4);
        let ring = users.next_power_of_two().max(4);
        let bytes = slots * 33 + ring * 16;
        assert!(users < 16 || bytes <= users * 100, "{users} users: {bytes}");
    }
}

#[test]
fn idle_users_leave_as_new_ones_come() {
    let mut shard = Shard::new(1_000_000);
    for number in 0..20_000 {
        // One new user in 10 ms; each is idle again a second after its request.
        let now = u64::from(number) * 10_000;
        let (place, decision) = shard.with(&user(number), now, |e| decide(&limits(), e, now));
        assert!(decision.is_ok());
        shard.leave(&user(number), place);
        assert!(shard.len() <= 300, "{} at {number}", shard.len());
    }
}

#[test]
fn when_all_are_active_new_users_share_one_quota() {
    let mut shard = Shard::new(4);
    let mut ask = |number, now| shard.with(&user(number), now, |e| decide(&limits(), e, now));
    for number in 0..4 {
        assert!(matches!(ask(number, 0), (Place::Own, Ok(_))));
    }
    // Two at once are allowed to each user, and so to all newcomers together.
    assert!(matches!(ask(10, 0), (Place::Shared, Ok(_))));
    assert!(matches!(ask(11, 0), (Place::Shared, Ok(_))));
    assert!(matches!(ask(12, 0), (Place::Shared, Err(_))));
    // Those who were there before them lose nothing.
    assert!(matches!(ask(0, 0), (Place::Own, Ok(_))));
    assert_eq!((shard.len(), shard.crowded()), (4, 3));

    shard.leave(&user(11), Place::Shared);
    let again = shard.with(&user(12), SECOND, |e| decide(&limits(), e, SECOND));
    assert!(matches!(again, (Place::Shared, Ok(_))));
}

#[test]
fn a_newcomer_takes_the_place_of_whoever_is_idle_even_the_last_in_line() {
    let mut shard = Shard::new(STEPS_WHEN_FULL);
    let last = u32::try_from(STEPS_WHEN_FULL).expect("small") - 1;
    for number in 0..=last {
        let (place, _) = shard.with(&user(number), 0, |e| decide(&limits(), e, 0));
        if number == last {
            shard.leave(&user(number), place);
        }
    }
    // All have their quota back, but all except the last still have a request running.
    let (place, ()) = shard.with(&user(1_000), SECOND, |_| ());
    assert_eq!((place, shard.len()), (Place::Own, STEPS_WHEN_FULL));
    let (place, ()) = shard.with(&user(0), SECOND, |e| assert_eq!(e.live(), 1));
    assert_eq!(place, Place::Own);
}

proptest! {
    /// A table that forgets decides like one that never does, for everybody who has an entry:
    /// nobody gains by being evicted, and nobody loses.
    #[test]
    fn forgetting_changes_no_decision(
        capacity in 1..6_usize,
        requests in prop::collection::vec((0..12_u32, 0..2 * SECOND, 0..3_usize), 1..200),
    ) {
        let (mut shard, mut now) = (Shard::new(capacity), 0);
        let mut remembered = HashMap::<u32, Entry>::new();
        let mut running = VecDeque::new();
        for (number, later, ended) in requests {
            now += later;
            for (number, place) in running.drain(..ended.min(running.len())) {
                shard.leave(&user(number), place);
                if place == Place::Own {
                    remembered.entry(number).or_default().leave();
                }
            }
            let (place, decision) =
                shard.with(&user(number), now, |e| decide(&limits(), e, now));
            if place == Place::Own {
                let entry = remembered.entry(number).or_default();
                prop_assert_eq!(decision, decide(&limits(), entry, now));
            }
            if decision.is_ok() {
                running.push_back((number, place));
            }
            prop_assert!(shard.len() <= capacity);
            prop_assert_eq!(shard.len(), shard.ring.len());
        }
    }
}

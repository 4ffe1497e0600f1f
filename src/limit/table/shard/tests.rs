use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::limit::account::decide;
use crate::limit::identity::UserKey;
use crate::limit::plan::{Limit, Plan, Scope, Unit};

fn user(number: u32) -> Account {
    Account::new(UserKey::from_source("test", &number.to_be_bytes()), 0)
}

fn plan() -> Plan {
    let rate = Limit {
        unit: Unit::Requests,
        count: 60,
        per: Duration::from_mins(1),
        burst: 3,
    };
    Plan::new(Scope::User, &[rate], Some(2)).expect("the rule is sound")
}

fn shard(capacity: usize) -> Shard {
    Shard::new(capacity, 1, 1)
}

/// Asks for a request and tells where it was counted, and whether it was let in.
fn ask(shard: &mut Shard, number: u32, now: u64) -> (Place, bool) {
    shard.with(user(number), now, |state| {
        decide(&plan(), state, 0, now).is_ok()
    })
}

const SECOND: u64 = 1_000_000;

/// A promise of the documentation: at most 100 bytes a user, and 24 for every further rate. The map keeps a byte beside
/// each slot, and has at most 16/7 slots a user just after it has doubled.
#[test]
fn an_account_is_as_small_as_promised() {
    assert_eq!(size_of::<Row>(), 24);
    assert_eq!(size_of::<(Account, u32)>(), 24);
    for rates in [1, 2, MAX_RULES] {
        let mut shard = Shard::new(usize::MAX, 1, rates);
        for number in 0..3_000 {
            ask(&mut shard, number, 0);
            let users = shard.len();
            let slots = (users * 8 / 7).next_power_of_two().max(4);
            let bytes = slots * 25
                + shard.rows.capacity() * size_of::<Row>()
                + shard.micros.capacity() * 8
                + shard.parts.capacity() * 4;
            let promised = users * (100 + 24 * (rates - 1));
            assert!(
                users < 16 || bytes <= promised,
                "{users} users, {rates} rates: {bytes}"
            );
        }
    }
}

#[test]
fn idle_users_leave_as_new_ones_come() {
    let mut shard = shard(1_000_000);
    for number in 0..20_000 {
        // One new user in 10 ms; each is idle again a second after its request.
        let (place, is_in) = ask(&mut shard, number, u64::from(number) * 10_000);
        assert!(is_in);
        shard.leave(user(number), place);
        assert!(shard.len() <= 300, "{} at {number}", shard.len());
    }
}

#[test]
fn when_all_are_active_new_users_share_one_quota() {
    let mut shard = shard(4);
    for number in 0..4 {
        assert_eq!(ask(&mut shard, number, 0), (Place::Own, true));
    }
    // Two at once are allowed to each user, and so to all newcomers together.
    assert_eq!(ask(&mut shard, 10, 0), (Place::Shared, true));
    assert_eq!(ask(&mut shard, 11, 0), (Place::Shared, true));
    assert_eq!(ask(&mut shard, 12, 0), (Place::Shared, false));
    // Those who were there before them lose nothing.
    assert_eq!(ask(&mut shard, 0, 0), (Place::Own, true));
    assert_eq!((shard.len(), shard.crowded()), (4, 3));

    shard.leave(user(11), Place::Shared);
    assert_eq!(ask(&mut shard, 12, SECOND), (Place::Shared, true));
}

#[test]
fn newcomers_of_different_plans_do_not_share() {
    let mut shard = Shard::new(1, 2, 1);
    let own = user(0);
    let other = |number| Account::new(user(number).user, 1);
    let mut enter = |account: Account| shard.with(account, 0, |state| decide(&plan(), state, 0, 0));
    assert!(enter(own).1.is_ok());
    for account in [user(1), other(1)] {
        assert_eq!(enter(account), (Place::Shared, Ok(())));
        assert_eq!(enter(account), (Place::Shared, Ok(())));
        assert!(enter(account).1.is_err());
    }
}

#[test]
fn a_newcomer_takes_the_place_of_whoever_is_idle_even_the_last_in_line() {
    let mut shard = shard(STEPS_WHEN_FULL);
    let last = u32::try_from(STEPS_WHEN_FULL).expect("small") - 1;
    for number in 0..=last {
        let (place, _) = ask(&mut shard, number, 0);
        if number == last {
            shard.leave(user(number), place);
        }
    }
    // All have their quota back, but all except the last still have a request running.
    let (place, ()) = shard.with(user(1_000), SECOND, |_| ());
    assert_eq!((place, shard.len()), (Place::Own, STEPS_WHEN_FULL));
    let (place, live) = shard.with(user(0), SECOND, |state| state.live);
    assert_eq!((place, live), (Place::Own, 1));
}

#[test]
fn accounts_are_looked_through_in_parts() {
    let mut shard = shard(100);
    for number in 0..10 {
        ask(&mut shard, number, 0);
    }
    let mut found: Vec<_> = [(0, 4), (4, 4), (8, 4), (12, 4)]
        .into_iter()
        .flat_map(|(from, rows)| shard.accounts(from, rows).collect::<Vec<_>>())
        .map(|(account, state)| (account, state.live))
        .collect();
    found.sort_unstable();
    let mut all: Vec<_> = (0..10).map(|number| (user(number), 1)).collect();
    all.sort_unstable();
    assert_eq!(found, all);
}

proptest! {
    /// A table that forgets decides like one that never does, for everybody who has an account:
    /// nobody gains by being evicted, and nobody loses.
    #[test]
    fn forgetting_changes_no_decision(
        capacity in 1..6_usize,
        requests in prop::collection::vec((0..12_u32, 0..2 * SECOND, 0..3_usize), 1..200),
    ) {
        let (mut shard, mut now) = (shard(capacity), 0);
        let mut remembered = HashMap::<u32, State>::new();
        let mut running = VecDeque::new();
        for (number, later, ended) in requests {
            now += later;
            for (number, place) in running.drain(..ended.min(running.len())) {
                shard.leave(user(number), place);
                if place == Place::Own {
                    leave(remembered.entry(number).or_default());
                }
            }
            let (place, decision) = shard.with(user(number), now, |state| {
                decide(&plan(), state, 0, now)
            });
            if place == Place::Own {
                let state = remembered.entry(number).or_default();
                prop_assert_eq!(decision, decide(&plan(), state, 0, now));
            }
            if decision.is_ok() {
                running.push_back((number, place));
            }
            prop_assert!(shard.len() <= capacity);
            prop_assert_eq!(shard.len(), shard.slots.len());
            for (account, &slot) in &shard.slots {
                prop_assert_eq!(shard.rows[slot as usize].account, *account);
            }
        }
    }
}

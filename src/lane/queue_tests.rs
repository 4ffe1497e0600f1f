use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;

use super::*;

fn order(queue: &mut FairQueue<u32>) -> Vec<u32> {
    std::iter::from_fn(|| queue.pop().map(|(_, _, value)| value)).collect()
}

fn push(queue: &mut FairQueue<u32>, user: u64, value: u32) -> TicketId {
    queue
        .push(UserKey(user), Place::End, 1, value)
        .expect("within bounds")
}

fn retry(queue: &mut FairQueue<u32>, user: u64, value: u32) -> TicketId {
    let pushed = queue.push(UserKey(user), Place::Front, 1, value);
    pushed.expect("no bounds for retries")
}

fn owed(queue: &mut FairQueue<u32>, user: u64, value: u32) -> TicketId {
    let pushed = queue.push(UserKey(user), Place::Owed, 1, value);
    pushed.expect("no bounds for retries")
}

#[test]
fn users_take_turns_whatever_they_ask() {
    let mut queue = FairQueue::new(Priority::Live, 50, 1_000);
    for value in 0..5 {
        push(&mut queue, 1, 10 + value);
    }
    push(&mut queue, 2, 20);
    push(&mut queue, 3, 30);
    push(&mut queue, 3, 31);
    assert_eq!(queue.ahead_of(UserKey(4), Place::End), 3);
    assert_eq!(queue.ahead_of(UserKey(2), Place::End), 5);
    assert_eq!(order(&mut queue), [10, 20, 30, 11, 31, 12, 13, 14]);
    assert_eq!(queue.users(), 0);
}

#[test]
fn a_retry_goes_before_its_own_user_and_nobody_else() {
    let mut queue = FairQueue::new(Priority::Live, 50, 1_000);
    push(&mut queue, 1, 10);
    push(&mut queue, 2, 20);
    push(&mut queue, 2, 21);
    retry(&mut queue, 2, 29);
    assert_eq!(order(&mut queue), [10, 29, 20, 21]);
}

#[test]
fn a_turn_taken_in_vain_is_given_back_and_costs_its_user_no_other() {
    let mut queue = FairQueue::new(Priority::Live, 50, 1_000);
    for user in 1u32..=3 {
        push(&mut queue, u64::from(user), 10 * user);
        push(&mut queue, u64::from(user), 10 * user + 1);
    }
    assert_eq!(queue.pop().map(|(_, _, value)| value), Some(10));
    owed(&mut queue, 1, 19);
    owed(&mut queue, 4, 49);
    assert_eq!(queue.ahead_of(UserKey(1), Place::Owed), 2);
    assert_eq!(
        queue.ahead_of(UserKey(2), Place::Front),
        4,
        "two owed, two other users"
    );
    assert_eq!(
        queue.users(),
        3,
        "who is only owed a turn is not in the round"
    );
    assert_eq!(order(&mut queue), [19, 49, 20, 30, 11, 21, 31]);
}

#[test]
fn a_dear_request_costs_its_user_turns() {
    let mut queue = FairQueue::new(Priority::Live, 50, 1_000);
    for value in 0..3 {
        queue
            .push(UserKey(1), Place::End, 4, 10 + value)
            .expect("within bounds");
    }
    for value in 0..8 {
        push(&mut queue, 2, 20 + value);
    }
    assert_eq!(
        order(&mut queue),
        [10, 20, 21, 22, 23, 11, 24, 25, 26, 27, 12]
    );
}

#[test]
fn bounds_hold_for_newcomers_but_not_for_retries() {
    let mut queue = FairQueue::new(Priority::Live, 2, 3);
    push(&mut queue, 1, 0);
    push(&mut queue, 1, 1);
    assert_eq!(
        queue.push(UserKey(1), Place::End, 1, 2),
        Err(RefuseReason::UserQueueFull)
    );
    push(&mut queue, 2, 3);
    assert_eq!(
        queue.push(UserKey(3), Place::End, 1, 4),
        Err(RefuseReason::LaneQueueFull)
    );
    retry(&mut queue, 1, 5);
    owed(&mut queue, 1, 6);
    assert_eq!(queue.len(), 5);
}

#[test]
fn a_removed_request_is_gone_and_its_id_finds_nobody_else() {
    let mut queue = FairQueue::new(Priority::Live, 50, 1_000);
    let first = push(&mut queue, 1, 1);
    assert_eq!(queue.remove(first), Some(1));
    assert_eq!(queue.remove(first), None);
    let second = push(&mut queue, 1, 2);
    assert_eq!(
        queue.remove(first),
        None,
        "the place is used again, the id is not"
    );
    assert_eq!(queue.get(second), Some(&2));
}

#[test]
fn a_turn_that_ends_by_leaving_does_not_cost_the_next_user_its_own() {
    let mut queue = FairQueue::new(Priority::Live, 50, 1_000);
    push(&mut queue, 1, 10);
    let second = push(&mut queue, 1, 11);
    queue
        .push(UserKey(2), Place::End, 4, 20)
        .expect("within bounds");
    push(&mut queue, 3, 30);
    assert_eq!(queue.pop().map(|(_, _, value)| value), Some(10));
    // User 1 is in the middle of a turn of four when its last request leaves.
    queue.remove(second).expect("waiting");
    assert_eq!(order(&mut queue), [20, 30]);
}

#[test]
fn a_correction_delays_its_user_and_is_bounded() {
    let mut queue = FairQueue::new(Priority::Live, 50, 1_000);
    for value in 0..3 {
        push(&mut queue, 1, 10 + value);
        push(&mut queue, 2, 20 + value);
    }
    queue.correct(UserKey(1), 2);
    assert_eq!(order(&mut queue), [20, 21, 10, 22, 11, 12]);
    push(&mut queue, 1, 1);
    queue.correct(UserKey(1), i64::MAX);
    queue.correct(UserKey(1), i64::MIN);
    assert_eq!(order(&mut queue), [1]);
}

#[derive(Debug, Clone)]
enum Step {
    Push(u64),
    Retry(u64),
    Owed(u64),
    Pop,
    Remove(prop::sample::Index),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0u64..6).prop_map(Step::Push),
        1 => (0u64..6).prop_map(Step::Retry),
        1 => (0u64..6).prop_map(Step::Owed),
        3 => Just(Step::Pop),
        1 => any::<prop::sample::Index>().prop_map(Step::Remove),
    ];
    prop::collection::vec(step, 0..200)
}

proptest! {
    /// Against a plain model: each user's own order is kept, and nobody waits for more than one turn of each other user,
    /// beside those that are owed.
    #[test]
    fn nobody_waits_for_more_than_the_others_turns(steps in steps()) {
        let mut queue = FairQueue::new(Priority::Live, 50, 1_000);
        let mut model: BTreeMap<u64, VecDeque<(TicketId, u32)>> = BTreeMap::new();
        let mut owing: VecDeque<(TicketId, u32)> = VecDeque::new();
        // By waiting user: how often each other user was served since it has been waiting or was served itself.
        let mut turns: BTreeMap<u64, BTreeMap<u64, u32>> = BTreeMap::new();
        for (value, step) in (0u32..).zip(steps) {
            match step {
                Step::Push(user) => if let Ok(id) = queue.push(UserKey(user), Place::End, 1, value) {
                    model.entry(user).or_default().push_back((id, value));
                    turns.entry(user).or_default();
                },
                Step::Retry(user) => {
                    let id = retry(&mut queue, user, value);
                    model.entry(user).or_default().push_front((id, value));
                    turns.entry(user).or_default();
                }
                Step::Owed(user) => owing.push_back((owed(&mut queue, user, value), value)),
                Step::Pop if !owing.is_empty() => {
                    let popped = queue.pop().map(|(id, _, value)| (id, value));
                    prop_assert_eq!(popped, owing.pop_front());
                }
                Step::Pop => match queue.pop() {
                    None => prop_assert!(model.is_empty()),
                    Some((id, UserKey(user), value)) => {
                        let own = model.get_mut(&user).expect("only waiting users are served");
                        prop_assert_eq!(own.pop_front(), Some((id, value)));
                        turns.insert(user, BTreeMap::new());
                        for (waiting, served) in &mut turns {
                            if *waiting != user {
                                let times = served.entry(user).or_default();
                                *times += 1;
                                prop_assert!(*times <= 1, "user {waiting} waited for two turns of user {user}");
                            }
                        }
                        if own.is_empty() {
                            model.remove(&user);
                            turns.remove(&user);
                            // It gave up its place: what it does later is a newcomer's turn.
                            for served in turns.values_mut() { served.remove(&user); }
                        }
                    }
                },
                Step::Remove(index) => {
                    if index.index(2) == 0 && let Some((id, value)) = owing.pop_back() {
                        prop_assert_eq!(queue.remove(id), Some(value));
                        continue;
                    }
                    let all: Vec<_> = model.iter().flat_map(|(user, own)| own.iter().map(|entry| (*user, *entry))).collect();
                    if all.is_empty() { continue; }
                    let (user, (id, value)) = all[index.index(all.len())];
                    prop_assert_eq!(queue.remove(id), Some(value));
                    let own = model.get_mut(&user).expect("it has this one waiting");
                    own.retain(|entry| entry.0 != id);
                    if own.is_empty() {
                        model.remove(&user);
                        turns.remove(&user);
                        for served in turns.values_mut() { served.remove(&user); }
                    }
                }
            }
            prop_assert_eq!(queue.len(), model.values().map(VecDeque::len).sum::<usize>() + owing.len());
            prop_assert_eq!(queue.users(), model.len());
        }
    }

    /// Whoever leaves entirely might as well never have come.
    #[test]
    fn a_leaving_user_costs_nobody_a_turn(pushes in prop::collection::vec((0u64..5, 1u8..=16), 0..60), popped in 0usize..10) {
        let leaver = 2;
        let mut with = FairQueue::new(Priority::Live, 100, 1_000);
        let mut without = FairQueue::new(Priority::Live, 100, 1_000);
        let mut ids = Vec::new();
        for (value, (user, cost)) in (0u32..).zip(&pushes) {
            let id = with.push(UserKey(*user), Place::End, *cost, value).expect("within bounds");
            if *user == leaver { ids.push(id); } else { without.push(UserKey(*user), Place::End, *cost, value).expect("within bounds"); }
        }
        // In the middle of somebody's turn, too.
        for _ in 0..popped {
            let _ = with.pop();
        }
        let before = with.len();
        let gone = ids.iter().filter(|id| with.remove(**id).is_some()).count();
        prop_assert_eq!(with.len(), before - gone);
        let rest = order(&mut with);
        if popped == 0 {
            let mut sorted = order(&mut without);
            prop_assert_eq!(rest.len(), sorted.len());
            if pushes.iter().all(|(_, cost)| *cost == pushes[0].1) {
                prop_assert_eq!(rest, sorted);
            } else {
                // The quantum is the largest cost that waits, so costs may be paid in other portions; nobody is lost.
                let mut rest = rest;
                rest.sort_unstable();
                sorted.sort_unstable();
                prop_assert_eq!(rest, sorted);
            }
        }
    }
}

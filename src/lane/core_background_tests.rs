//! What nobody waits for, beside what somebody waits for.

use std::time::Duration;

use super::super::outcome::RefuseReason;
use super::super::settling::MOST;
use super::tests::{Bench, PATIENCE, THROTTLED, bench};
use super::*;

fn background(bench: &mut Bench, user: u64) -> TicketId {
    let ticket = Ticket {
        priority: Priority::Background,
        ..bench.ticket()
    };
    bench.ask_with(user, ticket).expect("there is room")
}

/// The tickets that were released, in order.
fn order(bench: &Bench) -> Vec<TicketId> {
    let tickets = bench.released.iter().map(|release| release.ticket);
    tickets.map(|ticket| ticket.expect("all waited")).collect()
}

#[test]
fn it_goes_when_nobody_else_waits_and_everybody_else_goes_before_it() {
    let mut bench = bench();
    let first = bench.ask(1).expect("taken");
    bench.fail(bench.released[0].send, THROTTLED);
    let early = background(&mut bench, 2);
    let live = [3, 4].map(|user| bench.ask(user).expect("there is room"));
    assert_eq!(bench.released.len(), 1, "the gate is shut for both");
    while bench.released.len() < 4 {
        bench.run(Duration::from_millis(100));
        for release in bench.released.clone() {
            bench.result(release.send, Outcome::Served);
        }
    }
    assert_eq!(order(&bench), [first, live[0], live[1], early]);
}

#[test]
fn it_may_be_the_probe_that_nobody_else_is_there_to_be() {
    let mut bench = bench();
    bench.ask(1).expect("taken");
    bench.fail(bench.last().send, THROTTLED);
    background(&mut bench, 2);
    background(&mut bench, 3);
    bench.run(PATIENCE / 10);
    assert!(bench.released[1].probe, "{:?}", bench.released);
    assert_eq!(
        bench
            .released
            .iter()
            .filter(|release| release.probe)
            .count(),
        1
    );
}

#[test]
fn it_leaves_half_of_the_window_to_those_who_come_next() {
    let mut bench = bench();
    let window = bench.core.snapshot(bench.now).window;
    for user in 0..20 {
        background(&mut bench, user);
    }
    for round in 0.. {
        // The flight starts small; what is taken lets the next ones go.
        let Some(release) = bench.released.get(round).copied() else {
            break;
        };
        bench.pass(MOST);
        bench.core.find(release.send).expect("it is still live");
    }
    let snapshot = bench.core.snapshot(bench.now);
    assert!(
        snapshot.live >= window / 2 && snapshot.live <= snapshot.window / 2,
        "{snapshot:?}"
    );
    assert_eq!(bench.reason, WaitReason::Window);
    let sent = bench.released.len();
    bench.ask(99).expect("taken");
    assert_eq!(bench.released.len(), sent + 1, "at once");
    // A place that becomes free is filled again.
    bench.end(bench.released[0].send);
    assert_eq!(bench.released.len(), sent + 2);
}

#[test]
fn one_at_a_time_goes_through_the_smallest_window() {
    let mut bench = Bench::new(LaneSettings {
        window_initial: 1,
        window_max: 1,
        ..LaneSettings::default()
    });
    background(&mut bench, 1);
    background(&mut bench, 2);
    assert_eq!(bench.released.len(), 1);
    bench.end(bench.released[0].send);
    assert_eq!(bench.released.len(), 2);
}

#[test]
fn its_own_patience_ends_its_wait() {
    let mut bench = Bench::new(LaneSettings {
        window_initial: 1,
        window_max: 1,
        ..LaneSettings::default()
    });
    bench.ask(1).expect("taken");
    let waits = background(&mut bench, 2);
    bench.run(PATIENCE);
    let [(id, refused)] = bench.expired.as_slice() else {
        panic!("one gave up: {:?}", bench.expired);
    };
    assert_eq!((*id, refused.reason), (waits, RefuseReason::Patience));
}

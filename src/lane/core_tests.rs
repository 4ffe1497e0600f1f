use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::SmallRng;

use super::super::outcome::RefuseReason;
use super::super::settling::MOST;
use super::super::snapshot::Snapshot;
use super::*;

pub(super) const PATIENCE: Duration = Duration::from_mins(1);

/// A lane on a virtual clock that polls after everything that happens, as a driver must.
pub(super) struct Bench {
    pub(super) core: LaneCore,
    pub(super) rng: SmallRng,
    pub(super) now: Instant,
    pub(super) released: Vec<Release>,
    /// The lane's state at each release.
    pub(super) states: Vec<Snapshot>,
    pub(super) expired: Vec<(TicketId, Refused)>,
    pub(super) wake: Option<Instant>,
    pub(super) reason: WaitReason,
}

impl Bench {
    pub(super) fn new(settings: LaneSettings) -> Self {
        Self {
            core: LaneCore::new(settings),
            rng: SmallRng::seed_from_u64(5),
            now: Instant::now(),
            released: Vec::new(),
            states: Vec::new(),
            expired: Vec::new(),
            wake: None,
            reason: WaitReason::Idle,
        }
    }

    pub(super) fn ticket(&self) -> Ticket {
        Ticket {
            retry: None,
            patience_until: self.now + PATIENCE,
            deadline: None,
            cost: 1,
            priority: Priority::Live,
        }
    }

    pub(super) fn ask(&mut self, user: u64) -> Result<TicketId, Refused> {
        let ticket = self.ticket();
        self.ask_with(user, ticket)
    }

    pub(super) fn ask_with(&mut self, user: u64, ticket: Ticket) -> Result<TicketId, Refused> {
        let id = self.core.enqueue(self.now, UserKey(user), ticket);
        self.poll();
        id
    }

    pub(super) fn poll(&mut self) {
        loop {
            match self.core.poll(self.now, &mut self.rng) {
                Next::Release(release) => {
                    self.core.on_sent(self.now, release.send);
                    self.released.push(release);
                    self.states.push(self.core.snapshot(self.now));
                }
                Next::Expired(id, refused) => self.expired.push((id, refused)),
                Next::Wait { until, reason } => {
                    assert!(
                        until.is_none_or(|until| until > self.now),
                        "told to wait for the past: {reason:?}"
                    );
                    (self.wake, self.reason) = (until, reason);
                    return;
                }
            }
        }
    }

    pub(super) fn pass(&mut self, time: Duration) {
        self.now += time;
        self.poll();
    }

    /// Lets time pass, poll by poll, as far as something happens by itself within `limit`.
    pub(super) fn run(&mut self, limit: Duration) {
        let end = self.now + limit;
        while let Some(wake) = self.wake.filter(|wake| *wake <= end) {
            self.now = wake;
            self.poll();
        }
        self.now = end;
        self.poll();
    }

    pub(super) fn result(&mut self, send: SendId, outcome: Outcome) {
        self.core
            .on_result(self.now, send, outcome, &[], &mut self.rng);
        self.poll();
    }

    pub(super) fn end(&mut self, send: SendId) {
        self.core.release(self.now, send);
        self.poll();
    }

    pub(super) fn fail(&mut self, send: SendId, outcome: Outcome) {
        self.result(send, outcome);
        self.end(send);
    }

    pub(super) fn last(&self) -> Release {
        *self.released.last().expect("something was released")
    }
}

pub(super) fn bench() -> Bench {
    Bench::new(LaneSettings::default())
}

pub(super) const THROTTLED: Outcome = Outcome::Throttled { hint: None };
const FAULTY: Outcome = Outcome::Faulty { timed_out: false };

#[test]
fn a_healthy_lane_releases_at_once_and_leaves_nothing_behind() {
    let mut bench = bench();
    for _ in 0..3 {
        let ticket = bench.ticket();
        let admission = bench
            .core
            .admit(bench.now, UserKey(1), ticket, &mut bench.rng);
        let Ok(Admission::Released(release)) = admission else {
            panic!("{admission:?}")
        };
        assert!(!release.probe);
        bench.result(release.send, Outcome::Served);
        bench.end(release.send);
        bench.end(release.send);
    }
    assert!(bench.core.is_idle());
    let counters = bench.core.snapshot(bench.now).counters;
    assert_eq!(
        (
            counters.sent_first,
            counters.served,
            counters.released_from_queue
        ),
        (3, 3, 0)
    );
}

#[test]
fn a_throttle_stops_all_and_the_probe_lets_them_go() {
    let mut bench = bench();
    bench.ask(1).expect("taken");
    for user in 2..12 {
        bench.ask(user).expect("taken");
    }
    let sent = bench.released.len();
    bench.fail(bench.released[0].send, THROTTLED);
    assert_eq!(bench.reason, WaitReason::Gate);
    assert_eq!(bench.released.len(), sent);
    for release in bench.released.clone().iter().skip(1) {
        bench.result(release.send, Outcome::Served);
    }
    assert_eq!(
        bench.released.len(),
        sent,
        "answers from before the closing open nothing"
    );
    while bench.released.len() == sent {
        bench.run(Duration::from_millis(100));
    }
    assert!(bench.last().probe);
    assert_eq!(bench.reason, WaitReason::Probe);
    bench.result(bench.last().send, Outcome::Served);
    assert_eq!(bench.reason, WaitReason::Pace, "the rest follow one by one");
    bench.run(Duration::from_mins(2));
    assert!(bench.released.len() > sent + 2);
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
fn a_probe_that_is_not_refused_in_time_opens_the_gate() {
    let mut bench = bench();
    bench.ask(1).expect("taken");
    bench.fail(bench.last().send, THROTTLED);
    bench.ask(2).expect("taken");
    while !bench.last().probe {
        bench.run(Duration::from_millis(100));
    }
    assert!(bench.core.snapshot(bench.now).probing);
    bench.pass(MOST);
    assert!(!bench.core.snapshot(bench.now).probing);
}

#[test]
fn failures_are_probed_one_at_a_time_until_one_is_answered() {
    let mut bench = bench();
    for user in 0..5 {
        bench.ask(user).expect("taken");
        bench.fail(bench.last().send, FAULTY);
    }
    for user in 10..20 {
        bench.ask(user).expect("taken");
    }
    assert_eq!(bench.reason, WaitReason::Breaker);
    for _ in 0..3 {
        let sent = bench.released.len();
        while bench.released.len() == sent {
            bench.run(Duration::from_millis(100));
        }
        assert_eq!(bench.released.len(), sent + 1);
        // Silence is no answer: an outage often hangs.
        bench.pass(MOST * 2);
        assert_eq!(bench.released.len(), sent + 1);
        bench.fail(bench.last().send, FAULTY);
    }
    let sent = bench.released.len();
    while bench.released.len() == sent {
        bench.run(Duration::from_millis(100));
    }
    bench.result(bench.last().send, Outcome::Served);
    assert_eq!(
        bench.released.len(),
        sent + 2,
        "one at first after an outage"
    );
}

#[test]
fn an_exhausted_account_refuses_everybody_for_a_while_where_that_is_set() {
    const EXHAUSTED_FOR: Duration = Duration::from_secs(30);
    let mut bench = Bench::new(LaneSettings {
        window_initial: 1,
        exhausted_for: EXHAUSTED_FOR,
        ..LaneSettings::default()
    });
    bench.ask(1).expect("taken");
    bench.ask(2).expect("waits for the window");
    bench.fail(bench.last().send, Outcome::Exhausted);
    assert_eq!(bench.expired.len(), 1);
    assert_eq!(bench.expired[0].1.reason, RefuseReason::Exhausted);
    assert_eq!(bench.expired[0].1.retry_after, EXHAUSTED_FOR);
    assert_eq!(
        bench.ask(3).map_err(|refused| refused.reason),
        Err(RefuseReason::Exhausted)
    );
    bench.pass(EXHAUSTED_FOR);
    bench.ask(4).expect("asked again after half a minute");
}

#[test]
fn who_would_wait_in_vain_is_told_on_arrival() {
    let mut bench = bench();
    bench.ask(1).expect("taken");
    bench.fail(
        bench.last().send,
        Outcome::Throttled {
            hint: Some(Duration::from_secs(50)),
        },
    );
    let short = Ticket {
        patience_until: bench.now + Duration::from_secs(30),
        ..bench.ticket()
    };
    let refused = bench
        .ask_with(2, short)
        .expect_err("the gate is closed for longer");
    assert_eq!(refused.reason, RefuseReason::Patience);
    assert!(
        (50..=56).contains(&refused.retry_after.as_secs()),
        "{refused:?}"
    );
    let deadline = Ticket {
        deadline: Some(bench.now + Duration::from_secs(9)),
        ..bench.ticket()
    };
    assert_eq!(
        bench
            .ask_with(3, deadline)
            .map_err(|refused| refused.reason),
        Err(RefuseReason::Deadline)
    );
    bench.ask(4).expect("patient enough");
}

#[test]
fn who_waited_long_enough_is_told_at_that_moment() {
    let mut bench = Bench::new(LaneSettings {
        window_max: 1,
        ..LaneSettings::default()
    });
    bench.ask(1).expect("taken");
    let waiting = bench.ask(2).expect("waits for the window");
    bench.run(PATIENCE.checked_sub(Duration::from_millis(1)).unwrap());
    assert!(bench.expired.is_empty());
    assert_eq!(bench.wake, Some(bench.now + Duration::from_millis(1)));
    bench.run(Duration::from_millis(1));
    assert_eq!(bench.expired[0].0, waiting);
    assert_eq!(bench.expired[0].1.reason, RefuseReason::Patience);
    bench.end(bench.released[0].send);
    assert_eq!(bench.released.len(), 1, "it is not sent after that");
}

#[test]
fn a_retry_that_is_never_sent_costs_no_quota() {
    let mut bench = Bench::new(LaneSettings {
        window_initial: 1,
        ..LaneSettings::default()
    });
    let full = bench.core.snapshot(bench.now).retry_tokens;
    bench.ask(1).expect("taken");
    let token = bench.core.may_retry(bench.now, RetryClass::Failure);
    let retry = Ticket {
        retry: token,
        ..bench.ticket()
    };
    let waiting = bench.ask_with(2, retry).expect("waits for the window");
    assert!(bench.core.snapshot(bench.now).retry_tokens < full);
    assert!(bench.core.cancel(bench.now, waiting));
    assert!(!bench.core.cancel(bench.now, waiting));
    assert!((bench.core.snapshot(bench.now).retry_tokens - full).abs() < 1e-9);
}

/// With one place, so that every release is one turn: who was refused by the vendor goes next, whatever the round;
/// who failed perhaps by its own doing waits for its user's next turn.
#[test]
fn a_turn_that_the_vendor_refused_is_given_back_and_one_that_failed_is_not() {
    let outcomes = [
        (THROTTLED, RetryClass::Throttle, true),
        (
            Outcome::Overloaded { hint: None },
            RetryClass::Overload,
            true,
        ),
        (Outcome::ConnectFailed, RetryClass::Unsent, true),
        (FAULTY, RetryClass::Failure, false),
    ];
    for (outcome, class, is_next) in outcomes {
        let mut bench = Bench::new(LaneSettings {
            window_max: 1,
            ..LaneSettings::default()
        });
        for user in [9, 1, 1, 2, 3] {
            bench.ask(user).expect("taken");
        }
        let before = bench.last().send;
        bench.result(before, Outcome::Served);
        bench.end(before);
        let first = bench.last();
        let token = bench.core.may_retry(bench.now, class);
        bench
            .core
            .on_result(bench.now, first.send, outcome, &[], &mut bench.rng);
        let ticket = Ticket {
            retry: token,
            ..bench.ticket()
        };
        let again = bench
            .core
            .enqueue(bench.now, UserKey(1), ticket)
            .expect("taken");
        bench.end(first.send);
        bench.run(Duration::from_secs(30));
        assert_eq!(
            bench.released[2].ticket == Some(again),
            is_next,
            "{class:?}"
        );
    }
}

#[test]
fn a_released_request_that_is_never_sent_gives_everything_back() {
    let mut bench = bench();
    bench.ask(1).expect("taken");
    bench.fail(bench.last().send, THROTTLED);
    bench.pass(Duration::from_secs(10));
    let before = bench.core.snapshot(bench.now);
    let id = bench
        .core
        .enqueue(bench.now, UserKey(2), bench.ticket())
        .expect("taken");
    let Next::Release(release) = bench.core.poll(bench.now, &mut bench.rng) else {
        panic!("due long ago")
    };
    assert_eq!((release.ticket, release.probe), (Some(id), true));
    // Its caller left before it was handed to the connection.
    bench.core.release(bench.now, release.send);
    let after = bench.core.snapshot(bench.now);
    assert_eq!((after.live, after.probing), (0, false));
    assert_eq!(
        after.counters.sent_first, before.counters.sent_first,
        "nothing was sent"
    );
    assert!((after.accepted_rate - before.accepted_rate).abs() < 1e-9);
    bench.ask(3).expect("taken");
    assert!(bench.last().probe, "the next one is the probe, at once");
}

#[test]
fn every_wait_is_told_by_its_reason_and_so_is_the_time_behind_closed_doors() {
    let mut bench = bench();
    bench.ask(1).expect("taken");
    bench.fail(
        bench.last().send,
        Outcome::Throttled {
            hint: Some(Duration::from_secs(5)),
        },
    );
    bench.pass(Duration::from_secs(2));
    bench.ask(2).expect("taken");
    bench.ask(3).expect("taken");
    let asked = bench.now;
    while !bench.last().probe {
        bench.run(Duration::from_millis(100));
    }
    let left = bench.released.len();
    let gate = bench.last().waits.get(WaitReason::Gate);
    assert_eq!(gate, bench.last().waits.total());
    assert!(gate >= Duration::from_secs(3) && gate <= bench.now - asked);
    bench.run(Duration::from_secs(1));
    assert!(
        bench.released.len() > left,
        "the probe is taken for accepted"
    );
    let waits = bench.last().waits;
    assert_eq!(waits.get(WaitReason::Gate), gate);
    assert_eq!(waits.get(WaitReason::Probe), MOST);
    let closed = bench.core.take_closed(bench.now);
    assert_eq!(closed.get(WaitReason::Gate), gate + Duration::from_secs(2));
    assert_eq!(closed.get(WaitReason::Probe), MOST);
    bench.pass(Duration::from_secs(1));
    assert_eq!(
        bench.core.take_closed(bench.now).total(),
        Duration::ZERO,
        "taken, and open since"
    );
}

#[test]
fn a_refusal_tells_what_was_waited_for() {
    let mut bench = bench();
    bench.ask(1).expect("taken");
    let hint = Some(Duration::from_secs(50));
    bench.fail(bench.last().send, Outcome::Throttled { hint });
    let hasty = Ticket {
        patience_until: bench.now + Duration::from_secs(9),
        ..bench.ticket()
    };
    let refused = bench.ask_with(2, hasty).expect_err("closed for longer");
    assert_eq!(refused.waiting_for, WaitReason::Gate);
    assert_eq!(refused.waits.total(), Duration::ZERO, "told on arrival");
}

#[test]
fn a_clock_that_steps_back_is_not_followed() {
    let mut bench = bench();
    bench.ask(1).expect("taken");
    bench.fail(
        bench.last().send,
        Outcome::Throttled {
            hint: Some(Duration::from_secs(5)),
        },
    );
    bench.ask(2).expect("taken");
    let before = bench.now;
    bench.pass(Duration::from_secs(8));
    bench.now = before;
    bench.poll();
    bench.ask(3).expect("taken");
    bench.result(bench.last().send, Outcome::Served);
    assert!(bench.core.clock >= Some(before + Duration::from_secs(8)));
}

#[test]
fn draining_turns_everybody_away_and_lets_answers_end() {
    let mut bench = Bench::new(LaneSettings {
        window_initial: 1,
        ..LaneSettings::default()
    });
    bench.ask(1).expect("taken");
    bench.ask(2).expect("waits");
    bench.core.drain();
    bench.poll();
    assert_eq!(bench.expired[0].1.reason, RefuseReason::Draining);
    assert_eq!(bench.expired[0].1.retry_after, Duration::from_secs(1));
    assert_eq!(
        bench.ask(3).map_err(|refused| refused.reason),
        Err(RefuseReason::Draining)
    );
    bench.result(bench.released[0].send, Outcome::Served);
    bench.end(bench.released[0].send);
    assert!(bench.core.is_idle());
}

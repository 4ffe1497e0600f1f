use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::SmallRng;

use super::super::outcome::RefuseReason;
use super::super::snapshot::Snapshot;
use super::*;

const PATIENCE: Duration = Duration::from_secs(60);

/// A lane on a virtual clock that polls after everything that happens, as a driver must.
struct Bench {
    core: LaneCore,
    rng: SmallRng,
    now: Instant,
    released: Vec<Release>,
    /// The lane's state at each release.
    states: Vec<Snapshot>,
    expired: Vec<(TicketId, Refused)>,
    wake: Option<Instant>,
    reason: WaitReason,
}

impl Bench {
    fn new(settings: LaneSettings) -> Self {
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

    fn ticket(&self) -> Ticket {
        Ticket {
            retry: None,
            patience_until: self.now + PATIENCE,
            deadline: None,
            cost: 1,
        }
    }

    fn ask(&mut self, user: u64) -> Result<TicketId, Refused> {
        let ticket = self.ticket();
        self.ask_with(user, ticket)
    }

    fn ask_with(&mut self, user: u64, ticket: Ticket) -> Result<TicketId, Refused> {
        let id = self.core.enqueue(self.now, UserKey(user), ticket);
        self.poll();
        id
    }

    fn poll(&mut self) {
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

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.poll();
    }

    /// Lets time pass, poll by poll, as far as something happens by itself within `limit`.
    fn run(&mut self, limit: Duration) {
        let end = self.now + limit;
        while let Some(wake) = self.wake.filter(|wake| *wake <= end) {
            self.now = wake;
            self.poll();
        }
        self.now = end;
        self.poll();
    }

    fn result(&mut self, send: SendId, outcome: Outcome) {
        self.core
            .on_result(self.now, send, outcome, &[], &mut self.rng);
        self.poll();
    }

    fn end(&mut self, send: SendId) {
        self.core.release(self.now, send);
        self.poll();
    }

    fn fail(&mut self, send: SendId, outcome: Outcome) {
        self.result(send, outcome);
        self.end(send);
    }

    fn last(&self) -> Release {
        *self.released.last().expect("something was released")
    }
}

fn bench() -> Bench {
    Bench::new(LaneSettings::default())
}

const THROTTLED: Outcome = Outcome::Throttled { hint: None };
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
    bench.run(Duration::from_secs(120));
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
    bench.pass(SETTLE);
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
        bench.pass(SETTLE * 2);
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
fn an_exhausted_account_refuses_everybody_for_a_while() {
    let mut bench = Bench::new(LaneSettings {
        window_initial: 1,
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
    bench.run(PATIENCE - Duration::from_millis(1));
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

#[test]
fn a_thousand_waiters_never_send_more_than_window_plus_pace() {
    let mut bench = Bench::new(LaneSettings {
        queue_per_user: 1_000,
        ..LaneSettings::default()
    });
    let mut sends: Vec<(Instant, usize, Option<f64>)> = Vec::new();
    let mut ends: Vec<(Instant, SendId)> = Vec::new();
    for user in 0..1_000 {
        let _ = bench.ask(user);
    }
    let start = bench.now;
    // A quota of two a second, and answers of five seconds.
    let mut tokens = 20.0;
    let mut seen = 0;
    while bench.now < start + PATIENCE {
        tokens = f64::min(20.0, tokens + 0.02);
        while seen < bench.released.len() {
            let release = bench.released[seen];
            let (window, pace) = (bench.states[seen].window, bench.states[seen].pace);
            seen += 1;
            sends.push((bench.now, window, pace));
            if tokens >= 1.0 {
                tokens -= 1.0;
                bench.result(release.send, Outcome::Served);
                ends.push((bench.now + Duration::from_secs(5), release.send));
            } else {
                bench.fail(release.send, THROTTLED);
            }
        }
        bench.pass(Duration::from_millis(10));
        for (_, send) in ends
            .extract_if(.., |(end, _)| *end <= bench.now)
            .collect::<Vec<_>>()
        {
            bench.end(send);
        }
    }
    assert!(sends.len() > 80, "{} sent", sends.len());
    for (index, (from, _, _)) in sends.iter().enumerate() {
        let second: Vec<_> = sends[index..]
            .iter()
            .take_while(|(at, ..)| *at < *from + Duration::from_secs(1))
            .collect();
        let window = second
            .iter()
            .map(|(_, window, _)| *window)
            .max()
            .unwrap_or_default();
        assert!(
            second.len() <= window,
            "{} in a second with a window of {window}",
            second.len()
        );
        if let Some(paces) = second
            .iter()
            .map(|(_, _, pace)| *pace)
            .collect::<Option<Vec<_>>>()
        {
            let pace = paces.into_iter().fold(0.0, f64::max);
            assert!(
                second.len() as f64 <= 2.0 + pace * 1.25,
                "{} in a second at {pace}/s",
                second.len()
            );
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Ask {
        user: u64,
        retry: bool,
        patience_ms: u64,
    },
    Pass(u64),
    Cancel(prop::sample::Index),
    Report(prop::sample::Index, Outcome),
    End(prop::sample::Index),
}

fn outcome() -> impl Strategy<Value = Outcome> {
    let hint = || prop::option::of((0u64..90_000).prop_map(Duration::from_millis));
    prop_oneof![
        4 => Just(Outcome::Served),
        3 => hint().prop_map(|hint| Outcome::Throttled { hint }),
        1 => hint().prop_map(|hint| Outcome::Overloaded { hint }),
        2 => any::<bool>().prop_map(|timed_out| Outcome::Faulty { timed_out }),
        1 => Just(Outcome::ConnectFailed),
        1 => Just(Outcome::Refused),
        1 => Just(Outcome::Abandoned),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        5 => (0u64..5, any::<bool>(), 1u64..90_000)
            .prop_map(|(user, retry, patience_ms)| Step::Ask { user, retry, patience_ms }),
        4 => (1u64..4_000).prop_map(Step::Pass),
        1 => any::<prop::sample::Index>().prop_map(Step::Cancel),
        6 => (any::<prop::sample::Index>(), outcome()).prop_map(|(index, outcome)| Step::Report(index, outcome)),
        3 => any::<prop::sample::Index>().prop_map(Step::End),
    ];
    prop::collection::vec(step, 0..150)
}

/// What an observer outside knows, and what must hold at every release.
#[derive(Default)]
struct Observer {
    waiting: std::collections::HashMap<TicketId, Ticket>,
    live: Vec<(Release, Option<Outcome>)>,
    promised: Option<Instant>,
    probe: Option<(SendId, Instant)>,
    seen: usize,
    gone: usize,
    /// Retry tokens: drawn for retries that were sent or still may be, and given.
    spent: f64,
    given: f64,
}

impl Observer {
    fn watch(&mut self, bench: &Bench) -> Result<(), TestCaseError> {
        for release in &bench.released[self.seen..] {
            let ticket = self
                .waiting
                .remove(&release.ticket.expect("all of them waited"))
                .expect("it was waiting");
            prop_assert!(bench.now < ticket.gives_up(), "released after its time");
            prop_assert!(
                self.promised.is_none_or(|promised| bench.now >= promised),
                "earlier than the hint"
            );
            // The gate's probe settles in a second of silence; until then, nobody else may leave.
            if let Some((_, sent)) = self.probe {
                prop_assert!(bench.now >= sent + SETTLE, "released beside a probe");
            }
            if release.probe {
                self.probe = Some((release.send, bench.now));
            } else {
                prop_assert!(
                    self.live.len() < bench.core.snapshot(bench.now).window,
                    "beyond the window"
                );
            }
            self.live.push((*release, None));
        }
        self.seen = bench.released.len();
        for (id, refused) in &bench.expired[self.gone..] {
            let ticket = self.waiting.remove(id).expect("it was waiting");
            prop_assert!(bench.now >= ticket.gives_up());
            self.spent -= refused.retry.map_or(0.0, |token| f64::from(token.cost));
        }
        self.gone = bench.expired.len();
        prop_assert_eq!(bench.core.live(), self.live.len());
        prop_assert_eq!(bench.core.waiting(), self.waiting.len());
        prop_assert!(
            self.spent <= self.given + 1e-6,
            "retries of {} tokens, given {}",
            self.spent,
            self.given
        );
        Ok(())
    }

    fn step(&mut self, bench: &mut Bench, step: Step) {
        match step {
            Step::Ask {
                user,
                retry,
                patience_ms,
            } => {
                let retry = if retry {
                    bench.core.may_retry(bench.now, RetryClass::Throttle)
                } else {
                    None
                };
                self.spent += retry.map_or(0.0, |token| f64::from(token.cost));
                let patience_until = bench.now + Duration::from_millis(patience_ms);
                let ticket = Ticket {
                    retry,
                    patience_until,
                    ..bench.ticket()
                };
                // Polled only after it is known to the observer.
                match bench.core.enqueue(bench.now, UserKey(user), ticket) {
                    Ok(id) => {
                        self.waiting.insert(id, ticket);
                    }
                    Err(refused) => {
                        self.spent -= refused.retry.map_or(0.0, |token| f64::from(token.cost))
                    }
                }
                bench.poll();
            }
            Step::Pass(ms) => {
                let time = Duration::from_millis(ms);
                self.given += time.as_secs_f64();
                bench.pass(time);
            }
            Step::Cancel(index) => {
                if self.waiting.is_empty() {
                    return;
                }
                let mut ids: Vec<_> = self.waiting.keys().copied().collect();
                ids.sort_unstable();
                let id = ids[index.index(ids.len())];
                assert!(bench.core.cancel(bench.now, id));
                let ticket = self.waiting.remove(&id).expect("just found");
                self.spent -= ticket.retry.map_or(0.0, |token| f64::from(token.cost));
                bench.poll();
            }
            Step::Report(index, outcome) => {
                if self.live.is_empty() {
                    return;
                }
                let index = index.index(self.live.len());
                let (release, reported) = &mut self.live[index];
                let first = reported.is_none();
                *reported = reported.or(Some(outcome));
                let send = release.send;
                if first {
                    self.learn(bench, send, outcome);
                }
                bench.result(send, outcome);
            }
            Step::End(index) => {
                if self.live.is_empty() {
                    return;
                }
                let (release, _) = self.live.swap_remove(index.index(self.live.len()));
                if self.probe.is_some_and(|(probe, _)| probe == release.send) {
                    self.probe = None;
                }
                bench.end(release.send);
            }
        }
    }

    fn learn(&mut self, bench: &Bench, send: SendId, outcome: Outcome) {
        if self.probe.is_some_and(|(probe, _)| probe == send) {
            self.probe = None;
        }
        match outcome {
            Outcome::Throttled { hint: Some(hint) } | Outcome::Overloaded { hint: Some(hint) }
                if hint <= PATIENCE =>
            {
                self.promised = self.promised.max(Some(bench.now + hint));
            }
            Outcome::Served => {
                let retry = bench.core.find(send).and_then(|send| send.retry);
                self.given += retry.map_or(1.0, |token| f64::from(token.cost));
            }
            _ => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Any interleaving of callers, answers, ends and departures keeps every promise, and leaves nothing behind.
    #[test]
    fn every_promise_holds_for_any_interleaving(steps in steps()) {
        let mut bench = bench();
        let mut observer = Observer { given: 140.0, ..Observer::default() };
        for step in steps {
            observer.step(&mut bench, step);
            observer.watch(&bench)?;
        }
        // Everybody leaves.
        for (release, _) in std::mem::take(&mut observer.live) {
            bench.core.release(bench.now, release.send);
        }
        for (id, _) in std::mem::take(&mut observer.waiting) {
            prop_assert!(bench.core.cancel(bench.now, id));
        }
        let core = &mut bench.core;
        prop_assert!(core.is_idle() && core.expiries.is_empty() && core.probe.is_none());
        prop_assert_eq!((core.unknown, core.held), (0, 0));
        core.advance(bench.now + SETTLE);
        prop_assert!(core.unsettled.is_empty());
    }

    /// A lane never gets stuck: whoever waits is released or told, whatever happened before.
    #[test]
    fn everybody_is_released_or_told(steps in steps()) {
        let mut bench = bench();
        let mut observer = Observer { given: 140.0, ..Observer::default() };
        for step in steps {
            observer.step(&mut bench, step);
            observer.watch(&bench)?;
        }
        for _ in 0..2_000 {
            let Some(wake) = bench.wake else { break };
            bench.now = wake;
            bench.poll();
        }
        prop_assert_eq!(bench.core.waiting(), 0);
    }
}

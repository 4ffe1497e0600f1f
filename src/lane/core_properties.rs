//! What must hold for any interleaving of callers, answers, ends and departures.

use std::time::Duration;

use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::SmallRng;

use super::super::settling;
use super::tests::{Bench, PATIENCE, THROTTLED};
use super::*;

#[derive(Debug, Clone)]
enum Step {
    Ask {
        user: u64,
        retry: Option<RetryClass>,
        patience_ms: u64,
        deadline_ms: Option<u64>,
        priority: Priority,
    },
    Pass(u64),
    Cancel(prop::sample::Index),
    Report(prop::sample::Index, Outcome),
    End(prop::sample::Index),
}

/// Few retries, so that the quota's end is met.
const RETRY_TOKENS: u32 = 20;

fn bench() -> Bench {
    Bench::new(LaneSettings {
        retry_tokens: RETRY_TOKENS,
        ..LaneSettings::default()
    })
}

fn observer() -> Observer {
    Observer {
        given: f64::from(RETRY_TOKENS),
        ..Observer::default()
    }
}

fn class() -> impl Strategy<Value = RetryClass> {
    prop_oneof![
        Just(RetryClass::Failure),
        Just(RetryClass::Overload),
        Just(RetryClass::Throttle),
        Just(RetryClass::Unsent),
    ]
}

fn priority() -> impl Strategy<Value = Priority> {
    prop_oneof![3 => Just(Priority::Live), 1 => Just(Priority::Background)]
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
        5 => (0u64..5, prop::option::of(class()), 1u64..90_000, prop::option::of(1u64..60_000), priority()).prop_map(
            |(user, retry, patience_ms, deadline_ms, priority)| Step::Ask { user, retry, patience_ms, deadline_ms, priority }
        ),
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
    waiting: std::collections::HashMap<TicketId, (Ticket, Instant)>,
    live: Vec<(Release, Option<Outcome>)>,
    background: std::collections::HashSet<SendId>,
    promised: Option<Instant>,
    probe: Option<(SendId, Instant)>,
    seen: usize,
    gone: usize,
    /// Retry tokens: drawn for retries that were sent or still may be, and given.
    spent: f64,
    given: f64,
}

impl Observer {
    /// Whether somebody waits for an answer whose time is not over.
    fn live_waits(&self, now: Instant) -> bool {
        let mut tickets = self.waiting.values().map(|(ticket, _)| ticket);
        tickets.any(|ticket| ticket.priority == Priority::Live && now < ticket.gives_up())
    }

    fn watch(&mut self, bench: &Bench) -> Result<(), TestCaseError> {
        for release in &bench.released[self.seen..] {
            let (ticket, since) = self
                .waiting
                .remove(&release.ticket.expect("all of them waited"))
                .expect("it was waiting");
            prop_assert_eq!(
                release.waits.total(),
                bench.now - since,
                "a wait without a reason"
            );
            prop_assert!(bench.now < ticket.gives_up(), "released after its time");
            prop_assert!(
                self.promised.is_none_or(|promised| bench.now >= promised),
                "earlier than the hint"
            );
            // The gate's probe settles in a second of silence; until then, nobody else may leave.
            if let Some((_, sent)) = self.probe {
                prop_assert!(
                    bench.now >= sent + settling::LEAST,
                    "released beside a probe"
                );
            }
            if ticket.priority == Priority::Background {
                prop_assert!(!self.live_waits(bench.now), "before those who wait");
                self.background.insert(release.send);
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
            let (ticket, since) = self.waiting.remove(id).expect("it was waiting");
            prop_assert!(bench.now >= ticket.gives_up());
            prop_assert_eq!(
                refused.waits.total(),
                bench.now - since,
                "a wait without a reason"
            );
            self.spent -= refused
                .retry
                .map_or(0.0, |token| f64::from(token.class.cost()));
        }
        self.gone = bench.expired.len();
        prop_assert_eq!(bench.core.live(), self.live.len());
        prop_assert_eq!(bench.core.background, self.background.len());
        prop_assert_eq!(bench.core.waiting(), self.waiting.len());
        prop_assert!(
            self.spent <= self.given + 1e-6,
            "retries of {} tokens, given {}",
            self.spent,
            self.given
        );
        Ok(())
    }

    fn step(&mut self, bench: &mut Bench, step: &Step) {
        match step {
            Step::Ask {
                user,
                retry,
                patience_ms,
                deadline_ms,
                priority,
            } => {
                let after = |ms| bench.now + Duration::from_millis(ms);
                let (patience_until, deadline) = (after(*patience_ms), deadline_ms.map(after));
                let asked = Ticket {
                    retry: None,
                    patience_until,
                    deadline,
                    cost: 1,
                    priority: *priority,
                };
                self.ask(bench, UserKey(*user), *retry, asked);
            }
            Step::Pass(ms) => {
                let time = Duration::from_millis(*ms);
                self.given += time.as_secs_f64();
                bench.pass(time);
            }
            Step::Cancel(index) if !self.waiting.is_empty() => self.cancel(bench, *index),
            Step::Report(index, outcome) if !self.live.is_empty() => {
                let index = index.index(self.live.len());
                let (release, reported) = &mut self.live[index];
                let first = reported.replace(*outcome).is_none();
                let send = release.send;
                if first {
                    self.learn(bench, send, *outcome);
                }
                bench.result(send, *outcome);
            }
            Step::End(index) if !self.live.is_empty() => {
                let (release, _) = self.live.swap_remove(index.index(self.live.len()));
                self.background.remove(&release.send);
                if self.probe.is_some_and(|(probe, _)| probe == release.send) {
                    self.probe = None;
                }
                bench.end(release.send);
            }
            Step::Cancel(_) | Step::Report(..) | Step::End(_) => {}
        }
    }

    fn ask(&mut self, bench: &mut Bench, user: UserKey, retry: Option<RetryClass>, asked: Ticket) {
        let retry = retry.and_then(|class| bench.core.may_retry(bench.now, class));
        self.spent += retry.map_or(0.0, |token| f64::from(token.class.cost()));
        let ticket = Ticket { retry, ..asked };
        // Polled only after it is known to the observer.
        match bench.core.enqueue(bench.now, user, ticket) {
            Ok(id) => {
                self.waiting.insert(id, (ticket, bench.now));
            }
            Err(refused) => {
                self.spent -= refused
                    .retry
                    .map_or(0.0, |token| f64::from(token.class.cost()));
            }
        }
        bench.poll();
    }

    fn cancel(&mut self, bench: &mut Bench, index: prop::sample::Index) {
        let mut ids: Vec<_> = self.waiting.keys().copied().collect();
        ids.sort_unstable();
        let id = ids[index.index(ids.len())];
        assert!(bench.core.cancel(bench.now, id));
        let (ticket, _) = self.waiting.remove(&id).expect("just found");
        self.spent -= ticket
            .retry
            .map_or(0.0, |token| f64::from(token.class.cost()));
        bench.poll();
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
                self.given += retry.map_or(1.0, |token| f64::from(token.class.cost()));
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
        let mut observer = observer();
        for step in steps {
            observer.step(&mut bench, &step);
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
        prop_assert_eq!((core.unknown, core.held, core.background), (0, 0, 0));
        core.advance(bench.now + settling::MOST);
        prop_assert!(core.unsettled.is_empty());
    }

    /// A lane never gets stuck: whoever waits is released or told, whatever happened before.
    #[test]
    fn everybody_is_released_or_told(steps in steps()) {
        let mut bench = bench();
        let mut observer = observer();
        for step in steps {
            observer.step(&mut bench, &step);
            observer.watch(&bench)?;
        }
        for _ in 0..2_000 {
            let Some(wake) = bench.wake else { break };
            bench.now = wake;
            bench.poll();
        }
        prop_assert_eq!(bench.core.waiting(), 0);
    }

    /// A thousand waiters against any vendor: in no second more leave than window and pace allow together, and once there
    /// is a pace, no more than it allows. Answers last longer than a second, so that no place is used twice in one.
    #[test]
    fn a_thousand_waiters_never_send_more_than_window_plus_pace(
        vendor in (0.2f64..20.0, 1.0f64..40.0),
        answer_ms in 1_000u64..8_000,
        reply_ms in 0u64..300,
        hinted in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let sends = thousand(vendor, answer_ms, reply_ms, hinted, seed);
        prop_assert!(sends.len() > 5, "{} sent", sends.len());
        for (index, first) in sends.iter().enumerate() {
            let until = first.at + Duration::from_secs(1);
            let second: Vec<_> = sends[index..].iter().take_while(|send| send.at < until).collect();
            let most = |figure: &dyn Fn(&Sent) -> f64| second.iter().map(|send| figure(send)).fold(0.0, f64::max);
            let window = most(&|send| send.window as f64);
            let pace = most(&|send| send.pace.unwrap_or(0.0));
            let sent = second.len() as f64;
            prop_assert!(sent <= window + pace, "{sent} in a second, window {window}, pace {pace}");
            // The first of them may have been due for long, and a gap is up to a fifth shorter than the pace says.
            let all_paced = second.iter().all(|send| send.pace.is_some());
            prop_assert!(!all_paced || sent <= 2.0 + pace / 0.8, "{sent} in a second at {pace}");
        }
    }
}

/// What was in force when a request left.
struct Sent {
    at: Instant,
    window: usize,
    pace: Option<f64>,
}

/// Plays a minute of a thousand callers against a bucket of tokens that refills at some rate up to some size.
fn thousand(
    (rate, burst): (f64, f64),
    answer_ms: u64,
    reply_ms: u64,
    hinted: bool,
    dice: u64,
) -> Vec<Sent> {
    const TICK: Duration = Duration::from_millis(10);
    let mut bench = Bench::new(LaneSettings::default());
    bench.rng = SmallRng::seed_from_u64(dice);
    for user in 0..1_000 {
        let ticket = bench.ticket();
        let _ = bench.core.enqueue(bench.now, UserKey(user), ticket);
    }
    bench.poll();
    let end = bench.now + PATIENCE;
    let (mut tokens, mut seen, mut sends) = (burst, 0, Vec::new());
    let mut replies: Vec<(Instant, SendId, Outcome)> = Vec::new();
    let mut ends: Vec<(Instant, SendId)> = Vec::new();
    while bench.now < end {
        tokens = f64::min(burst, tokens + rate * TICK.as_secs_f64());
        while seen < bench.released.len() {
            let (send, state) = (bench.released[seen].send, &bench.states[seen]);
            sends.push(Sent {
                at: bench.now,
                window: state.window,
                pace: state.pace,
            });
            seen += 1;
            let outcome = if tokens >= 1.0 {
                tokens -= 1.0;
                Outcome::Served
            } else if hinted {
                let hint = Duration::from_secs_f64((1.0 - tokens) / rate);
                Outcome::Throttled { hint: Some(hint) }
            } else {
                THROTTLED
            };
            replies.push((bench.now + Duration::from_millis(reply_ms), send, outcome));
        }
        bench.pass(TICK);
        let now = bench.now;
        for (_, send, outcome) in replies
            .extract_if(.., |(at, ..)| *at <= now)
            .collect::<Vec<_>>()
        {
            bench.result(send, outcome);
            let served = outcome == Outcome::Served;
            let after = if served {
                Duration::from_millis(answer_ms)
            } else {
                Duration::ZERO
            };
            ends.push((now + after, send));
        }
        for (_, send) in ends
            .extract_if(.., |(at, _)| *at <= now)
            .collect::<Vec<_>>()
        {
            bench.end(send);
        }
    }
    sends
}

//! What must hold for any interleaving of callers, answers, ends and departures.

use proptest::prelude::*;

use super::tests::{Bench, PATIENCE, bench};
use super::*;

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
    waiting: std::collections::HashMap<TicketId, (Ticket, Instant)>,
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
            } => {
                let patience = Duration::from_millis(*patience_ms);
                self.ask(bench, UserKey(*user), *retry, patience);
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
                if self.probe.is_some_and(|(probe, _)| probe == release.send) {
                    self.probe = None;
                }
                bench.end(release.send);
            }
            Step::Cancel(_) | Step::Report(..) | Step::End(_) => {}
        }
    }

    fn ask(&mut self, bench: &mut Bench, user: UserKey, retry: bool, patience: Duration) {
        let draw = || bench.core.may_retry(bench.now, RetryClass::Throttle);
        let retry = retry.then(draw).flatten();
        self.spent += retry.map_or(0.0, |token| f64::from(token.class.cost()));
        let patience_until = bench.now + patience;
        let ticket = Ticket {
            retry,
            patience_until,
            ..bench.ticket()
        };
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
        let mut observer = Observer { given: 140.0, ..Observer::default() };
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
}

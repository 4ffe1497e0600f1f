//! A discrete-event simulator: callers, their retries and lanes on one side, the vendor on the other.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::SmallRng;
use surgetank::lane::{
    LaneCore, LaneSettings, Next, Outcome, Priority, RetryClass, RetryToken, SendId, Ticket,
    TicketId,
};
use tokio::time::Instant;

use super::crowd::{Caller, Run, by_user, callers};
use super::ideal;
use super::scenario::{FaultKind, Policy, Scenario};
use super::vendor::{Answer, VendorState, between};

const MAX_RETRIES: u32 = 3;
/// Events are told in whole microseconds.
const ROUNDING: Duration = Duration::from_micros(100);
const HINT_CAP: Duration = Duration::from_mins(1);

#[derive(Debug, Clone, Copy, PartialEq)]
enum Event {
    Arrive { caller: usize },
    Retry { caller: usize, token: RetryToken },
    Answer { call: usize },
    End { call: usize },
    Poll { instance: usize, number: u64 },
}

/// A call on its way.
struct Call {
    caller: usize,
    send: Option<SendId>,
    probe: bool,
    sent: f64,
    answer: Answer,
}

struct Instance {
    core: LaneCore,
    waiting: HashMap<TicketId, usize>,
    /// The number of the one poll that is still wanted.
    wanted: u64,
    hinted_until: Instant,
    probe: Option<usize>,
}

struct Storm<'a> {
    scenario: &'a Scenario,
    vendor: VendorState<'a>,
    callers: Vec<Caller>,
    attempts: Vec<u32>,
    instances: Vec<Instance>,
    calls: Vec<Call>,
    events: BinaryHeap<Reverse<(u64, usize)>>,
    log: Vec<Event>,
    origin: Instant,
    now: f64,
    rng: SmallRng,
    run: Run,
}

/// Plays one scenario with one seed.
pub(crate) fn play(scenario: &Scenario, seed: u64) -> Run {
    let mut rng = SmallRng::seed_from_u64(seed);
    let callers = callers(scenario, &mut rng);
    let settings = LaneSettings {
        hint_cap: HINT_CAP,
        quota_share: scenario.quota_share.unwrap_or(1.0),
        tempo: scenario.base / 2.0,
        ..LaneSettings::default()
    };
    let origin = Instant::now();
    let instance = |_| Instance {
        core: LaneCore::new(settings.clone()),
        waiting: HashMap::new(),
        wanted: 0,
        hinted_until: origin,
        probe: None,
    };
    let mut storm = Storm {
        scenario,
        vendor: VendorState::new(&scenario.vendor),
        attempts: vec![0; callers.len()],
        run: Run {
            asked: callers.len(),
            ideal: ideal::served(scenario, &callers),
            asked_by_user: by_user(&callers),
            ..Run::default()
        },
        instances: (0..scenario.instances).map(instance).collect(),
        callers,
        calls: Vec::new(),
        events: BinaryHeap::new(),
        log: Vec::new(),
        origin,
        now: 0.0,
        rng,
    };
    storm.run.light_asked = storm.callers.iter().filter(|caller| caller.light).count();
    for (index, caller) in storm.callers.clone().iter().enumerate() {
        storm.at(caller.arrives, Event::Arrive { caller: index });
    }
    storm.play();
    storm.run
}

impl Storm<'_> {
    fn at(&mut self, when: f64, event: Event) {
        self.log.push(event);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "minutes, in microseconds"
        )]
        let micros = (when * 1e6).ceil() as u64;
        self.events.push(Reverse((micros, self.log.len() - 1)));
    }

    fn play(&mut self) {
        while let Some(Reverse((micros, index))) = self.events.pop() {
            self.now = micros as f64 / 1e6;
            match self.log[index] {
                Event::Arrive { caller } => self.ask(caller, None),
                Event::Retry { caller, token } => self.ask(caller, Some(token)),
                Event::Answer { call } => self.answered(call),
                Event::End { call } => self.ended(call),
                Event::Poll { instance, number } => {
                    if self.instances[instance].wanted == number {
                        self.poll(instance);
                    }
                }
            }
        }
    }

    /// The proxy's clock at a moment of true time.
    fn clock(&self, at: f64) -> Instant {
        let leaps: f64 = self
            .scenario
            .leaps
            .iter()
            .filter(|leap| leap.at <= at)
            .map(|leap| leap.by)
            .sum();
        self.origin + Duration::from_secs_f64((at + leaps).max(0.0))
    }

    fn gives_up(&self, caller: usize) -> f64 {
        self.callers[caller].arrives + self.scenario.patience
    }

    fn ask(&mut self, caller: usize, retry: Option<RetryToken>) {
        if self.scenario.policy == Policy::Alone {
            self.call(caller, None, false);
            return;
        }
        let index = self.callers[caller].instance;
        let patience = Duration::from_secs_f64(self.scenario.patience);
        let patience_until = self.clock(self.callers[caller].arrives) + patience;
        let ticket = Ticket {
            retry,
            patience_until,
            deadline: None,
            cost: 1,
            priority: Priority::Live,
        };
        let now = self.clock(self.now);
        let instance = &mut self.instances[index];
        if let Ok(ticket) = instance
            .core
            .enqueue(now, self.callers[caller].user, ticket)
        {
            instance.waiting.insert(ticket, caller);
        }
        self.poll(index);
    }

    fn poll(&mut self, index: usize) {
        loop {
            let now = self.clock(self.now);
            let instance = &mut self.instances[index];
            match instance.core.poll(now, &mut self.rng) {
                Next::Release(release) => {
                    instance.core.on_sent(now, release.send);
                    let caller = release
                        .ticket
                        .and_then(|ticket| instance.waiting.remove(&ticket))
                        .expect("everybody waited");
                    if now + ROUNDING < instance.hinted_until {
                        self.run.violations += 1;
                    }
                    self.call(caller, Some(release.send), release.probe);
                }
                Next::Expired(ticket, _) => {
                    instance.waiting.remove(&ticket).expect("it was waiting");
                }
                Next::Wait { until, .. } => {
                    instance.wanted += 1;
                    let number = instance.wanted;
                    if let Some(until) = until {
                        let wait = until.saturating_duration_since(now).as_secs_f64();
                        self.at(
                            self.now + wait.max(1e-6),
                            Event::Poll {
                                instance: index,
                                number,
                            },
                        );
                    }
                    return;
                }
            }
        }
    }

    fn call(&mut self, caller: usize, send: Option<SendId>, probe: bool) {
        self.run.calls += 1;
        self.attempts[caller] += 1;
        if self.now >= self.gives_up(caller) && self.scenario.leaps.is_empty() {
            self.run.violations += 1;
        }
        let answer = self.vendor.call(self.now, &mut self.rng);
        let after = match answer {
            Answer::Served { first_byte, end } => {
                self.at(
                    self.now + end,
                    Event::End {
                        call: self.calls.len(),
                    },
                );
                first_byte
            }
            Answer::Throttled { after, .. } | Answer::Failed { after, .. } => after,
        };
        let call = self.calls.len();
        if probe {
            let instance = &mut self.instances[self.callers[caller].instance];
            // One whose verdict is in, or that hung for the breaker's patience, is no probe any more.
            let others = instance
                .probe
                .is_some_and(|other| self.now - self.calls[other].sent < 1.0);
            self.run.max_probes = self.run.max_probes.max(1 + usize::from(others));
            instance.probe = Some(call);
        }
        self.calls.push(Call {
            caller,
            send,
            probe,
            sent: self.now,
            answer,
        });
        self.at(self.now + after, Event::Answer { call });
    }

    fn answered(&mut self, index: usize) {
        let Call {
            caller,
            send,
            probe,
            answer,
            ..
        } = self.calls[index];
        let which = self.callers[caller].instance;
        if probe && self.instances[which].probe == Some(index) {
            self.instances[which].probe = None;
        }
        let outcome = answer.outcome();
        if let Some(send) = send {
            let now = self.clock(self.now);
            let reports = self.vendor.reports(self.now);
            let instance = &mut self.instances[which];
            instance
                .core
                .on_result(now, send, outcome, &reports, &mut self.rng);
            if outcome != Outcome::Served {
                instance.core.release(now, send);
            }
        }
        match answer {
            Answer::Served { .. } => self.served(index),
            Answer::Throttled { hint, .. } => {
                self.run.throttled += 1;
                if let Some(hint) = hint.filter(|hint| *hint <= HINT_CAP) {
                    let until = self.clock(self.now) + hint;
                    let instance = &mut self.instances[which];
                    instance.hinted_until = instance.hinted_until.max(until);
                }
                self.retry(caller, RetryClass::Throttle, hint);
            }
            Answer::Failed {
                kind: FaultKind::Unreachable,
                ..
            } => self.retry(caller, RetryClass::Unsent, None),
            Answer::Failed {
                kind: FaultKind::Overloaded,
                ..
            } => self.retry(caller, RetryClass::Overload, None),
            Answer::Failed { .. } => self.retry(caller, RetryClass::Failure, None),
        }
        if send.is_some() {
            self.poll(which);
        }
    }

    fn served(&mut self, index: usize) {
        let call = &self.calls[index];
        let caller = self.callers[call.caller];
        self.run.served += 1;
        self.run.light_served += usize::from(caller.light);
        *self.run.served_by_user.entry(caller.user).or_default() += 1;
        self.run.waits.push(call.sent - caller.arrives);
    }

    fn ended(&mut self, index: usize) {
        self.vendor.ended();
        let Call { caller, send, .. } = self.calls[index];
        if let Some(send) = send {
            let which = self.callers[caller].instance;
            let now = self.clock(self.now);
            self.instances[which].core.release(now, send);
            self.poll(which);
        }
    }

    /// The retry layer: attempts, hints beyond the cap, the lane's quota, and the wait before the next attempt.
    fn retry(&mut self, caller: usize, class: RetryClass, hint: Option<Duration>) {
        if self.attempts[caller] > MAX_RETRIES || hint.is_some_and(|hint| hint > HINT_CAP) {
            return;
        }
        let exponent = i32::try_from(self.attempts[caller] - 1).expect("a handful");
        let base = self.scenario.base;
        let backoff =
            (base * 2f64.powi(exponent)).min(15.0 * base) + between((0.0, base), &mut self.rng);
        let hint = hint.unwrap_or_default().as_secs_f64();
        let backoff = backoff.max(hint + between((0.0, (hint / 2.0).max(0.25)), &mut self.rng));
        if self.scenario.policy == Policy::Alone {
            let wait = backoff;
            if self.now + wait < self.gives_up(caller) {
                self.at(self.now + wait, Event::Arrive { caller });
            }
            return;
        }
        let which = self.callers[caller].instance;
        let now = self.clock(self.now);
        let Some(token) = self.instances[which].core.may_retry(now, class) else {
            return;
        };
        let wait = match class {
            RetryClass::Throttle | RetryClass::Overload | RetryClass::Failure => backoff,
            RetryClass::Unsent => between((0.0, 0.25 * 2f64.powi(exponent)), &mut self.rng),
        };
        if self.now + wait < self.gives_up(caller) {
            self.at(self.now + wait, Event::Retry { caller, token });
        } else {
            self.instances[which].core.return_retry(token);
        }
    }
}

//! The lane's state machine: all parts behind one synchronous interface.
//!
//! A request asks to be released; the doors are tried from the outside in, and the first shut one is the reason to wait:
//!
//! ```text
//! exhausted? -> refused    breaker -> gate -> pace -> window -> released, whoever's turn it is in the fair queue
//! ```
//!
//! Nothing here sleeps, sends or draws on a global: time and randomness are arguments. Whoever drives the core
//! calls [`LaneCore::poll`] after anything that could let somebody go, obeys what it says until it says to wait,
//! and calls again at the instant named. [`super::Lane`] does that for tasks; the scenarios do it for a virtual clock.
//!
//! Of one request the core hears, in this order: [`LaneCore::enqueue`] (or [`LaneCore::admit`]), a release by `poll`,
//! [`LaneCore::on_sent`], [`LaneCore::on_result`] once, [`LaneCore::release`] when its body has ended or its caller left.
//! A request that leaves earlier takes the exit of its phase: [`LaneCore::cancel`] while it waits,
//! [`LaneCore::release`] from its release on, with or without a result.

use std::collections::{BTreeSet, VecDeque};

use doors::Door;
use rand::Rng;
use slab::Slab;
use times::Times;
use tokio::time::Instant;

use super::breaker::Breaker;
use super::gate::Gate;
use super::outcome::{Change, Outcome, Refused, WaitReason};
use super::pace::{EpochId, Pace};
use super::priority::{Priority, Queues};
use super::queue::{TicketId, UserKey};
use super::quota::{RetryClass, RetryQuota, RetryToken};
use super::report::QuotaReport;
use super::settings::LaneSettings;
use super::settling::Settling;
use super::snapshot::Counters;
use super::waits::Waits;
use super::window::Window;

mod doors;
mod fates;
mod times;
mod types;

pub use types::{Admission, Next, Release, SendId, Ticket};

/// One lane.
#[derive(Debug)]
pub struct LaneCore {
    settings: LaneSettings,
    gate: Gate,
    breaker: Breaker,
    pace: Pace,
    window: Window,
    quota: RetryQuota,
    queue: Queues<Waiting>,
    /// Every waiting ticket by the instant at which it gives up.
    expiries: BTreeSet<(Instant, TicketId)>,
    sends: Slab<Send>,
    /// Requests of unknown fate in the order of sending. Known ones stay until they reach the front.
    unsettled: VecDeque<(Instant, SendId)>,
    /// Live requests of unknown fate.
    unknown: usize,
    /// Live requests that the upstream has taken.
    held: usize,
    /// Live requests of the background.
    background: usize,
    /// The one request whose verdict all others wait for.
    probe: Option<SendId>,
    serial: u64,
    exhausted_until: Option<Instant>,
    draining: bool,
    settling: Settling,
    /// The latest instant seen: callers on several threads may report slightly out of order.
    clock: Option<Instant>,
    counters: Counters,
    times: Times,
}

#[derive(Debug, Clone, Copy)]
struct Waiting {
    ticket: Ticket,
    since: Instant,
    /// The lane's own sum when it came.
    before: Waits,
}

#[derive(Debug, Clone, Copy)]
struct Send {
    serial: u64,
    sent_at: Instant,
    on_wire: bool,
    fate: Fate,
    epoch: Option<EpochId>,
    retry: Option<RetryToken>,
    priority: Priority,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Unknown,
    /// Not refused for long enough to count as taken; a result may still come.
    Silent,
    /// Taken, with a result.
    Taken,
    /// Not taken, with a result.
    Lost,
}

impl LaneCore {
    /// A lane that knows nothing.
    #[must_use]
    pub fn new(settings: LaneSettings) -> Self {
        let share = settings.quota_share.clamp(0.001, 1.0);
        let initial = (f64::from(settings.window_initial) * share).ceil();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a part of a u32"
        )]
        let initial = initial as u32;
        Self {
            gate: Gate::new(settings.hint_cap, settings.tempo),
            breaker: Breaker::new(settings.tempo),
            pace: Pace::new(share),
            window: Window::new(initial, settings.window_max),
            quota: RetryQuota::new(settings.retry_tokens),
            queue: Queues::new(settings.queue_per_user, settings.queue_per_lane),
            expiries: BTreeSet::new(),
            sends: Slab::new(),
            unsettled: VecDeque::new(),
            unknown: 0,
            held: 0,
            background: 0,
            probe: None,
            serial: 0,
            exhausted_until: None,
            draining: false,
            settling: Settling::default(),
            clock: None,
            counters: Counters::default(),
            times: Times::default(),
            settings,
        }
    }

    /// Takes new settings and keeps what it has learned. The bounds of queue, window and retry quota are those it was
    /// made with: they are nobody's settings.
    pub fn retune(&mut self, settings: LaneSettings) {
        self.gate.retune(settings.hint_cap, settings.tempo);
        self.breaker.retune(settings.tempo);
        self.pace.retune(settings.quota_share);
        self.settings = settings;
    }

    /// Releases the request at once if nobody waits and every door is open; otherwise as [`LaneCore::enqueue`].
    pub fn admit<R: Rng + ?Sized>(
        &mut self,
        now: Instant,
        user: UserKey,
        ticket: Ticket,
        rng: &mut R,
    ) -> Result<Admission, Refused> {
        let now = self.advance(now);
        if self.queue.is_clear_for(ticket.priority)
            && self.refusal(now, &ticket).is_none()
            && let Door::Open { probe } = self.door(now, ticket.priority)
        {
            let send = self.send(now, &ticket, probe, false, rng);
            self.on_sent(now, send);
            return Ok(Admission::Released(Release {
                ticket: None,
                send,
                probe,
                waits: Waits::default(),
            }));
        }
        self.enqueue(now, user, ticket).map(Admission::Queued)
    }

    /// Puts a request in the queue, or refuses it on arrival. Poll afterwards.
    pub fn enqueue(
        &mut self,
        now: Instant,
        user: UserKey,
        ticket: Ticket,
    ) -> Result<TicketId, Refused> {
        let now = self.advance(now);
        if let Some(reason) = self.refusal(now, &ticket) {
            return Err(self.refuse(now, &ticket, reason, Waits::default()));
        }
        let place = ticket.place();
        let wait = self
            .outlook(now, self.queue.ahead_of(ticket.priority, user, place))
            .wait();
        if now + wait >= ticket.gives_up() {
            return Err(self.refuse(now, &ticket, ticket.gives_up_for(), Waits::default()));
        }
        let waiting = Waiting {
            ticket,
            since: now,
            before: self.times.waited,
        };
        let (priority, cost) = (ticket.priority, ticket.cost);
        let id = match self.queue.push(priority, user, place, cost, waiting) {
            Ok(id) => id,
            Err(reason) => return Err(self.refuse(now, &ticket, reason, Waits::default())),
        };
        self.expiries.insert((ticket.gives_up(), id));
        Ok(id)
    }

    /// What may happen now. Call until it answers [`Next::Wait`].
    pub fn poll<R: Rng + ?Sized>(&mut self, now: Instant, rng: &mut R) -> Next {
        let now = self.advance(now);
        if let Some((id, refused)) = self.expire(now) {
            return Next::Expired(id, refused);
        }
        self.times.waiting_for = None;
        let Some(next) = self.queue.next() else {
            return Next::Wait {
                until: None,
                reason: WaitReason::Idle,
            };
        };
        match self.door(now, next) {
            Door::Open { probe } => match self.queue.pop() {
                Some((id, _, waiting)) => {
                    self.expiries.remove(&(waiting.ticket.gives_up(), id));
                    let waits = self.times.waited.since(&waiting.before);
                    self.counters.waited(waits.total());
                    let send = self.send(now, &waiting.ticket, probe, true, rng);
                    Next::Release(Release {
                        ticket: Some(id),
                        send,
                        probe,
                        waits,
                    })
                }
                None => Next::Wait {
                    until: None,
                    reason: WaitReason::Idle,
                },
            },
            Door::Shut { until, reason } => {
                self.times.waiting_for = Some(reason);
                let gives_up = self.expiries.first().map(|(at, _)| *at);
                let until = [until, gives_up, self.settles(reason)]
                    .into_iter()
                    .flatten()
                    .min();
                Next::Wait { until, reason }
            }
        }
    }

    /// A waiting request left. Returns false when it is not waiting any more: it was released, or its time ran out.
    pub fn cancel(&mut self, now: Instant, id: TicketId) -> bool {
        self.advance(now);
        match self.queue.remove(id) {
            Some(waiting) => {
                self.left(id, &waiting.ticket);
                self.counters.cancelled += 1;
                true
            }
            None => false,
        }
    }

    /// A released request is handed to the connection now.
    pub fn on_sent(&mut self, now: Instant, id: SendId) {
        let now = self.advance(now);
        let probe = self.probe == Some(id);
        if let Some(send) = self
            .sends
            .get_mut(id.index)
            .filter(|send| send.serial == id.serial && !send.on_wire)
        {
            send.on_wire = true;
            send.sent_at = now;
            self.counters.sent(send.retry.is_some(), probe);
        }
    }

    /// The answer to a request began, or will never come. Reported once; later reports are ignored.
    /// Returns what that changes for everybody.
    pub fn on_result<R: Rng + ?Sized>(
        &mut self,
        now: Instant,
        id: SendId,
        outcome: Outcome,
        reports: &[QuotaReport],
        rng: &mut R,
    ) -> Option<Change> {
        let now = self.advance(now);
        self.pace.on_report(now, reports);
        let send = self.find(id)?;
        if matches!(send.fate, Fate::Taken | Fate::Lost) {
            return None;
        }
        self.counters.result(outcome);
        let probe = self.probe == Some(id);
        let change = self.judge(now, id, send, outcome, rng);
        if probe {
            self.verdict(now);
        }
        change.map(|kind| self.change(now, kind))
    }

    /// A released request's owner was woken only when its time was over: it is not sent, and everything is given back.
    pub fn too_late(&mut self, now: Instant, release: &Release, ticket: &Ticket) -> Refused {
        let now = self.advance(now);
        self.release(now, release.send);
        let unpaid = Ticket {
            retry: None,
            ..*ticket
        };
        Refused {
            retry: ticket.retry,
            ..self.refuse(now, &unpaid, ticket.gives_up_for(), release.waits)
        }
    }

    /// A released request has ended: its body was read to the end, broke, or its caller left. Its place is free.
    pub fn release(&mut self, now: Instant, id: SendId) {
        let now = self.advance(now);
        let Some(send) = self.find(id) else { return };
        if !send.on_wire {
            self.unsend(now, id, send);
        } else if matches!(send.fate, Fate::Unknown | Fate::Silent) {
            self.counters.abandoned += 1;
            self.lost(now, id);
        }
        if self.probe == Some(id) {
            self.verdict(now);
        }
        let Send { fate, priority, .. } = self.sends.remove(id.index);
        if matches!(fate, Fate::Silent | Fate::Taken) {
            self.held -= 1;
        }
        self.background -= usize::from(priority == Priority::Background);
    }

    /// Draws the right to one retry after a failure of this class; nothing when the lane's retry quota is spent.
    pub fn may_retry(&mut self, now: Instant, class: RetryClass) -> Option<RetryToken> {
        let now = self.advance(now);
        let token = self.quota.withdraw(now, class);
        if token.is_none() {
            self.counters.retries_denied += 1;
        }
        token
    }

    /// Puts back the right to a retry that will not be asked for after all.
    pub fn return_retry(&mut self, token: RetryToken) {
        self.quota.refund(token);
    }

    /// Charges a user for what its request cost beyond (or below) its ticket's cost, while the user has more waiting.
    pub fn correct_cost(&mut self, priority: Priority, user: UserKey, extra: i64) {
        self.queue.correct(priority, user, extra);
    }

    /// From now on nothing new waits; what waits already goes on.
    pub fn drain(&mut self) {
        self.draining = true;
    }

    /// Requests waiting.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// Released requests that have not ended.
    #[must_use]
    pub fn live(&self) -> usize {
        self.sends.len()
    }

    /// True when a refusal or an outage has taught this lane something that a new one would have to find out again.
    #[must_use]
    pub fn has_learned(&self) -> bool {
        self.gate.has_closed() || self.breaker.is_shut() || self.exhausted_until.is_some()
    }

    /// True when nothing waits and nothing is under way.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.sends.is_empty()
    }
}

#[cfg(test)]
#[path = "core_background_tests.rs"]
mod background_tests;
#[cfg(test)]
#[path = "core_properties.rs"]
mod properties;
#[cfg(test)]
#[path = "core_tests.rs"]
mod tests;

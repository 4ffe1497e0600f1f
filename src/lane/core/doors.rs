//! What a request meets before it may leave: refusals, doors, and the moment of release.

use std::time::Duration;

use rand::Rng;
use tokio::time::Instant;

use super::super::gate::Passage;
use super::super::outcome::{RefuseReason, Refused, WaitReason};
use super::super::patience::{Outlook, tellable};
use super::super::priority::Priority;
use super::super::queue::{TicketId, UserKey};
use super::super::report::QuotaLeft;
use super::super::snapshot::Snapshot;
use super::super::waits::Waits;
use super::{Fate, LaneCore, Send, SendId, Ticket, Waiting};

/// Whether somebody may be released now.
pub(super) enum Door {
    /// One may; as the probe, if so marked.
    Open { probe: bool },
    /// None may, for this reason, at least until then.
    Shut {
        until: Option<Instant>,
        reason: WaitReason,
    },
}

impl LaneCore {
    /// A copy of the lane's state for metrics and the status page.
    #[must_use]
    pub fn snapshot(&self, now: Instant) -> Snapshot {
        let now = self.clock(now);
        let reason = match self.door(now, self.queue.next().unwrap_or_default()) {
            Door::Open { .. } => WaitReason::Idle,
            Door::Shut { reason, .. } => reason,
        };
        Snapshot {
            reason,
            closed_for: self.closed_for(now),
            throttles_in_a_row: self.gate.failures(),
            breaker_shut: self.breaker.is_shut(),
            probing: self.probe.is_some(),
            pace: self.pace.rate(now),
            accepted_rate: self.pace.accepted_rate(now),
            window: self.window.limit(),
            live: self.sends.len(),
            waiting: self.queue.len(),
            users: self.queue.users(),
            retry_tokens: self.quota.tokens(),
            counters: self.counters,
        }
    }

    /// Whether the breaker keeps requests back now, one probe at most excepted. When its pause is over it does not:
    /// the next request is the probe.
    #[must_use]
    pub fn is_failing(&self, now: Instant) -> bool {
        matches!(
            self.breaker.passage(now),
            Passage::Shut(_) | Passage::Probing
        )
    }

    /// The present, or the latest instant that the lane has seen.
    pub(in crate::lane) fn clock(&self, now: Instant) -> Instant {
        self.clock.map_or(now, |clock| clock.max(now))
    }

    /// Those who wait, and since when, in no order.
    pub(in crate::lane) fn waiting_since(&self) -> impl Iterator<Item = (UserKey, Instant)> {
        let waiting = self.queue.iter();
        waiting.map(|(user, waiting)| (user, waiting.since))
    }

    /// What the vendor said is left of its quotas.
    pub(in crate::lane) fn quotas(&self, now: Instant) -> Vec<QuotaLeft> {
        self.pace.quotas(now)
    }

    /// The doors from the outside in. A probe is not held up by a window that the dead may fill.
    pub(super) fn door(&self, now: Instant, priority: Priority) -> Door {
        let breaker = self.breaker.passage(now);
        match breaker {
            Passage::Shut(until) => {
                return Door::Shut {
                    until: Some(until),
                    reason: WaitReason::Breaker,
                };
            }
            Passage::Probing => {
                return Door::Shut {
                    until: self.breaker.probe_ends(),
                    reason: WaitReason::Probe,
                };
            }
            Passage::Open | Passage::Probe => {}
        }
        let gate = self.gate.passage(now);
        match gate {
            Passage::Shut(until) => {
                return Door::Shut {
                    until: Some(until),
                    reason: WaitReason::Gate,
                };
            }
            Passage::Probing => {
                return Door::Shut {
                    until: None,
                    reason: WaitReason::Probe,
                };
            }
            Passage::Open | Passage::Probe => {}
        }
        if let Some(at) = self.pace.next(now) {
            return Door::Shut {
                until: Some(at),
                reason: WaitReason::Pace,
            };
        }
        let probe = breaker == Passage::Probe || gate == Passage::Probe;
        if !probe && !self.has_room(priority) {
            return Door::Shut {
                until: None,
                reason: WaitReason::Window,
            };
        }
        Door::Open { probe }
    }

    /// The background leaves half of the window to those who come next: an answer can last for minutes.
    fn has_room(&self, priority: Priority) -> bool {
        let has_its_part = match priority {
            Priority::Live => true,
            Priority::Background => self.background < (self.window.limit() / 2).max(1),
        };
        // A measured pace bounds a burst better than the flight, which has yet to find out how large one may be.
        let unknown = if self.pace.is_measured() {
            0
        } else {
            self.unknown
        };
        has_its_part && self.window.has_room(self.sends.len(), unknown)
    }

    /// When the oldest request of unknown fate counts as taken, if that may open the door that is shut.
    pub(super) fn settles(&self, reason: WaitReason) -> Option<Instant> {
        match reason {
            WaitReason::Probe | WaitReason::Window => self
                .unsettled
                .front()
                .map(|(at, _)| *at + self.settling.time()),
            WaitReason::Idle | WaitReason::Breaker | WaitReason::Gate | WaitReason::Pace => None,
        }
    }

    /// Accounts for a release, before the request is really on its way: two releases must not use one place.
    pub(super) fn send<R: Rng + ?Sized>(
        &mut self,
        now: Instant,
        ticket: &Ticket,
        probe: bool,
        waited: bool,
        rng: &mut R,
    ) -> SendId {
        self.serial += 1;
        let serial = self.serial;
        let epoch = self.pace.on_sent(now, waited, rng);
        self.window.on_sent(now);
        let send = Send {
            serial,
            sent_at: now,
            on_wire: false,
            fate: Fate::Unknown,
            epoch,
            retry: ticket.retry,
            priority: ticket.priority,
        };
        let id = SendId {
            index: self.sends.insert(send),
            serial,
        };
        self.unsettled.push_back((now, id));
        self.unknown += 1;
        self.background += usize::from(ticket.priority == Priority::Background);
        if probe {
            self.probe = Some(id);
            if self.breaker.passage(now) == Passage::Probe {
                self.breaker.probe_sent(now);
            }
            if self.gate.passage(now) == Passage::Probe {
                self.gate.probe_sent();
            }
        }
        id
    }

    /// Why a request cannot be taken now, whatever the queue.
    pub(super) fn refusal(&self, now: Instant, ticket: &Ticket) -> Option<RefuseReason> {
        self.closed_to_all(now)
            .or_else(|| (ticket.gives_up() <= now).then(|| ticket.gives_up_for()))
    }

    fn closed_to_all(&self, now: Instant) -> Option<RefuseReason> {
        if self.draining {
            return Some(RefuseReason::Draining);
        }
        self.exhausted_until
            .is_some_and(|until| now < until)
            .then_some(RefuseReason::Exhausted)
    }

    /// Turns a request away that is not in the queue, or not any more.
    pub(super) fn refuse(
        &mut self,
        now: Instant,
        ticket: &Ticket,
        reason: RefuseReason,
        waits: Waits,
    ) -> Refused {
        if let Some(token) = ticket.retry {
            self.quota.refund(token);
        }
        self.counters.refused[reason.index()] += 1;
        let wait = match reason {
            RefuseReason::Draining => Duration::ZERO,
            RefuseReason::Exhausted => self
                .exhausted_until
                .map_or(Duration::ZERO, |until| until.saturating_duration_since(now)),
            _ => self
                .outlook(now, self.queue.len_before(ticket.priority))
                .wait(),
        };
        let waiting_for = match self.door(now, ticket.priority) {
            Door::Open { .. } => self.times.waiting_for.unwrap_or(WaitReason::Idle),
            Door::Shut { reason, .. } => reason,
        };
        Refused {
            reason,
            waiting_for,
            waits,
            retry_after: tellable(wait, self.settings.hint_cap),
            retry: ticket.retry,
        }
    }

    /// Takes one request out of the queue whose time is over, or anyone when the lane is closed to all.
    pub(super) fn expire(&mut self, now: Instant) -> Option<(TicketId, Refused)> {
        let &(at, id) = self.expiries.first()?;
        let closed = self.closed_to_all(now);
        if at > now && closed.is_none() {
            return None;
        }
        self.expiries.pop_first();
        let Waiting { ticket, before, .. } = self.queue.remove(id)?;
        let reason = closed.unwrap_or_else(|| ticket.gives_up_for());
        let waits = self.times.waited.since(&before);
        Some((id, self.refuse(now, &ticket, reason, waits)))
    }

    /// Clears up after a request that left the queue by itself.
    pub(super) fn left(&mut self, id: TicketId, ticket: &Ticket) {
        self.expiries.remove(&(ticket.gives_up(), id));
        if let Some(token) = ticket.retry {
            self.quota.refund(token);
        }
    }

    pub(super) fn outlook(&self, now: Instant, ahead: usize) -> Outlook {
        Outlook {
            closed_for: self.closed_for(now),
            ahead,
            rate: self.pace.outlook(now),
        }
    }

    pub(super) fn closed_for(&self, now: Instant) -> Duration {
        let remaining = |passage| match passage {
            Passage::Shut(until) => until.saturating_duration_since(now),
            Passage::Open | Passage::Probe | Passage::Probing => Duration::ZERO,
        };
        remaining(self.gate.passage(now)).max(remaining(self.breaker.passage(now)))
    }
}

//! What became of released requests, and what that means to each part.

use std::time::Duration;

use rand::Rng;
use tokio::time::Instant;

use super::super::outcome::{Change, ChangeKind, Outcome};
use super::{Fate, LaneCore, Send, SendId};

impl LaneCore {
    /// The lane's time: never backwards, whatever the order in which threads report. Settles what is old enough.
    pub(super) fn advance(&mut self, now: Instant) -> Instant {
        let before = self.clock.unwrap_or(now);
        let now = before.max(now);
        self.clock = Some(now);
        self.account(before, now);
        while let Some(&(at, id)) = self.unsettled.front() {
            let known = self.find(id).is_none_or(|send| send.fate != Fate::Unknown);
            if !known && now < at + self.settling.time() {
                break;
            }
            self.unsettled.pop_front();
            if !known {
                self.accept(id, Fate::Silent);
                self.gate_verdict(id);
            }
        }
        now
    }

    pub(super) fn find(&self, id: SendId) -> Option<Send> {
        self.sends
            .get(id.index)
            .filter(|send| send.serial == id.serial)
            .copied()
    }

    /// Tells each part what a request's result means to it, and finds what that changes for all.
    pub(super) fn judge<R: Rng + ?Sized>(
        &mut self,
        now: Instant,
        id: SendId,
        send: Send,
        outcome: Outcome,
        rng: &mut R,
    ) -> Option<ChangeKind> {
        match outcome {
            Outcome::Served => {
                self.quota.on_served(send.retry);
                self.gate.on_served(send.sent_at);
                self.taken(now, id)
            }
            Outcome::Refused => self.taken(now, id),
            Outcome::Exhausted => {
                self.exhausted_until = Some(now + self.settings.exhausted_for);
                self.taken(now, id)
            }
            Outcome::Throttled { hint } => self.throttled(now, id, send, hint, rng),
            Outcome::Overloaded { hint } => {
                if let Some(hint) = hint {
                    self.gate.hold_for_hint(now, hint);
                }
                self.window.on_overloaded(now, send.sent_at, self.held);
                self.failed(now, id, send, rng)
            }
            Outcome::Faulty { timed_out } => {
                if timed_out {
                    self.window.on_overloaded(now, send.sent_at, self.held);
                }
                self.failed(now, id, send, rng)
            }
            Outcome::ConnectFailed => self.failed(now, id, send, rng),
            Outcome::Abandoned => {
                self.lost(now, id);
                None
            }
        }
    }

    /// A change with what an operator wants to know beside it.
    pub(super) fn change(&self, now: Instant, kind: ChangeKind) -> Change {
        Change {
            kind,
            held_for: self.closed_for(now),
            pace: self.pace.rate(now),
            waiting: self.queue.len(),
        }
    }

    /// The upstream answered the request as one that works.
    fn taken(&mut self, now: Instant, id: SendId) -> Option<ChangeKind> {
        self.accept(id, Fate::Taken);
        self.gate_verdict(id);
        let recovered = self.breaker.on_alive(now, self.probe == Some(id));
        if recovered {
            self.window.restart();
            self.pace.on_recovery(now);
        }
        recovered.then_some(ChangeKind::Recovered)
    }

    fn throttled<R: Rng + ?Sized>(
        &mut self,
        now: Instant,
        id: SendId,
        send: Send,
        hint: Option<Duration>,
        rng: &mut R,
    ) -> Option<ChangeKind> {
        self.settling
            .on_refusal(now.saturating_duration_since(send.sent_at));
        self.lost(now, id);
        if self.probe == Some(id) {
            self.breaker.on_probe_throttled(now, rng);
        }
        let token_time = self.pace.token_time(now);
        let gate = &mut self.gate;
        let closed = gate.on_throttled(now, send.sent_at, hint, token_time, rng);
        if closed {
            self.counters.gate_closings += 1;
            let closed_for = self.closed_for(now);
            self.pace
                .on_throttled(now, !self.queue.is_empty(), closed_for);
        }
        self.window.on_throttled(now, send.sent_at, self.held);
        closed.then_some(ChangeKind::GateClosed)
    }

    fn failed<R: Rng + ?Sized>(
        &mut self,
        now: Instant,
        id: SendId,
        send: Send,
        rng: &mut R,
    ) -> Option<ChangeKind> {
        self.lost(now, id);
        let probe = self.probe == Some(id);
        let tripped = self.breaker.on_failure(now, send.sent_at, probe, rng);
        if tripped {
            self.counters.breaker_trips += 1;
        }
        tripped.then_some(ChangeKind::BreakerShut)
    }

    /// The request was not taken, or nobody will know.
    pub(super) fn lost(&mut self, now: Instant, id: SendId) {
        let Some(send) = self.sends.get_mut(id.index) else {
            return;
        };
        match std::mem::replace(&mut send.fate, Fate::Lost) {
            Fate::Unknown => self.unknown -= 1,
            Fate::Silent | Fate::Taken => self.held -= 1,
            Fate::Lost => return,
        }
        let epoch = send.epoch;
        self.pace.on_not_accepted(now, epoch);
    }

    /// The request was released but its caller had left: nobody pays for it.
    pub(super) fn unsend(&mut self, now: Instant, id: SendId, send: Send) {
        self.pace.undo_sent(send.sent_at);
        self.lost(now, id);
        if let Some(token) = send.retry {
            self.quota.refund(token);
        }
    }

    /// The probe's result is in, and the parts that had to know have judged it.
    /// For a part that still waits, it told nothing: the next request becomes the probe.
    pub(super) fn verdict(&mut self, now: Instant) {
        self.probe = None;
        self.gate.probe_lost();
        self.breaker.probe_lost(now);
    }

    /// The gate only asks whether the quota took the probe; the breaker waits for an answer.
    fn gate_verdict(&mut self, id: SendId) {
        if self.probe == Some(id) {
            self.gate.probe_accepted();
            if !self.breaker.is_shut() {
                self.probe = None;
            }
        }
    }

    fn accept(&mut self, id: SendId, fate: Fate) {
        let live = self.sends.len();
        let Some(send) = self.sends.get_mut(id.index) else {
            return;
        };
        if std::mem::replace(&mut send.fate, fate) == Fate::Unknown {
            self.window.on_accepted(live, self.unknown);
            self.unknown -= 1;
            self.held += 1;
        }
    }
}

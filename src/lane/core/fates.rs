//! What became of released requests, and what that means to each part.

use std::time::Duration;

use rand::Rng;
use tokio::time::Instant;

use super::{Fate, LaneCore, SETTLE, Send, SendId};

impl LaneCore {
    /// The lane's time: never backwards, whatever the order in which threads report. Settles what is old enough.
    pub(super) fn advance(&mut self, now: Instant) -> Instant {
        let now = self.clock.map_or(now, |clock| clock.max(now));
        self.clock = Some(now);
        while let Some(&(at, id)) = self.unsettled.front() {
            let known = self.find(id).is_none_or(|send| send.fate != Fate::Unknown);
            if !known && now < at + SETTLE {
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

    /// The upstream answered the request as one that works.
    pub(super) fn taken(&mut self, now: Instant, id: SendId) {
        self.accept(id, Fate::Taken);
        self.gate_verdict(id);
        if self.breaker.on_alive(now, self.probe == Some(id)) {
            self.window.restart();
            self.pace.on_recovery(now);
        }
    }

    pub(super) fn throttled<R: Rng + ?Sized>(
        &mut self,
        now: Instant,
        id: SendId,
        hint: Option<Duration>,
        rng: &mut R,
    ) {
        let Some(send) = self.find(id) else { return };
        self.lost(now, id);
        if self.probe == Some(id) {
            self.breaker.on_probe_throttled(now, rng);
        }
        if self.gate.on_throttled(now, send.sent_at, hint, rng) {
            self.counters.gate_closings += 1;
            self.pace.on_throttled(now, !self.queue.is_empty());
        }
        self.window.on_throttled(now, send.sent_at, self.held);
    }

    pub(super) fn failed<R: Rng + ?Sized>(&mut self, now: Instant, id: SendId, rng: &mut R) {
        let Some(send) = self.find(id) else { return };
        self.lost(now, id);
        if self
            .breaker
            .on_failure(now, send.sent_at, self.probe == Some(id), rng)
        {
            self.counters.breaker_trips += 1;
        }
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

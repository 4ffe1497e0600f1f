//! Where a lane's time goes: what its first in turn waited for, and how long it was shut, whether somebody waited or not.

use std::time::Duration;

use tokio::time::Instant;

use super::super::gate::Passage;
use super::super::outcome::WaitReason;
use super::super::waits::Waits;
use super::LaneCore;

/// Sums since the lane's beginning.
#[derive(Debug, Default)]
pub(super) struct Times {
    /// What everybody waits for at the moment.
    pub(super) waiting_for: Option<WaitReason>,
    /// Each ticket's own waits are the difference of this between its two moments.
    pub(super) waited: Waits,
    closed: Waits,
    /// The part of `closed` that was taken.
    taken: Waits,
}

impl LaneCore {
    /// Accounts for the time since the last call of anything, before anything changes.
    pub(super) fn account(&mut self, before: Instant, now: Instant) {
        if let Some(reason) = self.times.waiting_for {
            self.times.waited.add(reason, now - before);
        }
        if let Some((reason, time)) = self.shut_between(before, now) {
            self.times.closed.add(reason, time);
        }
    }

    /// How long gate or breaker kept everybody out, by reason; nothing while they are open, or would let a probe go.
    fn shut_between(&self, before: Instant, now: Instant) -> Option<(WaitReason, Duration)> {
        let breaker = self.breaker.passage(before);
        let (passage, shut) = match breaker {
            Passage::Open => (self.gate.passage(before), WaitReason::Gate),
            _ => (breaker, WaitReason::Breaker),
        };
        match passage {
            Passage::Shut(until) => Some((shut, now.min(until) - before)),
            Passage::Probing => Some((WaitReason::Probe, now - before)),
            Passage::Open | Passage::Probe => None,
        }
    }

    /// How long gate, breaker and probes kept everybody out since this was last taken.
    pub fn take_closed(&mut self, now: Instant) -> Waits {
        self.advance(now);
        let Times { closed, taken, .. } = &mut self.times;
        let fresh = closed.since(taken);
        *taken = *closed;
        fresh
    }
}

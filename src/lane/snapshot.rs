//! What an operator sees of a lane: a copy of its state at one moment, and counts since its beginning.

use std::time::Duration;

use super::outcome::{Outcome, RefuseReason, WaitReason};

/// A lane at one moment. Rates are requests a second.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// What the next waiting request waits for, or would.
    pub reason: WaitReason,
    /// Time until gate and breaker could let a request pass; zero when they do.
    pub closed_for: Duration,
    /// Throttles with no success between them.
    pub throttles_in_a_row: u32,
    /// True while the breaker keeps requests back.
    pub breaker_shut: bool,
    /// True while a probe is under way.
    pub probing: bool,
    /// The rate in force, if any.
    pub pace: Option<f64>,
    /// Accepted requests a second over the last minute.
    pub accepted_rate: f64,
    /// Live responses allowed.
    pub window: usize,
    /// Live responses, counting requests that have not been answered.
    pub live: usize,
    /// Requests waiting.
    pub waiting: usize,
    /// Users with something waiting.
    pub users: usize,
    /// Tokens left in the retry quota.
    pub retry_tokens: f64,
    /// Counts since the lane's beginning.
    pub counters: Counters,
}

/// Counts since a lane's beginning. All only grow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// First attempts that were sent.
    pub sent_first: u64,
    /// Repeated attempts that were sent.
    pub sent_retry: u64,
    /// Attempts that were sent as probes, of both kinds.
    pub sent_probe: u64,
    /// Answers that began well.
    pub served: u64,
    /// Refusals for the quota's sake.
    pub throttled: u64,
    /// Refusals for the service's sake.
    pub overloaded: u64,
    /// Failures, counting connections that could not be made.
    pub faulty: u64,
    /// Reports of an exhausted account.
    pub exhausted: u64,
    /// Requests refused for their own fault.
    pub refused_upstream: u64,
    /// Requests whose callers left while they were under way.
    pub abandoned: u64,
    /// Requests whose callers left while they waited.
    pub cancelled: u64,
    /// Retries denied because the retry quota was spent.
    pub retries_denied: u64,
    /// Requests turned away by the lane, by [`RefuseReason::index`].
    pub refused: [u64; RefuseReason::ALL.len()],
    /// Time spent waiting by requests that were released from the queue, in milliseconds.
    pub waited_ms: u64,
    /// Requests released from the queue; the others never waited.
    pub released_from_queue: u64,
    /// Times the gate closed.
    pub gate_closings: u64,
    /// Times the breaker shut.
    pub breaker_trips: u64,
}

impl Counters {
    pub(super) fn result(&mut self, outcome: Outcome) {
        let count = match outcome {
            Outcome::Served => &mut self.served,
            Outcome::Throttled { .. } => &mut self.throttled,
            Outcome::Overloaded { .. } => &mut self.overloaded,
            Outcome::Faulty { .. } | Outcome::ConnectFailed => &mut self.faulty,
            Outcome::Exhausted => &mut self.exhausted,
            Outcome::Refused => &mut self.refused_upstream,
            Outcome::Abandoned => &mut self.abandoned,
        };
        *count += 1;
    }

    pub(super) fn sent(&mut self, retry: bool, probe: bool) {
        if retry {
            self.sent_retry += 1;
        } else {
            self.sent_first += 1;
        }
        self.sent_probe += u64::from(probe);
    }

    pub(super) fn waited(&mut self, wait: Duration) {
        self.released_from_queue += 1;
        self.waited_ms += u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
    }
}

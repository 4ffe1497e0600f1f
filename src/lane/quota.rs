//! The retry quota: how much repetition a lane may inflict on its upstream.
//!
//! Counting attempts per request does not help in a brownout, where every request fails together and each repeats:
//! three attempts treble the load at the worst moment.
//! A token bucket for the whole lane does: retries draw from it, successes fill it, so in steady state retries stay a
//! fixed share of what succeeds (1/14, or 1/5 where the server itself said "later") and a burst is bounded by the capacity.
//! The costs are those of the AWS SDKs of 2026; the capacity is sized for one pod beside a quota of some tens a minute.

use tokio::time::Instant;

/// Tokens returned by the passing of a second, so that a lane that is all failure is not condemned for ever.
const TRICKLE_PER_SECOND: f64 = 1.0;
/// Tokens earned by a first try that was served.
const EARNED: f64 = 1.0;

/// What kind of failure a retry follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RetryClass {
    /// The server failed, perhaps by this request's own doing.
    Failure,
    /// The server said that it is too busy.
    Overload,
    /// The server said that the quota is spent. Cheaper, because the gate makes such retries orderly.
    Throttle,
    /// The request never reached the server.
    Unsent,
}

impl RetryClass {
    /// What one retry of this class costs, in tokens.
    #[must_use]
    pub const fn cost(self) -> u32 {
        match self {
            Self::Failure | Self::Overload => 14,
            Self::Throttle | Self::Unsent => 5,
        }
    }

    /// Whether the failed attempt's turn in the queue is given back: nobody was served by it, and it was not the request's
    /// own doing. Without that, whoever meets a refusal waits a whole round more than all others.
    #[must_use]
    pub const fn keeps_turn(self) -> bool {
        match self {
            Self::Throttle | Self::Overload | Self::Unsent => true,
            Self::Failure => false,
        }
    }
}

/// The right to one retry, drawn from the quota.
///
/// It goes into the retry's ticket. If the retry is served, or never sent, the lane puts the tokens back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryToken {
    pub(super) class: RetryClass,
}

/// The bucket.
#[derive(Debug)]
pub struct RetryQuota {
    tokens: f64,
    capacity: f64,
    updated: Option<Instant>,
}

impl RetryQuota {
    /// A full bucket of `capacity` tokens.
    #[must_use]
    pub fn new(capacity: u32) -> Self {
        let capacity = f64::from(capacity);
        Self {
            tokens: capacity,
            capacity,
            updated: None,
        }
    }

    /// Draws the right to one retry, if there is enough for it.
    pub fn withdraw(&mut self, now: Instant, class: RetryClass) -> Option<RetryToken> {
        self.trickle(now);
        let cost = class.cost();
        if self.tokens < f64::from(cost) {
            return None;
        }
        self.tokens -= f64::from(cost);
        Some(RetryToken { class })
    }

    /// A request was served: a retry returns its cost, a first try earns a token.
    pub fn on_served(&mut self, retry: Option<RetryToken>) {
        self.put(retry.map_or(EARNED, |token| f64::from(token.class.cost())));
    }

    /// A retry was never sent.
    pub fn refund(&mut self, token: RetryToken) {
        self.put(f64::from(token.class.cost()));
    }

    /// Tokens left.
    #[must_use]
    pub fn tokens(&self) -> f64 {
        self.tokens
    }

    fn put(&mut self, tokens: f64) {
        self.tokens = (self.tokens + tokens).min(self.capacity);
    }

    fn trickle(&mut self, now: Instant) {
        let updated = *self.updated.get_or_insert(now);
        let passed = now.saturating_duration_since(updated);
        self.updated = Some(updated.max(now));
        self.put(passed.as_secs_f64() * TRICKLE_PER_SECOND);
    }
}

#[cfg(test)]
#[path = "quota_tests.rs"]
mod tests;

//! The quota of a vendor, as arithmetic.
//!
//! A vendor's limit is a bucket that fills at a constant rate, so the lab's is one too, and exact: a test can say how
//! many calls an ideal caller would have got through in a given time, and measure callers against it.
//! Some vendors charge rejected calls as well; that is what turns impatient retries into a storm that feeds itself,
//! hence `rejects_cost`.

use std::time::Duration;

use serde::Deserialize;
use tokio::time::Instant;

use super::units;

/// Longest wait that is ever told, also when the rate is zero.
const LONGEST_WAIT: Duration = Duration::from_hours(168);

/// A quota of requests.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuotaConfig {
    /// Requests a second: a number, or text such as `60/min`. Zero: the bucket is never refilled.
    #[serde(deserialize_with = "units::de_rate")]
    pub rate: f64,
    /// Size of the bucket, which starts full; at least 1.
    #[serde(default = "one")]
    pub burst: f64,
    /// The part of a token (0 to 1) that a rejected call costs. What is not in the bucket cannot be taken.
    #[serde(default)]
    pub rejects_cost: f64,
    /// Whether all callers share the quota or each credential has its own.
    #[serde(default)]
    pub per: Per,
    /// Most generations at once; beyond it the vendor's "overloaded" (529 or 503) is the answer. Absent: no bound.
    #[serde(default)]
    pub concurrent: Option<usize>,
    /// Which hints a rejection carries.
    #[serde(default)]
    pub hints: Hints,
}

/// Whom a quota counts together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Per {
    /// Everybody.
    #[default]
    All,
    /// Those who send the same credential.
    Credential,
}

/// Which retry hints a rejection carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Hints {
    /// `retry-after` in whole seconds, rounded up.
    #[default]
    Seconds,
    /// `retry-after-ms` beside it, exact to the millisecond.
    Both,
    /// `retry-after-ms` alone.
    Millis,
    /// None.
    None,
}

fn one() -> f64 {
    1.0
}

/// A bucket of tokens that is told the time.
#[derive(Debug, Clone)]
pub struct Bucket {
    rate: f64,
    burst: f64,
    rejects_cost: f64,
    tokens: f64,
    /// The time up to which refilling is accounted for.
    updated: Instant,
}

/// What a bucket says to one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// One token was taken.
    Admitted,
    /// There is no whole token.
    Rejected {
        /// The time until there will be one, if nobody else comes.
        wait: Duration,
    },
}

/// What the rate-limit headers tell.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Level {
    /// Size of the bucket.
    pub limit: f64,
    /// Tokens in it.
    pub remaining: f64,
    /// The time until it is full.
    pub full_in: Duration,
}

impl Bucket {
    /// A full bucket.
    #[must_use]
    pub fn new(config: &QuotaConfig, now: Instant) -> Self {
        let mut bucket = Self {
            rate: 0.0,
            burst: f64::MAX,
            rejects_cost: 0.0,
            tokens: f64::MAX,
            updated: now,
        };
        bucket.reconfigure(config, now);
        bucket
    }

    /// Takes another rate and size from `now` on. What is in the bucket stays, as far as it has room.
    pub fn reconfigure(&mut self, config: &QuotaConfig, now: Instant) {
        self.refill(now);
        self.rate = config.rate.max(0.0);
        self.burst = config.burst.max(1.0);
        self.rejects_cost = config.rejects_cost.clamp(0.0, 1.0);
        self.tokens = self.tokens.min(self.burst);
    }

    /// Takes a token if there is one.
    pub fn take(&mut self, now: Instant) -> Verdict {
        self.refill(now);
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            return Verdict::Admitted;
        }
        self.tokens = (self.tokens - self.rejects_cost).max(0.0);
        Verdict::Rejected {
            wait: self.time_for(1.0 - self.tokens),
        }
    }

    /// How full the bucket is.
    pub fn level(&mut self, now: Instant) -> Level {
        self.refill(now);
        let full_in = self.time_for(self.burst - self.tokens);
        Level {
            limit: self.burst,
            remaining: self.tokens,
            full_in,
        }
    }

    /// A clock that steps back refills nothing and takes nothing.
    fn refill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.updated);
        self.tokens = (self.tokens + self.rate * passed.as_secs_f64()).min(self.burst);
        self.updated = self.updated.max(now);
    }

    fn time_for(&self, tokens: f64) -> Duration {
        if tokens <= 0.0 {
            return Duration::ZERO;
        }
        Duration::try_from_secs_f64(tokens / self.rate)
            .map_or(LONGEST_WAIT, |wait| wait.min(LONGEST_WAIT))
    }
}

#[cfg(test)]
mod tests;

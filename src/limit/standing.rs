//! What a user may do, what it has left, and how it is turned away.

use std::fmt;
use std::time::Duration;

use super::gcra::{Rule, Tat};

/// What each user may do. An absent limit does not limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Requests per time.
    pub rate: Option<Rule>,
    /// Requests running at once, each until its answer's last byte.
    pub concurrent: Option<u32>,
}

/// What a user has left of each limit, for the response headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Of the rate, if there is one.
    pub rate: Option<RateStanding>,
    /// Of the concurrent requests, if they are limited.
    pub concurrent: Option<ConcurrentStanding>,
}

/// What is left of a rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateStanding {
    /// Requests per [`RateStanding::window`].
    pub limit: u32,
    /// The period of the limit.
    pub window: Duration,
    /// The requests that could be made at once.
    pub remaining: u64,
    /// After an admission, the time until the quota is whole again; after a denial, no later than
    /// its `retry_after`.
    pub reset: Duration,
}

/// What is left of the concurrent requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConcurrentStanding {
    /// Requests that may run at once.
    pub limit: u32,
    /// How many more could be started now.
    pub remaining: u32,
}

/// Which limit turned a request away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeniedBy {
    /// Too many requests in the time.
    Rate,
    /// Too many requests running.
    Concurrency,
}

impl DeniedBy {
    /// The name in metrics and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::Concurrency => "concurrency",
        }
    }
}

/// A request turned away. Nothing has been taken from the user's quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Denied {
    /// The limit that is used up.
    pub by: DeniedBy,
    /// When to come back. Exact for a rate, a guess for concurrency.
    pub retry_after: Duration,
    /// What the user has left.
    pub standing: Standing,
}

// === impl Standing ===

impl Standing {
    /// The standing of a user with this TAT and so many requests running.
    pub(super) fn of(limits: &Limits, tat: Tat, live: u32, now: u64) -> Self {
        Self {
            rate: limits.rate.map(|rule| {
                let quota = rule.quota(tat, now);
                RateStanding {
                    limit: rule.count(),
                    window: rule.per(),
                    remaining: quota.remaining,
                    reset: quota.reset_after,
                }
            }),
            concurrent: limits.concurrent.map(|limit| ConcurrentStanding {
                limit,
                remaining: limit.saturating_sub(live),
            }),
        }
    }
}

// === impl Denied ===

impl Denied {
    /// A denial that tells nobody to come back before the time its own fields name.
    pub(super) fn new(by: DeniedBy, retry_after: Duration, mut standing: Standing) -> Self {
        if let Some(rate) = &mut standing.rate {
            rate.reset = rate.reset.min(retry_after);
        }
        Self {
            by,
            retry_after,
            standing,
        }
    }
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = super::fields::retry_after(self.retry_after);
        match (self.by, self.standing.rate, self.standing.concurrent) {
            (DeniedBy::Rate, Some(rate), _) => write!(
                f,
                "this user's limit of {} requests per {:?} is used up; try again in {seconds} s",
                rate.limit, rate.window
            ),
            (DeniedBy::Concurrency, _, Some(concurrent)) => write!(
                f,
                "this user's limit of {} concurrent requests is used up; try again when one has \
                 ended, or in {seconds} s",
                concurrent.limit
            ),
            _ => write!(f, "this user's limit is used up; try again in {seconds} s"),
        }
    }
}

impl std::error::Error for Denied {}

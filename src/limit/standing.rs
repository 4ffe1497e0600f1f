//! What an account has left, and how it is turned away.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::account::{DeniedBy, Exhausted, Refusal, State};
use super::plan::{Plan, Scope, Unit};

/// What an account has left of each limit at a moment, for the response fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    plan: Arc<Plan>,
    state: State,
    now: u64,
    /// After a denial, when to come back: no rate is told to be whole only after that.
    back_after: Option<Duration>,
    /// How many instances divide what is left.
    among: u32,
}

/// What is left of a rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateStanding<'a> {
    /// Its name, of small letters and `-`.
    pub name: &'a str,
    /// What is counted.
    pub unit: Unit,
    /// How many per [`RateStanding::window`].
    pub limit: u64,
    /// The period of the limit.
    pub window: Duration,
    /// How many could be had at once.
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

/// A request turned away. Nothing has been taken from anybody's quota.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denied {
    /// The limit that is used up.
    pub by: DeniedBy,
    /// When to come back. Exact for a rate, a guess for concurrency.
    pub retry_after: Duration,
    /// How much later the next request like it could follow.
    pub spacing: Duration,
    /// What the account has left.
    pub standing: Box<Standing>,
    rule: Option<usize>,
}

// === impl Standing ===

impl Standing {
    /// The standing of an account in this state.
    #[must_use]
    pub fn new(plan: Arc<Plan>, state: State, now: u64) -> Self {
        Self {
            plan,
            state,
            now,
            back_after: None,
            among: 1,
        }
    }

    /// Where each of `among` instances may use its part.
    #[must_use]
    pub fn divided(self, among: u32) -> Self {
        Self {
            among: among.max(1),
            ..self
        }
    }

    /// Of each rate, in the order of the configuration.
    pub fn rates(&self) -> impl Iterator<Item = RateStanding<'_>> {
        let rules = self.plan.rules().iter().zip(self.state.tats);
        rules.map(|(metered, tat)| {
            let quota = metered.rule.quota(tat, self.now);
            RateStanding {
                name: &metered.name,
                unit: metered.unit,
                limit: metered.rule.count(),
                window: metered.rule.per(),
                remaining: quota.remaining / u64::from(self.among),
                reset: self
                    .back_after
                    .map_or(quota.reset_after, |back| back.min(quota.reset_after)),
            }
        })
    }

    /// Of the concurrent requests, if they are limited.
    #[must_use]
    pub fn concurrent(&self) -> Option<ConcurrentStanding> {
        self.plan.concurrent().map(|limit| ConcurrentStanding {
            limit,
            remaining: (limit / self.among).max(1).saturating_sub(self.state.live),
        })
    }

    /// Whose it is.
    #[must_use]
    pub fn scope(&self) -> Scope {
        self.plan.scope()
    }
}

// === impl Denied ===

impl Denied {
    /// What a refusal means to its caller.
    #[must_use]
    pub fn new(refusal: Refusal, mut standing: Standing) -> Self {
        standing.back_after = Some(refusal.retry_after);
        Self {
            by: refusal.by,
            retry_after: refusal.retry_after,
            spacing: refusal.spacing,
            standing: Box::new(standing),
            rule: refusal.rule,
        }
    }
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = super::fields::retry_after(self.retry_after);
        let whose = match self.by.scope {
            Scope::User => "this user's limit",
            Scope::Total => "the limit of all users together",
        };
        match (self.by.what, self.standing.concurrent()) {
            (Exhausted::Concurrency, Some(concurrent)) => write!(
                f,
                "{whose} of {} concurrent requests is used up; try again when one has ended, or in {seconds} s",
                concurrent.limit
            ),
            (Exhausted::Rate(unit), _) => {
                let rate = self.rule.and_then(|index| self.standing.rates().nth(index));
                let what = match unit {
                    Unit::Requests => "requests",
                    Unit::Tokens => "tokens",
                };
                match rate {
                    Some(rate) => {
                        write!(f, "{whose} of {} {what} per {:?}", rate.limit, rate.window)
                    }
                    None => f.write_str(whose),
                }?;
                write!(f, " is used up; try again in {seconds} s")
            }
            _ => write!(f, "{whose} is used up; try again in {seconds} s"),
        }
    }
}

impl std::error::Error for Denied {}

//! One account under its plan: what a request takes, and what is put right when it has ended.
//!
//! All of a plan's limits are looked at before any is charged, so that a request which is turned away
//! has taken nothing from anybody. A script of a shared store does the same with the same numbers; what
//! it decided can be found again here from the state that it answers with, so that there is one place
//! for every other question (why, until when, what is left).
//!
//! # Tokens
//!
//! How many tokens a request will use is not known when it is let in. So an estimate is *reserved*, and
//! *settled* when the answer has ended: what was reserved and not used is given back, what was used
//! beyond it is charged after the fact, even if that leaves a debt. Over time exactly what was used is
//! charged, however bad the estimates were; what they decide is only how evenly.

use std::time::Duration;

use super::gcra::{Answer, Rule, Span, Tat};
use super::plan::{MAX_RULES, Plan, Scope, Unit};

#[cfg(test)]
mod tests;

/// What a caller over its number of concurrent requests is told: nobody knows when one will end.
pub const CONCURRENCY_RETRY: Duration = Duration::from_secs(1);

/// What is known of an account. [`State::default`] is one never seen, with all it may use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// One for each rate of the plan, in its order; the rest are unused.
    pub tats: [Tat; MAX_RULES],
    /// Requests running.
    pub live: u32,
}

impl State {
    /// Whether it says no more than [`State::default`] does at `now`.
    #[must_use]
    pub fn is_idle(&self, now: u64) -> bool {
        self.live == 0 && self.tats.iter().all(|tat| Rule::is_whole(*tat, now))
    }
}

/// Which limit turned a request away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DeniedBy {
    /// Whose limit it is.
    pub scope: Scope,
    /// What is used up.
    pub what: Exhausted,
}

/// What of a plan is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Exhausted {
    /// A rate of this unit.
    Rate(Unit),
    /// Requests running at once.
    Concurrency,
}

impl DeniedBy {
    /// The name in metrics and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match (self.scope, self.what) {
            (Scope::User, Exhausted::Rate(Unit::Requests)) => "rate",
            (Scope::User, Exhausted::Rate(Unit::Tokens)) => "tokens",
            (Scope::User, Exhausted::Concurrency) => "concurrency",
            (Scope::Total, Exhausted::Rate(Unit::Requests)) => "total_rate",
            (Scope::Total, Exhausted::Rate(Unit::Tokens)) => "total_tokens",
            (Scope::Total, Exhausted::Concurrency) => "total_concurrency",
        }
    }
}

/// A request turned away. Nothing has been taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The limit that is used up; of several, the one with the longest wait.
    pub by: DeniedBy,
    /// When to come back. Exact for a rate, a guess for concurrency.
    pub retry_after: Duration,
    /// How much later the next request of the same cost could follow this one.
    pub spacing: Duration,
    /// Which rate it is, where it is one.
    pub rule: Option<usize>,
}

/// Decides on a request of `tokens` tokens and takes what it needs.
pub fn decide(plan: &Plan, state: &mut State, tokens: u64, now: u64) -> Result<(), Refusal> {
    if plan.concurrent().is_some_and(|limit| state.live >= limit) {
        return Err(Refusal {
            by: DeniedBy {
                scope: plan.scope(),
                what: Exhausted::Concurrency,
            },
            retry_after: CONCURRENCY_RETRY,
            spacing: Duration::ZERO,
            rule: None,
        });
    }
    let mut charged = *state;
    let mut refusal: Option<Refusal> = None;
    for (index, (metered, tat)) in plan.rules().iter().zip(&mut charged.tats).enumerate() {
        let cost = metered.cost(tokens);
        // A debt in tokens is no reason to refuse what costs none.
        if cost == 0 {
            continue;
        }
        let wait = match metered.rule.check(tat, now, cost).answer {
            Answer::Admitted => continue,
            Answer::RetryAfter(wait) => wait,
            // Cannot be: no cost is more than the burst.
            Answer::TooCostly => metered.rule.per(),
        };
        if refusal.is_none_or(|known| known.retry_after < wait) {
            refusal = Some(Refusal {
                by: DeniedBy {
                    scope: plan.scope(),
                    what: Exhausted::Rate(metered.unit),
                },
                retry_after: wait,
                spacing: whole(metered.rule.span(cost)),
                rule: Some(index),
            });
        }
    }
    if let Some(refusal) = refusal {
        return Err(refusal);
    }
    *state = charged;
    enter(state);
    Ok(())
}

/// Counts a request as running.
pub fn enter(state: &mut State) {
    state.live = state.live.saturating_add(1);
}

/// Counts a request as ended.
pub fn leave(state: &mut State) {
    state.live = state.live.saturating_sub(1);
}

/// Charges what a request has really used in the place of what was reserved for it.
pub fn settle(plan: &Plan, state: &mut State, reserved: u64, used: u64, now: u64) {
    for (metered, tat) in plan.rules().iter().zip(&mut state.tats) {
        if metered.unit == Unit::Tokens {
            let taken = metered.cost(reserved);
            if used < taken {
                metered.rule.refund(tat, taken - used);
            } else if used > taken {
                metered.rule.debit(tat, now, used - taken);
            }
        }
    }
}

/// Gives back what was charged for a request which was then not let in after all.
pub fn give_back(plan: &Plan, state: &mut State, tokens: u64) {
    for (metered, tat) in plan.rules().iter().zip(&mut state.tats) {
        metered.rule.refund(tat, metered.cost(tokens));
    }
}

fn whole(span: Span) -> Duration {
    Duration::from_micros(span.micros + u64::from(span.parts > 0))
}

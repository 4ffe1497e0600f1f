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

use std::cmp::Ordering;
use std::time::Duration;

use super::gcra::{Answer, Rule, Span, Tat};
use super::plan::{MAX_RULES, Metered, Plan, Scope, Unit};

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
    decide_among(1, plan, state, tokens, now)
}

/// As [`decide`], for one of `among` instances that cannot ask each other: each allows its part of every limit.
///
/// A request costs `among` times as much, so that a rate and its burst are divided exactly and without another plan. It
/// passes when what can be had at once is there, even if that is less than it costs, and leaves the rest as a debt: a
/// burst smaller than the number of instances would otherwise admit nobody. Of the running requests, each instance
/// allows at least one.
pub fn decide_among(
    among: u32,
    plan: &Plan,
    state: &mut State,
    tokens: u64,
    now: u64,
) -> Result<(), Refusal> {
    let part = |limit: u32| (limit / among.max(1)).max(1);
    if plan
        .concurrent()
        .is_some_and(|limit| state.live >= part(limit))
    {
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
        let cost = charge(metered, tokens, among);
        // A debt in tokens is no reason to refuse what costs none.
        if cost == 0 {
            continue;
        }
        let at_once = cost.min(metered.rule.burst());
        let wait = match metered.rule.check(tat, now, at_once).answer {
            Answer::Admitted => {
                metered.rule.debit(tat, now, cost - at_once);
                continue;
            }
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

/// Charges what a request has really used in the place of what was reserved for it by [`decide_among`] with the same
/// `among`.
pub fn settle(plan: &Plan, state: &mut State, reserved: u64, used: u64, among: u32, now: u64) {
    for (metered, tat) in plan.rules().iter().zip(&mut state.tats) {
        match correction(metered, reserved, used, among) {
            Correction::None => {}
            Correction::Refund(units) => metered.rule.refund(tat, units),
            Correction::Debit(units) => metered.rule.debit(tat, now, units),
        }
    }
}

/// What is put right in a rate when a request has ended, in its units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Correction {
    /// Nothing.
    None,
    /// This much was reserved and not used.
    Refund(u64),
    /// This much was used and not reserved.
    Debit(u64),
}

/// What is put right in `metered` when `used` tokens were used in the place of `reserved`.
#[must_use]
pub fn correction(metered: &Metered, reserved: u64, used: u64, among: u32) -> Correction {
    if metered.unit != Unit::Tokens {
        return Correction::None;
    }
    let (taken, used) = (
        charge(metered, reserved, among),
        used.saturating_mul(u64::from(among)),
    );
    match used.cmp(&taken) {
        Ordering::Less => Correction::Refund(taken - used),
        Ordering::Equal => Correction::None,
        Ordering::Greater => Correction::Debit(used - taken),
    }
}

/// Gives back what was charged for a request which was then not let in after all.
pub fn give_back(plan: &Plan, state: &mut State, tokens: u64, among: u32) {
    for (metered, tat) in plan.rules().iter().zip(&mut state.tats) {
        metered.rule.refund(tat, charge(metered, tokens, among));
    }
}

/// What a request costs by a rate that so many instances divide.
fn charge(metered: &Metered, tokens: u64, among: u32) -> u64 {
    metered.cost(tokens).saturating_mul(u64::from(among.max(1)))
}

fn whole(span: Span) -> Duration {
    Duration::from_micros(span.micros + u64::from(span.parts > 0))
}

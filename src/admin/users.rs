//! The users who have used most of what they may, as an operator reads them: by fingerprint, never by name.

use serde::Serialize;
use tokio::time::Instant;

use super::{Admin, state::ms};
use crate::limit::{limiter::Limiter, table::Busy};

/// Users that are told of, over all limits.
const MOST_USERS: usize = 20;

/// A user in the JSON. Where a store is shared, as it was when this instance asked last.
#[derive(Debug, Serialize)]
pub(super) struct UserState {
    /// The first digits of the fingerprint.
    user: String,
    /// Empty for users without a class.
    class: String,
    /// Requests running in this instance.
    running: u32,
    /// The part of its scarcest limit that is used up; more than 1 is a debt.
    used: f64,
    limits: Vec<LimitState>,
}

/// What is left of one rate.
#[derive(Debug, Serialize)]
struct LimitState {
    /// As in the `RateLimit` field of answers.
    name: String,
    limit: u64,
    window_ms: u64,
    remaining: u64,
    whole_in_ms: u64,
}

/// Those who have used most, the busiest first.
pub(super) fn busiest(admin: &Admin, now: Instant) -> Vec<UserState> {
    let rules = admin.rules.now();
    let of_limiter = |limiter| -> Vec<_> {
        let limiter: &Limiter = limiter;
        let busy = limiter.ledger().table().busiest(MOST_USERS, now);
        busy.into_iter()
            .map(|busy| (busy.used_permille, state_of(limiter, &busy)))
            .collect()
    };
    let limiters = rules.routes.limiters();
    let mut users: Vec<_> = limiters.flat_map(|limiter| of_limiter(limiter)).collect();
    users.sort_by_key(|(used, _)| std::cmp::Reverse(*used));
    users.truncate(MOST_USERS);
    users.into_iter().map(|(_, user)| user).collect()
}

fn state_of(limiter: &Limiter, busy: &Busy) -> UserState {
    let plan = u16::try_from(busy.account.plan()).unwrap_or(u16::MAX);
    let limits = busy.standing.rates().map(|rate| LimitState {
        name: rate.name.to_owned(),
        limit: rate.limit,
        window_ms: ms(rate.window),
        remaining: rate.remaining,
        whole_in_ms: ms(rate.reset),
    });
    UserState {
        user: busy.account.user.hash_hex(),
        class: limiter.class_of_plan(plan).to_owned(),
        running: busy.live,
        used: busy.used_permille as f64 / 1000.0,
        limits: limits.collect(),
    }
}

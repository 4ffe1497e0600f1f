//! The table of users: what each has used, within a bound that no crowd can move.
//!
//! User ids come from outside, so there may be as many as somebody cares to invent. The table holds
//! a fixed number. The question is who has to go when it is full, and the answer must not be worth
//! anything to the one who fills it:
//!
//! - A user whose quota is whole and who has no request running is *idle*: its entry says no more
//!   than no entry at all. Idle ones leave first, and lose nothing by it. A few entries are looked
//!   at whenever a new user comes, so the table cleans itself at a constant cost and never stops to
//!   do it. The search is bounded at the cap as well, so a flood of new names costs what any other
//!   traffic costs.
//! - A user with anything used is never evicted, so nobody gains a fresh quota by being pushed out.
//! - When no room is found, new users share one entry in each part of the table, with the quota of
//!   a single user among them. Turning them away instead would let a flood of invented names lock
//!   out everybody who was not there before it; giving each a quota would be no limit at all.
//!
//! The table is split into [`SHARDS`] parts with a lock each, held for well under a microsecond and
//! never across an await.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::time::Instant;

use super::gcra::Answer;
use super::identity::UserKey;
use super::standing::{Denied, DeniedBy, Limits, Standing};
use shard::{Entry, Place, Shard};

mod shard;
#[cfg(test)]
mod tests;

/// The parts of the table, each with its own lock.
pub const SHARDS: usize = 64;

/// Users held unless configured otherwise: about 10 MB.
pub const DEFAULT_MAX_USERS: usize = 100_000;

/// What a caller over its number of concurrent requests is told: nobody knows when one will end.
pub const CONCURRENCY_RETRY: Duration = Duration::from_secs(1);

/// The table. Clones share it.
#[derive(Clone)]
pub struct Table {
    inner: Arc<Inner>,
}

struct Inner {
    limits: Limits,
    /// The origin of every moment in the table.
    epoch: Instant,
    shards: Vec<Mutex<Shard>>,
}

/// A request let in.
#[derive(Debug)]
pub struct Admission {
    /// To be held until the last byte of the answer.
    pub permit: Permit,
    /// What the user has left after it.
    pub standing: Standing,
}

/// A place among a user's concurrent requests. Dropping it gives the place back; if the table is
/// gone by then, there is nothing to give back to and nothing happens.
#[must_use = "a dropped permit no longer counts as a running request"]
pub struct Permit {
    table: Weak<Inner>,
    user: UserKey,
    place: Place,
}

/// The state of the table, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Users with an entry, idle ones included.
    pub users: usize,
    /// Requests decided on a shared entry because the table was full, since its beginning.
    pub crowded: u64,
}

impl Table {
    /// An empty table for up to about `max_users`, rounded up to a multiple of [`SHARDS`].
    ///
    /// It takes memory as users come: at most 100 bytes for each. `now` becomes the origin of its
    /// time; moments before it count as it.
    #[must_use]
    pub fn new(limits: Limits, max_users: usize, now: Instant) -> Self {
        let capacity = max_users.div_ceil(SHARDS).max(1);
        let shards = (0..SHARDS).map(|_| Mutex::new(Shard::new(capacity)));
        Self {
            inner: Arc::new(Inner {
                limits,
                epoch: now,
                shards: shards.collect(),
            }),
        }
    }

    /// Lets one request of `user` in, or turns it away.
    pub fn admit(&self, user: UserKey, now: Instant) -> Result<Admission, Denied> {
        let limits = &self.inner.limits;
        let now = self.inner.micros(now);
        let (place, decision) = self
            .inner
            .shard(&user)
            .with(&user, now, |entry| decide(limits, entry, now));
        let standing = decision?;
        let permit = Permit {
            table: Arc::downgrade(&self.inner),
            user,
            place,
        };
        Ok(Admission { permit, standing })
    }

    /// Looks at up to `steps` entries of every part and removes the idle ones. The table does this
    /// by itself as users come; call it now and then to give memory back when none do.
    pub fn sweep(&self, now: Instant, steps: usize) {
        let now = self.inner.micros(now);
        for shard in &self.inner.shards {
            lock(shard).sweep(now, steps);
        }
    }

    /// How full the table is.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let shards = self.inner.shards.iter();
        shards.fold(Stats::default(), |stats, shard| {
            let shard = lock(shard);
            Stats {
                users: stats.users + shard.len(),
                crowded: stats.crowded.saturating_add(shard.crowded()),
            }
        })
    }
}

/// Decides on one request of a user and takes what it needs.
///
/// Concurrency first, since it is only looked at: a request that the rate then turns away has
/// taken nothing, and neither has one that never came to the rate.
fn decide(limits: &Limits, entry: &mut Entry, now: u64) -> Result<Standing, Denied> {
    let denied = |by, retry_after, entry: &Entry| {
        let standing = Standing::of(limits, entry.tat(), entry.live(), now);
        Err(Denied::new(by, retry_after, standing))
    };
    if limits.concurrent.is_some_and(|limit| entry.live() >= limit) {
        return denied(DeniedBy::Concurrency, CONCURRENCY_RETRY, entry);
    }
    if let Some(rule) = &limits.rate {
        let mut tat = entry.tat();
        match rule.check(&mut tat, now, 1).answer {
            Answer::Admitted => entry.set_tat(tat),
            Answer::RetryAfter(wait) => return denied(DeniedBy::Rate, wait, entry),
            // Cannot be, as every burst holds at least one request.
            Answer::TooCostly => return denied(DeniedBy::Rate, rule.per(), entry),
        }
    }
    entry.enter();
    Ok(Standing::of(limits, entry.tat(), entry.live(), now))
}

// === impl Inner ===

impl Inner {
    fn micros(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.epoch);
        u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
    }

    fn shard(&self, user: &UserKey) -> MutexGuard<'_, Shard> {
        // The key is a hash, so that any of its bytes spreads users evenly.
        let index = usize::from(user.as_bytes()[15]) % SHARDS;
        lock(&self.shards[index])
    }
}

/// Every operation leaves a shard whole, so a panic elsewhere has not spoilt what it guards.
fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table")
            .field("limits", &self.inner.limits)
            .finish_non_exhaustive()
    }
}

// === impl Permit ===

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(table) = self.table.upgrade() {
            table.shard(&self.user).leave(&self.user, self.place);
        }
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

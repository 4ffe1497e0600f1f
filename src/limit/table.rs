//! The table of accounts: what each user has used, within a bound that no crowd can move.
//!
//! User ids come from outside, so there may be as many as somebody cares to invent. The table holds
//! a fixed number. The question is who has to go when it is full, and the answer must not be worth
//! anything to the one who fills it:
//!
//! - A user whose quota is whole and who has no request running is *idle*: its account says no more
//!   than no account at all. Idle ones leave first, and lose nothing by it. A few accounts are looked
//!   at whenever a new user comes, so the table cleans itself at a constant cost and never stops to
//!   do it. The search is bounded at the cap as well, so a flood of new names costs what any other
//!   traffic costs.
//! - A user with anything used is never evicted, so nobody gains a fresh quota by being pushed out.
//! - When no room is found, new users share one account in each part of the table, with the quota of
//!   a single user among them. Turning them away instead would let a flood of invented names lock
//!   out everybody who was not there before it; giving each a quota would be no limit at all.
//!
//! The table is split into [`SHARDS`] parts with a lock each, held for well under a microsecond and
//! never across an await.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::time::Instant;

use super::account::{self, State};
use super::gcra::Tat;
use super::identity::UserKey;
use super::plan::Plan;
use super::standing::{Denied, Standing};
use shard::{Place, Shard};

mod busiest;
mod shard;
#[cfg(test)]
mod tests;

pub use busiest::Busy;

/// The parts of the table, each with its own lock.
pub const SHARDS: usize = 64;

/// Users held unless configured otherwise: about 10 MB.
pub const DEFAULT_MAX_USERS: usize = 100_000;

/// A user under one of the table's plans. The same user under another plan is another account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Account {
    /// Who.
    pub user: UserKey,
    plan: u16,
}

impl Account {
    /// The account of `user` under the plan of this number.
    #[must_use]
    pub const fn new(user: UserKey, plan: u16) -> Self {
        Self { user, plan }
    }

    /// The number of its plan.
    #[must_use]
    pub fn plan(&self) -> usize {
        usize::from(self.plan)
    }
}

/// The table. Clones share it.
#[derive(Clone)]
pub struct Table {
    inner: Arc<Inner>,
}

struct Inner {
    plans: Vec<Arc<Plan>>,
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

/// A running request in its user's account. Dropping it counts the request as ended and leaves what was reserved for
/// it charged; if the table is gone by then, nothing happens.
#[must_use = "a dropped permit no longer counts as a running request"]
pub struct Permit {
    table: Weak<Inner>,
    account: Account,
    place: Place,
    reserved: u64,
    /// By how many instances what it was charged was divided.
    among: u32,
}

/// The state of the table, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Users with an account, idle ones included.
    pub users: usize,
    /// Requests decided on a shared account because the table was full, since its beginning.
    pub crowded: u64,
}

impl Table {
    /// An empty table for up to about `max_users`, rounded up to a multiple of [`SHARDS`].
    ///
    /// It takes memory as users come: at most 100 bytes for each, and 24 more for every rate of a plan beyond the
    /// first. `now` becomes the origin of its time; moments before it count as it.
    #[must_use]
    pub fn new(plans: Vec<Arc<Plan>>, max_users: usize, now: Instant) -> Self {
        let capacity = max_users.div_ceil(SHARDS).max(1);
        let rates = plans.iter().map(|plan| plan.rules().len()).max();
        let shard = || Mutex::new(Shard::new(capacity, plans.len(), rates.unwrap_or(0)));
        Self {
            inner: Arc::new(Inner {
                epoch: now,
                shards: (0..SHARDS).map(|_| shard()).collect(),
                plans,
            }),
        }
    }

    /// Lets one request in that will use about so many tokens, or turns it away.
    pub fn admit(&self, account: Account, tokens: u64, now: Instant) -> Result<Admission, Denied> {
        self.admit_among(1, account, tokens, now)
    }

    /// As [`Table::admit`], for one of `among` instances that cannot ask each other (see [`account::decide_among`]).
    pub fn admit_among(
        &self,
        among: u32,
        account: Account,
        tokens: u64,
        now: Instant,
    ) -> Result<Admission, Denied> {
        let plan = self.plan(account);
        let now = self.micros(now);
        let (place, (decision, state)) = self.inner.shard(&account).with(account, now, |state| {
            let decision = account::decide_among(among, plan, state, tokens, now);
            (decision, *state)
        });
        let standing = Standing::new(plan.clone(), state, now).divided(among);
        match decision {
            Ok(()) => Ok(Admission {
                permit: self.permit(account, place, tokens, among),
                standing,
            }),
            Err(refusal) => Err(Denied::new(refusal, standing)),
        }
    }

    /// Charges tokens that were used already, for no running request. It may leave a debt.
    pub fn charge(&self, account: Account, tokens: u64, now: Instant) {
        let (plan, now) = (self.plan(account), self.micros(now));
        self.inner.shard(&account).with(account, now, |state| {
            account::settle(plan, state, 0, tokens, 1, now);
        });
    }

    /// Takes over what a shared store has said of an account, `tats` in microseconds of this table's origin, and
    /// counts a request as running that the store has let in.
    pub fn adopt(&self, account: Account, tats: &[Tat], tokens: u64, now: Instant) -> Permit {
        let place = self.take_over(account, tats, now, account::enter);
        self.permit(account, place, tokens, 1)
    }

    /// Takes over what a shared store has said of an account that it has turned away.
    pub fn learn(&self, account: Account, tats: &[Tat], now: Instant) {
        self.take_over(account, tats, now, |_| ());
    }

    fn take_over(
        &self,
        account: Account,
        tats: &[Tat],
        now: Instant,
        change: impl FnOnce(&mut State),
    ) -> Place {
        let now = self.micros(now);
        let mut shard = self.inner.shard(&account);
        let (place, ()) = shard.with(account, now, change);
        // What is said of one user must not be held against the crowd.
        if place == Place::Own {
            shard.change(account, place, |state| {
                for (known, told) in state.tats.iter_mut().zip(tats) {
                    *known = *told;
                }
            });
        }
        place
    }

    /// Looks at up to `steps` accounts of every part and removes the idle ones. The table does this
    /// by itself as users come; call it now and then to give memory back when none do.
    pub fn sweep(&self, now: Instant, steps: usize) {
        let now = self.micros(now);
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

    /// Its plans, by their numbers.
    #[must_use]
    pub fn plans(&self) -> &[Arc<Plan>] {
        &self.inner.plans
    }

    /// The plan of an account.
    #[must_use]
    pub fn plan(&self, account: Account) -> &Arc<Plan> {
        &self.inner.plans[account.plan()]
    }

    /// A moment in microseconds since the table's origin.
    #[must_use]
    pub fn micros(&self, now: Instant) -> u64 {
        self.inner.micros(now)
    }

    fn permit(&self, account: Account, place: Place, reserved: u64, among: u32) -> Permit {
        Permit {
            table: Arc::downgrade(&self.inner),
            account,
            place,
            reserved,
            among,
        }
    }
}

// === impl Inner ===

impl Inner {
    fn micros(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.epoch);
        u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
    }

    fn shard(&self, account: &Account) -> MutexGuard<'_, Shard> {
        // The key is a hash, so that any of its bytes spreads users evenly.
        let index = usize::from(account.user.as_bytes()[15]) % SHARDS;
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
            .field("plans", &self.inner.plans)
            .finish_non_exhaustive()
    }
}

// === impl Permit ===

impl Permit {
    /// Charges what the request has really used in the place of what was reserved, and counts it as ended.
    pub fn settle(self, used: u64, now: Instant) {
        if used == self.reserved {
            return;
        }
        if let Some(table) = self.table.upgrade() {
            let (plan, now) = (&table.plans[self.account.plan()], table.micros(now));
            table
                .shard(&self.account)
                .change(self.account, self.place, |state| {
                    account::settle(plan, state, self.reserved, used, self.among, now);
                });
        }
    }

    /// Gives everything back: the request was not let in after all.
    pub fn undo(self) {
        if let Some(table) = self.table.upgrade() {
            let plan = &table.plans[self.account.plan()];
            table
                .shard(&self.account)
                .change(self.account, self.place, |state| {
                    account::give_back(plan, state, self.reserved, self.among);
                });
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(table) = self.table.upgrade() {
            table.shard(&self.account).leave(self.account, self.place);
        }
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit")
            .field("user", &self.account.user)
            .finish_non_exhaustive()
    }
}

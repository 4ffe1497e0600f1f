//! Whether a request may go on: by its user's limits, and by those of all users together.
//!
//! The user's own account is asked first, since it turns most away and concerns nobody else. What it
//! has charged is given back where the other one then refuses. A store that several instances share
//! decides on both at once; while it has no answer, `store.fail` says who decides.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, timeout_at};

use super::{
    account::{Exhausted, decide},
    held::Held,
    identity::UserKey,
    ledger::Ledger,
    lines::{Lines, Place},
    plan::Scope,
    shared::{Away, Shared},
    standing::{Denied, Standing},
    table::Account,
};
use crate::store::limits::{Answer, Asked};

/// A waiter for a place among the concurrent requests looks again after this time: which request
/// ends next, and when, is not known.
const CONCURRENCY_LOOK: Duration = Duration::from_millis(50);

/// The same, where looking again asks a store.
const SHARED_CONCURRENCY_LOOK: Duration = Duration::from_millis(200);

/// In whose name all users together are counted.
const EVERYBODY: &str = "everybody";

/// The limits of the users of one or several routes, and what those users have used.
#[derive(Debug)]
pub struct Limiter {
    classes: Vec<Class>,
    users: Arc<Ledger>,
    total: Option<Arc<Ledger>>,
    lines: Lines,
    shared: Option<Shared>,
}

/// How the users of one class are limited.
#[derive(Clone, Debug)]
pub struct Class {
    /// As it is configured; empty for users without a class.
    pub name: Box<str>,
    /// The number of its plan in the ledger of users; `None` where each of them may use what it likes.
    pub plan: Option<u16>,
    /// How long a request above the limit may wait for its turn; zero refuses at once.
    pub max_wait: Duration,
}

/// A request that wants to go on.
#[derive(Clone, Copy, Debug)]
pub struct Wish {
    /// Whose.
    pub user: UserKey,
    /// The number of the user's class.
    pub class: u16,
    /// About how many tokens it will use.
    pub tokens: u64,
    /// When its caller stops waiting for an answer to begin.
    pub answer_by: Instant,
}

/// A request let in.
#[derive(Debug, Default)]
pub struct Grant {
    /// To be settled when the request has ended.
    pub held: Held,
    /// What the user has left, where it is limited and this is known.
    pub standing: Option<Standing>,
}

/// A request not let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// A limit is used up.
    Limit(Denied),
    /// Nobody knows, and `store.fail` says to refuse then.
    StoreAway,
}

impl From<Denied> for Refused {
    fn from(denied: Denied) -> Self {
        Self::Limit(denied)
    }
}

impl Limiter {
    /// Limits users by their class, and all of them by `total`. The first class is of those without one.
    #[must_use]
    pub fn new(classes: Vec<Class>, users: Arc<Ledger>, total: Option<Arc<Ledger>>) -> Self {
        Self {
            classes,
            users,
            total,
            lines: Lines::default(),
            shared: None,
        }
    }

    /// The same limits, for all instances that share the store.
    #[must_use]
    pub fn shared_by(self, shared: Option<Shared>) -> Self {
        Self { shared, ..self }
    }

    /// Whether anything depends on the tokens of a request of this class.
    #[must_use]
    pub fn counts_tokens(&self, class: u16) -> bool {
        let counts = |ledger: &Ledger, plan: u16| {
            let plan = ledger.table().plans().get(usize::from(plan));
            plan.is_some_and(|plan| plan.counts_tokens())
        };
        let own = self.class(class).plan;
        own.is_some_and(|plan| counts(&self.users, plan))
            || self.total.as_ref().is_some_and(|total| counts(total, 0))
    }

    /// How long a request of this class may wait for its turn.
    #[must_use]
    pub fn max_wait(&self, class: u16) -> Duration {
        self.class(class).max_wait
    }

    /// Lets the request in, after a wait where that is allowed and in time. `waits_until` is told of each wait, which may
    /// be followed by another.
    pub async fn admit(
        &self,
        wish: &Wish,
        waits_until: impl Fn(Instant) + Send + Sync,
    ) -> Result<Grant, Refused> {
        let max_wait = self.max_wait(wish.class);
        if max_wait.is_zero() {
            return self.take(wish).await;
        }
        let mut told = None;
        // Who comes later does not pass by those who wait.
        if !self.lines.has_others(&line_of(wish)) {
            match self.take(wish).await {
                Err(Refused::Limit(denied)) => told = Some(denied),
                decided => return decided,
            }
        }
        let give_up = wish.answer_by.min(Instant::now() + max_wait);
        let Ok(place) = self.lines.enter(line_of(wish)) else {
            return self.take(wish).await;
        };
        // Most requests wait for nothing, and need no room for it.
        Box::pin(self.wait(wish, &place, told, give_up, waits_until)).await
    }

    /// Charges tokens that a user of this class has used already, for a request that was let in at another time. Nothing
    /// is refused; what is beyond the limit is a debt.
    pub fn charge(&self, user: UserKey, class: u16, tokens: u64) {
        if tokens == 0 || !self.counts_tokens(class) {
            return;
        }
        let wish = Wish {
            user,
            class,
            tokens,
            answer_by: Instant::now(),
        };
        if let Some(account) = self.account(&wish) {
            self.users.charge(account, tokens);
        }
        if let Some(total) = &self.total {
            total.charge(everybody(), tokens);
        }
        // This process's own accounts follow the store's, and hold while it is away.
        if let Some(shared) = &self.shared {
            shared.limits().charge(self.asked(&wish));
        }
    }

    /// Users that are remembered now.
    #[must_use]
    pub fn users(&self) -> usize {
        self.users.stats().users
    }

    /// Requests that wait for their turn.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.lines.waiting()
    }

    /// The accounts of users.
    #[must_use]
    pub fn ledger(&self) -> &Arc<Ledger> {
        &self.users
    }

    /// The account of all users together, where that is limited.
    #[must_use]
    pub fn total(&self) -> Option<&Arc<Ledger>> {
        self.total.as_ref()
    }

    /// The name of the class whose plan has this number.
    #[must_use]
    pub fn class_of_plan(&self, plan: u16) -> &str {
        let mut classes = self.classes.iter();
        classes
            .find(|class| class.plan == Some(plan))
            .map_or("", |class| &class.name)
    }

    /// Waits in line, asks as its head, and waits as long as it is told. A wait that cannot succeed is not begun.
    async fn wait(
        &self,
        wish: &Wish,
        place: &Place<'_>,
        mut told: Option<Denied>,
        give_up: Instant,
        waits_until: impl Fn(Instant) + Send + Sync,
    ) -> Result<Grant, Refused> {
        let now = Instant::now();
        if place.ahead() > 0 {
            let expected = place.expected(now);
            let until = expected.as_ref().map(|told| now + told.retry_after);
            if let Some(expected) = expected.filter(|told| self.is_too_late(told, now, give_up)) {
                return Err(expected.into());
            }
            waits_until(until.unwrap_or(give_up));
        }
        let Ok(_turn) = timeout_at(give_up, place.turn()).await else {
            return self.take(wish).await;
        };
        let mut among_all = None;
        loop {
            let denied = match told.take() {
                Some(denied) => denied,
                None => match self.take(wish).await {
                    Err(Refused::Limit(denied)) => denied,
                    decided => return decided,
                },
            };
            let now = Instant::now();
            place.told(now, &denied);
            if self.is_too_late(&denied, now, give_up) {
                return Err(denied.into());
            }
            waits_until(now + self.pause(&denied));
            if denied.by.scope == Scope::User {
                // Nobody else waits on account of this user.
                drop(among_all.take());
                tokio::time::sleep(self.pause(&denied)).await;
            } else if among_all.is_none() {
                among_all = match timeout_at(give_up, place.turn_among_all()).await {
                    Ok(turn) => Some(turn),
                    Err(_) => return Err(denied.into()),
                };
            } else {
                tokio::time::sleep(self.pause(&denied)).await;
            }
        }
    }

    /// Asks once.
    async fn take(&self, wish: &Wish) -> Result<Grant, Refused> {
        let Some(shared) = &self.shared else {
            return Ok(self.take_here(wish, 1)?);
        };
        let asked = self.asked(wish);
        if asked.entries.is_empty() {
            return Ok(Grant::default());
        }
        let away = match Box::pin(shared.admit(asked)).await {
            Ok(answer) => match self.answered(wish, answer, shared) {
                Some(decided) => return Ok(decided?),
                // It refuses, and by what it says nothing is used up: it makes no sense, so it counts for nothing.
                None => shared.is_away(),
            },
            Err(away) => away,
        };
        match away {
            Away::Open => Ok(Grant::default()),
            Away::Closed => Err(Refused::StoreAway),
            Away::Local(among) => Ok(self.take_here(wish, among)?),
        }
    }

    /// Asks this process, as one of `among` instances.
    fn take_here(&self, wish: &Wish, among: u32) -> Result<Grant, Denied> {
        let (mut user, mut standing) = (None, None);
        if let Some(account) = self.account(wish) {
            let admission = self.users.admit(among, account, wish.tokens)?;
            user = Some(admission.permit);
            standing = Some(admission.standing);
        }
        let mut all = None;
        if let Some(total) = &self.total {
            match total.admit(among, everybody(), wish.tokens) {
                Ok(admission) => all = Some(admission.permit),
                Err(denied) => {
                    if let Some(permit) = user {
                        permit.undo();
                    }
                    return Err(denied);
                }
            }
        }
        Ok(Grant {
            held: Held::here(user, all),
            standing,
        })
    }

    /// The accounts of a request, as a store is asked for them.
    fn asked(&self, wish: &Wish) -> Asked {
        let user = self.account(wish);
        let user = user.map(|account| self.users.entry(account, false));
        let total = self.total.as_ref();
        let total = total.map(|total| total.entry(everybody(), true));
        Asked {
            entries: user.into_iter().chain(total).collect(),
            tokens: wish.tokens,
        }
    }

    /// What a store's answer means; `None` where it says nothing that can be.
    fn answered(
        &self,
        wish: &Wish,
        answer: Answer,
        shared: &Shared,
    ) -> Option<Result<Grant, Denied>> {
        let Answer { now, states, .. } = &answer;
        let own = self.account(wish).map(|account| (&self.users, account));
        let total = self.total.as_ref().map(|total| (total, everybody()));
        let accounts = own.into_iter().chain(total).zip(states);
        if !answer.is_admitted {
            let mut denied = None;
            for ((ledger, account), state) in accounts {
                ledger.learn(account, state, *now);
                if denied.is_none() {
                    let decided = decide(
                        ledger.table().plan(account),
                        &mut state.clone(),
                        wish.tokens,
                        *now,
                    );
                    let standing = || ledger.standing(account, *state, *now);
                    denied = decided
                        .err()
                        .map(|refusal| Denied::new(refusal, standing()));
                }
            }
            return denied.map(Err);
        }
        let (mut user, mut all, mut standing) = (None, None, None);
        for ((ledger, account), state) in accounts {
            let permit = ledger.adopt(account, state, *now, wish.tokens);
            match ledger.table().plan(account).scope() {
                Scope::User => {
                    user = Some(permit);
                    standing = Some(ledger.standing(account, *state, *now));
                }
                Scope::Total => all = Some(permit),
            }
        }
        let held = Held::here(user, all);
        let held = match answer.lease {
            Some(lease) => held.and_there(lease, shared.limits().clone()),
            None => held,
        };
        Some(Ok(Grant { held, standing }))
    }

    /// The user's account, where it is limited.
    fn account(&self, wish: &Wish) -> Option<Account> {
        let plan = self.class(wish.class).plan;
        plan.map(|plan| Account::new(wish.user, plan))
    }

    /// After which time one who was denied asks again.
    fn pause(&self, denied: &Denied) -> Duration {
        match denied.by.what {
            Exhausted::Rate(_) => denied.retry_after,
            Exhausted::Concurrency if self.shared.is_some() => SHARED_CONCURRENCY_LOOK,
            Exhausted::Concurrency => CONCURRENCY_LOOK,
        }
    }

    fn is_too_late(&self, denied: &Denied, now: Instant, give_up: Instant) -> bool {
        now + self.pause(denied) > give_up
    }

    fn class(&self, number: u16) -> &Class {
        // Classes are numbered from the same configuration; one that is not there is nobody's.
        &self.classes[usize::from(number).min(self.classes.len() - 1)]
    }
}

/// In whose line a request waits.
fn line_of(wish: &Wish) -> Account {
    Account::new(wish.user, wish.class)
}

/// The account of all users together.
fn everybody() -> Account {
    Account::new(UserKey::from_source(EVERYBODY, b""), 0)
}

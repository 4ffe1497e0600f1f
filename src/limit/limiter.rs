//! Whether a request may go on: by its user's limits, and by those of all users together.
//!
//! The user's own account is asked first, since it turns most away and concerns nobody else. What it
//! has charged is given back where the other one then refuses.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, timeout_at};

use super::{
    account::Exhausted,
    identity::UserKey,
    ledger::{Entered, Held, Ledger},
    lines::{Lines, Place},
    plan::Scope,
    standing::{Denied, Standing},
    table::Account,
};

/// A waiter for a place among the concurrent requests looks again after this time: which request
/// ends next, and when, is not known.
const CONCURRENCY_LOOK: Duration = Duration::from_millis(50);

/// In whose name all users together are counted.
const EVERYBODY: &str = "everybody";

/// The limits of the users of one or several routes, and what those users have used.
#[derive(Debug)]
pub struct Limiter {
    classes: Vec<Class>,
    users: Arc<Ledger>,
    total: Option<Arc<Ledger>>,
    lines: Lines,
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
#[derive(Debug)]
pub struct Grant {
    /// To be settled when the request has ended.
    pub held: Vec<Held>,
    /// What the user has left, where it is limited.
    pub standing: Option<Standing>,
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
        }
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
    ) -> Result<Grant, Denied> {
        let max_wait = self.max_wait(wish.class);
        if max_wait.is_zero() {
            return self.take(wish).await;
        }
        let mut told = None;
        // Who comes later does not pass by those who wait.
        if !self.lines.has_others(&line_of(wish)) {
            match self.take(wish).await {
                Err(denied) => told = Some(denied),
                granted => return granted,
            }
        }
        let give_up = wish.answer_by.min(Instant::now() + max_wait);
        let Ok(place) = self.lines.enter(line_of(wish)) else {
            return self.take(wish).await;
        };
        self.wait(wish, &place, told, give_up, waits_until).await
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
    ) -> Result<Grant, Denied> {
        let now = Instant::now();
        if place.ahead() > 0 {
            let expected = place.expected(now);
            let until = expected.as_ref().map(|told| now + told.retry_after);
            if let Some(expected) = expected.filter(|told| too_late(told, now, give_up)) {
                return Err(expected);
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
                    Err(denied) => denied,
                    granted => return granted,
                },
            };
            let now = Instant::now();
            place.told(now, &denied);
            if too_late(&denied, now, give_up) {
                return Err(denied);
            }
            waits_until(now + pause(&denied));
            if denied.by.scope == Scope::User {
                // Nobody else waits on account of this user.
                drop(among_all.take());
                tokio::time::sleep(pause(&denied)).await;
            } else if among_all.is_none() {
                among_all = match timeout_at(give_up, place.turn_among_all()).await {
                    Ok(turn) => Some(turn),
                    Err(_) => return Err(denied),
                };
            } else {
                tokio::time::sleep(pause(&denied)).await;
            }
        }
    }

    /// Asks once.
    async fn take(&self, wish: &Wish) -> Result<Grant, Denied> {
        let mut grant = Grant {
            held: Vec::with_capacity(2),
            standing: None,
        };
        if let Some(plan) = self.class(wish.class).plan {
            let account = Account::new(wish.user, plan);
            let Entered { held, standing } = self.users.admit(account, wish.tokens).await?;
            grant.held.push(held);
            grant.standing = Some(standing);
        }
        if let Some(total) = &self.total {
            match total.admit(everybody(), wish.tokens).await {
                Ok(Entered { held, .. }) => grant.held.push(held),
                Err(denied) => {
                    grant.held.into_iter().for_each(Held::undo);
                    return Err(denied);
                }
            }
        }
        Ok(grant)
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

fn pause(denied: &Denied) -> Duration {
    match denied.by.what {
        Exhausted::Rate(_) => denied.retry_after,
        Exhausted::Concurrency => CONCURRENCY_LOOK,
    }
}

fn too_late(denied: &Denied, now: Instant, give_up: Instant) -> bool {
    now + pause(denied) > give_up
}

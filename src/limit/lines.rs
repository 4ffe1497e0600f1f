//! The order in which requests wait for their turn.
//!
//! Waiters that each sleep until the moment they were told wake up together, and the one that is let
//! in is any of them: the first may wait for ever, and most wake in vain. So the requests of one user
//! stand in a line, and only the head of it asks. What limits all users together has a line too, in
//! which every user has at most one place, that of its head: so users take turns, however many
//! requests one of them has waiting.
//!
//! Who leaves the line, by being let in, by giving up or by being cancelled, leaves no gap.

use std::collections::HashMap;
use std::fmt;
use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use super::standing::Denied;
use super::table::Account;

/// Requests of one user that may wait at once.
pub const MAX_PER_USER: usize = 100;

/// Requests of all users that may wait at once.
pub const MAX_IN_ALL: usize = 5_000;

/// Where the requests of all users wait.
pub struct Lines {
    users: Mutex<HashMap<Account, Arc<Line>>>,
    waiting: AtomicUsize,
    max_per_user: usize,
    max_in_all: usize,
    total: Line,
}

/// One line. Whoever holds its turn is its head.
struct Line {
    waiting: AtomicUsize,
    turn: Semaphore,
    /// What its head was told last, and when.
    told: Mutex<Option<(Instant, Denied)>>,
}

/// A place in a user's line; dropping it leaves the line.
#[must_use = "a dropped place is somebody else's"]
pub struct Place<'a> {
    lines: &'a Lines,
    account: Account,
    line: Arc<Line>,
    /// Those who were there before.
    ahead: usize,
}

/// The head's turn in the line of all users; dropping it gives the turn to the next.
#[must_use = "a dropped turn is somebody else's"]
pub struct Turn<'a> {
    total: &'a Line,
    _turn: SemaphorePermit<'a>,
}

/// Too many wait already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many requests wait for their turn already")]
pub struct Full;

impl Default for Lines {
    fn default() -> Self {
        Self::new(MAX_PER_USER, MAX_IN_ALL)
    }
}

impl Lines {
    /// Lines of up to `max_per_user`, and `max_in_all` in all of them.
    #[must_use]
    pub fn new(max_per_user: usize, max_in_all: usize) -> Self {
        Self {
            users: Mutex::default(),
            waiting: AtomicUsize::new(0),
            max_per_user,
            max_in_all,
            total: Line::default(),
        }
    }

    /// Whether somebody waits for what this account's next request needs, and so comes before it.
    #[must_use]
    pub fn has_others(&self, account: &Account) -> bool {
        // Nearly always nobody waits at all; then nothing is locked.
        self.waiting.load(Ordering::Acquire) > 0
            && (self.total.waiting.load(Ordering::Acquire) > 0
                || self.users().contains_key(account))
    }

    /// Takes a place at the end of the account's line.
    pub fn enter(&self, account: Account) -> Result<Place<'_>, Full> {
        let mut users = self.users();
        if self.waiting.load(Ordering::Acquire) >= self.max_in_all {
            return Err(Full);
        }
        let line = users.entry(account).or_default().clone();
        let ahead = line.waiting.load(Ordering::Acquire);
        // A line that others stand in is not removed by this.
        if ahead >= self.max_per_user {
            return Err(Full);
        }
        line.waiting.fetch_add(1, Ordering::AcqRel);
        self.waiting.fetch_add(1, Ordering::AcqRel);
        drop(users);
        Ok(Place {
            lines: self,
            account,
            line,
            ahead,
        })
    }

    /// Requests that wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Acquire)
    }

    fn users(&self) -> MutexGuard<'_, HashMap<Account, Arc<Line>>> {
        // Nothing that is done under the lock can be left half done.
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place<'_> {
    /// How many of the same user were waiting when this one came.
    #[must_use]
    pub fn ahead(&self) -> usize {
        self.ahead
    }

    /// The head has been told this.
    pub fn told(&self, now: Instant, denied: &Denied) {
        *self.line.told() = Some((now, denied.clone()));
    }

    /// What this place comes to at `now`, as far as it can be known: what the head was told, and as much longer as those
    /// ahead need after it.
    #[must_use]
    pub fn expected(&self, now: Instant) -> Option<Denied> {
        let (then, mut denied) = self.line.told().clone()?;
        let ahead = u32::try_from(self.ahead).unwrap_or(u32::MAX);
        denied.retry_after = denied
            .retry_after
            .saturating_sub(now.saturating_duration_since(then))
            .saturating_add(denied.spacing.saturating_mul(ahead));
        Some(denied)
    }

    /// Waits to be the head of the line, until what is returned is dropped.
    pub async fn turn(&self) -> SemaphorePermit<'_> {
        self.line.take_turn().await
    }

    /// Waits, as the head of its own line, to be the head of the line of all users.
    pub async fn turn_among_all(&self) -> Turn<'_> {
        let total = &self.lines.total;
        // Counted before it has its turn, and also if it never has it.
        let mut waiting = Waiting(Some(total));
        total.waiting.fetch_add(1, Ordering::AcqRel);
        let turn = total.take_turn().await;
        waiting.0 = None;
        Turn { total, _turn: turn }
    }
}

/// One who waits in the line of all users.
struct Waiting<'a>(Option<&'a Line>);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(line) = self.0 {
            line.waiting.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.total.waiting.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut users = self.lines.users();
        self.lines.waiting.fetch_sub(1, Ordering::AcqRel);
        if self.line.waiting.fetch_sub(1, Ordering::AcqRel) == 1 {
            users.remove(&self.account);
        }
    }
}

impl Line {
    fn told(&self) -> MutexGuard<'_, Option<(Instant, Denied)>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// First come, first served.
    async fn take_turn(&self) -> SemaphorePermit<'_> {
        let turn = self.turn.acquire().await;
        turn.expect("nobody closes a line")
    }
}

impl Default for Line {
    fn default() -> Self {
        Self {
            waiting: AtomicUsize::new(0),
            turn: Semaphore::new(1),
            told: Mutex::default(),
        }
    }
}

impl fmt::Debug for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Place")
            .field("account", &self.account)
            .field("ahead", &self.ahead)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Turn<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Turn")
    }
}

impl fmt::Debug for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lines")
            .field("waiting", &self.waiting())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::task::Poll;

    use futures_util::poll;

    use super::*;
    use crate::limit::identity::UserKey;

    fn account(name: &str) -> Account {
        Account::new(UserKey::from_source("test", name.as_bytes()), 0)
    }

    #[tokio::test]
    async fn the_first_in_line_is_the_first_out() {
        let lines = Lines::default();
        let places: Vec<_> = (0..3)
            .map(|ahead| {
                let place = lines.enter(account("a")).expect("there is room");
                assert_eq!(place.ahead(), ahead);
                place
            })
            .collect();
        let head = places[0].turn().await;
        let mut second = Box::pin(places[1].turn());
        let mut third = Box::pin(places[2].turn());
        assert!(poll!(&mut second).is_pending() && poll!(&mut third).is_pending());
        drop(head);
        assert!(poll!(&mut third).is_pending());
        let Poll::Ready(second) = poll!(&mut second) else {
            panic!("it is the second one's turn");
        };
        drop(second);
        assert!(poll!(&mut third).is_ready());
    }

    #[tokio::test]
    async fn who_gives_up_leaves_no_gap() {
        let lines = Lines::default();
        let [first, second, third] =
            [0; 3].map(|_| lines.enter(account("a")).expect("there is room"));
        let head = first.turn().await;
        let mut leaving = Box::pin(second.turn());
        let mut third_turn = Box::pin(third.turn());
        assert!(poll!(&mut leaving).is_pending() && poll!(&mut third_turn).is_pending());
        drop(leaving);
        drop(second);
        drop(head);
        assert!(poll!(&mut third_turn).is_ready());
    }

    #[tokio::test]
    async fn users_take_turns_for_what_all_share() {
        let lines = Lines::default();
        // One user has many waiting, of whom only the head stands in the line of all.
        let many: Vec<_> = (0..50)
            .map(|_| lines.enter(account("many")).expect("there is room"))
            .collect();
        let few = lines.enter(account("few")).expect("there is room");
        let _head = many[0].turn().await;
        let first = many[0].turn_among_all().await;
        let _few_head = few.turn().await;
        let mut next = Box::pin(few.turn_among_all());
        assert!(poll!(&mut next).is_pending());
        drop(first);
        assert!(poll!(&mut next).is_ready(), "the 49 others come later");
    }

    #[tokio::test]
    async fn a_newcomer_knows_who_was_there_before() {
        let lines = Lines::default();
        let (a, b) = (account("a"), account("b"));
        assert!(!lines.has_others(&a));
        let place = lines.enter(a).expect("there is room");
        assert!(lines.has_others(&a) && !lines.has_others(&b));
        {
            let _turn = place.turn_among_all().await;
            assert!(lines.has_others(&b), "somebody waits for what all share");
        }
        let other = lines.enter(b).expect("there is room");
        let held = place.turn_among_all().await;
        let mut waiting = Box::pin(other.turn_among_all());
        assert!(poll!(&mut waiting).is_pending());
        drop((waiting, held));
        assert!(!lines.has_others(&account("c")));
        drop((place, other));
        assert!(!lines.has_others(&a) && lines.users().is_empty());
    }

    #[test]
    fn lines_are_bounded() {
        let lines = Lines::new(2, 3);
        let held: Vec<_> = (0..2)
            .map(|_| lines.enter(account("a")).expect("there is room"))
            .collect();
        assert!(lines.enter(account("a")).is_err(), "two of one user");
        let other = lines.enter(account("b")).expect("there is room");
        assert!(lines.enter(account("c")).is_err(), "three in all");
        assert_eq!((lines.waiting(), lines.users().len()), (3, 2));
        drop((held, other));
        assert_eq!((lines.waiting(), lines.users().len()), (0, 0));
    }
}

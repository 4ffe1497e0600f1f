//! Who waits for whom: requests that somebody watches, and work in the background.
//!
//! A request that a process took over for later (it was queued, its caller has its promise) competes with people for the
//! same quota. Among users turns are fair; between these two they are not meant to be. So each has a fair queue of its own,
//! and the background's is served only while the other is empty.
//!
//! When nobody else is there, a background request may be the probe: then the next caller does not have to be.

use super::outcome::RefuseReason;
use super::queue::{FairQueue, Place, TicketId, UserKey};

/// Background requests of all users that may wait at once. They stay in a store until they are sent, so that a few are
/// enough to have the next one at hand.
const BACKGROUND: usize = 256;

/// Whether somebody waits for the answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Priority {
    /// Yes.
    #[default]
    Live,
    /// No: it is sent when no live request waits, and holds at most half of the window.
    Background,
}

/// The two queues of one lane.
#[derive(Debug)]
pub(super) struct Queues<T> {
    live: FairQueue<T>,
    background: FairQueue<T>,
}

impl<T> Queues<T> {
    /// Two empty queues; the bounds are those of the live one.
    pub(super) fn new(per_user: usize, per_lane: usize) -> Self {
        Self {
            live: FairQueue::new(Priority::Live, per_user, per_lane),
            background: FairQueue::new(Priority::Background, BACKGROUND, BACKGROUND),
        }
    }

    /// Requests waiting, of both kinds.
    pub(super) fn len(&self) -> usize {
        self.live.len() + self.background.len()
    }

    /// True when nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.live.is_empty() && self.background.is_empty()
    }

    /// True when nothing waits that goes before a newcomer of this kind, or beside it.
    pub(super) fn is_clear_for(&self, priority: Priority) -> bool {
        self.live.is_empty() && (priority == Priority::Live || self.background.is_empty())
    }

    /// Users with something waiting for their turn; one who waits in both counts twice.
    pub(super) fn users(&self) -> usize {
        self.live.users() + self.background.users()
    }

    /// See [`FairQueue::ahead_of`].
    pub(super) fn ahead_of(&self, priority: Priority, user: UserKey, place: Place) -> usize {
        match priority {
            Priority::Live => self.live.ahead_of(user, place),
            Priority::Background => self.live.len() + self.background.ahead_of(user, place),
        }
    }

    /// All that go before a newcomer of this kind.
    pub(super) fn len_before(&self, priority: Priority) -> usize {
        match priority {
            Priority::Live => self.live.len(),
            Priority::Background => self.len(),
        }
    }

    /// See [`FairQueue::push`].
    pub(super) fn push(
        &mut self,
        priority: Priority,
        user: UserKey,
        place: Place,
        cost: u8,
        value: T,
    ) -> Result<TicketId, RefuseReason> {
        self.of(priority).push(user, place, cost, value)
    }

    /// The kind of the next request in turn.
    pub(super) fn next(&self) -> Option<Priority> {
        if self.live.is_empty() {
            (!self.background.is_empty()).then_some(Priority::Background)
        } else {
            Some(Priority::Live)
        }
    }

    /// Takes the next request in turn.
    pub(super) fn pop(&mut self) -> Option<(TicketId, UserKey, T)> {
        let priority = self.next()?;
        self.of(priority).pop()
    }

    /// See [`FairQueue::remove`].
    pub(super) fn remove(&mut self, id: TicketId) -> Option<T> {
        self.of(id.priority()).remove(id)
    }

    /// All that wait, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (UserKey, &T)> {
        self.live.iter().chain(self.background.iter())
    }

    /// See [`FairQueue::correct`].
    pub(super) fn correct(&mut self, priority: Priority, user: UserKey, extra: i64) {
        self.of(priority).correct(user, extra);
    }

    fn of(&mut self, priority: Priority) -> &mut FairQueue<T> {
        match priority {
            Priority::Live => &mut self.live,
            Priority::Background => &mut self.background,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_background_is_served_while_nobody_else_waits() {
        let mut queues = Queues::new(10, 10);
        let mut push = |priority, user, value| {
            queues
                .push(priority, UserKey(user), Place::End, 1, value)
                .expect("there is room")
        };
        let ids = [
            push(Priority::Background, 1, 10),
            push(Priority::Background, 1, 11),
            push(Priority::Background, 2, 20),
            push(Priority::Live, 3, 30),
            push(Priority::Live, 1, 12),
        ];
        assert_eq!(queues.ahead_of(Priority::Live, UserKey(4), Place::End), 2);
        assert_eq!(
            queues.ahead_of(Priority::Background, UserKey(4), Place::End),
            2 + 2
        );
        assert!(!queues.is_clear_for(Priority::Live));
        assert_eq!(queues.remove(ids[3]), Some(30));
        assert_eq!(queues.remove(ids[3]), None, "an id finds nobody else");
        let mut order = Vec::new();
        while let Some((_, _, value)) = queues.pop() {
            order.push(value);
            if order.len() == 2 {
                assert!(queues.is_clear_for(Priority::Live), "it is passed by");
                assert!(!queues.is_clear_for(Priority::Background));
            }
        }
        assert_eq!(order, [12, 10, 20, 11], "fair among its own users too");
        assert!(queues.is_empty());
    }

    #[test]
    fn the_background_takes_no_room_from_the_others() {
        let mut queues = Queues::new(1, 2);
        let mut push = |priority, user| {
            let pushed = queues.push(priority, UserKey(user), Place::End, 1, ());
            pushed.map(|_| ())
        };
        for user in 0..BACKGROUND as u64 {
            assert_eq!(push(Priority::Background, user), Ok(()));
        }
        let full = Err(RefuseReason::LaneQueueFull);
        assert_eq!(push(Priority::Background, 1_000), full);
        assert_eq!(push(Priority::Live, 1), Ok(()));
        assert_eq!(push(Priority::Live, 2), Ok(()));
        assert_eq!(push(Priority::Live, 3), full);
    }
}

//! One part of the table: the entries of some users, and who of them may leave.

use std::collections::{HashMap, VecDeque};

use crate::limit::gcra::{Rule, Tat};
use crate::limit::identity::UserKey;

#[cfg(test)]
mod tests;

/// Entries looked at when a new user comes: more than one, so that idle users leave faster than
/// new ones come.
const STEPS_PER_NEW_USER: usize = 2;

/// Entries looked at when a new user comes and there is no room.
const STEPS_WHEN_FULL: usize = 32;

/// What is known of one user: 16 bytes, beside 16 of its key and 16 in the ring.
///
/// The parts of its [`Tat`] stand apart, because together they would be padded to 8 bytes more.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Entry {
    tat_micros: u64,
    tat_parts: u32,
    live: u32,
}

impl Entry {
    pub(super) fn tat(&self) -> Tat {
        Tat {
            micros: self.tat_micros,
            parts: self.tat_parts,
        }
    }

    pub(super) fn set_tat(&mut self, tat: Tat) {
        self.tat_micros = tat.micros;
        self.tat_parts = tat.parts;
    }

    /// Requests running.
    pub(super) fn live(&self) -> u32 {
        self.live
    }

    pub(super) fn enter(&mut self) {
        self.live = self.live.saturating_add(1);
    }

    fn leave(&mut self) {
        self.live = self.live.saturating_sub(1);
    }

    /// Whether the entry says no more than a new one.
    fn is_idle(&self, now: u64) -> bool {
        self.live == 0 && Rule::is_whole(self.tat(), now)
    }
}

/// Where a user's requests are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In an entry of its own.
    Own,
    /// In the entry of those for whom there was no room.
    Shared,
}

/// One part of the table.
#[derive(Debug)]
pub(super) struct Shard {
    users: HashMap<UserKey, Entry>,
    /// Every key of `users` exactly once, the one to be looked at next in front.
    ring: VecDeque<UserKey>,
    capacity: usize,
    shared: Entry,
    crowded: u64,
}

impl Shard {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            users: HashMap::new(),
            ring: VecDeque::new(),
            capacity,
            shared: Entry::default(),
            crowded: 0,
        }
    }

    /// Applies `decide` to the user's entry, which is made if there is room.
    ///
    /// If `decide` counts a request as running, it has to [`Shard::leave`] the place returned.
    pub(super) fn with<R>(
        &mut self,
        user: &UserKey,
        now: u64,
        decide: impl FnOnce(&mut Entry) -> R,
    ) -> (Place, R) {
        if let Some(entry) = self.users.get_mut(user) {
            return (Place::Own, decide(entry));
        }
        self.sweep(now, STEPS_PER_NEW_USER);
        if self.users.len() >= self.capacity && !self.make_room(now) {
            self.crowded = self.crowded.saturating_add(1);
            return (Place::Shared, decide(&mut self.shared));
        }
        self.ring.push_back(*user);
        (Place::Own, decide(self.users.entry(*user).or_default()))
    }

    /// A running request of the user has ended.
    pub(super) fn leave(&mut self, user: &UserKey, place: Place) {
        match place {
            // There is an entry: one with a running request is never removed.
            Place::Own => {
                if let Some(entry) = self.users.get_mut(user) {
                    entry.leave();
                }
            }
            Place::Shared => self.shared.leave(),
        }
    }

    /// Looks at up to `steps` entries, each at most once, and removes those that are idle.
    pub(super) fn sweep(&mut self, now: u64, steps: usize) {
        for _ in 0..steps.min(self.ring.len()) {
            self.step(now);
        }
    }

    /// Looks for one idle entry and removes it; `false` if none was found in a bounded search.
    fn make_room(&mut self, now: u64) -> bool {
        (0..STEPS_WHEN_FULL.min(self.ring.len())).any(|_| self.step(now))
    }

    /// Looks at the next entry: removes it if it is idle, and otherwise puts it back in line.
    fn step(&mut self, now: u64) -> bool {
        let Some(user) = self.ring.pop_front() else {
            return false;
        };
        let idle = self.users.get(&user).is_none_or(|e| e.is_idle(now));
        if idle {
            self.users.remove(&user);
        } else {
            self.ring.push_back(user);
        }
        idle
    }

    pub(super) fn len(&self) -> usize {
        self.users.len()
    }

    pub(super) fn crowded(&self) -> u64 {
        self.crowded
    }
}

//! The fair queue: who goes next.
//!
//! First come, first served lets one user with a loop starve forty with a question each.
//! Deficit round robin (Shreedhar and Varghese, 1995) gives every user with something waiting one turn a round, and is
//! O(1): a user's deficit grows by a quantum a turn and pays for its requests; a user with nothing waiting keeps no credit.
//! The quantum is the largest cost waiting at the moment, so every turn serves somebody, and with equal costs the
//! discipline is plain round robin.
//!
//! A request that leaves the queue, because its caller did or its time is over, is unlinked in O(1) and costs nobody a
//! turn.
//!
//! A retry has waited already. One that failed perhaps by its own doing returns to the front of its own user's queue, and
//! its user alone pays for it. One that the upstream refused, so that nobody was served by its turn, has that turn still to
//! come: it goes before the round and takes none of its user's turns. Users are then equal in answers, not in attempts.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use slab::Slab;

use super::outcome::RefuseReason;
use super::priority::Priority;

/// The largest cost of one request; higher ones are cut to it, and zero counts as one.
pub const MAX_COST: u8 = 16;

/// A user, by a fingerprint that cannot be turned back into a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UserKey(pub u64);

/// A waiting request. Never reused: a stale id finds nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TicketId {
    priority: Priority,
    index: usize,
    serial: u64,
}

/// Where a request stands in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Behind all others of its user: a newcomer.
    End,
    /// Before all others of its user: a retry that pays for itself.
    Front,
    /// Before the round: a retry whose turn was taken in vain.
    Owed,
}

/// Requests that wait, by user, with what the caller of the queue keeps for each.
#[derive(Debug)]
pub struct FairQueue<T> {
    /// Of all requests in it.
    priority: Priority,
    nodes: Slab<Node<T>>,
    users: Slab<User>,
    by_key: HashMap<UserKey, usize>,
    /// Those whose turn was taken in vain, of all users, first come first served.
    owed: Line,
    /// The user whose turn it is; the others follow in a ring through their links.
    turn: Option<usize>,
    /// True when the user whose turn it is has been given its quantum for this turn.
    credited: bool,
    /// How many waiting requests have each cost; the highest non-zero entry is the quantum.
    costs: [usize; MAX_COST as usize + 1],
    serial: u64,
    per_user: usize,
    per_lane: usize,
}

#[derive(Debug)]
struct Node<T> {
    serial: u64,
    line: LineOf,
    cost: u8,
    before: Option<usize>,
    after: Option<usize>,
    value: T,
}

/// Where a request waits.
#[derive(Debug, Clone, Copy)]
enum LineOf {
    User(usize),
    Owed(UserKey),
}

/// Requests one behind the other, linked through their nodes.
#[derive(Debug, Default)]
struct Line {
    first: Option<usize>,
    last: Option<usize>,
    waiting: usize,
}

#[derive(Debug)]
struct User {
    key: UserKey,
    line: Line,
    deficit: i64,
    before: usize,
    after: usize,
}

impl TicketId {
    /// The kind of the request.
    #[must_use]
    pub const fn priority(&self) -> Priority {
        self.priority
    }
}

impl<T> FairQueue<T> {
    /// An empty queue for requests of one kind that holds at most `per_user` requests of one user and `per_lane` in all.
    #[must_use]
    pub fn new(priority: Priority, per_user: usize, per_lane: usize) -> Self {
        Self {
            priority,
            nodes: Slab::new(),
            users: Slab::new(),
            by_key: HashMap::new(),
            owed: Line::default(),
            turn: None,
            credited: false,
            costs: [0; MAX_COST as usize + 1],
            serial: 0,
            per_user,
            per_lane,
        }
    }

    /// Requests waiting.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// True when nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Users with something waiting for their turn.
    #[must_use]
    pub fn users(&self) -> usize {
        self.users.len()
    }

    /// How many requests will be served before a new one of this user: as many rounds as it has waiting itself,
    /// and never more than all that wait. Exact when the others have at least as much waiting; too high otherwise.
    #[must_use]
    pub fn ahead_of(&self, user: UserKey, place: Place) -> usize {
        let own = match (place, self.by_key.get(&user)) {
            (Place::Owed, _) => return self.owed.waiting,
            (Place::End, Some(&index)) => self.users[index].line.waiting,
            (Place::End, None) | (Place::Front, _) => 0,
        };
        let others = self.users.len() - usize::from(self.by_key.contains_key(&user));
        ((own + 1) * others + own + self.owed.waiting).min(self.nodes.len())
    }

    /// Puts a request in its place. The bounds are for newcomers: a retry was admitted before, and how many can come
    /// back is bounded by what the window lets out.
    pub fn push(
        &mut self,
        user: UserKey,
        place: Place,
        cost: u8,
        value: T,
    ) -> Result<TicketId, RefuseReason> {
        if place == Place::End {
            if self.nodes.len() >= self.per_lane {
                return Err(RefuseReason::LaneQueueFull);
            }
            let known = self.by_key.get(&user);
            if known.is_some_and(|&index| self.users[index].line.waiting >= self.per_user) {
                return Err(RefuseReason::UserQueueFull);
            }
        }
        Ok(self.insert(user, place, cost, value))
    }

    /// Takes the next request in turn.
    pub fn pop(&mut self) -> Option<(TicketId, UserKey, T)> {
        if let Some(first) = self.owed.first {
            return Some(self.take(first));
        }
        let mut turn = self.turn?;
        // Ends: a debt is at most MAX_COST deep, and each round adds at least one to every user's deficit.
        loop {
            if !self.credited {
                self.users[turn].deficit += self.quantum();
                self.credited = true;
            }
            let user = &self.users[turn];
            let first = user.line.first?;
            if i64::from(self.nodes[first].cost) <= user.deficit {
                return Some(self.serve(turn, first));
            }
            turn = user.after;
            self.turn = Some(turn);
            self.credited = false;
        }
    }

    /// Takes one request out, whoever's turn it is. Returns nothing when it is no longer waiting.
    pub fn remove(&mut self, id: TicketId) -> Option<T> {
        self.get(id)?;
        Some(self.unlink(id.index).value)
    }

    /// What was put in for a waiting request.
    #[must_use]
    pub fn get(&self, id: TicketId) -> Option<&T> {
        self.nodes
            .get(id.index)
            .filter(|node| node.serial == id.serial && self.priority == id.priority)
            .map(|node| &node.value)
    }

    /// All that wait, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (UserKey, &T)> {
        let nodes = self.nodes.iter();
        nodes.map(|(_, node)| match node.line {
            LineOf::User(user) => (self.users[user].key, &node.value),
            LineOf::Owed(user) => (user, &node.value),
        })
    }

    /// Charges a user with `extra` more than it was served for (or less, if negative), once the true cost is known.
    /// It takes effect while the user has something waiting, and is forgotten with its last request, as all credit is.
    pub fn correct(&mut self, user: UserKey, extra: i64) {
        if let Some(&index) = self.by_key.get(&user) {
            let bound = i64::from(MAX_COST);
            let user = &mut self.users[index];
            user.deficit = user.deficit.saturating_sub(extra).clamp(-bound, bound);
        }
    }

    fn quantum(&self) -> i64 {
        let largest = self.costs.iter().rposition(|count| *count > 0).unwrap_or(1);
        i64::try_from(largest).unwrap_or(1)
    }

    fn serve(&mut self, turn: usize, first: usize) -> (TicketId, UserKey, T) {
        let user = &mut self.users[turn];
        user.deficit -= i64::from(self.nodes[first].cost);
        let next = self.nodes[first].after;
        let goes_on =
            next.is_some_and(|next| i64::from(self.nodes[next].cost) <= self.users[turn].deficit);
        if !goes_on {
            self.turn = Some(self.users[turn].after);
            self.credited = false;
        }
        self.take(first)
    }

    fn take(&mut self, index: usize) -> (TicketId, UserKey, T) {
        let key = match self.nodes[index].line {
            LineOf::User(user) => self.users[user].key,
            LineOf::Owed(key) => key,
        };
        let node = self.unlink(index);
        let id = self.id(index, node.serial);
        (id, key, node.value)
    }

    fn insert(&mut self, key: UserKey, place: Place, cost: u8, value: T) -> TicketId {
        let cost = cost.clamp(1, MAX_COST);
        let line_of = match place {
            Place::Owed => LineOf::Owed(key),
            Place::Front | Place::End => {
                self.costs[usize::from(cost)] += 1;
                LineOf::User(self.user(key))
            }
        };
        self.serial += 1;
        let serial = self.serial;
        let index = self.nodes.insert(Node {
            serial,
            line: line_of,
            cost,
            before: None,
            after: None,
            value,
        });
        let line = self.line(line_of);
        line.waiting += 1;
        if place == Place::Front {
            let after = line.first.replace(index);
            line.last.get_or_insert(index);
            self.nodes[index].after = after;
            if let Some(after) = after {
                self.nodes[after].before = Some(index);
            }
        } else {
            let before = line.last.replace(index);
            line.first.get_or_insert(index);
            self.nodes[index].before = before;
            if let Some(before) = before {
                self.nodes[before].after = Some(index);
            }
        }
        self.id(index, serial)
    }

    const fn id(&self, index: usize, serial: u64) -> TicketId {
        TicketId {
            priority: self.priority,
            index,
            serial,
        }
    }

    fn line(&mut self, line: LineOf) -> &mut Line {
        match line {
            LineOf::User(user) => &mut self.users[user].line,
            LineOf::Owed(_) => &mut self.owed,
        }
    }

    /// The user's place in the ring; a new one enters behind everybody, just before the user whose turn it is.
    fn user(&mut self, key: UserKey) -> usize {
        let entry = match self.by_key.entry(key) {
            Entry::Occupied(known) => return *known.get(),
            Entry::Vacant(entry) => entry,
        };
        let new = self.users.vacant_key();
        let after = self.turn.unwrap_or(new);
        let before = self.turn.map_or(new, |turn| self.users[turn].before);
        self.users.insert(User {
            key,
            line: Line::default(),
            deficit: 0,
            before,
            after,
        });
        self.users[before].after = new;
        self.users[after].before = new;
        self.turn.get_or_insert(new);
        *entry.insert(new)
    }

    fn unlink(&mut self, index: usize) -> Node<T> {
        let node = self.nodes.remove(index);
        match node.before {
            Some(before) => self.nodes[before].after = node.after,
            None => self.line(node.line).first = node.after,
        }
        match node.after {
            Some(after) => self.nodes[after].before = node.before,
            None => self.line(node.line).last = node.before,
        }
        self.line(node.line).waiting -= 1;
        if let LineOf::User(user) = node.line {
            self.costs[usize::from(node.cost)] -= 1;
            if self.users[user].line.waiting == 0 {
                self.forget(user);
            }
        }
        node
    }

    fn forget(&mut self, index: usize) {
        let user = self.users.remove(index);
        self.by_key.remove(&user.key);
        if user.after == index {
            self.turn = None;
            self.credited = false;
            return;
        }
        self.users[user.before].after = user.after;
        self.users[user.after].before = user.before;
        if self.turn == Some(index) {
            self.turn = Some(user.after);
            self.credited = false;
        }
    }
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;

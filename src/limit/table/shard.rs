//! One part of the table: the accounts of some users, and who of them may leave.

use std::collections::HashMap;

use crate::limit::account::{State, leave};
use crate::limit::gcra::Tat;
use crate::limit::plan::MAX_RULES;
use crate::limit::table::Account;

#[cfg(test)]
mod tests;

/// Accounts looked at when a new user comes: more than one, so that idle users leave faster than
/// new ones come.
const STEPS_PER_NEW_USER: usize = 2;

/// Accounts looked at when a new user comes and there is no room.
const STEPS_WHEN_FULL: usize = 32;

/// Where a user's requests are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In an account of its own.
    Own,
    /// In the account of those under the same plan for whom there was no room.
    Shared,
}

/// One part of the table.
///
/// The accounts stand side by side without gaps, in columns: 24 bytes each for the rest, and 12 for
/// every rate of the longest plan, which would be 16 if its two numbers stood together.
#[derive(Debug)]
pub(super) struct Shard {
    /// Where each account stands.
    slots: HashMap<Account, u32>,
    rows: Vec<Row>,
    micros: Vec<u64>,
    parts: Vec<u32>,
    /// Rates of the longest plan.
    rates: usize,
    capacity: usize,
    /// The row to be looked at next.
    hand: usize,
    /// Of those who found no room, one for each plan.
    shared: Vec<State>,
    crowded: u64,
}

#[derive(Clone, Copy, Debug)]
struct Row {
    account: Account,
    live: u32,
}

impl Shard {
    /// Room for `capacity` accounts under so many plans, of at most `rates` rates each.
    pub(super) fn new(capacity: usize, plans: usize, rates: usize) -> Self {
        Self {
            slots: HashMap::new(),
            rows: Vec::new(),
            micros: Vec::new(),
            parts: Vec::new(),
            rates: rates.min(MAX_RULES),
            capacity: capacity.min(u32::MAX as usize),
            hand: 0,
            shared: vec![State::default(); plans],
            crowded: 0,
        }
    }

    /// Applies `decide` to the account's state; the account is made if there is room.
    ///
    /// If `decide` counts a request as running, it has to [`Shard::leave`] the place returned.
    pub(super) fn with<R>(
        &mut self,
        account: Account,
        now: u64,
        decide: impl FnOnce(&mut State) -> R,
    ) -> (Place, R) {
        if let Some(&slot) = self.slots.get(&account) {
            return (Place::Own, self.at(slot as usize, decide));
        }
        self.sweep(now, STEPS_PER_NEW_USER);
        if self.rows.len() >= self.capacity && !self.make_room(now) {
            self.crowded = self.crowded.saturating_add(1);
            return (Place::Shared, decide(&mut self.shared[account.plan()]));
        }
        let slot = self.push(account);
        (Place::Own, self.at(slot, decide))
    }

    /// Applies `change` to an account in the place where a running request of it is counted.
    pub(super) fn change(
        &mut self,
        account: Account,
        place: Place,
        change: impl FnOnce(&mut State),
    ) {
        match place {
            // There is one: an account with a running request is never removed.
            Place::Own => {
                if let Some(&slot) = self.slots.get(&account) {
                    self.at(slot as usize, change);
                }
            }
            Place::Shared => change(&mut self.shared[account.plan()]),
        }
    }

    /// A running request of the user has ended.
    pub(super) fn leave(&mut self, account: Account, place: Place) {
        self.change(account, place, leave);
    }

    /// Looks at up to `steps` accounts, each at most once, and removes those that are idle.
    pub(super) fn sweep(&mut self, now: u64, steps: usize) {
        for _ in 0..steps.min(self.rows.len()) {
            self.step(now);
        }
    }

    /// The accounts in up to `rows` rows from `from` on.
    pub(super) fn accounts(
        &self,
        from: usize,
        rows: usize,
    ) -> impl Iterator<Item = (Account, State)> {
        let to = self.rows.len().min(from.saturating_add(rows));
        (from..to).map(|slot| (self.rows[slot].account, self.load(slot)))
    }

    /// Looks for one idle account and removes it; `false` if none was found in a bounded search.
    fn make_room(&mut self, now: u64) -> bool {
        (0..STEPS_WHEN_FULL.min(self.rows.len())).any(|_| self.step(now))
    }

    /// Looks at the next account, and removes it if it is idle.
    fn step(&mut self, now: u64) -> bool {
        if self.hand >= self.rows.len() {
            self.hand = 0;
        }
        let idle = self.hand < self.rows.len() && self.load(self.hand).is_idle(now);
        if idle {
            // The last one takes its row and is looked at next.
            self.remove(self.hand);
        } else {
            self.hand += 1;
        }
        idle
    }

    fn push(&mut self, account: Account) -> usize {
        let slot = self.rows.len();
        grow(&mut self.rows, 1);
        grow(&mut self.micros, self.rates);
        grow(&mut self.parts, self.rates);
        self.rows.push(Row { account, live: 0 });
        self.micros.resize((slot + 1) * self.rates, 0);
        self.parts.resize((slot + 1) * self.rates, 0);
        self.slots.insert(account, index(slot));
        slot
    }

    fn remove(&mut self, slot: usize) {
        let last = self.rows.len() - 1;
        self.slots.remove(&self.rows[slot].account);
        if slot != last {
            let moved = self.load(last);
            self.slots.insert(self.rows[last].account, index(slot));
            self.rows[slot].account = self.rows[last].account;
            self.store(slot, &moved);
        }
        self.rows.truncate(last);
        self.micros.truncate(last * self.rates);
        self.parts.truncate(last * self.rates);
    }

    fn at<R>(&mut self, slot: usize, change: impl FnOnce(&mut State) -> R) -> R {
        let mut state = self.load(slot);
        let result = change(&mut state);
        self.store(slot, &state);
        result
    }

    fn load(&self, slot: usize) -> State {
        let columns = slot * self.rates..(slot + 1) * self.rates;
        let mut state = State {
            live: self.rows[slot].live,
            ..State::default()
        };
        let moments = self.micros[columns.clone()]
            .iter()
            .zip(&self.parts[columns]);
        for (tat, (&micros, &parts)) in state.tats.iter_mut().zip(moments) {
            *tat = Tat { micros, parts };
        }
        state
    }

    fn store(&mut self, slot: usize, state: &State) {
        self.rows[slot].live = state.live;
        for (rate, tat) in state.tats[..self.rates].iter().enumerate() {
            self.micros[slot * self.rates + rate] = tat.micros;
            self.parts[slot * self.rates + rate] = tat.parts;
        }
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn crowded(&self) -> u64 {
        self.crowded
    }
}

/// Makes room for `more`, and an eighth beyond: doubling would leave half of a large column empty.
fn grow<T>(column: &mut Vec<T>, more: usize) {
    if column.capacity() < column.len() + more {
        column.reserve_exact(more + column.len() / 8);
    }
}

fn index(slot: usize) -> u32 {
    u32::try_from(slot).expect("the capacity has 32 bits")
}

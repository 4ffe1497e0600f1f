//! Where the accounts of some plans are kept in this process, and what they are called in a store.

use tokio::time::Instant;

use super::{
    account::State,
    gcra::{Rule, Tat},
    standing::{Denied, Standing},
    table::{Account, Admission, Permit, Stats, Table},
};
use crate::store::limits::{Entry, PlanPrint};

/// The accounts of some plans.
#[derive(Debug)]
pub struct Ledger {
    table: Table,
    /// The names of the table's plans in a store, by their numbers.
    prints: Vec<PlanPrint>,
}

impl Ledger {
    /// Accounts in this table, whose plans have these names in a store.
    #[must_use]
    pub fn new(table: Table, prints: Vec<PlanPrint>) -> Self {
        Self { table, prints }
    }

    /// Lets a request in that will use about so many tokens, or turns it away, by what this process knows; as one of
    /// `among` instances that cannot ask each other.
    pub fn admit(&self, among: u32, account: Account, tokens: u64) -> Result<Admission, Denied> {
        self.table
            .admit_among(among, account, tokens, Instant::now())
    }

    /// Charges tokens that were used already, whatever that leaves.
    pub(super) fn charge(&self, account: Account, tokens: u64) {
        self.table.charge(account, tokens, Instant::now());
    }

    /// How an account is asked for in a store; `is_everybody` where it is that of all users together.
    pub(super) fn entry(&self, account: Account, is_everybody: bool) -> Entry {
        Entry {
            user: (!is_everybody).then_some(account.user),
            plan: self.table.plan(account).clone(),
            print: self.prints[account.plan()],
        }
    }

    /// Takes over what a store says of an account at `then`, a moment of its own time, and counts a request of so many
    /// tokens as running that it has let in.
    pub(super) fn adopt(&self, account: Account, told: &State, then: u64, tokens: u64) -> Permit {
        let now = Instant::now();
        let tats = self.in_own_time(account, told, then, now);
        self.table.adopt(account, &tats, tokens, now)
    }

    /// Takes over what a store says of an account that it has turned away.
    pub(super) fn learn(&self, account: Account, told: &State, then: u64) {
        let now = Instant::now();
        let tats = self.in_own_time(account, told, then, now);
        self.table.learn(account, &tats, now);
    }

    /// What an account has left that a store has told of.
    pub(super) fn standing(&self, account: Account, told: State, then: u64) -> Standing {
        Standing::new(self.table.plan(account).clone(), told, then)
    }

    /// A store's moments as those of the table: as far ahead of now as they were of `then`.
    fn in_own_time(&self, account: Account, told: &State, then: u64, now: Instant) -> Vec<Tat> {
        let now = self.table.micros(now);
        let rates = self.table.plan(account).rules().len();
        let own = |tat: &Tat| {
            if Rule::is_whole(*tat, then) {
                return Tat::default();
            }
            Tat {
                micros: now.saturating_add(tat.micros - then),
                parts: tat.parts,
            }
        };
        told.tats[..rates].iter().map(own).collect()
    }

    /// The accounts as this process knows them.
    #[must_use]
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// How full it is.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.table.stats()
    }
}

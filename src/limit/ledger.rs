//! Where the accounts of some plans are kept.

use tokio::time::Instant;

use super::{
    standing::{Denied, Standing},
    table::{Account, Admission, Permit, Stats, Table},
};

/// The accounts of some plans.
#[derive(Debug)]
pub struct Ledger {
    table: Table,
}

/// A running request in one account, to be settled when it has ended.
#[derive(Debug)]
pub struct Held {
    permit: Permit,
}

/// A request let in.
#[derive(Debug)]
pub struct Entered {
    /// Its place in the account.
    pub held: Held,
    /// What the account has left.
    pub standing: Standing,
}

impl Ledger {
    /// Accounts in the memory of this process alone.
    #[must_use]
    pub fn in_memory(table: Table) -> Self {
        Self { table }
    }

    /// Lets a request in that will use about so many tokens, or turns it away.
    #[expect(clippy::unused_async, reason = "a shared store will answer here")]
    pub async fn admit(&self, account: Account, tokens: u64) -> Result<Entered, Denied> {
        let Admission { permit, standing } = self.table.admit(account, tokens, Instant::now())?;
        Ok(Entered {
            held: Held { permit },
            standing,
        })
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

impl Held {
    /// The request has ended and has used so many tokens.
    pub fn settle(self, used: u64) {
        self.permit.settle(used, Instant::now());
    }

    /// The request was not let in after all: everything is given back.
    pub fn undo(self) {
        self.permit.undo();
    }
}

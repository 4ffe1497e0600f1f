//! How full the file is.

use rusqlite::Connection;

use super::code;
use crate::store::jobs::{Depth, Millis};

/// How full the file is: kept beside it, so that a bound costs no counting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Tally {
    /// Entries by their state's number.
    pub(in super::super) states: [i64; 8],
    pub(in super::super) bytes: i64,
    /// Changes when another connection has written.
    version: i64,
}

impl Tally {
    /// Counts the file.
    pub(in super::super) fn count(connection: &Connection) -> rusqlite::Result<Self> {
        let mut tally = Self {
            version: version(connection)?,
            ..Self::default()
        };
        let mut statement =
            connection.prepare("SELECT state, count(*), sum(bytes) FROM job GROUP BY state")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let (state, count, bytes): (i64, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
            *tally.of(state) = count;
            tally.bytes += bytes;
        }
        Ok(tally)
    }

    /// Counts anew if somebody else has written.
    pub(in super::super) fn follow(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        if version(connection)? != self.version {
            *self = Self::count(connection)?;
        }
        Ok(())
    }

    pub(super) fn of(&mut self, state: i64) -> &mut i64 {
        let index = usize::try_from(state)
            .unwrap_or_default()
            .min(self.states.len() - 1);
        &mut self.states[index]
    }

    pub(super) fn moved(&mut self, from: i64, to: i64) {
        *self.of(from) -= 1;
        *self.of(to) += 1;
    }

    /// Entries that are not final.
    pub(super) fn waiting(&self) -> i64 {
        self.states[..4].iter().sum()
    }

    /// The same for those outside.
    pub(in super::super) fn depth(&self, oldest: Option<Millis>) -> Depth {
        let count = |codes: &[i64]| {
            let sum: i64 = codes
                .iter()
                .filter_map(|code| self.states.get(usize::try_from(*code).ok()?))
                .sum();
            u64::try_from(sum).unwrap_or(0)
        };
        Depth {
            by_state: [
                count(&[code::PENDING, code::HELD, code::WAITING]),
                count(&[code::RUNNING]),
                count(&[code::DONE]),
                count(&[code::FAILED]),
                count(&[code::UNCERTAIN]),
                0,
            ],
            bytes: u64::try_from(self.bytes).unwrap_or(0),
            oldest,
        }
    }
}

fn version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, "data_version", |row| row.get(0))
}

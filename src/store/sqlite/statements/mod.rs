//! What is done to the tables, one function a request of the trait. Each runs inside a transaction of the writer's, or
//! on the reader's connection, and touches as many rows as it answers about, however many there are.

mod carry;
mod ending;
mod look;
mod tally;

use rusqlite::Connection;

#[cfg(test)]
pub(super) use self::{
    carry::{COME_DUE, LAST_TURN, NEXT, PRESENT_TURN},
    look::OLDEST,
};
pub(super) use self::{
    carry::{begin, end, give_back, put, take},
    ending::{owed, remove, retry, sweep, told},
    look::{answer, by_key, list, look, oldest, routes},
    tally::Tally,
};
use super::schema::code;
use crate::store::jobs::{State, StoreError};

type Outcome<T> = rusqlite::Result<Result<T, StoreError>>;

/// The request of a done entry is of no more use: its bytes are given back, those of the answer counted.
fn grow(connection: &Connection, seq: i64, answer: i64) -> rusqlite::Result<i64> {
    connection
        .prepare_cached("DELETE FROM request WHERE seq = ?1")?
        .execute([seq])?;
    let before: i64 = connection
        .prepare_cached("SELECT bytes FROM job WHERE seq = ?1")?
        .query_row([seq], |row| row.get(0))?;
    connection
        .prepare_cached("UPDATE job SET bytes = ?1 WHERE seq = ?2")?
        .execute([answer, seq])?;
    Ok(answer - before)
}

fn state_of(number: i64) -> State {
    match number {
        code::PENDING | code::HELD | code::WAITING => State::Pending,
        code::RUNNING => State::Running,
        code::DONE => State::Done,
        code::FAILED => State::Failed,
        code::UNCERTAIN => State::Uncertain,
        _ => State::Gone,
    }
}

fn size(parts: &[&[u8]]) -> i64 {
    parts.iter().map(|part| signed(part.len() as u64)).sum()
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

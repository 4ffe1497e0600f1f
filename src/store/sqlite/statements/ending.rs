//! What happens to entries that have ended, or are made to: removed, tried once more, forgotten, told of.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::{
    Outcome, Tally, code, grow,
    look::{RECORD, record},
    state_of,
};
use crate::store::jobs::{EXPIRED, JobId, Millis, Owed, State};

pub(in super::super) fn remove(
    connection: &Connection,
    tally: &mut Tally,
    id: JobId,
    now: Millis,
    forget: Millis,
) -> Outcome<Option<State>> {
    let found: Option<(i64, i64)> = connection
        .prepare_cached("SELECT seq, state FROM job WHERE id = ?1")?
        .query_row([id.0], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let Some((seq, state)) = found else {
        return Ok(Ok(None));
    };
    if state != code::GONE {
        bury(connection, tally, seq, state, now, forget)?;
    }
    Ok(Ok(Some(state_of(state))))
}

/// Removes what is kept of an entry, but not that it was there.
fn bury(
    connection: &Connection,
    tally: &mut Tally,
    seq: i64,
    state: i64,
    now: Millis,
    forget: Millis,
) -> rusqlite::Result<()> {
    tally.bytes += grow(connection, seq, 0)?;
    connection
        .prepare_cached("DELETE FROM answer WHERE seq = ?1")?
        .execute([seq])?;
    connection
        .prepare_cached("UPDATE job SET state = ?1, changed = ?2, expires = ?3, key = NULL, note = NULL, tell = NULL WHERE seq = ?4")?
        .execute(params![code::GONE, now.0, forget.0, seq])?;
    tally.moved(state, code::GONE);
    Ok(())
}

pub(in super::super) fn retry(
    connection: &Connection,
    tally: &mut Tally,
    id: JobId,
    now: Millis,
    expires: Millis,
) -> Outcome<bool> {
    let state: Option<i64> = connection
        .prepare_cached("SELECT state FROM job WHERE id = ?1 AND state IN (?2, ?3)")?
        .query_row(params![id.0, code::FAILED, code::UNCERTAIN], |row| {
            row.get(0)
        })
        .optional()?;
    let Some(state) = state else {
        return Ok(Ok(false));
    };
    connection
        .prepare_cached("UPDATE job SET state = ?1, note = NULL, changed = ?2, expires = ?3, attempts = 0, tell = NULL, tellings = 0 WHERE id = ?4")?
        .execute(params![code::PENDING, now.0, expires.0, id.0])?;
    tally.moved(state, code::PENDING);
    Ok(Ok(true))
}

/// How many entries a sweep ends at once: the rest waits for the next.
const SWEPT: i64 = 500;

pub(in super::super) fn sweep(
    connection: &Connection,
    tally: &mut Tally,
    now: Millis,
    keep: Millis,
) -> Outcome<u64> {
    let mut statement = connection
        .prepare_cached("SELECT seq, state FROM job WHERE expires <= ?1 AND state NOT IN (?2, ?3) ORDER BY expires LIMIT ?4")?;
    let expired = statement
        .query_map(params![now.0, code::RUNNING, code::HELD, SWEPT], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?
        .collect::<rusqlite::Result<Vec<(i64, i64)>>>()?;
    let mut failed = 0;
    for (seq, state) in expired {
        match state {
            code::GONE => {
                connection
                    .prepare_cached("DELETE FROM job WHERE seq = ?1")?
                    .execute([seq])?;
                *tally.of(code::GONE) -= 1;
            }
            code::PENDING | code::WAITING => {
                connection
                    .prepare_cached(
                        "UPDATE job SET state = ?1, note = ?2, changed = ?3, expires = ?4, \
                         tell = CASE WHEN webhook IS NULL THEN NULL ELSE ?3 END WHERE seq = ?5",
                    )?
                    .execute(params![code::FAILED, EXPIRED, now.0, keep.0, seq])?;
                tally.moved(state, code::FAILED);
                failed += 1;
            }
            _ => bury(connection, tally, seq, state, now, keep)?,
        }
    }
    Ok(Ok(failed))
}

pub(in super::super) fn owed(
    connection: &Connection,
    most: usize,
    now: Millis,
    again: Millis,
) -> Outcome<Vec<Owed>> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {RECORD}, webhook, tellings, seq FROM job WHERE tell <= ?1 ORDER BY tell LIMIT ?2"
    ))?;
    let found = statement.query_map(
        params![now.0, i64::try_from(most).unwrap_or(i64::MAX)],
        |row| {
            let owed = Owed {
                record: record(row)?,
                webhook: row.get(13)?,
                tries: row.get(14)?,
            };
            Ok((row.get::<_, i64>(15)?, owed))
        },
    )?;
    let found = found.collect::<rusqlite::Result<Vec<_>>>()?;
    let mut claim = connection
        .prepare_cached("UPDATE job SET tell = ?1, tellings = tellings + 1 WHERE seq = ?2")?;
    for (seq, _) in &found {
        claim.execute([again.0, *seq])?;
    }
    Ok(Ok(found.into_iter().map(|(_, owed)| owed).collect()))
}

pub(in super::super) fn told(
    connection: &Connection,
    id: JobId,
    next: Option<Millis>,
) -> Outcome<()> {
    connection
        .prepare_cached("UPDATE job SET tell = ?1 WHERE id = ?2 AND tell IS NOT NULL")?
        .execute(params![next.map(|next| next.0), id.0])?;
    Ok(Ok(()))
}

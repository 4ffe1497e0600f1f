//! An entry's way from being kept to its end.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::{Outcome, Tally, code, grow, look::by_key, signed, size};
use crate::store::jobs::{Bounds, End, JobId, Millis, NewJob, Put, StoreError, Taken};

// What is said of `state` in statements that name it in numbers is said as in the indexes of the schema.

/// The round that a route is served in.
pub(in super::super) const PRESENT_TURN: &str =
    "SELECT min(turn) FROM job WHERE state = 0 AND route = ?1";

/// The round of a user's last entry.
pub(in super::super) const LAST_TURN: &str =
    "SELECT max(turn) FROM job WHERE route = ?1 AND user = ?2 AND state < 4";

/// What waited for a moment that has come.
pub(in super::super) const COME_DUE: &str =
    "UPDATE job SET state = 0 WHERE state = 3 AND due <= ?1";

/// Who is next.
pub(in super::super) const NEXT: &str = "SELECT job.seq, id, user, route, head, body, queued, attempts FROM job JOIN request USING (seq) \
     WHERE state = 0 AND route = ?1 AND expires > ?2 ORDER BY turn, job.seq LIMIT ?3";

pub(in super::super) fn put(
    connection: &Connection,
    tally: &mut Tally,
    job: &NewJob,
    bounds: Bounds,
) -> Outcome<Put> {
    if let Some(key) = &job.key
        && let Some(known) = by_key(connection, key)?
    {
        return Ok(Ok(Put::Known(Box::new(known))));
    }
    let bytes = size(&[&job.head, &job.body]);
    if tally.waiting() >= signed(bounds.requests) {
        return Ok(Err(StoreError::Full("it holds as many requests as it may")));
    }
    if tally.bytes + bytes > signed(bounds.bytes) {
        return Ok(Err(StoreError::Full("it holds as many bytes as it may")));
    }
    let turn = next_turn(connection, &job.route, &job.user)?;
    connection
        .prepare_cached(
            "INSERT INTO job (id, state, owner, user, key, print, route, turn, queued, changed, expires, bytes, webhook) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?9, ?10, ?11, ?12)",
        )?
        .execute(params![
            job.id.0,
            code::PENDING,
            job.owner,
            job.user,
            job.key,
            job.print,
            job.route,
            turn,
            job.now.0,
            job.expires.0,
            bytes,
            job.webhook,
        ])?;
    connection
        .prepare_cached(
            "INSERT INTO request (seq, head, body) VALUES (last_insert_rowid(), ?1, ?2)",
        )?
        .execute(params![job.head, job.body])?;
    *tally.of(code::PENDING) += 1;
    tally.bytes += bytes;
    Ok(Ok(Put::Kept))
}

/// The round in which a new entry is served: one after its user's last, and not before the round that is being served.
///
/// This is start-time fair queueing with entries of equal cost: in each round every user has one entry, so who queues
/// a thousand delays the next user by one. The order is a column, so it outlives the process.
fn next_turn(connection: &Connection, route: &str, user: &[u8; 16]) -> rusqlite::Result<i64> {
    let present: Option<i64> = connection
        .prepare_cached(PRESENT_TURN)?
        .query_row([route], |row| row.get(0))?;
    let last: Option<i64> = connection
        .prepare_cached(LAST_TURN)?
        .query_row(params![route, user], |row| row.get(0))?;
    Ok(last.map_or(0, |turn| turn + 1).max(present.unwrap_or(0)))
}

pub(in super::super) fn take(
    connection: &Connection,
    tally: &mut Tally,
    route: &str,
    most: usize,
    now: Millis,
) -> Outcome<Vec<Taken>> {
    let due = connection.prepare_cached(COME_DUE)?.execute([now.0])?;
    let due = i64::try_from(due).unwrap_or(0);
    *tally.of(code::WAITING) -= due;
    *tally.of(code::PENDING) += due;
    let mut statement = connection.prepare_cached(NEXT)?;
    let found = statement.query_map(
        params![route, now.0, i64::try_from(most).unwrap_or(i64::MAX)],
        |row| {
            let taken = Taken {
                id: JobId(row.get(1)?),
                user: row.get(2)?,
                route: row.get(3)?,
                head: row.get(4)?,
                body: row.get(5)?,
                queued: Millis(row.get(6)?),
                attempts: row.get(7)?,
            };
            Ok((row.get::<_, i64>(0)?, taken))
        },
    )?;
    let found = found.collect::<rusqlite::Result<Vec<_>>>()?;
    let mut hold = connection.prepare_cached("UPDATE job SET state = ?1 WHERE seq = ?2")?;
    for (seq, _) in &found {
        hold.execute(params![code::HELD, seq])?;
        tally.moved(code::PENDING, code::HELD);
    }
    Ok(Ok(found.into_iter().map(|(_, taken)| taken).collect()))
}

pub(in super::super) fn give_back(
    connection: &Connection,
    tally: &mut Tally,
    id: JobId,
    due: Millis,
) -> Outcome<()> {
    let found: Option<(i64, i64)> = connection
        .prepare_cached("SELECT seq, state FROM job WHERE id = ?1 AND state IN (?2, ?3)")?
        .query_row(params![id.0, code::HELD, code::RUNNING], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .optional()?;
    let Some((seq, state)) = found else {
        return Ok(Ok(()));
    };
    connection
        .prepare_cached("UPDATE job SET state = ?1, due = ?2, attempts = attempts - (state = ?3) WHERE seq = ?4")?
        .execute(params![code::WAITING, due.0, code::RUNNING, seq])?;
    tally.moved(state, code::WAITING);
    Ok(Ok(()))
}

pub(in super::super) fn begin(
    connection: &Connection,
    tally: &mut Tally,
    id: JobId,
    now: Millis,
) -> Outcome<bool> {
    let changed = connection
        .prepare_cached("UPDATE job SET state = ?1, attempts = attempts + 1, changed = ?2 WHERE id = ?3 AND state = ?4")?
        .execute(params![code::RUNNING, now.0, id.0, code::HELD])?;
    if changed > 0 {
        tally.moved(code::HELD, code::RUNNING);
    }
    Ok(Ok(changed > 0))
}

pub(in super::super) fn end(
    connection: &Connection,
    tally: &mut Tally,
    id: JobId,
    end: &End,
    now: Millis,
) -> Outcome<bool> {
    let seq: Option<i64> = connection
        .prepare_cached("SELECT seq FROM job WHERE id = ?1 AND state = ?2")?
        .query_row(params![id.0, code::RUNNING], |row| row.get(0))
        .optional()?;
    let Some(seq) = seq else { return Ok(Ok(false)) };
    let finish = |state: i64, unsure: bool, note: Option<&str>, expires: Millis| {
        connection
            .prepare_cached("UPDATE job SET state = ?1, unsure = max(unsure, ?2), note = ?3, expires = ?4, changed = ?5, \
                 tell = CASE WHEN webhook IS NULL THEN NULL ELSE ?5 END WHERE seq = ?6")?
            .execute(params![state, unsure, note, expires.0, now.0, seq])
    };
    let state = match end {
        End::Done {
            head,
            body,
            expires,
        } => {
            connection
                .prepare_cached(
                    "INSERT OR REPLACE INTO answer (seq, head, body) VALUES (?1, ?2, ?3)",
                )?
                .execute(params![seq, head, body])?;
            finish(code::DONE, false, None, *expires)?;
            tally.bytes += grow(connection, seq, size(&[head, body]))?;
            code::DONE
        }
        End::Again { due, uncertain } => {
            connection
                .prepare_cached("UPDATE job SET state = ?1, unsure = max(unsure, ?2), due = ?3, changed = ?4 WHERE seq = ?5")?
                .execute(params![code::WAITING, uncertain, due.0, now.0, seq])?;
            code::WAITING
        }
        End::Failed { note, expires } => {
            finish(code::FAILED, false, Some(note), *expires)?;
            code::FAILED
        }
        End::Uncertain { note, expires } => {
            finish(code::UNCERTAIN, true, Some(note), *expires)?;
            code::UNCERTAIN
        }
    };
    tally.moved(code::RUNNING, state);
    Ok(Ok(true))
}

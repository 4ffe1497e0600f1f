//! What is done to the tables, one function a request of the trait. Each runs inside a transaction of the writer's, or
//! on the reader's connection, and touches as many rows as it answers about, however many there are.

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::schema::code;
use crate::store::jobs::{
    Bounds, Depth, EXPIRED, End, JobId, Millis, NewJob, Owed, Put, Record, State, StoreError, Taken,
};

/// How full the file is: kept beside it, so that a bound costs no counting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Entries by their state's number.
    pub(super) states: [i64; 8],
    pub(super) bytes: i64,
    /// Changes when another connection has written.
    version: i64,
}

impl Tally {
    /// Counts the file.
    pub(super) fn count(connection: &Connection) -> rusqlite::Result<Self> {
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
    pub(super) fn follow(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        if version(connection)? != self.version {
            *self = Self::count(connection)?;
        }
        Ok(())
    }

    fn of(&mut self, state: i64) -> &mut i64 {
        let index = usize::try_from(state)
            .unwrap_or_default()
            .min(self.states.len() - 1);
        &mut self.states[index]
    }

    fn moved(&mut self, from: i64, to: i64) {
        *self.of(from) -= 1;
        *self.of(to) += 1;
    }

    /// Entries that are not final.
    fn waiting(&self) -> i64 {
        self.states[..4].iter().sum()
    }

    /// The same for those outside.
    pub(super) fn depth(&self, oldest: Option<Millis>) -> Depth {
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

type Outcome<T> = rusqlite::Result<Result<T, StoreError>>;

pub(super) fn put(
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
        .prepare_cached("SELECT min(turn) FROM job WHERE state = ?1 AND route = ?2")?
        .query_row(params![code::PENDING, route], |row| row.get(0))?;
    let mut last = None;
    for state in [code::PENDING, code::HELD, code::RUNNING, code::WAITING] {
        let turn: Option<i64> = connection
            .prepare_cached(
                "SELECT max(turn) FROM job WHERE route = ?1 AND user = ?2 AND state = ?3",
            )?
            .query_row(params![route, user, state], |row| row.get(0))?;
        last = last.max(turn);
    }
    Ok(last.map_or(0, |turn| turn + 1).max(present.unwrap_or(0)))
}

pub(super) fn take(
    connection: &Connection,
    tally: &mut Tally,
    route: &str,
    most: usize,
    now: Millis,
) -> Outcome<Vec<Taken>> {
    let due = connection
        .prepare_cached("UPDATE job SET state = ?1 WHERE state = ?2 AND due <= ?3")?
        .execute(params![code::PENDING, code::WAITING, now.0])?;
    let due = i64::try_from(due).unwrap_or(0);
    *tally.of(code::WAITING) -= due;
    *tally.of(code::PENDING) += due;
    let mut statement = connection.prepare_cached(
        "SELECT job.seq, id, user, route, head, body, queued, attempts FROM job JOIN request USING (seq) \
         WHERE state = ?1 AND route = ?2 AND expires > ?3 ORDER BY turn, job.seq LIMIT ?4",
    )?;
    let found = statement.query_map(
        params![
            code::PENDING,
            route,
            now.0,
            i64::try_from(most).unwrap_or(i64::MAX)
        ],
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

pub(super) fn give_back(
    connection: &Connection,
    tally: &mut Tally,
    id: JobId,
    due: Millis,
) -> Outcome<()> {
    let changed = connection
        .prepare_cached("UPDATE job SET state = ?1, due = ?2 WHERE id = ?3 AND state = ?4")?
        .execute(params![code::WAITING, due.0, id.0, code::HELD])?;
    if changed > 0 {
        tally.moved(code::HELD, code::WAITING);
    }
    Ok(Ok(()))
}

pub(super) fn begin(
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

pub(super) fn end(
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

pub(super) fn remove(
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

pub(super) fn retry(
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

pub(super) fn sweep(
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

pub(super) fn owed(
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

pub(super) fn told(connection: &Connection, id: JobId, next: Option<Millis>) -> Outcome<()> {
    connection
        .prepare_cached("UPDATE job SET tell = ?1 WHERE id = ?2 AND tell IS NOT NULL")?
        .execute(params![next.map(|next| next.0), id.0])?;
    Ok(Ok(()))
}

pub(super) fn routes(connection: &Connection) -> Outcome<Vec<String>> {
    let mut statement =
        connection.prepare_cached("SELECT DISTINCT route FROM job WHERE state IN (?1, ?2)")?;
    let routes = statement.query_map([code::PENDING, code::WAITING], |row| row.get(0))?;
    Ok(Ok(routes.collect::<rusqlite::Result<_>>()?))
}

pub(super) fn oldest(connection: &Connection) -> rusqlite::Result<Option<Millis>> {
    let mut oldest: Option<i64> = None;
    for state in [code::PENDING, code::HELD, code::RUNNING, code::WAITING] {
        let of_state: Option<i64> = connection
            .prepare_cached("SELECT min(queued) FROM job WHERE state = ?1")?
            .query_row([state], |row| row.get(0))?;
        oldest = [oldest, of_state].into_iter().flatten().min();
    }
    Ok(oldest.map(Millis))
}

const RECORD: &str =
    "id, state, unsure, owner, user, print, route, queued, changed, expires, attempts, bytes, note";

pub(super) fn look(connection: &Connection, id: JobId) -> Outcome<Option<Record>> {
    let mut statement =
        connection.prepare_cached(&format!("SELECT {RECORD} FROM job WHERE id = ?1"))?;
    Ok(Ok(statement.query_row([id.0], record).optional()?))
}

pub(super) fn by_key(connection: &Connection, key: &[u8; 32]) -> rusqlite::Result<Option<Record>> {
    let mut statement =
        connection.prepare_cached(&format!("SELECT {RECORD} FROM job WHERE key = ?1"))?;
    statement.query_row([key], record).optional()
}

pub(super) fn answer(connection: &Connection, id: JobId) -> Outcome<Option<(Vec<u8>, Vec<u8>)>> {
    let mut statement = connection.prepare_cached(
        "SELECT head, body FROM answer JOIN job USING (seq) WHERE id = ?1 AND state = ?2",
    )?;
    Ok(Ok(statement
        .query_row(params![id.0, code::DONE], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .optional()?))
}

pub(super) fn list(
    connection: &Connection,
    state: Option<State>,
    most: usize,
) -> Outcome<Vec<Record>> {
    let codes = state.map_or(&[][..], codes_of);
    let wanted = match codes {
        [] => "1".to_owned(),
        codes => format!(
            "state IN ({})",
            codes
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(", ")
        ),
    };
    let mut statement = connection.prepare(&format!(
        "SELECT {RECORD} FROM job WHERE {wanted} ORDER BY seq DESC LIMIT ?1"
    ))?;
    let records = statement.query_map([i64::try_from(most).unwrap_or(i64::MAX)], record)?;
    Ok(Ok(records.collect::<rusqlite::Result<_>>()?))
}

fn record(row: &Row<'_>) -> rusqlite::Result<Record> {
    Ok(Record {
        id: JobId(row.get(0)?),
        state: state_of(row.get(1)?),
        uncertain: row.get(2)?,
        owner: row.get(3)?,
        user: row.get(4)?,
        print: row.get(5)?,
        route: row.get(6)?,
        queued: Millis(row.get(7)?),
        changed: Millis(row.get(8)?),
        expires: Millis(row.get(9)?),
        attempts: row.get(10)?,
        bytes: u64::try_from(row.get::<_, i64>(11)?).unwrap_or(0),
        note: row.get(12)?,
    })
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

const fn codes_of(state: State) -> &'static [i64] {
    match state {
        State::Pending => &[code::PENDING, code::HELD, code::WAITING],
        State::Running => &[code::RUNNING],
        State::Done => &[code::DONE],
        State::Failed => &[code::FAILED],
        State::Uncertain => &[code::UNCERTAIN],
        State::Gone => &[code::GONE],
    }
}

fn size(parts: &[&[u8]]) -> i64 {
    parts.iter().map(|part| signed(part.len() as u64)).sum()
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

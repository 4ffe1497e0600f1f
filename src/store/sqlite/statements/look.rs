//! Looking, which changes nothing.

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::{Outcome, code, state_of};
use crate::store::jobs::{JobId, Millis, Record, State};

// What is said of `state` in statements that name it in numbers is said as in the indexes of the schema.

/// Routes with entries to be taken. Those that may be at once are found from one route to the next, however many
/// entries each has.
pub(in super::super) const ROUTES: &str = "WITH RECURSIVE known (name) AS ( \
         SELECT (SELECT min(route) FROM job WHERE state = 0) \
         UNION ALL \
         SELECT (SELECT min(route) FROM job WHERE state = 0 AND route > name) FROM known WHERE name IS NOT NULL) \
     SELECT name FROM known WHERE name IS NOT NULL \
     UNION SELECT route FROM job WHERE state = 3";

/// When the oldest entry came that is not final.
pub(in super::super) const OLDEST: &str = "SELECT min(queued) FROM job WHERE state < 4";

pub(in super::super) fn routes(connection: &Connection) -> Outcome<Vec<String>> {
    let mut statement = connection.prepare_cached(ROUTES)?;
    let routes = statement.query_map([], |row| row.get(0))?;
    Ok(Ok(routes.collect::<rusqlite::Result<_>>()?))
}

pub(in super::super) fn oldest(connection: &Connection) -> rusqlite::Result<Option<Millis>> {
    let oldest: Option<i64> = connection
        .prepare_cached(OLDEST)?
        .query_row([], |row| row.get(0))?;
    Ok(oldest.map(Millis))
}

pub(super) const RECORD: &str =
    "id, state, unsure, owner, user, print, route, queued, changed, expires, attempts, bytes, note";

pub(in super::super) fn look(connection: &Connection, id: JobId) -> Outcome<Option<Record>> {
    let mut statement =
        connection.prepare_cached(&format!("SELECT {RECORD} FROM job WHERE id = ?1"))?;
    Ok(Ok(statement.query_row([id.0], record).optional()?))
}

pub(in super::super) fn by_key(
    connection: &Connection,
    key: &[u8; 32],
) -> rusqlite::Result<Option<Record>> {
    let mut statement =
        connection.prepare_cached(&format!("SELECT {RECORD} FROM job WHERE key = ?1"))?;
    statement.query_row([key], record).optional()
}

pub(in super::super) fn answer(
    connection: &Connection,
    id: JobId,
) -> Outcome<Option<(Vec<u8>, Vec<u8>)>> {
    let mut statement = connection.prepare_cached(
        "SELECT head, body FROM answer JOIN job USING (seq) WHERE id = ?1 AND state = ?2",
    )?;
    Ok(Ok(statement
        .query_row(params![id.0, code::DONE], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .optional()?))
}

pub(in super::super) fn list(
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

pub(super) fn record(row: &Row<'_>) -> rusqlite::Result<Record> {
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

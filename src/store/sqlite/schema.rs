//! The file: how it is opened, what is in it, and what becomes of a queue whose process has died.
//!
//! Write-ahead log with `synchronous=FULL`: a transaction is on the disk when it is committed. Small rows that change
//! stand apart from heads and bodies that do not, so that a change of state writes a page and not a prompt.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use crate::store::jobs::OnCrash;

/// What the file is, to `file(1)` and to us: "sgtq".
const APPLICATION: i32 = 0x7367_7471;

/// The version of the tables.
const VERSION: i32 = 2;

/// The version before, which had other indexes. What is asked of the file can be asked of it as well.
const BEFORE: i32 = 1;

/// An operator's command may hold the file for a moment.
const PATIENCE: Duration = Duration::from_millis(500);

const TABLES: &str = "
CREATE TABLE job (
    seq      INTEGER PRIMARY KEY AUTOINCREMENT,
    id       BLOB NOT NULL UNIQUE,
    state    INTEGER NOT NULL,
    unsure   INTEGER NOT NULL DEFAULT 0,
    owner    BLOB NOT NULL,
    user     BLOB NOT NULL,
    key      BLOB,
    print    BLOB NOT NULL,
    route    TEXT NOT NULL,
    turn     INTEGER NOT NULL,
    queued   INTEGER NOT NULL,
    changed  INTEGER NOT NULL,
    due      INTEGER NOT NULL DEFAULT 0,
    expires  INTEGER NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    bytes    INTEGER NOT NULL,
    note     TEXT,
    webhook  TEXT,
    tell     INTEGER,
    tellings INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE UNIQUE INDEX job_key ON job (key) WHERE key IS NOT NULL;
CREATE INDEX job_expires ON job (expires);
CREATE INDEX job_tell ON job (tell) WHERE tell IS NOT NULL;
CREATE TABLE request (seq INTEGER PRIMARY KEY, head BLOB NOT NULL, body BLOB NOT NULL) STRICT;
CREATE TABLE answer  (seq INTEGER PRIMARY KEY, head BLOB NOT NULL, body BLOB NOT NULL) STRICT;
";

/// What entries are found by while something is to be done with them. Each holds only those that it is there for, and
/// none has the state in its key: so a step of an entry's life moves it in few of them, and an index of what waits does
/// not grow with what has ended. A statement uses one only if it says the same of `state` in the same words.
const INDEXES: &str = "
CREATE INDEX job_turn ON job (route, turn) WHERE state = 0;
CREATE INDEX job_user ON job (route, user, turn) WHERE state < 4;
CREATE INDEX job_due ON job (due) WHERE state = 3;
CREATE INDEX job_age ON job (queued) WHERE state < 4;
";

/// The states as numbers in the file. Those below 4 are not final.
pub(super) mod code {
    pub(in super::super) const PENDING: i64 = 0;
    pub(in super::super) const HELD: i64 = 1;
    pub(in super::super) const RUNNING: i64 = 2;
    pub(in super::super) const WAITING: i64 = 3;
    pub(in super::super) const DONE: i64 = 4;
    pub(in super::super) const FAILED: i64 = 5;
    pub(in super::super) const UNCERTAIN: i64 = 6;
    pub(in super::super) const GONE: i64 = 7;
}

/// Opens the file to write, and makes it where there is none. Readable by its owner alone: there are prompts in it. Who
/// `serves` from it gives one of the version before the tables of this one.
pub(super) fn open(path: &Path, serves: bool) -> rusqlite::Result<Connection> {
    create_private(path);
    let connection = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    connection.busy_timeout(PATIENCE)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "cell_size_check", true)?;
    connection.pragma_update(None, "wal_autocheckpoint", 4_000)?;
    connection.pragma_update(None, "journal_size_limit", 64 << 20)?;
    connection.set_prepared_statement_cache_capacity(64);
    prepare(&connection, serves)?;
    Ok(connection)
}

/// Opens it to read. Who `serves` from it does not read what it cannot write: all connections of a process share the
/// memory beside the write-ahead log, and one that found that read-only would keep it so for the writer when the file is
/// mended.
pub(super) fn open_to_read(path: &Path, serves: bool) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    if serves && connection.is_readonly("main")? {
        let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_READONLY);
        return Err(rusqlite::Error::SqliteFailure(code, None));
    }
    connection.pragma_update(None, "query_only", true)?;
    connection.busy_timeout(PATIENCE)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

/// A new file would have the mode of the process's mask; made beforehand, it keeps the one that it has.
fn create_private(path: &Path) {
    use std::os::unix::fs::OpenOptionsExt as _;

    // A failure is told by the opening that follows.
    let _ = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
}

fn prepare(connection: &Connection, serves: bool) -> rusqlite::Result<()> {
    let number =
        |pragma: &str| connection.pragma_query_value(None, pragma, |row| row.get::<_, i32>(0));
    let (application, version) = (number("application_id")?, number("user_version")?);
    match (application, version) {
        (0, 0) => {
            let tables: i64 =
                connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
            if tables > 0 {
                return Err(foreign("it is a database of another program"));
            }
            connection.execute_batch(&format!(
                "BEGIN IMMEDIATE; {TABLES} {INDEXES} PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {VERSION}; COMMIT;"
            ))
        }
        (APPLICATION, BEFORE) if serves => connection.execute_batch(&format!(
            "BEGIN IMMEDIATE; DROP INDEX job_turn; DROP INDEX job_user; DROP INDEX job_due; DROP INDEX job_age; \
             {INDEXES} PRAGMA user_version = {VERSION}; COMMIT;"
        )),
        // One who only visits leaves the tables to the process that serves, which may be of the version before.
        (APPLICATION, VERSION | BEFORE) => Ok(()),
        (APPLICATION, _) => Err(foreign("it was written by another version of surgetank")),
        _ => Err(foreign("it is a database of another program")),
    }
}

/// Another process has the file.
pub(super) fn refused(why: &str) -> rusqlite::Error {
    let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY);
    rusqlite::Error::SqliteFailure(code, Some(why.to_owned()))
}

fn foreign(why: &str) -> rusqlite::Error {
    let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_NOTADB);
    rusqlite::Error::SqliteFailure(code, Some(why.to_owned()))
}

/// Puts right what a process that died left behind. How many entries were running.
pub(super) fn recover(
    connection: &Connection,
    on_crash: OnCrash,
    now: i64,
    keep: i64,
) -> rusqlite::Result<usize> {
    connection.execute(
        "UPDATE job SET state = ?1 WHERE state = ?2",
        [code::PENDING, code::HELD],
    )?;
    match on_crash {
        OnCrash::Retry => connection.execute(
            "UPDATE job SET state = ?1, unsure = 1, changed = ?2 WHERE state = ?3",
            [code::PENDING, now, code::RUNNING],
        ),
        OnCrash::Uncertain => connection.execute(
            "UPDATE job SET state = ?1, unsure = 1, changed = ?2, expires = ?3, \
             tell = CASE WHEN webhook IS NULL THEN NULL ELSE ?2 END, note = 'surgetank ended while this request was under way' WHERE state = ?4",
            [code::UNCERTAIN, now, keep, code::RUNNING],
        ),
    }
}

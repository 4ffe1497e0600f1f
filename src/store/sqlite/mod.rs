//! The queue's storage in one file: needs nothing, survives everything but the disk.
//!
//! One thread writes and one reads, each with a connection of its own; neither is an async worker. One process has the
//! file: a second that would serve from it does not start, while an operator's commands may look into it and change
//! single entries at any time.
//!
//! A file that is damaged, a directory that is read-only and a disk that is full are no reason to stop: they make the
//! queue refuse what it is offered, and the chain goes on. The file is never deleted, emptied or replaced, since what
//! was acknowledged is in it; it is opened again every second, so mending it is enough.

mod schema;
mod statements;
#[cfg(test)]
mod tests;
mod thread;

use std::{
    fmt,
    fs::{File, TryLockError},
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rusqlite::Connection;

use self::{
    statements::Tally,
    thread::{Desk, Keeper},
};
use super::jobs::{
    Bounds, Depth, End, JobId, Jobs, Millis, NewJob, OnCrash, Owed, Put, Record, State, Stored,
    Taken,
};

/// What an operator said of the file.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where it is.
    pub path: PathBuf,
    /// How much it may hold.
    pub bounds: Bounds,
    /// What happens to what was running when the process died.
    pub on_crash: OnCrash,
    /// How long an uncertain entry is kept.
    pub keep: Duration,
}

/// The file cannot be used by this process.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Another process serves from it.
    #[error("another surgetank serves from `{}`; each needs a file of its own, or a shared store", .0.display())]
    Locked(PathBuf),
    /// No thread.
    #[error("the queue's storage could not be started: {0}")]
    Threads(#[from] io::Error),
}

/// A queue in a file.
pub struct Sqlite {
    writer: Desk<Tally>,
    reader: Desk<()>,
    bounds: Bounds,
    seen: Arc<Seen>,
}

/// What the threads tell without being asked.
#[derive(Debug, Default)]
struct Seen {
    depth: Mutex<Depth>,
    up: AtomicBool,
}

impl Sqlite {
    /// Begins to serve from a file. What a dead process left running is recovered first.
    ///
    /// # Errors
    /// When another process has it, or there is no thread to be had. A file that cannot be opened is no error: the
    /// store is down until it can.
    pub fn serve(settings: Settings) -> Result<Self, StartError> {
        let lock = lock(&settings.path)?;
        let writer = Writer {
            recovered: false,
            is_failing: false,
            serves: true,
            lock,
            seen: Arc::default(),
            settings,
        };
        Ok(Self::start(writer)?)
    }

    /// Looks into a file, and changes single entries, beside the process that may be serving from it.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn visit(settings: Settings) -> io::Result<Self> {
        Self::start(Writer {
            recovered: true,
            is_failing: false,
            serves: false,
            lock: None,
            seen: Arc::default(),
            settings,
        })
    }

    fn start(writer: Writer) -> io::Result<Self> {
        let (seen, bounds) = (writer.seen.clone(), writer.settings.bounds);
        let reader = Reader {
            path: writer.settings.path.clone(),
            serves: writer.serves,
        };
        Ok(Self {
            writer: thread::start("surgetank-disk", writer)?,
            reader: thread::start("surgetank-read", reader)?,
            bounds,
            seen,
        })
    }
}

impl fmt::Debug for Sqlite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sqlite")
            .field("bounds", &self.bounds)
            .field("seen", &self.seen)
            .finish_non_exhaustive()
    }
}

/// Takes the file for this process. A lock that cannot be made, as in a read-only directory, protects nothing:
/// nothing can be written there either.
fn lock(path: &Path) -> Result<Option<File>, StartError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let Ok(file) = File::options().create(true).append(true).open(name) else {
        return Ok(None);
    };
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Err(StartError::Locked(path.to_owned())),
        // A file system without locks: the operator sees to it that there is one process.
        Err(TryLockError::Error(_)) => Ok(None),
    }
}

/// The writing thread's part.
struct Writer {
    settings: Settings,
    serves: bool,
    recovered: bool,
    is_failing: bool,
    /// Held as long as the thread lives. Where none could be made it is tried again with the file.
    lock: Option<File>,
    seen: Arc<Seen>,
}

impl Keeper for Writer {
    type Book = Tally;
    const WRITES: bool = true;

    fn open(&mut self) -> rusqlite::Result<(Connection, Tally)> {
        if self.serves && self.lock.is_none() {
            self.lock =
                lock(&self.settings.path).map_err(|error| schema::refused(&error.to_string()))?;
        }
        let connection = schema::open(&self.settings.path, self.serves)?;
        if !self.recovered {
            let now = Millis::now();
            let keep = now.after(self.settings.keep);
            let running = schema::recover(&connection, self.settings.on_crash, now.0, keep.0)?;
            if running > 0 {
                tracing::warn!(
                    requests = running,
                    retried = self.settings.on_crash == OnCrash::Retry,
                    "queued requests were under way when surgetank ended; they are marked as uncertain"
                );
            }
            self.recovered = true;
        }
        let tally = Tally::count(&connection)?;
        *self.depth() = tally.depth(statements::oldest(&connection)?);
        self.is_failing = false;
        if !self.seen.up.swap(true, Ordering::AcqRel) && self.serves {
            tracing::info!(path = %self.settings.path.display(), waiting = self.depth().waiting(), "the queue is in service");
        }
        Ok((connection, tally))
    }

    fn committed(&mut self, book: &Tally) {
        let mut depth = self.depth();
        let oldest = depth.oldest;
        *depth = book.depth(oldest);
    }

    fn failed(&mut self, error: &rusqlite::Error) {
        self.seen.up.store(false, Ordering::Release);
        // Said once; the file is tried every second.
        if !std::mem::replace(&mut self.is_failing, true) {
            tracing::error!(path = %self.settings.path.display(), %error, "the queue's file cannot be used; requests go to the next link of their chains until it can");
        }
    }
}

impl Writer {
    fn depth(&self) -> std::sync::MutexGuard<'_, Depth> {
        self.seen
            .depth
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// The reading thread's part.
struct Reader {
    path: PathBuf,
    serves: bool,
}

impl Keeper for Reader {
    type Book = ();
    const WRITES: bool = false;

    fn open(&mut self) -> rusqlite::Result<(Connection, ())> {
        schema::open_to_read(&self.path, self.serves).map(|connection| (connection, ()))
    }

    fn committed(&mut self, (): &()) {}

    // The writer says what is wrong with the file.
    fn failed(&mut self, _: &rusqlite::Error) {}
}

impl Jobs for Sqlite {
    fn put(&self, job: NewJob) -> Stored<Put> {
        let bounds = self.bounds;
        self.writer
            .ask(move |connection, tally| statements::put(connection, tally, &job, bounds))
    }

    fn take(&self, route: &str, most: usize, now: Millis) -> Stored<Vec<Taken>> {
        let route = route.to_owned();
        self.writer
            .ask(move |connection, tally| statements::take(connection, tally, &route, most, now))
    }

    fn give_back(&self, id: JobId, due: Millis) -> Stored<()> {
        self.writer
            .ask(move |connection, tally| statements::give_back(connection, tally, id, due))
    }

    fn begin(&self, id: JobId, now: Millis) -> Stored<bool> {
        self.writer
            .ask(move |connection, tally| statements::begin(connection, tally, id, now))
    }

    fn end(&self, id: JobId, end: End, now: Millis) -> Stored<bool> {
        self.writer
            .ask(move |connection, tally| statements::end(connection, tally, id, &end, now))
    }

    fn routes(&self) -> Stored<Vec<String>> {
        self.reader
            .ask(|connection, ()| statements::routes(connection))
    }

    fn look(&self, id: JobId) -> Stored<Option<Record>> {
        self.reader
            .ask(move |connection, ()| statements::look(connection, id))
    }

    fn look_up(&self, key: [u8; 32]) -> Stored<Option<Record>> {
        self.reader
            .ask(move |connection, ()| Ok(Ok(statements::by_key(connection, &key)?)))
    }

    fn answer(&self, id: JobId) -> Stored<Option<(Vec<u8>, Vec<u8>)>> {
        self.reader
            .ask(move |connection, ()| statements::answer(connection, id))
    }

    fn remove(&self, id: JobId, now: Millis, forget: Millis) -> Stored<Option<State>> {
        self.writer
            .ask(move |connection, tally| statements::remove(connection, tally, id, now, forget))
    }

    fn retry(&self, id: JobId, now: Millis, expires: Millis) -> Stored<bool> {
        self.writer
            .ask(move |connection, tally| statements::retry(connection, tally, id, now, expires))
    }

    fn list(&self, state: Option<State>, most: usize) -> Stored<Vec<Record>> {
        self.reader
            .ask(move |connection, ()| statements::list(connection, state, most))
    }

    fn sweep(&self, now: Millis, keep: Millis) -> Stored<u64> {
        let seen = self.seen.clone();
        self.writer.ask(move |connection, tally| {
            let failed = statements::sweep(connection, tally, now, keep)?;
            // An operator's command may have changed the file beside us.
            tally.follow(connection)?;
            let oldest = statements::oldest(connection)?;
            seen.depth
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .oldest = oldest;
            Ok(failed)
        })
    }

    fn owed(&self, most: usize, now: Millis, again: Millis) -> Stored<Vec<Owed>> {
        self.writer
            .ask(move |connection, _| statements::owed(connection, most, now, again))
    }

    fn told(&self, id: JobId, next: Option<Millis>) -> Stored<()> {
        self.writer
            .ask(move |connection, _| statements::told(connection, id, next))
    }

    fn depth(&self) -> Depth {
        *self
            .seen
            .depth
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn is_up(&self) -> bool {
        self.seen.up.load(Ordering::Acquire)
    }
}

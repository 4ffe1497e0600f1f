//! The thread that a connection lives on, and what makes it fast: group commit.
//!
//! A disk is forced once for all work that came while it was forced the last time. Nothing waits on purpose: under
//! little load each piece of work has its own transaction, under much the transactions grow by themselves. No async
//! worker ever waits for a disk; the work's future does.
//!
//! Work that fails is undone by its own savepoint and fails alone. Where the disk or the file fails, the transaction
//! is undone as a whole, everybody in it is told, and the connection is given up: a file that was not written once is
//! opened anew, so that only what is really on the disk is believed.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel},
    },
    time::Duration,
};

use futures_util::FutureExt as _;
use rusqlite::{Connection, ErrorCode};
use tokio::sync::oneshot;

use crate::store::jobs::{StoreError, Stored};

/// Pieces of work that wait for the thread at most; beyond it the store is too busy.
const BACKLOG: usize = 4_096;

/// Pieces of work in one transaction at most, so that the first of them does not wait for ever.
const GROUP: usize = 256;

/// After a failure the file is not opened again before this.
const REOPEN_AFTER: Duration = Duration::from_secs(1);

/// One piece of work: does something in a transaction, and then, told whether that was committed, answers.
type Work<T> = Box<dyn FnOnce(&Connection, &mut T) -> Result<Reply, rusqlite::Error> + Send>;
/// Tells the outcome. Called exactly once, or dropped with the thread.
type Reply = Box<dyn FnOnce() + Send>;

struct Order<T> {
    work: Work<T>,
    fail: Box<dyn FnOnce(StoreError) + Send>,
}

/// A way to the thread.
pub(super) struct Desk<T>(SyncSender<Order<T>>);

impl<T> Clone for Desk<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

/// What a thread does beside the work: opens its connection, and keeps account.
pub(super) trait Keeper: Send + 'static {
    /// What is known beside the file, and undone with a transaction that fails.
    type Book: Clone + Send + 'static;

    /// Opens the connection.
    fn open(&mut self) -> rusqlite::Result<(Connection, Self::Book)>;
    /// A transaction was committed, or the connection was opened.
    fn committed(&mut self, book: &Self::Book);
    /// The connection was given up.
    fn failed(&mut self, error: &rusqlite::Error);
    /// Whether work is done in transactions.
    const WRITES: bool;
}

/// Starts the thread, and waits for its first attempt to open the connection. It ends when the last desk is dropped.
pub(super) fn start<K: Keeper>(name: &str, keeper: K) -> std::io::Result<Desk<K::Book>> {
    let (sender, orders) = sync_channel(BACKLOG);
    let (opening, opened) = sync_channel(1);
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || live(keeper, &orders, &opening))?;
    // A thread that ended at once has said why.
    let _ = opened.recv();
    Ok(Desk(sender))
}

fn live<K: Keeper>(mut keeper: K, orders: &Receiver<Order<K::Book>>, opening: &SyncSender<()>) {
    loop {
        let opened = keeper.open();
        // Only the first time somebody listens.
        let _ = opening.try_send(());
        let error = match opened {
            Ok((connection, book)) => match work(&mut keeper, orders, &connection, book) {
                Some(error) => error,
                None => return,
            },
            Err(error) => error,
        };
        keeper.failed(&error);
        let told = StoreError::Down(describe(&error));
        if !refuse_for(orders, REOPEN_AFTER, &told) {
            return;
        }
    }
}

/// Works until the connection has to be given up, for the reason returned, or nobody wants anything any more.
fn work<K: Keeper>(
    keeper: &mut K,
    orders: &Receiver<Order<K::Book>>,
    connection: &Connection,
    mut book: K::Book,
) -> Option<rusqlite::Error> {
    keeper.committed(&book);
    loop {
        let first = orders.recv().ok()?;
        let group = std::iter::once(first).chain(orders.try_iter().take(GROUP - 1));
        if let Err(error) = carry_out(keeper, connection, &mut book, group.collect()) {
            return Some(error);
        }
    }
}

/// Refuses all work for a while. False when there will be none any more.
fn refuse_for<T>(orders: &Receiver<Order<T>>, time: Duration, told: &StoreError) -> bool {
    let until = tokio::time::Instant::now() + time;
    loop {
        let left = until.saturating_duration_since(tokio::time::Instant::now());
        match orders.recv_timeout(left) {
            Ok(order) => (order.fail)(told.clone()),
            Err(RecvTimeoutError::Timeout) => return true,
            Err(RecvTimeoutError::Disconnected) => return false,
        }
    }
}

/// Does a group of work in one transaction. An error is one of the connection, and all of the group was told.
fn carry_out<K: Keeper>(
    keeper: &mut K,
    connection: &Connection,
    book: &mut K::Book,
    group: Vec<Order<K::Book>>,
) -> rusqlite::Result<()> {
    let before = book.clone();
    let (mut replies, mut fails) = (
        Vec::with_capacity(group.len()),
        Vec::with_capacity(group.len()),
    );
    let run = |sql: &str| {
        if K::WRITES {
            connection.execute_batch(sql)
        } else {
            Ok(())
        }
    };
    let mut broken = run("BEGIN IMMEDIATE").err();
    for Order { work, fail } in group {
        if broken.is_some() {
            fails.push(fail);
            continue;
        }
        let own = book.clone();
        let done = run("SAVEPOINT work").and_then(|()| work(connection, book));
        match done {
            Ok(reply) => {
                broken = run("RELEASE work").err();
                replies.push(reply);
                fails.push(fail);
            }
            Err(error) if breaks(&error) => {
                fails.push(fail);
                broken = Some(error);
            }
            Err(error) => {
                *book = own;
                fail(StoreError::Down(describe(&error)));
                broken = run("ROLLBACK TO work; RELEASE work").err();
            }
        }
    }
    let outcome = match broken {
        None => run("COMMIT"),
        Some(error) => Err(error),
    };
    match outcome {
        Ok(()) => {
            // Before anybody is told, so that who is told sees it counted.
            keeper.committed(book);
            for reply in replies {
                reply();
            }
            Ok(())
        }
        Err(error) => {
            // SQLite may have undone it already; then there is nothing to undo.
            let _ = run("ROLLBACK");
            *book = before;
            let told = StoreError::Down(describe(&error));
            drop(replies);
            for fail in fails {
                fail(told.clone());
            }
            Err(error)
        }
    }
}

/// Whether an error is of the file or the disk, and not of one piece of work.
fn breaks(error: &rusqlite::Error) -> bool {
    !matches!(
        error.sqlite_error_code(),
        None | Some(ErrorCode::ConstraintViolation | ErrorCode::TooBig | ErrorCode::TypeMismatch)
    )
}

/// What failed, without the statement's values.
fn describe(error: &rusqlite::Error) -> String {
    match error {
        rusqlite::Error::SqliteFailure(code, Some(message)) => {
            format!("{message} (SQLite {})", code.extended_code)
        }
        rusqlite::Error::SqliteFailure(code, None) => format!("{code}"),
        rusqlite::Error::SqlInputError { msg, .. } => msg.clone(),
        _ => "an entry cannot be read".to_owned(),
    }
}

impl<T: 'static> Desk<T> {
    /// Has work done on the thread. The outcome is told once it is durable.
    pub(super) fn ask<R: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection, &mut T) -> rusqlite::Result<Result<R, StoreError>>
        + Send
        + 'static,
    ) -> Stored<R> {
        let (sender, receiver) = oneshot::channel();
        let slot = Arc::new(Mutex::new(Some(sender)));
        let answer = move |slot: &Mutex<Option<oneshot::Sender<_>>>, result| {
            let sender = slot.lock().unwrap_or_else(PoisonError::into_inner).take();
            // Nobody may be waiting any more.
            let _ = sender.map(|sender| sender.send(result));
        };
        let told = slot.clone();
        let order = Order {
            work: Box::new(move |connection, book| {
                let result = work(connection, book)?;
                Ok(Box::new(move || answer(&told, result)))
            }),
            fail: Box::new(move |error| answer(&slot, Err(error))),
        };
        let sent = self.0.try_send(order).map_err(|error| match error {
            TrySendError::Full(_) => StoreError::Busy,
            TrySendError::Disconnected(_) => StoreError::Down("its thread has ended".to_owned()),
        });
        async move {
            sent?;
            receiver
                .await
                .unwrap_or_else(|_| Err(StoreError::Down("its thread has ended".to_owned())))
        }
        .boxed()
    }
}

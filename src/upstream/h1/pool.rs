//! The connections to one upstream that wait for their next request.
//!
//! The one that was used last is used first: it is the least likely to be just being closed, and those that are not
//! needed grow old. Whoever finds none opens one, and takes one that comes free in the meantime instead.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use http::Uri;
use tokio::{
    sync::Notify,
    time::{Instant, sleep},
};

use super::{link::Link, socket::Socket};
use crate::upstream::{
    POOL_IDLE,
    connect::{Connector, Stream},
};

/// Idle connections kept for one upstream on one core: more than a core can keep busy. Where fewer were kept, more
/// callers at once would open connections all the time: their answers come in batches, and idle connections with them.
const MOST: usize = 1024;

/// How often idle connections are looked at: those that their peer has closed go, and those that are too old.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// The idle connections of one upstream, and how to open more.
#[derive(Debug)]
pub(in crate::upstream) struct Pool {
    connector: Connector,
    /// Scheme, host and port.
    target: Uri,
    /// Idle connections that are kept.
    most: usize,
    state: Mutex<State>,
    /// Wakes who has found none.
    freed: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// The one that was used last is the last.
    idle: Vec<Idle>,
    is_swept: bool,
}

#[derive(Debug)]
struct Idle {
    link: Box<Link>,
    since: Instant,
}

impl Pool {
    /// For connections to the scheme, host and port of `target`; none is open yet.
    pub(in crate::upstream) fn new(connector: Connector, target: Uri) -> Arc<Self> {
        Arc::new(Self {
            connector,
            target,
            most: MOST,
            state: Mutex::default(),
            freed: Notify::new(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection that can take a request.
    pub(super) async fn take(self: &Arc<Self>) -> io::Result<Box<Link>> {
        match self.take_idle() {
            Some(link) => Ok(link),
            None => Box::pin(self.open()).await,
        }
    }

    fn take_idle(&self) -> Option<Box<Link>> {
        let mut state = self.state();
        std::iter::from_fn(|| state.idle.pop())
            .find_map(|mut idle| (idle.is_young() && idle.link.is_usable()).then_some(idle.link))
            .map(Link::after_waiting)
    }

    /// Opens a connection. If another comes free before, that one is used, and the new one kept.
    async fn open(self: &Arc<Self>) -> io::Result<Box<Link>> {
        let mut opening = Box::pin(self.connector.open(self.target.clone()));
        loop {
            tokio::select! {
                biased;
                () = self.freed.notified() => {
                    if let Some(link) = self.take_idle() {
                        self.finish(opening);
                        return Ok(link);
                    }
                }
                stream = &mut opening => return link_over(stream?),
            }
        }
    }

    /// Keeps a connection that was begun and is not needed any more: it is paid for.
    fn finish(
        self: &Arc<Self>,
        opening: impl Future<Output = io::Result<Stream>> + Send + 'static,
    ) {
        let home = Arc::downgrade(self);
        tokio::spawn(async move {
            let stream = Box::pin(opening).await;
            if let (Ok(Ok(link)), Some(home)) = (stream.map(link_over), home.upgrade()) {
                home.take_back(link);
            }
        });
    }

    /// Keeps `link` for another request, if it can take one.
    pub(super) fn take_back(self: &Arc<Self>, mut link: Box<Link>) {
        if !link.is_usable() {
            return;
        }
        let mut state = self.state();
        if state.idle.len() == self.most {
            state.idle.remove(0);
        }
        let since = Instant::now();
        state.idle.push(Idle { link, since });
        if !std::mem::replace(&mut state.is_swept, true) {
            tokio::spawn(sweep(Arc::downgrade(self)));
        }
        drop(state);
        // It stays where all find it: one handed to a waiter would be lost with a waiter that leaves just then.
        self.freed.notify_one();
    }

    /// Lets go of what is of no use any more. Whether there is anything left.
    fn sweep(&self) -> bool {
        let mut state = self.state();
        state
            .idle
            .retain_mut(|idle| idle.is_young() && idle.link.is_usable());
        state.is_swept = !state.idle.is_empty();
        state.is_swept
    }
}

impl Idle {
    fn is_young(&self) -> bool {
        self.since.elapsed() < POOL_IDLE
    }
}

fn link_over(stream: Stream) -> io::Result<Box<Link>> {
    let link = Link::over(Box::new(Socket::new(stream)));
    link.ok_or_else(|| io::Error::other("hyper did not take a new connection"))
}

/// Goes on while there is a pool and something in it.
async fn sweep(pool: Weak<Pool>) {
    loop {
        sleep(SWEEP_EVERY).await;
        if !pool.upgrade().is_some_and(|pool| pool.sweep()) {
            return;
        }
    }
}

#[cfg(test)]
mod tests;

//! One current-thread runtime a core, each with its own connections, stack and upstream pool.
//!
//! Nothing on the path of a request crosses a thread: measured, that is worth about a fifth of a
//! request's CPU against the work-stealing runtime. What it costs is that a connection stays where
//! it was put, so the acceptor puts it where the fewest are.

use std::{
    io,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread::JoinHandle,
};

use tokio::{
    net::TcpStream,
    sync::{Notify, mpsc},
};
use tokio_rustls::TlsAcceptor;

use super::{
    Lifecycle, Limits, connection, connection::Edge, listener::Accepted, socket::Transport,
};
use crate::telemetry::logs;

/// New connections on their way to one worker; the acceptor waits when a worker is this far behind.
const HANDOVER: usize = 256;

/// All workers.
#[derive(Debug)]
pub struct Fleet {
    workers: Vec<Worker>,
    gone: Arc<Notify>,
}

#[derive(Debug)]
struct Worker {
    inbox: mpsc::Sender<(Accepted, Live)>,
    live: Arc<AtomicUsize>,
    thread: JoinHandle<()>,
}

/// Counts a connection from the moment it is handed over; dropped when it has ended.
#[derive(Debug)]
pub(super) struct Live {
    count: Arc<AtomicUsize>,
    gone: Arc<Notify>,
}

impl Drop for Live {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::AcqRel);
        self.gone.notify_waiters();
    }
}

impl Fleet {
    /// Starts `count` workers. `edge` is called on each worker's thread, inside its runtime, so that
    /// everything it makes (connection pools above all) belongs to that worker.
    ///
    /// # Errors
    /// When the system refuses a thread or a runtime's descriptors.
    pub fn start<E: Edge>(
        count: usize,
        edge: impl Fn() -> E + Send + Sync + 'static,
        limits: &Arc<Limits>,
        lifecycle: &Lifecycle,
    ) -> io::Result<Self> {
        let (edge, gone) = (Arc::new(edge), Arc::new(Notify::new()));
        let workers = (0..count.max(1))
            .map(|index| {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .on_thread_park(logs::flush)
                    .build()?;
                let (inbox, outbox) = mpsc::channel(HANDOVER);
                let (edge, limits, lifecycle) = (edge.clone(), limits.clone(), lifecycle.clone());
                let thread = std::thread::Builder::new()
                    .name(format!("surgetank-{index}"))
                    .spawn(move || {
                        logs::gather();
                        runtime.block_on(work(outbox, edge.as_ref(), limits, lifecycle));
                    })?;
                Ok(Worker {
                    inbox,
                    live: Arc::default(),
                    thread,
                })
            })
            .collect::<io::Result<_>>()?;
        Ok(Self { workers, gone })
    }

    /// Live connections.
    #[must_use]
    pub fn live(&self) -> usize {
        self.workers
            .iter()
            .map(|worker| worker.live.load(Ordering::Acquire))
            .sum()
    }

    /// Gives a connection to the worker with the fewest.
    pub(super) async fn hand_over(&self, accepted: Accepted) {
        let Some(worker) = self
            .workers
            .iter()
            .min_by_key(|worker| worker.live.load(Ordering::Acquire))
        else {
            return;
        };
        worker.live.fetch_add(1, Ordering::AcqRel);
        let live = Live {
            count: worker.live.clone(),
            gone: self.gone.clone(),
        };
        // A closed inbox means that the process is ending; the connection closes with it.
        let _ = worker.inbox.send((accepted, live)).await;
    }

    /// Waits until every connection has ended.
    pub async fn drained(&self) {
        loop {
            let gone = self.gone.notified();
            let mut gone = std::pin::pin!(gone);
            gone.as_mut().enable();
            if self.live() == 0 {
                return;
            }
            gone.await;
        }
    }

    /// Ends the workers with whatever they still hold, and waits for their threads.
    pub fn stop(self) {
        for worker in self.workers {
            drop(worker.inbox);
            // A worker that panicked has already said so; there is nothing left to save.
            let _ = worker.thread.join();
        }
    }
}

async fn work<E: Edge>(
    mut inbox: mpsc::Receiver<(Accepted, Live)>,
    edge: &(impl Fn() -> E + Send + Sync),
    limits: Arc<Limits>,
    lifecycle: Lifecycle,
) {
    let edge = edge();
    while let Some((accepted, live)) = inbox.recv().await {
        let (edge, limits, lifecycle) = (edge.clone(), limits.clone(), lifecycle.clone());
        match accepted {
            Accepted::Tcp(stream, peer, tls) => match TcpStream::from_std(stream) {
                Ok(stream) => {
                    let peer = Some(peer.ip());
                    match tls {
                        None => spawn(stream, peer, edge, limits, lifecycle, live),
                        Some(tls) => {
                            let shaking = TlsAcceptor::from(tls).accept(stream);
                            spawn_tls(shaking, peer, edge, limits, lifecycle, live);
                        }
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be taken over by its worker");
                }
            },
            Accepted::Unix(stream) => match tokio::net::UnixStream::from_std(stream) {
                Ok(stream) => spawn(stream, None, edge, limits, lifecycle, live),
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be taken over by its worker");
                }
            },
        }
    }
}

/// A handshake that fails, or does not end in the time of a head, is the peer's affair.
fn spawn_tls<E: Edge>(
    shaking: tokio_rustls::Accept<TcpStream>,
    peer: Option<IpAddr>,
    edge: E,
    limits: Arc<Limits>,
    lifecycle: Lifecycle,
    live: Live,
) {
    tokio::spawn(async move {
        if let Ok(Ok(stream)) = tokio::time::timeout(limits.head_timeout, shaking).await {
            connection::serve(stream, peer, edge, limits, lifecycle).await;
        }
        drop(live);
    });
}

fn spawn<S, E>(
    stream: S,
    peer: Option<IpAddr>,
    edge: E,
    limits: Arc<Limits>,
    lifecycle: Lifecycle,
    live: Live,
) where
    S: Transport,
    E: Edge,
{
    tokio::spawn(async move {
        connection::serve(stream, peer, edge, limits, lifecycle).await;
        drop(live);
    });
}

//! Listeners, connections, and their end.
//!
//! The runtime model is one current-thread runtime a core (`worker`), fed by one acceptor
//! (`accept`) that hands each new connection to the worker with the fewest live ones; see
//! `docs/decisions/0001-runtime-a-core.md`. A connection (`connection`) speaks HTTP/1.1 or
//! HTTP/2, whichever its first bytes say, over clear text or `tls`, under timers that no slow peer can hold
//! (`clock` for what a connection owes, `streams` for each stream of HTTP/2). `answer` is the last
//! thing that a body passes before hyper has it.
//! `guard` refuses what hyper would accept but a second HTTP implementation could read differently.

mod accept;
mod answer;
mod clock;
mod connection;
pub mod guard;
mod listener;
mod socket;
mod streams;
mod tls;
mod worker;

pub use accept::{AcceptError, serve};
pub use connection::Edge;
pub use listener::{BindError, Listener};
pub use tls::{Certificate, CertificateError};
pub use worker::Fleet;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{sync::watch, time::Instant};

/// What is over gets this long to say so, and its caller to read it: a stream when the process ends, an
/// answer when its time is up.
pub const LAST_WORDS: Duration = Duration::from_secs(1);

/// Until when an answer may last, whoever reads it. Travels in a response's extensions from the stack to the
/// connection, whose caller may take nothing and so never let the body look at the time.
#[derive(Copy, Clone, Debug)]
pub struct EndBy(pub Instant);

/// The limits of one connection. Every one of them bounds what a peer can make us hold.
#[derive(Clone, Debug)]
pub struct Limits {
    /// From the first byte of a request's head to its last.
    pub head_timeout: Duration,
    /// How long a connection may wait between requests.
    pub keepalive_idle: Duration,
    /// How long a caller may refuse to read before its connection is dropped.
    pub write_idle: Duration,
    /// Bytes of a request's head.
    pub max_head: usize,
    /// Header fields of a request.
    pub max_headers: usize,
    /// Live connections; above it, new ones are answered 503 and closed.
    pub max_connections: usize,
}

impl Limits {
    /// How often whoever keeps the time looks at it: a stalling peer outlives a limit by half of the shortest.
    fn look_every(&self) -> Duration {
        let shortest = self
            .head_timeout
            .min(self.keepalive_idle)
            .min(self.write_idle);
        (shortest / 2).max(Duration::from_millis(10))
    }
}

/// How far the process has come towards its end. Written by the signal handler only.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Serving.
    Running,
    /// Not ready any more, but still accepting, so that load balancers can catch up.
    Settling,
    /// No new connections; requests in flight finish.
    Draining,
    /// The time is over: what still streams is ended honestly.
    Ending,
}

/// The switch that everything which must end listens to.
#[derive(Clone, Debug)]
pub struct Lifecycle {
    stage: Arc<watch::Sender<Stage>>,
    /// The same as `Stage::Ending`, readable without a lock for every chunk of every stream.
    ending: Arc<AtomicBool>,
}

impl Default for Lifecycle {
    fn default() -> Self {
        Self {
            stage: Arc::new(watch::Sender::new(Stage::Running)),
            ending: Arc::default(),
        }
    }
}

impl Lifecycle {
    /// Goes on to `stage`; a life never goes back, so an earlier stage is ignored.
    pub fn advance(&self, stage: Stage) {
        // First, so that whoever is woken by the stage below finds it set.
        if stage == Stage::Ending {
            self.ending.store(true, Ordering::Release);
        }
        self.stage.send_if_modified(|now| {
            let forward = *now < stage;
            if forward {
                *now = stage;
            }
            forward
        });
    }

    /// The present stage.
    #[must_use]
    pub fn stage(&self) -> Stage {
        *self.stage.borrow()
    }

    /// Whether streams must end now.
    #[must_use]
    pub fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Acquire)
    }

    /// Waits until `stage` or a later one is reached.
    pub async fn reached(&self, stage: Stage) {
        let mut watching = self.stage.subscribe();
        // The sender lives in `self`, so the channel cannot close while we wait.
        let _ = watching.wait_for(|now| *now >= stage).await;
    }
}

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
mod closing;
mod connection;
pub mod guard;
mod hearing;
mod lifecycle;
mod listener;
mod socket;
mod streams;
mod tls;
mod worker;

pub use accept::{AcceptError, serve};
pub use connection::Edge;
pub use lifecycle::{Lifecycle, Stage};
pub use listener::{BindError, Listener};
pub use tls::{Certificate, CertificateError};
pub use worker::Fleet;

use std::time::Duration;

use tokio::time::Instant;

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

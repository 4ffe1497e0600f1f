//! The connection to Redis or Valkey that all parts of the process share.
//!
//! A store that is slow is worse than one that is gone: every request would wait for it in vain. So a
//! call takes at most the configured timeout, and what several calls in a row have found out is not
//! found out again by the next one: a connection that breaks, or lets a few calls in a row time out,
//! is given up, and until a new one has proved itself all calls fail at once (`health`). Reconnecting
//! is nobody's request's business: one task does it, with growing pauses (`keeper`).
//!
//! Only this module and what builds on it under `store/` names the client library.

mod address;
mod connection;
mod health;
pub mod jobs;
mod keeper;
pub mod limits;
mod script;

use std::{fmt, future::Future, sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};

pub use self::{
    address::{Address, AddressError},
    connection::Connection,
};
use self::{
    health::{Fault, Health},
    keeper::Keeper,
};
use crate::{config, telemetry::Metrics};

/// What is asked of the store; a metric label.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Proving a new connection.
    Connect,
    /// Deciding on a request of a limited user.
    Admit,
    /// Writing down what an ended request has really used.
    Settle,
    /// Keeping the places of running requests.
    Renew,
    /// Anything of the queue.
    Queue,
}

impl Operation {
    /// The label value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Admit => "admit",
            Self::Settle => "settle",
            Self::Renew => "renew",
            Self::Queue => "queue",
        }
    }
}

/// The store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no connection, and this is known: nothing was tried.
    #[error("the store cannot be reached; it is being tried again")]
    Down,
    /// No answer in time. What was asked may still be done.
    #[error("the store did not answer within {} ms", .0.as_millis())]
    Timeout(Duration),
    /// It answered with an error, or the connection broke.
    #[error("the store failed: {0}")]
    Failed(#[from] redis::RedisError),
}

impl StoreError {
    /// A metric label.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Down => "down",
            Self::Timeout(_) => "timeout",
            Self::Failed(_) => "failed",
        }
    }
}

/// The shared store. Clones are handles on the same connection, usable from any runtime.
#[derive(Clone)]
pub struct Redis {
    shared: Arc<Shared>,
    /// Ends the reconnecting when the last handle is gone.
    _keeper: Arc<Keeper>,
}

/// What handles and the keeper have in common.
struct Shared {
    address: Address,
    timeout: Duration,
    prefix: String,
    link: watch::Sender<Link>,
    metrics: Arc<Metrics>,
    /// Whether this is the connection that `surgetank_store_up` tells of.
    is_main: bool,
}

/// The state of the connection. The number tells one connection from the next, so that a late complaint about
/// an old one is not held against its successor.
#[derive(Clone)]
enum Link {
    /// The first connection is being made.
    Starting,
    /// Usable.
    Up(u64, Connection, Health),
    /// Given up; the keeper is making a new one.
    Down,
}

impl Redis {
    /// Begins to connect on the current runtime, which has to live as long as this is used, and returns at once:
    /// whether a store answers must not decide whether the process starts.
    ///
    /// # Errors
    /// When the configuration names no usable address or a certificate file that cannot be read.
    pub fn start(config: &config::Store, metrics: Arc<Metrics>) -> Result<Self, AddressError> {
        Self::connect(config, metrics, true)
    }

    /// As [`Redis::start`], for another connection to the same store.
    ///
    /// # Errors
    /// As [`Redis::start`].
    pub fn start_beside(
        config: &config::Store,
        metrics: Arc<Metrics>,
    ) -> Result<Self, AddressError> {
        Self::connect(config, metrics, false)
    }

    fn connect(
        config: &config::Store,
        metrics: Arc<Metrics>,
        is_main: bool,
    ) -> Result<Self, AddressError> {
        let shared = Arc::new(Shared {
            is_main,
            address: Address::new(config)?,
            timeout: config.timeout,
            prefix: config.prefix.clone(),
            link: watch::Sender::new(Link::Starting),
            metrics,
        });
        let keeper = Arc::new(Keeper::start(shared.clone()));
        Ok(Self {
            shared,
            _keeper: keeper,
        })
    }

    /// Runs commands on the connection, for at most the configured timeout, waiting for the first connection included.
    ///
    /// # Errors
    /// At once where the store is known to be away.
    pub async fn call<T, F>(
        &self,
        operation: Operation,
        run: impl FnOnce(Connection) -> F,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = redis::RedisResult<T>>,
    {
        let began = Instant::now();
        let result = self.shared.run(began + self.shared.timeout, run).await;
        self.shared.tell(operation, began, &result);
        result
    }

    /// A connection of its own, for commands that block; it is not watched and has no timeout.
    ///
    /// # Errors
    /// When none can be made within a second.
    pub async fn dedicated(&self) -> Result<Connection, StoreError> {
        keeper::connect(&self.shared.address).await
    }

    /// Whether calls are tried at all.
    #[must_use]
    pub fn is_up(&self) -> bool {
        matches!(*self.shared.link.borrow(), Link::Up(..))
    }

    /// What every key begins with, so that several uses can share one store.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.shared.prefix
    }

    /// The longest that a call takes.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.shared.timeout
    }
}

impl Shared {
    /// Runs on the connection of now, and holds its failure against it. A caller that leaves in between proves nothing.
    async fn run<T, F>(
        &self,
        deadline: Instant,
        run: impl FnOnce(Connection) -> F,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = redis::RedisResult<T>>,
    {
        let late = StoreError::Timeout(self.timeout);
        let Ok(connected) = timeout_at(deadline, self.connection()).await else {
            return Err(late);
        };
        let (number, connection, health) = connected?;
        match timeout_at(deadline, run(connection)).await {
            Ok(Ok(value)) => {
                health.answered();
                Ok(value)
            }
            Ok(Err(error)) => {
                if let Some(fault) = Fault::of(&error) {
                    self.blame(number, fault);
                }
                Err(error.into())
            }
            Err(_) => {
                self.blame(number, Fault::Silence);
                Err(late)
            }
        }
    }

    async fn connection(&self) -> Result<(u64, Connection, Health), StoreError> {
        let link = self.link.borrow().clone();
        let link = match link {
            Link::Starting => {
                let mut changes = self.link.subscribe();
                let decided = changes
                    .wait_for(|link| !matches!(link, Link::Starting))
                    .await;
                // The sender lives in `self`.
                decided.map_or(Link::Down, |link| link.clone())
            }
            known => known,
        };
        match link {
            Link::Up(number, connection, health) => Ok((number, connection, health)),
            Link::Starting | Link::Down => Err(StoreError::Down),
        }
    }

    /// Gives the connection up where its faults are too many.
    fn blame(&self, blamed: u64, fault: Fault) {
        self.link.send_if_modified(|link| match link {
            Link::Up(number, _, health) if *number == blamed && health.failed(fault) => {
                *link = Link::Down;
                self.tell_up(false);
                true
            }
            _ => false,
        });
    }

    fn tell_up(&self, is_up: bool) {
        if self.is_main {
            self.metrics.store_up.set(i64::from(is_up));
        }
    }

    fn tell<T>(&self, operation: Operation, began: Instant, result: &Result<T, StoreError>) {
        let operation = operation.as_str();
        match result {
            Ok(_) => self
                .metrics
                .store_seconds
                .with_label_values(&[operation])
                .observe(began.elapsed().as_secs_f64()),
            Err(error) => self
                .metrics
                .store_errors
                .with_label_values(&[operation, error.as_str()])
                .inc(),
        }
    }
}

/// Without the address: it may hold a password.
impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redis")
            .field("is_up", &self.is_up())
            .field("timeout", &self.shared.timeout)
            .finish_non_exhaustive()
    }
}

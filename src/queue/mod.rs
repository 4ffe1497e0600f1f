//! The durable queue: requests that must not be lost are kept on a disk and carried out later.
//!
//! It is offered by the link `queue` of a chain, by `x-surgetank-fallback: queue`, and by the standard
//! `Prefer: respond-async` (RFC 7240). The caller gets 202 once its request is on the disk, with a body that its SDK
//! accepts as an answer, and finds the real one at `/_surgetank/queue/{id}`.
//!
//! | part | does |
//! |---|---|
//! | [`offer`](mod@self) (`offer`) | takes a request in, and says so in the caller's dialect |
//! | `repeat` | makes the repeat of an idempotency key the same entry |
//! | [`desk`] | gives answers out at the application's port, to those who queued them |
//! | [`drain`] | carries entries out, behind everybody who waits himself |
//! | [`webhook`] | tells the operator's own endpoints that an entry has ended |
//! | `seal`, `message`, `owner` | what is written: encrypted, without credentials, under a fingerprint |
//!
//! The storage is behind [`Jobs`]; nothing here knows where it is. Whatever it cannot do is no
//! reason to fail a request: the chain goes on to its next link.

pub mod desk;
pub mod drain;
mod message;
mod offer;
mod owner;
mod repeat;
mod rules;
mod seal;
pub mod webhook;

use std::{
    collections::HashMap,
    fmt, io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use secrecy::ExposeSecret as _;
use tokio::sync::Notify;

pub use self::{
    offer::NotQueued,
    owner::Owner,
    rules::{QueueRules, SecretError},
};
use crate::{
    config::Config,
    rules::RulesInForce,
    store::{
        jobs::{Bounds, Depth, JobId, Jobs, Millis, State},
        redis::{
            AddressError,
            jobs::{LEASE, RedisJobs},
        },
        sqlite::{Settings, Sqlite, StartError},
    },
    telemetry::Metrics,
};

/// What lies below this path is ours, and never a vendor's.
pub const OWN_PATHS: &str = "/_surgetank/";

/// Where the answers are.
pub(crate) const ANSWERS: &str = "/_surgetank/queue/";

/// When to look again for an answer that nobody knows more about.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// The store of a queue cannot be used as it is configured.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file is another process's, or there is no thread to be had.
    #[error(transparent)]
    File(#[from] StartError),
    /// The address is none.
    #[error(transparent)]
    Address(#[from] AddressError),
}

/// A queue in service. Clones are the same queue.
#[derive(Clone)]
pub struct Queue(Arc<Inner>);

struct Inner {
    store: Arc<dyn Jobs>,
    rules: RulesInForce,
    metrics: Arc<Metrics>,
    /// Rung when there may be something to carry out.
    bell: Notify,
    /// What is being carried out by this process, and how to end it.
    running: Mutex<HashMap<JobId, Arc<Notify>>>,
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue")
            .field("store", &self.0.store)
            .finish_non_exhaustive()
    }
}

impl Queue {
    /// Opens the store that the configuration names; nothing where it names none. A shared one is used over the current
    /// runtime.
    ///
    /// # Errors
    /// When another process serves from the file, no thread can be had, or the address is none. A file that cannot be
    /// used or a server that does not answer is no error: the queue is down until it can and does.
    pub fn open(
        config: &Config,
        rules: &RulesInForce,
        metrics: &Arc<Metrics>,
    ) -> Result<Option<Self>, OpenError> {
        let store: Arc<dyn Jobs> = match (file_of(config), &config.store) {
            (Some(path), _) => Arc::new(Sqlite::serve(settings(config, path))?),
            (None, Some(store)) => {
                Arc::new(RedisJobs::serve(store, shared_settings(config), metrics)?)
            }
            (None, None) => return Ok(None),
        };
        Ok(Some(Self::over(store, rules, metrics)))
    }

    /// A queue over this store.
    #[must_use]
    pub fn over(store: Arc<dyn Jobs>, rules: &RulesInForce, metrics: &Arc<Metrics>) -> Self {
        Self(Arc::new(Inner {
            store,
            rules: rules.clone(),
            metrics: metrics.clone(),
            bell: Notify::new(),
            running: Mutex::default(),
        }))
    }

    /// The settings of this moment, with their secrets.
    fn rules(&self) -> Arc<QueueRules> {
        self.0.rules.now().queue.clone()
    }

    fn store(&self) -> &Arc<dyn Jobs> {
        &self.0.store
    }

    fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// How full it is.
    #[must_use]
    pub fn depth(&self) -> Depth {
        self.0.store.depth()
    }

    /// Whether its storage works, as far as is known.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.0.store.is_up()
    }

    /// How old the oldest entry is that has not ended.
    #[must_use]
    pub fn oldest_age(&self) -> Duration {
        let oldest = self.depth().oldest;
        oldest.map_or(Duration::ZERO, |oldest| Millis::now().since(oldest))
    }

    /// Entries that this process carries out now.
    #[must_use]
    pub fn running(&self) -> usize {
        self.carried().len()
    }

    fn carried(&self) -> MutexGuard<'_, HashMap<JobId, Arc<Notify>>> {
        self.0
            .running
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends what this process does for an entry that was removed, if it does anything.
    fn stop_carrying(&self, id: JobId) {
        if let Some(running) = self.carried().get(&id) {
            running.notify_one();
        }
    }

    /// Counts the end of an entry, or of a try of it.
    fn ended(&self, route: &str, end: &str, queued: Millis) {
        let families = &self.0.metrics.queue;
        families.ended.with_label_values(&[route, end]).inc();
        if end != "again" {
            let waited = Millis::now().since(queued).as_secs_f64();
            families
                .wait_seconds
                .with_label_values(&[route])
                .observe(waited);
        }
    }

    /// Writes the gauges.
    pub fn refresh_metrics(&self) {
        let (depth, metrics) = (self.depth(), &self.0.metrics.queue);
        for state in State::ALL {
            if state != State::Gone {
                let labels = [state.as_str()];
                metrics
                    .requests
                    .with_label_values(&labels)
                    .set(depth.of(state) as f64);
            }
        }
        metrics
            .bytes
            .set(i64::try_from(depth.bytes).unwrap_or(i64::MAX));
        metrics.oldest_seconds.set(self.oldest_age().as_secs_f64());
        metrics.up.set(i64::from(self.is_up()));
    }
}

/// The file that a configuration keeps requests in.
#[must_use]
pub fn file_of(config: &Config) -> Option<PathBuf> {
    let store = config.store.as_ref()?;
    let url = store.url.expose_secret();
    url.strip_prefix("sqlite:").map(PathBuf::from)
}

/// The queue of a configuration, for who looks after it beside the processes that serve; nothing where it has none.
/// One in a server is looked at over the current runtime.
///
/// # Errors
/// When no thread can be had, or the address is none.
pub fn visit(config: &Config) -> Result<Option<Box<dyn Jobs>>, OpenError> {
    Ok(match (file_of(config), &config.store) {
        (Some(path), _) => Some(Box::new(
            Sqlite::visit(settings(config, path)).map_err(StartError::from)?,
        )),
        (None, Some(store)) => {
            let metrics = Arc::new(
                Metrics::new()
                    .map_err(io::Error::other)
                    .map_err(StartError::from)?,
            );
            Some(Box::new(RedisJobs::visit(
                store,
                shared_settings(config),
                &metrics,
            )?))
        }
        (None, None) => None,
    })
}

/// How a queue in a server is used.
fn shared_settings(config: &Config) -> crate::store::redis::jobs::Settings {
    crate::store::redis::jobs::Settings {
        bounds: bounds(config),
        on_crash: config.queue.on_crash.into(),
        keep: config.queue.keep,
        lease: LEASE,
    }
}

fn bounds(config: &Config) -> Bounds {
    Bounds {
        requests: config.queue.max_requests,
        bytes: config.queue.max_bytes as u64,
    }
}

/// How such a file is used.
#[must_use]
pub fn settings(config: &Config, path: PathBuf) -> Settings {
    let queue = &config.queue;
    Settings {
        path,
        bounds: bounds(config),
        on_crash: queue.on_crash.into(),
        keep: queue.keep,
    }
}

/// The path of an entry's answer.
pub(crate) fn location(id: JobId) -> String {
    format!("{ANSWERS}{id}")
}

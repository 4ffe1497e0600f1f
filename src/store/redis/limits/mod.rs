//! The accounts that several instances share, in Redis or Valkey.
//!
//! One script decides on a request, in one round trip and by the server's clock: what two instances do
//! at once happens one after the other, and nobody's clock matters but the server's. The arithmetic is
//! that of [`crate::limit::gcra`], and a test holds the two to the same answers.
//!
//! # Places of running requests
//!
//! How many requests run cannot be a number that each instance raises and lowers: an instance that dies
//! would leave its part in it for ever. So each running request is a *lease*, a member of a sorted set
//! whose score is when it lapses. Its instance renews it while the request runs (`background`), and
//! takes it out at the end. The leases of an instance that died lapse within [`Times::lease`]. Renewing
//! also brings back what a server has forgotten, so that one that was started anew knows what runs.
//!
//! A lease also makes settling safe to repeat: tokens are put right only by who takes the lease out.
//! So a request that is limited in tokens has one too; where only requests are counted there is nothing
//! to settle, and admission is all that is ever said.
//!
//! # Keys
//!
//! ```text
//! PREFIX:{USER}:PLAN          the rates of a user      PREFIX:{USER}:PLAN:c          its running requests
//! PREFIX:{TOTAL}:USER:PLAN    where there is a limit for all together, too
//! PREFIX:{TOTAL}:total        the rates of all         PREFIX:{TOTAL}:total:c
//! ```
//!
//! `USER` is a fingerprint of 32 hexadecimal digits, `PLAN` and `TOTAL` are of 12 ([`PlanPrint`]). What stands in braces
//! decides where in a cluster a key is: users spread over its nodes; but those who share a limit for all together have
//! to be decided on in one place, since two nodes cannot do something at once or not at all.

mod background;
mod wording;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::future::BoxFuture;
use prometheus::IntCounter;
use rand::Rng as _;
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};

use self::wording::{AccountKeys, admission, keys_of, read_answer};
use super::{Operation, Redis, StoreError, script::Script};
use crate::{
    limit::account::State,
    store::limits::{Answer, Asked, Decided, Ending, Lease, PlanPrint, SharedLimits},
    telemetry::Metrics,
};

/// Ended requests that wait to be told to the store. Beyond it what they used stays as it was estimated, and their places
/// come back when their leases lapse.
const OUTBOX: usize = 16 * 1024;

/// How long things last.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// How long a place is held without being renewed, and an instance counts as alive.
    pub lease: Duration,
    /// How often both are renewed: several times a lease.
    pub renew: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(20),
            renew: Duration::from_secs(5),
        }
    }
}

/// How long after it has lapsed a lease can still be settled: what was used counts also after an outage.
const GRACE: Duration = Duration::from_secs(600);

/// The accounts in Redis.
#[derive(Debug)]
pub struct RedisLimits {
    inner: Arc<Inner>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Inner {
    redis: Redis,
    admit: Script,
    settle: Script,
    renew: Script,
    beat: Script,
    times: Times,
    /// This instance, as no other is called.
    name: String,
    next: AtomicU64,
    running: Mutex<HashMap<u64, Arc<Running>>>,
    /// Instances, as the operator says.
    configured: Option<u32>,
    /// Instances, as the store said last.
    seen: AtomicU32,
    outbox: mpsc::Sender<Settlement>,
    /// How many are in the outbox, or on their way from there.
    unsent: watch::Sender<usize>,
    /// Ended requests that the store was not told of.
    unsettled: IntCounter,
}

/// A running request, as it was let in.
#[derive(Debug)]
struct Running {
    asked: Asked,
    keys: Vec<AccountKeys>,
}

/// An ended request, on its way to the store.
#[derive(Debug)]
struct Settlement {
    lease: u64,
    running: Arc<Running>,
    /// Nothing for one that was let in at another time, without a lease: all that it was `asked` for is charged.
    ending: Option<Ending>,
}

impl RedisLimits {
    /// Begins to keep accounts in `redis`, with a task on the current runtime. `instances` is how many share it, where
    /// that is not to be found out.
    #[must_use]
    pub fn start(redis: Redis, metrics: &Metrics, times: Times, instances: Option<u32>) -> Self {
        let (outbox, inbox) = mpsc::channel(OUTBOX);
        let inner = Arc::new(Inner {
            redis,
            admit: Script::new(include_str!("admit.lua")),
            settle: Script::new(include_str!("settle.lua")),
            renew: Script::new(include_str!("renew.lua")),
            beat: Script::new(include_str!("beat.lua")),
            times,
            name: format!("{:016x}", rand::rng().next_u64()),
            next: AtomicU64::new(0),
            running: Mutex::default(),
            configured: instances,
            seen: AtomicU32::new(1),
            outbox,
            unsent: watch::Sender::new(0),
            unsettled: metrics.limiter_unsettled.clone(),
        });
        let task = tokio::spawn(background::work(inner.clone(), inbox));
        Self { inner, task }
    }

    /// Settles a request at once; the moment at which the server has, in microseconds since 1970 by its clock. Nothing
    /// is settled twice.
    ///
    /// # Errors
    /// When the server does not answer; then it is not tried again.
    pub async fn settle_now(
        &self,
        Lease(lease): Lease,
        ending: Ending,
    ) -> Result<Option<u64>, StoreError> {
        let Some(running) = self.inner.running().remove(&lease) else {
            return Ok(None);
        };
        let settlement = Settlement {
            lease,
            running,
            ending: Some(ending),
        };
        let call = |connection| self.inner.settle_one(connection, &settlement);
        self.inner
            .redis
            .call(Operation::Settle, call)
            .await
            .map(Some)
    }
}

impl Drop for RedisLimits {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl SharedLimits for RedisLimits {
    fn admit(&self, asked: Asked) -> Decided {
        let inner = self.inner.clone();
        Box::pin(async move { inner.decide(asked).await })
    }

    fn settle(&self, Lease(lease): Lease, ending: Ending) {
        let running = self.inner.running().remove(&lease);
        if let Some(running) = running {
            self.inner.send(Settlement {
                lease,
                running,
                ending: Some(ending),
            });
        }
    }

    fn charge(&self, asked: Asked) {
        let keys = keys_of(self.inner.redis.prefix(), &asked.entries);
        self.inner.send(Settlement {
            lease: self.inner.next.fetch_add(1, Ordering::Relaxed),
            running: Arc::new(Running { asked, keys }),
            ending: None,
        });
    }

    fn settled(&self) -> BoxFuture<'static, ()> {
        let inner = self.inner.clone();
        Box::pin(async move {
            let mut unsent = inner.unsent.subscribe();
            // Fails only without a sender, which is held here.
            let _ = unsent.wait_for(|unsent| *unsent == 0).await;
        })
    }

    fn instances(&self) -> u32 {
        let seen = || self.inner.seen.load(Ordering::Relaxed);
        self.inner.configured.unwrap_or_else(seen).max(1)
    }
}

// === impl Inner ===

impl Inner {
    async fn decide(self: Arc<Self>, asked: Asked) -> Result<Answer, StoreError> {
        let keys = keys_of(self.redis.prefix(), &asked.entries);
        let is_leased = keys.iter().any(|keys| keys.is_leased);
        let running = Arc::new(Running { asked, keys });
        let lease = self.next.fetch_add(1, Ordering::Relaxed);
        let mut unsure = Unsure {
            inner: &self,
            settlement: is_leased.then(|| Settlement {
                lease,
                running: running.clone(),
                ending: Some(Ending::Undone),
            }),
        };
        let (keys, arguments) =
            admission(&running, &self.lease_name(lease), self.times.lease, GRACE);
        let decided: Result<(bool, u64, Vec<State>), StoreError> = self
            .redis
            .call(Operation::Admit, |mut connection| {
                let (script, asked) = (&self.admit, &running.asked);
                async move {
                    let reply = script.run(&mut connection, &keys, &arguments).await?;
                    read_answer(asked, reply)
                }
            })
            .await;
        // After an error that came late the script may have run, or may run yet.
        if matches!(decided, Ok(_) | Err(StoreError::Down)) {
            unsure.settlement = None;
        }
        let (is_admitted, now, states) = decided?;
        let lease = (is_admitted && is_leased).then(|| {
            self.running().insert(lease, running);
            Lease(lease)
        });
        Ok(Answer {
            is_admitted,
            now,
            states,
            lease,
        })
    }

    fn send(&self, settlement: Settlement) {
        self.unsent.send_modify(|unsent| *unsent += 1);
        if self.outbox.try_send(settlement).is_err() {
            self.unsettled.inc();
            self.told(1);
        }
    }

    /// So many need not be told any more.
    fn told(&self, count: usize) {
        self.unsent
            .send_modify(|unsent| *unsent = unsent.saturating_sub(count));
    }

    fn lease_name(&self, lease: u64) -> String {
        format!("{}:{lease}", self.name)
    }

    fn running(&self) -> MutexGuard<'_, HashMap<u64, Arc<Running>>> {
        // Nothing that is done under the lock can be left half done.
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request of which nobody knows whether the store has let it in: dropped, it gives everything back. Its caller may
/// leave at any moment, and an answer may come too late.
struct Unsure<'a> {
    inner: &'a Inner,
    settlement: Option<Settlement>,
}

impl Drop for Unsure<'_> {
    fn drop(&mut self) {
        if let Some(settlement) = self.settlement.take() {
            self.inner.send(settlement);
        }
    }
}

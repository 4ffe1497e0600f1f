//! The queue's storage in Redis or Valkey, for replicas that share one queue.
//!
//! It is the same storage as [`crate::store::sqlite`], entry for entry: the same states, the same fair order among users,
//! the same place after a failed try. Each operation is one call of one script, so it is done as a whole or not at all,
//! and two replicas never take the same entry.
//!
//! What a replica has taken is its own for a lease, which it renews while it lives ([`LEASE`]). What a dead one held goes
//! back to its place; what it was carrying out becomes what `on_crash` says, and is marked as perhaps done. One that was
//! only away finds its entries taken from it: it can begin and end nothing that is not its own any more.
//!
//! An entry is as durable as the server makes it. With `appendonly yes` and `appendfsync always` a call has its answer
//! when the change is on the disk, and only then is a caller told that its request is kept.

mod wording;

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rand::Rng as _;
use redis::{FromRedisValue, Value};
use tokio::{
    task::JoinHandle,
    time::{MissedTickBehavior, interval},
};

use self::wording::{Entries, OwedList, TakenList, Words, depth_of, state_of};
use super::{AddressError, Operation, Redis, StoreError as RedisError, script::Script};
use crate::{
    config,
    store::jobs::{
        Bounds, Depth, EXPIRED, End, JobId, Jobs, Millis, NewJob, OnCrash, Owed, Put, Record,
        State, StoreError, Stored, Taken,
    },
    telemetry::Metrics,
};

/// How long what was taken stays its taker's without a sign of life.
pub const LEASE: Duration = Duration::from_secs(30);

/// The longest that an operation takes: it carries prompts, and waits for a disk.
const TIMEOUT: Duration = Duration::from_secs(5);

/// How a queue in Redis is used.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Its bounds.
    pub bounds: Bounds,
    /// What becomes of what a process was carrying out when it died.
    pub on_crash: OnCrash,
    /// How long answers are kept.
    pub keep: Duration,
    /// See [`LEASE`].
    pub lease: Duration,
}

/// A queue's storage that replicas share.
pub struct RedisJobs {
    inner: Arc<Inner>,
    /// Says that it lives; `None` for one that only looks.
    renewing: Option<JoinHandle<()>>,
}

struct Inner {
    redis: Redis,
    script: Script,
    base: String,
    /// This process, as no other is called.
    name: String,
    settings: Settings,
    /// Taken or begun by this process.
    held: Mutex<Held>,
    depth: Mutex<Depth>,
    is_up: AtomicBool,
}

/// What a process has taken.
#[derive(Default)]
struct Held {
    /// Each entry with the number of its taking: what is found out about an earlier one says nothing about it.
    taken: HashMap<JobId, u64>,
    next: u64,
    /// Found to be another's, and not told yet.
    lost: HashSet<JobId>,
    /// Being given back, until the store has said that it knows. What is taken again before that is not handed out: the
    /// store tells one process from another, but not one taking from the next, so the older one would be given back in
    /// the place of the newer.
    returning: HashSet<JobId>,
}

impl Held {
    /// Whether an entry that was taken may be handed out.
    fn take(&mut self, id: JobId) -> bool {
        if self.returning.contains(&id) {
            return false;
        }
        self.next += 1;
        self.taken.insert(id, self.next);
        self.lost.remove(&id);
        true
    }

    /// Those that were renewed, and those among them that could not be.
    fn renewed(&mut self, asked: &[(JobId, u64)], lost: &HashSet<JobId>) {
        for (id, number) in asked {
            if lost.contains(id) && self.taken.get(id) == Some(number) {
                self.taken.remove(id);
                self.lost.insert(*id);
            }
        }
    }
}

impl RedisJobs {
    /// Serves from the store of this configuration, over a connection of its own: what it carries is large, and must not
    /// keep the limits waiting. Runs on the current runtime.
    ///
    /// # Errors
    /// When the configuration names no usable address or a certificate file that cannot be read.
    pub fn serve(
        config: &config::Store,
        settings: Settings,
        metrics: &Arc<Metrics>,
    ) -> Result<Self, AddressError> {
        let mut jobs = Self::visit(config, settings, metrics)?;
        jobs.renewing = Some(tokio::spawn(renew(jobs.inner.clone())));
        Ok(jobs)
    }

    /// Looks at the queue beside those that serve from it, and carries nothing out.
    ///
    /// # Errors
    /// As [`RedisJobs::serve`].
    pub fn visit(
        config: &config::Store,
        settings: Settings,
        metrics: &Arc<Metrics>,
    ) -> Result<Self, AddressError> {
        let config = config::Store {
            timeout: TIMEOUT,
            ..config.clone()
        };
        let redis = Redis::start_beside(&config, metrics.clone())?;
        let inner = Inner {
            base: format!("{}:{{queue}}", redis.prefix()),
            redis,
            script: Script::new(include_str!("jobs.lua")),
            name: format!("{:016x}", rand::rng().next_u64()),
            settings,
            held: Mutex::default(),
            depth: Mutex::default(),
            is_up: AtomicBool::new(false),
        };
        Ok(Self {
            inner: Arc::new(inner),
            renewing: None,
        })
    }

    /// Does something; what it has to do with the entries that are held here comes behind it.
    fn ask<T, R>(
        &self,
        words: Words,
        then: impl FnOnce(&Inner, T) -> Result<R, StoreError> + Send + 'static,
    ) -> Stored<R>
    where
        T: FromRedisValue + Send + 'static,
        R: Send + 'static,
    {
        let inner = self.inner.clone();
        Box::pin(async move {
            let result = inner.run(words).await?;
            then(&inner, result)
        })
    }
}

impl Drop for RedisJobs {
    fn drop(&mut self) {
        if let Some(renewing) = &self.renewing {
            renewing.abort();
        }
    }
}

impl fmt::Debug for RedisJobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisJobs")
            .field("redis", &self.inner.redis)
            .field("settings", &self.inner.settings)
            .finish_non_exhaustive()
    }
}

/// Renews what is held, and looks how full the queue is: other replicas fill and empty it as well.
async fn renew(inner: Arc<Inner>) {
    let mut beat = interval(inner.settings.lease / 6);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut is_checked = false;
    loop {
        beat.tick().await;
        let held: Vec<(JobId, u64)> = {
            let held = inner.held();
            held.taken
                .iter()
                .map(|(id, number)| (*id, *number))
                .collect()
        };
        // What fails is renewed the next time: a lease outlasts a few.
        let Ok(lost) = inner.run::<Vec<String>>(Words::renew(&held)).await else {
            continue;
        };
        let lost = lost.iter().filter_map(|id| id.parse().ok()).collect();
        inner.held().renewed(&held, &lost);
        if !is_checked {
            is_checked = true;
            inner.check_durability().await;
        }
    }
}

impl Inner {
    async fn run<T: FromRedisValue>(&self, words: Words) -> Result<T, StoreError> {
        let keys = [self.base.as_str()];
        let arguments = words.said_by(&self.name, &self.settings);
        let call = |mut connection| async move {
            self.script
                .run::<(T, Vec<i64>), _, _>(&mut connection, &keys, &arguments)
                .await
        };
        let answer = self.redis.call(Operation::Queue, call).await;
        self.is_up.store(answer.is_ok(), Ordering::Release);
        let (result, depth) = answer.map_err(|error| StoreError::Down(told(&error)))?;
        *self.depth.lock().unwrap_or_else(PoisonError::into_inner) = depth_of(&depth);
        Ok(result)
    }

    /// Warns where the server keeps nothing that it is told. One that does not say, as some that are rented do not, is
    /// believed to be configured as it should be.
    async fn check_durability(&self) {
        let ask = |mut connection| async move {
            let mut info = redis::cmd("INFO");
            info.arg("persistence");
            info.query_async::<Value>(&mut connection).await
        };
        let told = self.redis.call(Operation::Queue, ask).await;
        if told.is_ok_and(|told| says(&told, "aof_enabled:0")) {
            tracing::warn!(
                "the store does not write what it is told to a disk, so queued requests do not survive its end; set `appendonly yes` and `appendfsync always` in its configuration"
            );
        }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        // Nothing that is done under the lock can be left half done.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a text stands anywhere in an answer: a cluster gives one of each node.
fn says(answer: &Value, text: &str) -> bool {
    let any = |mut parts: std::slice::Iter<'_, Value>| parts.any(|part| says(part, text));
    match answer {
        Value::BulkString(bytes) => memchr::memmem::find(bytes, text.as_bytes()).is_some(),
        Value::SimpleString(told) | Value::VerbatimString { text: told, .. } => told.contains(text),
        Value::Array(parts) | Value::Set(parts) => any(parts.iter()),
        Value::Map(pairs) => pairs.iter().any(|(_, value)| says(value, text)),
        _ => false,
    }
}

fn told(error: &RedisError) -> String {
    match error {
        RedisError::Timeout(_) => format!("{error}; whether it was done is not known"),
        _ => error.to_string(),
    }
}

impl Jobs for RedisJobs {
    fn put(&self, job: NewJob) -> Stored<Put> {
        let words = Words::put(&job, self.inner.settings.bounds);
        let (inner, id, now) = (self.inner.clone(), job.id, job.now);
        // Under its idempotency key somebody else may have been told of it already.
        let is_unknown = job.key.is_none();
        Box::pin(async move {
            let put = inner.run::<(String, Entries)>(words).await;
            let (result, Entries(known)) = match put {
                Ok(answer) => answer,
                Err(error) if !is_unknown => return Err(error),
                Err(error) => {
                    // It may be kept all the same, and its caller is about to be served otherwise.
                    let undo = inner.clone();
                    tokio::spawn(async move {
                        let _: Result<i64, _> = undo.run(Words::remove(id, now, now)).await;
                    });
                    return Err(error);
                }
            };
            match (result.as_str(), known.into_iter().next()) {
                ("kept", _) => Ok(Put::Kept),
                ("known", Some(record)) => Ok(Put::Known(Box::new(record))),
                ("bytes", _) => Err(StoreError::Full("it holds as many bytes as it may")),
                _ => Err(StoreError::Full("it holds as many requests as it may")),
            }
        })
    }

    fn take(&self, route: &str, most: usize, now: Millis) -> Stored<Vec<Taken>> {
        let words = Words::take(route, most, now);
        self.ask(words, |inner, TakenList(mut taken)| {
            let mut held = inner.held();
            taken.retain(|taken| held.take(taken.id));
            drop(held);
            Ok(taken)
        })
    }

    fn give_back(&self, id: JobId, due: Millis) -> Stored<()> {
        let mut held = self.inner.held();
        held.taken.remove(&id);
        held.returning.insert(id);
        drop(held);
        self.ask(Words::give_back(id, due), move |inner, _: i64| {
            inner.held().returning.remove(&id);
            Ok(())
        })
    }

    fn begin(&self, id: JobId, now: Millis) -> Stored<bool> {
        self.ask(Words::begin(id, now), move |inner, done: i64| {
            if done == 0 {
                inner.held().taken.remove(&id);
            }
            Ok(done == 1)
        })
    }

    fn end(&self, id: JobId, end: End, now: Millis) -> Stored<bool> {
        self.ask(Words::end(id, &end, now), move |inner, done: i64| {
            inner.held().taken.remove(&id);
            Ok(done == 1)
        })
    }

    fn routes(&self) -> Stored<Vec<String>> {
        self.ask(Words::routes(), |_, routes| Ok(routes))
    }

    fn look(&self, id: JobId) -> Stored<Option<Record>> {
        self.ask(Words::look(id), |_, Entries(found)| {
            Ok(found.into_iter().next())
        })
    }

    fn look_up(&self, key: [u8; 32]) -> Stored<Option<Record>> {
        self.ask(Words::look_up(&key), |_, Entries(found)| {
            Ok(found.into_iter().next())
        })
    }

    fn answer(&self, id: JobId) -> Stored<Option<(Vec<u8>, Vec<u8>)>> {
        self.ask(Words::answer(id), |_, parts: Vec<Vec<u8>>| {
            Ok(<[Vec<u8>; 2]>::try_from(parts)
                .ok()
                .map(|[head, body]| (head, body)))
        })
    }

    fn remove(&self, id: JobId, now: Millis, forget: Millis) -> Stored<Option<State>> {
        self.ask(Words::remove(id, now, forget), |_, before: i64| {
            Ok(state_of(before))
        })
    }

    fn retry(&self, id: JobId, now: Millis, expires: Millis) -> Stored<bool> {
        self.ask(Words::retry(id, now, expires), |_, done: i64| Ok(done == 1))
    }

    fn list(&self, state: Option<State>, most: usize) -> Stored<Vec<Record>> {
        self.ask(Words::list(state, most), |_, Entries(found)| Ok(found))
    }

    fn sweep(&self, now: Millis, keep: Millis) -> Stored<u64> {
        self.ask(Words::sweep(now, keep, EXPIRED), |_, failed| Ok(failed))
    }

    fn owed(&self, most: usize, now: Millis, again: Millis) -> Stored<Vec<Owed>> {
        self.ask(Words::owed(most, now, again), |_, OwedList(owed)| Ok(owed))
    }

    fn told(&self, id: JobId, next: Option<Millis>) -> Stored<()> {
        self.ask(Words::told(id, next), |_, _: i64| Ok(()))
    }

    fn depth(&self) -> Depth {
        let depth = self.inner.depth.lock();
        *depth.unwrap_or_else(PoisonError::into_inner)
    }

    fn is_up(&self) -> bool {
        self.inner.is_up.load(Ordering::Acquire)
    }

    fn lost(&self) -> Vec<JobId> {
        self.inner.held().lost.drain().collect()
    }
}

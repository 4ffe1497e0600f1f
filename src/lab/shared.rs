//! What all connections of a lab share.

use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;

use super::admission::Admission;
use super::api::Request;
use super::body::BUDGET_UNIT;
use super::config::LabConfig;
use super::fault::{FaultSpec, Script};
use super::head::Head;
use super::listener::{ListenerPlan, ListenerState};
use super::lock;
use super::record::{Ledger, Outcome, Phase, RequestRecord, Stats};
use super::scenario::{Facts, Scenario};
use super::scripts::{Misuse, Scripts};

/// The state of a lab. Each lock is held for a few instructions, never across a wait, and never two at once.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) config: LabConfig,
    pub(super) admission: Admission,
    /// Memory for request bodies, in units of [`BUDGET_UNIT`].
    pub(super) body_budget: Semaphore,
    directions: Mutex<Directions>,
    ledger: Mutex<Ledger>,
    listener: Mutex<ListenerPlan>,
    /// Told whenever the ledger has changed.
    changed: Notify,
    /// Told whenever the listener has an order.
    ordered: Notify,
}

/// What decides over faults.
#[derive(Debug)]
struct Directions {
    start: Instant,
    scenario: Scenario,
    scripts: Scripts,
    random: StdRng,
    /// Requests so far, never reset: ids stay unique.
    serial: u64,
}

/// A request that has begun. Ends as abandoned when it is dropped, which is what happens when the lab stops.
#[derive(Debug)]
pub(super) struct Entry<'a> {
    lab: &'a Shared,
    pub(super) id: u64,
    /// The value of `x-lab-key` and the number of the attempt.
    pub(super) attempt: Option<(String, u32)>,
    /// How far it has come.
    pub(super) phase: Phase,
    /// The ledger's epoch in which it began.
    epoch: u64,
    ended: bool,
}

impl Shared {
    pub(super) fn new(config: LabConfig, now: Instant) -> Self {
        let units = (config.limits.body_bytes_total / BUDGET_UNIT).min(Semaphore::MAX_PERMITS);
        Self {
            admission: Admission::new(config.quota.clone()),
            body_budget: Semaphore::new(units),
            directions: Mutex::new(Directions::new(&config, now, 0)),
            ledger: Mutex::new(Ledger::new(config.record.clone())),
            listener: Mutex::new(ListenerPlan::new(&config.listener, now)),
            changed: Notify::new(),
            ordered: Notify::new(),
            config,
        }
    }

    /// Begins anew: counters, records, scripts, rules, buckets and the time that windows are counted from.
    pub(super) fn reset(&self) {
        let now = Instant::now();
        {
            let mut directions = lock(&self.directions);
            let serial = directions.serial;
            *directions = Directions::new(&self.config, now, serial);
        }
        self.admission.reset(now);
        lock(&self.listener).restart(now);
        self.ordered.notify_waiters();
        lock(&self.ledger).reset();
        self.changed.notify_waiters();
    }

    pub(super) fn count(&self, change: impl FnOnce(&mut Stats)) {
        change(&mut lock(&self.ledger).stats);
        self.changed.notify_waiters();
    }

    pub(super) fn stats(&self) -> Stats {
        lock(&self.ledger).stats.clone()
    }

    pub(super) fn requests(&self, key: Option<&str>) -> Vec<RequestRecord> {
        lock(&self.ledger).records(key)
    }

    /// Waits until `met` holds for the counters; the counters either way.
    pub(super) async fn wait_for(
        &self,
        met: impl Fn(&Stats) -> bool,
        patience: Duration,
    ) -> Result<Stats, Stats> {
        let waiting = async {
            loop {
                let changed = self.changed.notified();
                tokio::pin!(changed);
                // Registered before looking, so that no change between looking and waiting is missed.
                changed.as_mut().enable();
                let stats = self.stats();
                if met(&stats) {
                    return stats;
                }
                changed.await;
            }
        };
        tokio::time::timeout(patience, waiting)
            .await
            .map_err(|_| self.stats())
    }

    pub(super) fn play_next(&self, script: Script) {
        lock(&self.directions).scripts.play_next(script);
    }

    pub(super) fn play_for(&self, key: &str, script: Script) {
        lock(&self.directions).scripts.play_for(key, script);
    }

    /// Orders a state of the listener.
    pub(super) fn order_listener(&self, state: ListenerState, lasting: Option<Duration>) {
        lock(&self.listener).order(state, lasting.map(|lasting| Instant::now() + lasting));
        self.ordered.notify_waiters();
    }

    /// The listener's state, and a wait that ends when it may have changed.
    pub(super) fn listener_state(&self) -> (ListenerState, impl Future<Output = ()> + '_) {
        let ordered = self.ordered.notified();
        let (state, change) = lock(&self.listener).state(Instant::now());
        let due = async move {
            match change {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        (state, async move {
            tokio::select! {
                () = ordered => {}
                () = due => {}
            }
        })
    }

    /// Notes a request.
    pub(super) fn begin(&self, connection: u64, head: &Head) -> Entry<'_> {
        let key = head.text("x-lab-key");
        let (id, arrived, attempt) = {
            let mut directions = lock(&self.directions);
            directions.serial += 1;
            let attempt = key.map(|key| (key.to_owned(), directions.scripts.attempt(key)));
            (directions.serial, directions.start.elapsed(), attempt)
        };
        let mut record = RequestRecord::new(id, connection, head, arrived);
        if let Some((key, number)) = &attempt {
            (record.key, record.attempt) = (Some(key.clone()), Some(*number));
        }
        let epoch = lock(&self.ledger).begin(record);
        self.changed.notify_waiters();
        Entry {
            lab: self,
            id,
            attempt,
            phase: Phase::Request,
            epoch,
            ended: false,
        }
    }
}

impl Directions {
    fn new(config: &LabConfig, start: Instant, serial: u64) -> Self {
        Self {
            start,
            scenario: Scenario::new(&config.rules),
            scripts: Scripts::default(),
            random: StdRng::seed_from_u64(config.seed),
            serial,
        }
    }
}

// === impl Entry ===

impl Entry<'_> {
    /// Notes the body.
    pub(super) fn heard(&mut self, body: &Bytes, trailers: &[Bytes]) {
        self.phase = Phase::Headers;
        lock(&self.lab.ledger).body(self.id, body, trailers);
    }

    /// Decides what is played: the request's own wish, a script, a rule; otherwise the healthy answer.
    pub(super) fn choose(&self, head: &Head, request: &Request) -> Result<FaultSpec, Misuse> {
        let directions = &mut *lock(&self.lab.directions);
        let attempt = self
            .attempt
            .as_ref()
            .map(|(key, number)| (key.as_str(), *number));
        if let Some(spec) = directions.scripts.choose(head, attempt)? {
            return Ok(spec);
        }
        let facts = Facts {
            path: head.path(),
            model: &request.model,
            stream: request.stream,
            at: directions.start.elapsed(),
        };
        let spec = directions.scenario.decide(facts, &mut directions.random);
        Ok(spec.unwrap_or_else(FaultSpec::healthy))
    }

    /// Notes what is played.
    pub(super) fn played(&self, played: &str, count: impl FnOnce(&mut Stats)) {
        let mut ledger = lock(&self.lab.ledger);
        ledger.played(self.id, played);
        if let Some(stats) = ledger.stats_of(self.epoch) {
            count(stats);
        }
    }

    /// Notes the end.
    pub(super) fn end(mut self, outcome: Outcome, status: Option<u16>) {
        self.close(outcome, status);
    }

    fn close(&mut self, outcome: Outcome, status: Option<u16>) {
        self.ended = true;
        let at = lock(&self.lab.directions).start.elapsed();
        let mut ledger = lock(&self.lab.ledger);
        ledger.end(self.id, outcome, status, at);
        if let Some(stats) = ledger.stats_of(self.epoch) {
            stats.ended(outcome, status);
        }
        drop(ledger);
        self.lab.changed.notify_waiters();
    }
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.close(Outcome::Broken, None);
        }
    }
}

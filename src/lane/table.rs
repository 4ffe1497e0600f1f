//! All lanes of the process: found by what a quota is bound to, bounded in number.
//!
//! Vendors count quotas by credential and model, so a lane is keyed by upstream, credential and model, and one model's
//! trouble does not slow another. The caller chooses the model's name, so the number of lanes must be bounded against
//! callers who invent names: idle lanes leave, and when all are busy, newcomers of an upstream share one lane.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::settings::LaneSettings;
use super::shell::Lane;
use super::snapshot::Snapshot;
use super::view::View;

/// Lanes at most, beside one shared lane for each upstream.
const DEFAULT_LANES: usize = 1_024;
/// An idle lane is kept this long for what it has learned.
const IDLE_FOR: Duration = Duration::from_mins(15);
/// A full table is not searched for idle lanes more often than this.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// What a quota is bound to. Fingerprints only: neither credential nor model name can be read from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LaneKey {
    /// The upstream's index in the configuration.
    pub upstream: usize,
    /// The credential's fingerprint.
    pub credential: u128,
    /// The model name's hash; 0 for requests that name none.
    pub model: u64,
}

/// All lanes.
pub struct LaneTable {
    inner: Mutex<Inner>,
    max: usize,
}

struct Inner {
    lanes: HashMap<LaneKey, Entry>,
    /// By upstream: the lane of those who found the table full.
    shared: HashMap<usize, Arc<Lane>>,
    swept: Option<Instant>,
    draining: bool,
}

struct Entry {
    lane: Arc<Lane>,
    used: Instant,
}

impl Default for LaneTable {
    fn default() -> Self {
        Self::new(DEFAULT_LANES)
    }
}

impl LaneTable {
    /// A table of at most `max` lanes, beside one shared lane for each upstream.
    #[must_use]
    pub fn new(max: usize) -> Self {
        let inner = Inner {
            lanes: HashMap::new(),
            shared: HashMap::new(),
            swept: None,
            draining: false,
        };
        Self {
            inner: Mutex::new(inner),
            max,
        }
    }

    /// The lane for a key; made with these settings when it is new.
    #[must_use]
    pub fn lane(&self, key: LaneKey, settings: &LaneSettings) -> Arc<Lane> {
        self.lane_named(key, settings, || None)
    }

    /// The same; `name` is asked for the model's name when the lane is new, if people may see it.
    #[must_use]
    pub fn lane_named(
        &self,
        key: LaneKey,
        settings: &LaneSettings,
        name: impl FnOnce() -> Option<Arc<str>>,
    ) -> Arc<Lane> {
        let now = Instant::now();
        let mut inner = self.lock();
        if let Some(entry) = inner.lanes.get_mut(&key) {
            entry.used = now;
            return Arc::clone(&entry.lane);
        }
        if inner.lanes.len() >= self.max {
            inner.sweep(now, self.max);
        }
        let draining = inner.draining;
        let make = |name| {
            let lane = Lane::named(settings.clone(), name);
            if draining {
                lane.drain();
            }
            Arc::new(lane)
        };
        if inner.lanes.len() >= self.max {
            return Arc::clone(
                inner
                    .shared
                    .entry(key.upstream)
                    .or_insert_with(|| make(None)),
            );
        }
        let lane = make(name());
        inner.lanes.insert(
            key,
            Entry {
                lane: Arc::clone(&lane),
                used: now,
            },
        );
        lane
    }

    /// Every lane's state, shared ones with a credential and model of 0, in the order of their keys.
    #[must_use]
    pub fn snapshots(&self) -> Vec<(LaneKey, Snapshot)> {
        let mut lanes = self.lanes();
        lanes.sort_by_key(|(key, _)| *key);
        lanes
            .into_iter()
            .map(|(key, lane)| (key, lane.snapshot()))
            .collect()
    }

    /// Every lane as people see it, with at most `waiters` users each, in the order of their keys.
    #[must_use]
    pub fn views(&self, waiters: usize) -> Vec<(LaneKey, View)> {
        let mut lanes = self.lanes();
        lanes.sort_by_key(|(key, _)| *key);
        lanes
            .into_iter()
            .map(|(key, lane)| (key, lane.view(waiters)))
            .collect()
    }

    /// Drains every lane, and those that are still to come.
    pub fn drain(&self) {
        self.lock().draining = true;
        for (_, lane) in self.lanes() {
            lane.drain();
        }
    }

    fn lanes(&self) -> Vec<(LaneKey, Arc<Lane>)> {
        let inner = self.lock();
        let own = inner
            .lanes
            .iter()
            .map(|(key, entry)| (*key, Arc::clone(&entry.lane)));
        let shared = inner.shared.iter().map(|(upstream, lane)| {
            (
                LaneKey {
                    upstream: *upstream,
                    credential: 0,
                    model: 0,
                },
                Arc::clone(lane),
            )
        });
        own.chain(shared).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Makes room: lanes unused for long leave, or else the one that is unused for longest.
    fn sweep(&mut self, now: Instant, max: usize) {
        if self
            .swept
            .is_some_and(|swept| now.saturating_duration_since(swept) < SWEEP_EVERY)
        {
            return;
        }
        self.swept = Some(now);
        // A lane that somebody else holds is in use, or about to be.
        let is_idle = |entry: &Entry| Arc::strong_count(&entry.lane) == 1 && entry.lane.is_idle();
        self.lanes.retain(|_, entry| {
            now.saturating_duration_since(entry.used) < IDLE_FOR || !is_idle(entry)
        });
        if self.lanes.len() < max {
            return;
        }
        let idle = self.lanes.iter().filter(|(_, entry)| is_idle(entry));
        if let Some(oldest) = idle
            .min_by_key(|(_, entry)| entry.used)
            .map(|(key, _)| *key)
        {
            self.lanes.remove(&oldest);
        }
    }
}

impl fmt::Debug for LaneTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LaneTable")
            .field("max", &self.max)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;

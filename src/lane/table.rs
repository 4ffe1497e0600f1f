//! All lanes of the process: found by what a quota is bound to, bounded in number.
//!
//! Vendors count quotas by credential and model, so a lane is keyed by upstream, credential and model, and one model's
//! trouble does not slow another. The caller chooses the model's name, so the number of lanes must be bounded against
//! callers who invent names. In a full table idle lanes make room, those that have learned nothing before all others:
//! a name invented yesterday must not push out what a real storm has taught. Lanes in use never leave; when all are,
//! newcomers of an upstream share a few lanes, dealt by credential, so that who floods the table with names shares
//! with itself and few others.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::label::Label;
use super::settings::LaneSettings;
use super::shell::Lane;
use super::snapshot::Snapshot;
use super::view::View;

/// Lanes at most, beside the shared lanes of each upstream.
const DEFAULT_LANES: usize = 1_024;
/// Shared lanes of each upstream, among which the credentials of those who found the table full are dealt.
const SHARED: u128 = 16;
/// A sweep of a full table frees this part of it, as far as idle lanes that have learned nothing allow.
const FREED: usize = 16;
/// An idle lane is kept this long for what it has learned.
const IDLE_FOR: Duration = Duration::from_mins(15);
/// A full table is not searched for idle lanes more often than this.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// What a quota is bound to. Fingerprints only: neither credential nor model name can be read from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LaneKey {
    /// The upstream's number.
    pub upstream: usize,
    /// The credential's fingerprint.
    pub credential: u128,
    /// The model name's hash; 0 for requests that name none.
    pub model: u64,
}

impl LaneKey {
    /// The key of the shared lane that stands in for this one in a full table.
    fn shared(self) -> Self {
        Self {
            upstream: self.upstream,
            credential: self.credential % SHARED,
            model: 0,
        }
    }
}

/// All lanes.
pub struct LaneTable {
    inner: Mutex<Inner>,
    max: usize,
}

struct Inner {
    lanes: HashMap<LaneKey, Entry>,
    /// By upstream and part of the credentials: the lanes of those who found the table full.
    shared: HashMap<LaneKey, Arc<Lane>>,
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
    /// A table of at most `max` lanes, beside the shared lanes of each upstream.
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

    /// The lane for a key. When it is new, `describe` tells its settings and what it is called.
    #[must_use]
    pub fn lane(
        &self,
        key: LaneKey,
        describe: impl FnOnce() -> (LaneSettings, Label),
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
        let (settings, label) = describe();
        let make = |label| {
            let lane = Lane::new(settings, label);
            if draining {
                lane.drain();
            }
            Arc::new(lane)
        };
        if inner.lanes.len() >= self.max {
            return Arc::clone(
                inner
                    .shared
                    .entry(key.shared())
                    .or_insert_with(|| make(Label::shared())),
            );
        }
        let lane = make(label);
        inner.lanes.insert(
            key,
            Entry {
                lane: Arc::clone(&lane),
                used: now,
            },
        );
        lane
    }

    /// Every lane's state in the order of their keys; shared ones with a model of 0 and a credential below 16.
    #[must_use]
    pub fn snapshots(&self) -> Vec<(LaneKey, Snapshot)> {
        let lanes = self.lanes().into_iter();
        lanes.map(|(key, lane)| (key, lane.snapshot())).collect()
    }

    /// Every lane as people see it, with at most `waiters` users each, in the order of their keys.
    #[must_use]
    pub fn views(&self, waiters: usize) -> Vec<(LaneKey, View)> {
        let lanes = self.lanes().into_iter();
        lanes.map(|(key, lane)| (key, lane.view(waiters))).collect()
    }

    /// Forgets the lanes that `keep` does not want. Who is in one of them stays in it.
    pub fn retain(&self, keep: impl Fn(&LaneKey) -> bool) {
        let mut inner = self.lock();
        inner.lanes.retain(|key, _| keep(key));
        inner.shared.retain(|key, _| keep(key));
    }

    /// Gives all lanes of an upstream new settings.
    pub fn retune(&self, upstream: usize, settings: &LaneSettings) {
        let lanes = self.lanes().into_iter();
        for (_, lane) in lanes.filter(|(key, _)| key.upstream == upstream) {
            lane.retune(settings);
        }
    }

    /// Drains every lane, and those that are still to come.
    pub fn drain(&self) {
        self.lock().draining = true;
        for (_, lane) in self.lanes() {
            lane.drain();
        }
    }

    /// Every lane, in the same order.
    #[must_use]
    pub fn lanes(&self) -> Vec<(LaneKey, Arc<Lane>)> {
        let inner = self.lock();
        let own = inner
            .lanes
            .iter()
            .map(|(key, entry)| (*key, Arc::clone(&entry.lane)));
        let shared = &inner.shared;
        let shared = shared.iter().map(|(key, lane)| (*key, Arc::clone(lane)));
        let mut lanes: Vec<_> = own.chain(shared).collect();
        lanes.sort_by_key(|(key, _)| *key);
        lanes
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Makes room. Lanes unused for long leave; then idle ones that have learned nothing, the longest unused first;
    /// and where there is none of those, the one other idle lane that is unused for longest.
    fn sweep(&mut self, now: Instant, max: usize) {
        let since = |then| now.saturating_duration_since(then);
        if self.swept.is_some_and(|swept| since(swept) < SWEEP_EVERY) {
            return;
        }
        self.swept = Some(now);
        self.lanes
            .retain(|_, entry| since(entry.used) < IDLE_FOR || !entry.is_idle());
        let mut leaving: Vec<_> = self
            .lanes
            .iter()
            .filter(|(_, entry)| entry.is_idle())
            .map(|(key, entry)| (entry.lane.has_learned(), entry.used, *key))
            .collect();
        leaving.sort_unstable();
        let excess = (self.lanes.len() + (max / FREED).max(1)).saturating_sub(max);
        let blank = leaving.iter().take_while(|(learned, ..)| !learned).count();
        for (.., key) in leaving.iter().take(excess.min(blank.max(1))) {
            self.lanes.remove(key);
        }
    }
}

impl Entry {
    /// A lane that somebody else holds is in use, or about to be.
    fn is_idle(&self) -> bool {
        Arc::strong_count(&self.lane) == 1 && self.lane.is_idle()
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

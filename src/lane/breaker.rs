//! The breaker: an upstream that fails is asked by one request at a time.
//!
//! With a single upstream there is nowhere else to send, which is why the classic breaker fails open there.
//! This one fails to *waiting*: requests whose patience outlasts the pause wait for it, the others get the fallback now.
//! It trips on failures in a row (a clean outage) or on a bad share over half a minute (a brownout, counted in buckets,
//! so that the verdict does not depend on the request rate). A throttle is no failure: the gate knows what to do about it.
//!
//! A failing upstream tells nothing about the quota, so the learned pace is left alone; shrinking it made a simulated
//! outage worse than plain retries.

use std::time::Duration;

use rand::Rng;
use tokio::time::Instant;

use super::gate::Passage;
use super::time::{seconds, up_to};

/// Failures in a row that trip the breaker.
const CONSECUTIVE: u32 = 5;
/// Results are judged over `BUCKETS` buckets of `BUCKET` each: 30 s.
const BUCKETS: usize = 10;
const BUCKET: Duration = Duration::from_secs(3);
/// Fewer results than this are no share.
const LEAST_RESULTS: u32 = 10;
/// The first pause; doubled by each failed probe.
const FIRST_PAUSE: f64 = 1.0;
/// The pause stops growing here: what an outage costs after its end is half of this on average.
const LONGEST_PAUSE: f64 = 8.0;
/// A probe that hangs this long no longer holds the others up; the next one goes.
const PROBE_PATIENCE: Duration = Duration::from_secs(10);

/// The lane-wide reaction to failures.
#[derive(Debug)]
pub struct Breaker {
    tempo: f64,
    state: State,
    consecutive: u32,
    /// Trips with no recovery between them.
    trips: u32,
    /// Results of requests sent before this instant are about another time.
    since: Option<Instant>,
    origin: Option<Instant>,
    buckets: [Bucket; BUCKETS],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// To `Shut` by a trip.
    Closed,
    /// To `Probing` when the pause is over and a request leaves.
    Shut { until: Instant },
    /// To `Closed` when the probe is served; to `Shut` by anything else, or when it has hung for too long.
    Probing { sent_at: Instant },
}

#[derive(Debug, Clone, Copy, Default)]
struct Bucket {
    slot: u64,
    good: u32,
    bad: u32,
}

impl Breaker {
    /// A closed breaker; `tempo` scales its pauses, see [`super::LaneSettings::tempo`].
    #[must_use]
    pub fn new(tempo: f64) -> Self {
        Self {
            tempo,
            state: State::Closed,
            consecutive: 0,
            trips: 0,
            since: None,
            origin: None,
            buckets: [Bucket::default(); BUCKETS],
        }
    }

    /// Takes a new tempo for the pauses to come.
    pub fn retune(&mut self, tempo: f64) {
        self.tempo = tempo;
    }

    /// Whether a request may pass now.
    #[must_use]
    pub fn passage(&self, now: Instant) -> Passage {
        match self.state {
            State::Closed => Passage::Open,
            State::Shut { until } if now < until => Passage::Shut(until),
            State::Shut { .. } => Passage::Probe,
            State::Probing { sent_at } if now >= sent_at + PROBE_PATIENCE => Passage::Probe,
            State::Probing { .. } => Passage::Probing,
        }
    }

    /// When a hanging probe will be given up, if one is out.
    #[must_use]
    pub fn probe_ends(&self) -> Option<Instant> {
        match self.state {
            State::Probing { sent_at } => Some(sent_at + PROBE_PATIENCE),
            State::Closed | State::Shut { .. } => None,
        }
    }

    /// The probe has left; nobody else passes until its verdict.
    pub fn probe_sent(&mut self, now: Instant) {
        self.state = State::Probing { sent_at: now };
    }

    /// A request failed. Returns true when the breaker tripped by it, or a failed probe kept it shut.
    pub fn on_failure<R: Rng + ?Sized>(
        &mut self,
        now: Instant,
        sent_at: Instant,
        probe: bool,
        rng: &mut R,
    ) -> bool {
        match self.state {
            State::Closed => {
                if self.since.is_some_and(|since| sent_at < since) {
                    return false;
                }
                self.consecutive += 1;
                self.bucket(now).bad += 1;
                if self.consecutive < CONSECUTIVE && !self.share_is_bad(now) {
                    return false;
                }
            }
            State::Probing { .. } if probe => self.trips = self.trips.saturating_add(1),
            State::Shut { .. } | State::Probing { .. } => return false,
        }
        self.shut(now, rng);
        true
    }

    /// The probe met a throttle: the upstream lives, but whether it works is still unknown.
    pub fn on_probe_throttled<R: Rng + ?Sized>(&mut self, now: Instant, rng: &mut R) {
        if matches!(self.state, State::Probing { .. }) {
            self.shut(now, rng);
        }
    }

    /// The probe ended without a verdict: the next request becomes the probe.
    pub fn probe_lost(&mut self, now: Instant) {
        if matches!(self.state, State::Probing { .. }) {
            self.state = State::Shut { until: now };
        }
    }

    /// A request was answered, if only with a refusal of its own fault.
    /// Returns true when this ended an outage.
    pub fn on_alive(&mut self, now: Instant, probe: bool) -> bool {
        match self.state {
            State::Closed => {
                self.consecutive = 0;
                self.bucket(now).good += 1;
                false
            }
            State::Probing { .. } if probe => {
                *self = Self {
                    since: Some(now),
                    ..Self::new(self.tempo)
                };
                true
            }
            State::Shut { .. } | State::Probing { .. } => false,
        }
    }

    /// True while requests are kept from the upstream.
    #[must_use]
    pub fn is_shut(&self) -> bool {
        self.state != State::Closed
    }

    /// Shuts for an equally jittered pause: half of it fixed, half random (Finagle's failure accrual).
    fn shut<R: Rng + ?Sized>(&mut self, now: Instant, rng: &mut R) {
        let exponent = i32::try_from(self.trips).unwrap_or(i32::MAX).min(16);
        let half =
            seconds((FIRST_PAUSE * 2f64.powi(exponent)).min(LONGEST_PAUSE) * self.tempo / 2.0);
        self.state = State::Shut {
            until: now + half + up_to(rng, half),
        };
    }

    fn share_is_bad(&self, now: Instant) -> bool {
        let slot = self.slot(now);
        let recent = self
            .buckets
            .iter()
            .filter(|bucket| bucket.slot + BUCKETS as u64 > slot);
        let (good, bad) = recent.fold((0, 0), |(good, bad), bucket| {
            (good + bucket.good, bad + bucket.bad)
        });
        good + bad >= LEAST_RESULTS && bad > good
    }

    fn slot(&self, now: Instant) -> u64 {
        let age = self.origin.map_or(Duration::ZERO, |origin| {
            now.saturating_duration_since(origin)
        });
        age.as_secs() / BUCKET.as_secs()
    }

    fn bucket(&mut self, now: Instant) -> &mut Bucket {
        self.origin.get_or_insert(now);
        let slot = self.slot(now);
        let bucket = &mut self.buckets[usize::try_from(slot % BUCKETS as u64).unwrap_or_default()];
        if bucket.slot != slot {
            *bucket = Bucket {
                slot,
                ..Bucket::default()
            };
        }
        bucket
    }
}

#[cfg(test)]
#[path = "breaker_tests.rs"]
mod tests;

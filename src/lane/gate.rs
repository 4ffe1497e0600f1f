//! The gate: one caller's 429 is everybody's 429.
//!
//! Callers of one quota that each wait for themselves learn nothing from one another: in a storm each spends its attempts
//! on finding out what its neighbour knew a moment ago, and where refused calls count against the quota, those attempts
//! eat what would have served somebody.
//! So the first refusal closes the gate for all.
//! When its time is up, exactly one request, the probe, goes to see; the rest follow its verdict, at the pace and within
//! the window, and nobody's attempts are spent on waiting.
//!
//! Only a refusal of a request *sent after the last closing* closes the gate again and lets the wait grow: the refusals
//! of a flight that left together are one event, as TCP cuts its window once a round trip.
//! A wait never ends before the server's hint, and a random part after it keeps several instances from returning together.

use std::time::Duration;

use rand::Rng;
use tokio::time::Instant;

use super::time::{seconds, up_to};

/// The wait after a first refusal, doubled by each failed probe, where a request of the quota is not known to return sooner.
const FIRST_WAIT: f64 = 1.0;
/// The wait stops growing here.
const LONGEST_WAIT: f64 = 60.0;
/// The least random part of a wait.
const LEAST_JITTER: Duration = Duration::from_millis(250);
/// The most of it: enough to part the single probes of many instances. Half of a long hint would waste the start of
/// a vendor's new minute.
const MOST_JITTER: Duration = Duration::from_secs(5);

/// Whether a request may pass one of the lane's doors (gate or breaker).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passage {
    /// Freely.
    Open,
    /// One may, as the probe.
    Probe,
    /// None may before this instant.
    Shut(Instant),
    /// None may before the probe's verdict.
    Probing,
}

/// The lane-wide reaction to throttling.
#[derive(Debug)]
pub struct Gate {
    /// Nothing passes before this instant, open or not: the latest of all promises made to the server.
    closed_until: Option<Instant>,
    state: State,
    /// Throttles with no success between them.
    failures: u32,
    last_closing: Option<Instant>,
    hint_cap: Duration,
    /// Scales the gate's own waits; see [`super::LaneSettings::tempo`].
    tempo: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// To `Closed` by a throttle.
    Open,
    /// To `Probing` when time is up and a request leaves.
    Closed,
    /// To `Open` when the probe is taken; to `Closed` when it is throttled or its verdict is lost.
    Probing,
}

impl Gate {
    /// An open gate. Hints longer than `hint_cap` are treated as absent.
    #[must_use]
    pub const fn new(hint_cap: Duration, tempo: f64) -> Self {
        Self {
            closed_until: None,
            state: State::Open,
            failures: 0,
            last_closing: None,
            hint_cap,
            tempo,
        }
    }

    /// Takes new settings for the closings to come.
    pub fn retune(&mut self, hint_cap: Duration, tempo: f64) {
        self.hint_cap = hint_cap;
        self.tempo = tempo;
    }

    /// Whether a request may pass now.
    #[must_use]
    pub fn passage(&self, now: Instant) -> Passage {
        match (self.closed_until, self.state) {
            (Some(until), _) if now < until => Passage::Shut(until),
            (_, State::Open) => Passage::Open,
            (_, State::Closed) => Passage::Probe,
            (_, State::Probing) => Passage::Probing,
        }
    }

    /// The probe has left; nobody else passes until its verdict.
    pub fn probe_sent(&mut self) {
        self.state = State::Probing;
    }

    /// A request sent at `sent_at` was throttled.
    ///
    /// Returns true when this is a new event: the gate closed for `max(hint, min(60 s, token time · 2^failures))`
    /// and up to half as much again, but not more than five seconds. `token_time` is how long the quota takes to refill by
    /// one request, as far as the pace knows; more than a second counts as a second, because the pace itself waits then. Otherwise the gate was closed by the same event already,
    /// and only a longer hint can extend it.
    pub fn on_throttled<R: Rng + ?Sized>(
        &mut self,
        now: Instant,
        sent_at: Instant,
        hint: Option<Duration>,
        token_time: Duration,
        rng: &mut R,
    ) -> bool {
        let hint = hint
            .filter(|hint| *hint <= self.hint_cap)
            .unwrap_or_default();
        if self.last_closing.is_some_and(|closing| sent_at <= closing) {
            self.hold_until(now + hint);
            return false;
        }
        let unit = token_time.as_secs_f64().min(FIRST_WAIT) * self.tempo;
        let exponent = i32::try_from(self.failures).unwrap_or(i32::MAX).min(16);
        let own = seconds((unit * 2f64.powi(exponent)).min(LONGEST_WAIT * self.tempo));
        let wait = own.max(hint);
        let least = LEAST_JITTER.mul_f64(unit.min(1.0));
        self.hold_until(now + wait + up_to(rng, (wait / 2).clamp(least, MOST_JITTER)));
        self.state = State::Closed;
        self.failures = self.failures.saturating_add(1);
        self.last_closing = Some(now);
        true
    }

    /// Lets nothing pass before `until`, without asking for a probe: a hint that came with another kind of failure.
    pub fn hold_until(&mut self, until: Instant) {
        self.closed_until = Some(
            self.closed_until
                .map_or(until, |current| current.max(until)),
        );
    }

    /// As [`Gate::hold_until`], for a server's hint; absurd ones are ignored.
    pub fn hold_for_hint(&mut self, now: Instant, hint: Duration) {
        if hint <= self.hint_cap {
            self.hold_until(now + hint);
        }
    }

    /// The probe was not refused within the time in which refusals come: the gate opens.
    ///
    /// The count of failures stays until an answer really began, so that a vendor who refuses late cannot reset it.
    pub fn probe_accepted(&mut self) {
        if self.state == State::Probing {
            self.state = State::Open;
        }
    }

    /// The probe ended without a verdict: the next request becomes the probe.
    pub fn probe_lost(&mut self) {
        if self.state == State::Probing {
            self.state = State::Closed;
        }
    }

    /// A request sent at `sent_at` was served. One from before the last closing proves nothing about the time after it.
    pub fn on_served(&mut self, sent_at: Instant) {
        if self.last_closing.is_none_or(|closing| sent_at > closing) {
            self.failures = 0;
        }
    }

    /// True when it ever closed: then there is a pace as well, or its beginning.
    #[must_use]
    pub const fn has_closed(&self) -> bool {
        self.last_closing.is_some()
    }

    /// Throttles with no success between them.
    #[must_use]
    pub const fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
#[path = "gate_tests.rs"]
mod tests;

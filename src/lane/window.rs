//! The window: how much may be under way at once.
//!
//! Two limits, both AIMD, both counted by what the upstream was seen to take.
//!
//! * `live` bounds the responses that have not ended. A permit lives until the *body* ends: a limit on response heads
//!   would let any number of streams run behind it.
//! * `flight` bounds the requests whose fate is still unknown. It makes a burst on a lane that knows nothing start as TCP
//!   does, clocked by what comes back, instead of finding the quota's edge with its whole width.
//!
//! There is no latency gradient: the length of an answer, not queueing, dominates the latency of these APIs.
//! A limit that is not used is not raised: only a lane at half its limit or more learns from success.

use std::time::Duration;

use tokio::time::Instant;

/// The factor of a cut. RESILIENCE: 0.7, as the AWS SDKs.
const CUT: f64 = 0.7;
/// Above this many live responses an unhindered limit grows by two for each request taken, not by one: answers can last
/// for a minute, and a place that is only doubled by those that have ended would take minutes to find a large quota.
const SMALL: f64 = 20.0;
/// Refusals at numbers of live responses that differ by less than this part may have the same cause.
const ALIKE: f64 = 0.1;
/// Requests of unknown fate on a lane that knows nothing; doubled with each flight that is taken.
const FIRST_FLIGHT: f64 = 3.0;
/// A lane that was cut before and sent nothing for this long starts its next burst carefully again.
/// One that never met a limit keeps what it has proved.
const FORGET_AFTER: Duration = Duration::from_mins(1);

/// The lane's concurrency limits.
#[derive(Debug)]
pub struct Window {
    live: Limit,
    flight: Limit,
    initial: f64,
    max: f64,
    last_cut: Option<Instant>,
    last_sent: Option<Instant>,
    /// What was held at the latest refusal.
    refused_at: Option<f64>,
}

#[derive(Debug, Clone, Copy)]
struct Limit {
    value: f64,
    /// Below this the limit doubles a round trip; above, it grows by one at first, and by one more each time.
    threshold: f64,
    /// Requests taken since the last cut.
    since_cut: f64,
}

impl Window {
    /// A window of `initial` live responses that may grow to `max`.
    #[must_use]
    pub fn new(initial: u32, max: u32) -> Self {
        let max = f64::from(max.max(1));
        let live = f64::from(initial).clamp(1.0, max);
        Self {
            live: Limit {
                value: live,
                threshold: max,
                since_cut: 0.0,
            },
            flight: Limit {
                value: FIRST_FLIGHT.min(live),
                threshold: max,
                since_cut: 0.0,
            },
            initial: live,
            max,
            last_cut: None,
            last_sent: None,
            refused_at: None,
        }
    }

    /// Whether one more may be sent beside `live` unfinished responses, of which `unknown` are requests of unknown fate.
    #[must_use]
    pub fn has_room(&self, live: usize, unknown: usize) -> bool {
        live < self.limit() && unknown < whole(self.flight.value)
    }

    /// A request leaves now.
    pub fn on_sent(&mut self, now: Instant) {
        let idle = self
            .last_sent
            .map(|last| now.saturating_duration_since(last));
        if self.last_cut.is_some() && idle.is_some_and(|idle| idle >= FORGET_AFTER) {
            self.flight.value = self.flight.value.min(FIRST_FLIGHT);
        }
        self.last_sent = Some(now);
    }

    /// The upstream took a request; `live` and `unknown` are counted with it still among them.
    pub fn on_accepted(&mut self, live: usize, unknown: usize) {
        let step = if self.live.value < SMALL { 1.0 } else { 2.0 };
        self.live.grow(live, self.max, step);
        self.flight.grow(unknown, self.max, 1.0);
    }

    /// The quota refused a request sent at `sent_at`, while `held` responses that the upstream had taken were live.
    ///
    /// Whether the rate or the number was too much, one refusal does not tell. The rate is likelier, and the pace's affair:
    /// a large live limit is cut from the second refusal on that comes with no more held than the one before.
    ///
    /// What it is holding at this moment it evidently can hold, so the live limit never falls below that:
    /// a refused rate is the pace's affair. Against an upstream that limits concurrency this converges on its limit.
    pub fn on_throttled(&mut self, now: Instant, sent_at: Instant, held: usize) {
        if self.is_new_event(now, sent_at) {
            let held = held as f64;
            let is_met_again = self
                .refused_at
                .is_some_and(|before| held <= before * (1.0 + ALIKE) + 1.0);
            self.refused_at = Some(held);
            self.live.since_cut = 0.0;
            if is_met_again || self.live.value < SMALL {
                self.live.cut(held);
                self.live.threshold = self.live.value;
            }
            self.flight.cut(1.0);
            self.flight.threshold = self.flight.value;
        }
    }

    /// The upstream was overloaded, or too slow to answer in time.
    ///
    /// Usually not by this caller: in a brownout losses come whatever is sent, and an AIMD that takes every one of them
    /// for its own fault falls to one and stays there for minutes after the end. So the cut stops at the initial window,
    /// and the way back is as fast as the start was.
    pub fn on_overloaded(&mut self, now: Instant, sent_at: Instant, held: usize) {
        if self.is_new_event(now, sent_at) {
            // The way back leads to where it was before the first of a row of cuts.
            let unset = self.live.threshold >= self.max;
            let before = if unset { 0.0 } else { self.live.threshold };
            self.live.threshold = before.max(self.live.value);
            self.live.cut(self.initial.max(held as f64));
        }
    }

    /// An outage ended: one request at first, and as fast back up to where it was as answers begin.
    ///
    /// Only the flight starts over. The live limit does not, because it is freed by ends of bodies:
    /// with one live response allowed, the whole lane would wait for the probe's answer to be read.
    pub fn restart(&mut self) {
        self.flight.threshold = self.flight.value;
        self.flight.value = 1.0;
    }

    /// One cut for each congestion event: what was sent before the last cut met the same congestion.
    fn is_new_event(&mut self, now: Instant, sent_at: Instant) -> bool {
        let is_new = self.last_cut.is_none_or(|cut| sent_at > cut);
        if is_new {
            self.last_cut = Some(now);
        }
        is_new
    }

    /// Live responses allowed now: at least one.
    #[must_use]
    pub fn limit(&self) -> usize {
        whole(self.live.value)
    }
}

impl Limit {
    fn grow(&mut self, used: usize, max: f64, step: f64) {
        if (used as f64) < self.value / 2.0 {
            return;
        }
        let step = if self.value < self.threshold {
            step
        } else {
            (1.0 + self.since_cut / self.value) / self.value
        };
        self.since_cut += 1.0;
        self.value = (self.value + step).min(max);
    }

    fn cut(&mut self, floor: f64) {
        self.value = (self.value * CUT).max(floor.min(self.value)).max(1.0);
    }
}

/// A limit of at least one, without its fraction.
fn whole(limit: f64) -> usize {
    // The value is clamped to [1, window_max], a u32.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "within u32 by construction"
    )]
    let whole = limit as usize;
    whole.max(1)
}

#[cfg(test)]
#[path = "window_tests.rs"]
mod tests;

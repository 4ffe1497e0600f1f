//! The pace: the rate at which the upstream's quota refills, learned from what it takes and refuses.
//!
//! The gate alone survives a storm when one instance owns the key; with several, each gate opens into the quota that the
//! others just spent. What each needs is its own share of the refill, and nobody tells it.
//! Two refusals do: a quota that was empty then and is empty again now has, in between, given out exactly what it
//! refilled. So the accepted requests from one refusal to the next, divided by that time, *are* this instance's share of
//! the rate, whatever the limit, the number of instances or the price of a refusal.
//!
//! After each refusal the lane sends below that share for a while, so that what it owes is repaid, returns to it along a
//! cubic (as AWS's adaptive mode does), stays near it, and then probes beyond it ever faster.
//! The curve is stretched so that it spans a number of requests and not only of seconds; otherwise a small share would
//! overshoot between two of its own sends.
//! The curve only advances while somebody is waiting: a rate that is not used is not proved.

use std::collections::VecDeque;
use std::time::Duration;

use rand::{Rng, RngExt};
use tokio::time::Instant;

use super::meter::Meter;
use super::report::{Advice, QuotaLeft, QuotaReport, Reports};
use super::time::seconds;

/// Right after a refusal the rate is this part of the learned share.
const RELIEF: f64 = 0.7;
/// CUBIC's growth constant with time in units of ten seconds, because quotas refill by the minute.
const CUBIC: f64 = 0.4;
/// The curve returns to the learned share after at least this many requests.
const LEAST_SPAN: f64 = 12.0;
/// Never slower than one request in half a minute: a lane that sends nothing learns nothing.
const FLOOR: f64 = 1.0 / 30.0;
/// What is learned from refusals older than this is forgotten as soon as there is newer.
const MEMORY: Duration = Duration::from_secs(90);
/// Refusals remembered at most.
const EPOCHS: usize = 16;
/// A share is measured over at least this many accepted requests; fewer are noise.
const LEAST_SAMPLE: f64 = 4.0;
/// With this many, older refusals are not looked at.
const FULL_SAMPLE: f64 = 12.0;
/// The first guess after a first refusal: this many times the rate accepted over the last minute.
/// A vendor's burst is commonly between a sixth of its minute and all of it.
const FIRST_GUESS: f64 = 2.0;
/// The first guess is at least this: an honest small caller should not pay for what sixteen instances might do.
const LEAST_GUESS: f64 = 0.1;
/// While the share is a guess, it grows by this factor with each request that leaves.
const SEARCH_GROWTH: f64 = 1.2;
/// A lane idle for this long starts afresh: nearly every vendor's window is over.
const FORGET_AFTER: Duration = Duration::from_mins(10);
/// Gaps vary by this part, so that instances do not fall into step.
const GAP_JITTER: f64 = 0.2;

/// The learned rate of one lane.
#[derive(Debug)]
pub struct Pace {
    /// Nothing until the first refusal: a lane that was never throttled is not slowed.
    curve: Option<Curve>,
    /// One entry for each refusal event, newest last: what was accepted since then.
    epochs: VecDeque<Epoch>,
    /// The number of epochs that have left `epochs` at its front.
    epochs_gone: u64,
    meter: Meter,
    last_sent: Option<Instant>,
    /// The time up to which the quota's refill is accounted for: the last release, or the end of an outage.
    accounted: Option<Instant>,
    /// The drawn factor of the next gap.
    stretch: f64,
    /// The state before the last release, for its undoing.
    undo: Option<(Option<Instant>, f64)>,
    reports: Reports,
    least_guess: f64,
}

/// Names the epoch in which a request was sent, so that its fate is counted there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochId(u64);

#[derive(Debug, Clone, Copy)]
struct Epoch {
    began: Instant,
    /// Sent in this epoch with somebody waiting, and not refused.
    accepted: f64,
    /// Seconds of this epoch in which somebody was waiting.
    busy: f64,
}

#[derive(Debug, Clone, Copy)]
struct Curve {
    /// The learned share, in requests a second.
    share: f64,
    /// How long the curve has been used with somebody waiting, in seconds.
    used: f64,
    /// The rate in force while the share is a guess; nothing once it is measured.
    search: Option<f64>,
}

impl Pace {
    /// A pace that knows nothing; `quota_share` is the part of the quota that this instance may use.
    #[must_use]
    pub fn new(quota_share: f64) -> Self {
        Self {
            curve: None,
            epochs: VecDeque::new(),
            epochs_gone: 0,
            meter: Meter::default(),
            last_sent: None,
            accounted: None,
            stretch: 1.0,
            undo: None,
            reports: Reports::new(quota_share),
            least_guess: LEAST_GUESS * quota_share,
        }
    }

    /// Takes a new part of the quota for what vendors tell of it. The learned share stays: it is measured.
    pub fn retune(&mut self, quota_share: f64) {
        let quota_share = quota_share.clamp(0.001, 1.0);
        self.reports.retune(quota_share);
        self.least_guess = LEAST_GUESS * quota_share;
    }

    /// The earliest instant at which the next request may leave; nothing when any time is right.
    #[must_use]
    pub fn next(&self, now: Instant) -> Option<Instant> {
        let advice = self.reports.advice(now);
        let hold = match advice {
            Advice::HoldUntil(until) => Some(until),
            Advice::Rate(_) | Advice::None => None,
        };
        let gap = match (self.rate(now), self.last_sent) {
            (Some(rate), Some(last)) => Some(last + seconds(self.stretch / rate)),
            _ => None,
        };
        gap.max(hold).filter(|at| *at > now)
    }

    /// The rate in force, in requests a second; nothing when unlimited.
    #[must_use]
    pub fn rate(&self, now: Instant) -> Option<f64> {
        let told = match self.reports.advice(now) {
            Advice::Rate(rate) => Some(rate.max(FLOOR)),
            Advice::HoldUntil(_) | Advice::None => None,
        };
        match (self.curve.as_ref().map(Curve::rate), told) {
            (Some(learned), Some(told)) => Some(learned.min(told)),
            (learned, told) => learned.or(told),
        }
    }

    /// What the upstream said is left of its quotas.
    #[must_use]
    pub fn quotas(&self, now: Instant) -> Vec<QuotaLeft> {
        self.reports.left(now)
    }

    /// The rate to expect over the next minute: the learned share, without the relief after a refusal.
    #[must_use]
    pub fn outlook(&self, now: Instant) -> Option<f64> {
        let curve = self.curve.as_ref()?;
        if curve.search.is_some() {
            return None;
        }
        Some(curve.share.max(curve.rate()).max(self.meter.rate(now)))
    }

    /// A request leaves now; `waited` tells whether it had to queue for it.
    ///
    /// Returns the epoch to which its fate belongs. One that did not wait belongs to none: when the lane is not
    /// used to the full, the vendor's quota may have been full too, and what is accepted then measures the callers.
    pub fn on_sent<R: Rng + ?Sized>(
        &mut self,
        now: Instant,
        waited: bool,
        rng: &mut R,
    ) -> Option<EpochId> {
        let idle = self
            .last_sent
            .map(|last| now.saturating_duration_since(last));
        if idle.is_some_and(|idle| idle >= FORGET_AFTER) {
            self.forget();
        }
        self.undo = Some((self.last_sent, self.stretch));
        let gap = self
            .accounted
            .map_or(Duration::ZERO, |from| now.saturating_duration_since(from))
            .as_secs_f64();
        self.last_sent = Some(now);
        self.accounted = Some(now);
        self.stretch = 1.0 + GAP_JITTER * (2.0 * rng.random::<f64>() - 1.0);
        self.meter.add(now);
        if !waited {
            return None;
        }
        let epoch = self.epochs.back_mut()?;
        epoch.accepted += 1.0;
        epoch.busy += gap;
        if let Some(curve) = &mut self.curve {
            curve.advance(gap, epoch.accepted / epoch.busy.max(1.0));
        }
        Some(EpochId(self.epochs_gone + self.epochs.len() as u64))
    }

    /// An outage ended. What the quota refilled meanwhile is not to be measured by.
    pub fn on_recovery(&mut self, now: Instant) {
        self.accounted = Some(now);
    }

    /// The request released at `released_at` was not sent after all. If it was the last one, the next takes its turn.
    pub fn undo_sent(&mut self, released_at: Instant) {
        if self.last_sent == Some(released_at)
            && let Some((last, stretch)) = self.undo.take()
        {
            self.last_sent = last;
            self.stretch = stretch;
        }
    }

    /// A request sent in `epoch` was not taken by the upstream.
    pub fn on_not_accepted(&mut self, now: Instant, epoch: Option<EpochId>) {
        self.meter.take_back(now);
        let Some(epoch) = epoch else { return };
        let index = epoch
            .0
            .checked_sub(self.epochs_gone + 1)
            .and_then(|index| usize::try_from(index).ok());
        if let Some(epoch) = index.and_then(|index| self.epochs.get_mut(index)) {
            epoch.accepted -= 1.0;
        }
    }

    /// The quota said no, and the gate took it as a new event; `waiting` tells whether others wait behind it.
    /// Call after [`Pace::on_not_accepted`].
    ///
    /// A first refusal that nobody waits behind sets no pace: with no crowd to hold back the gate is enough,
    /// and there is nothing yet to measure a rate by.
    pub fn on_throttled(&mut self, now: Instant, waiting: bool) {
        let measured = self.share_until(now);
        self.curve = match (measured, self.curve) {
            (Some(share), _) => Some(Curve::measured(share)),
            // Too few since the last refusal to measure by: whatever the rate was, it was too much.
            (
                None,
                Some(Curve {
                    share,
                    search: None,
                    ..
                }),
            ) => Some(Curve::measured(share * RELIEF)),
            (
                None,
                Some(Curve {
                    search: Some(rate), ..
                }),
            ) => Some(Curve::search(rate * RELIEF)),
            (None, None) if waiting => Some(Curve::search(
                self.least_guess.max(self.meter.rate(now) * FIRST_GUESS),
            )),
            (None, None) => None,
        };
        if self.epochs.len() == EPOCHS {
            self.epochs.pop_front();
            self.epochs_gone += 1;
        }
        self.epochs.push_back(Epoch {
            began: now,
            accepted: 0.0,
            busy: 0.0,
        });
        self.accounted = Some(now);
    }

    fn forget(&mut self) {
        self.curve = None;
        self.epochs_gone += self.epochs.len() as u64;
        self.epochs.clear();
    }

    /// The upstream told its quota, with an answer of any kind.
    pub fn on_report(&mut self, now: Instant, reports: &[QuotaReport]) {
        self.reports.update(now, reports);
    }

    /// Accepted requests a second over the last minute.
    #[must_use]
    pub fn accepted_rate(&self, now: Instant) -> f64 {
        self.meter.rate(now)
    }

    /// Accepted requests a second from a remembered refusal until now, which is one as well.
    fn share_until(&self, now: Instant) -> Option<f64> {
        let (mut accepted, mut busy) = (0.0, 0.0);
        let mut share = None;
        for epoch in self.epochs.iter().rev() {
            accepted += epoch.accepted;
            busy += epoch.busy;
            if share.is_some() && now.saturating_duration_since(epoch.began) > MEMORY {
                break;
            }
            if accepted >= LEAST_SAMPLE {
                share = Some(accepted / busy.max(1.0));
            }
            if accepted >= FULL_SAMPLE {
                break;
            }
        }
        share
    }
}

impl Curve {
    fn measured(share: f64) -> Self {
        Self {
            share: share.max(FLOOR),
            used: 0.0,
            search: None,
        }
    }

    fn search(rate: f64) -> Self {
        let rate = rate.max(FLOOR);
        Self {
            share: rate,
            used: 0.0,
            search: Some(rate),
        }
    }

    /// A request left `gap` seconds after the one before, with somebody waiting; `measured` is the rate accepted
    /// since the last refusal.
    fn advance(&mut self, gap: f64, measured: f64) {
        // A gap longer than the curve asks for (a closed gate, a full window) does not prove a rate.
        self.used += gap.min(2.0 / self.rate());
        if let Some(rate) = &mut self.search {
            *rate = (*rate * SEARCH_GROWTH).min(rate.max(2.0 * measured));
        }
    }

    /// `share · (1 + (1 − relief) · (t/span − 1)³)`: CUBIC, written so that the time back to the share can be chosen.
    fn rate(&self) -> f64 {
        if let Some(rate) = self.search {
            return rate;
        }
        let cubic = 10.0 * ((1.0 - RELIEF) * self.share / CUBIC).cbrt();
        let span = cubic.max(LEAST_SPAN / self.share);
        let shape = 1.0 + (1.0 - RELIEF) * (self.used / span - 1.0).powi(3);
        (self.share * shape).max(FLOOR)
    }
}

#[cfg(test)]
#[path = "pace_tests.rs"]
mod tests;

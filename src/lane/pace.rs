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
//! The curve spans a number of requests, and as many seconds as a refusal is worth; otherwise a small share would overshoot
//! between two of its own sends, and a large one would be refused every moment.
//! The curve only advances while somebody is waiting: a rate that is not used is not proved.

use std::collections::VecDeque;
use std::time::Duration;

use rand::{Rng, RngExt};
use tokio::time::Instant;

use super::curve::{Curve, FLOOR, RELIEF, Search};
use super::meter::Meter;
use super::report::{Advice, QuotaLeft, QuotaReport, Reports};
use super::time::seconds;

/// How much of a measure is doubtful for each part of its time that passed behind the closed gate.
const OVERFLOW: f64 = 1.6;
/// The curve is never shortened below this part of its span.
const LEAST_TRUST: f64 = 0.25;
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
/// Who had this many requests accepted before the first refusal is likely alone with the quota.
const ALONE: f64 = 6.0;
/// The first guess of one who is alone is at most this many requests in the time for which the gate closed.
const BOLDEST: f64 = 4.0;
/// How long the quota takes to refill by one request, where nothing is known about it.
const UNKNOWN: Duration = Duration::from_secs(1);
/// No quota is taken to refill faster: refusals need time to come back.
const LEAST_TOKEN: Duration = Duration::from_millis(20);
/// Rates are measured over no less, in seconds.
const LEAST_TIME: f64 = 0.05;
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
    /// Seconds for which the gate closed at its beginning.
    closing: f64,
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
            curve.advance(gap, epoch.accepted / epoch.busy.max(LEAST_TIME));
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

    /// The quota said no, and the gate took it as a new event and closed for `closed_for`; `waiting` tells whether others
    /// wait behind it.
    /// Call after [`Pace::on_not_accepted`].
    ///
    /// A first refusal that nobody waits behind sets no pace: with no crowd to hold back the gate is enough,
    /// and there is nothing yet to measure a rate by.
    pub fn on_throttled(&mut self, now: Instant, waiting: bool, closed_for: Duration) {
        let closing = closed_for.as_secs_f64();
        self.curve = match (self.share_until(now), self.curve) {
            (Some(share), _) => Some(Curve::measured(share, closing, self.trust())),
            (None, Some(curve)) => Some(self.corrected(now, &curve, closing)),
            (None, None) if waiting => Some(self.first_guess(now, closing)),
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
            closing,
        });
        self.accounted = Some(now);
    }

    /// How long the quota takes to refill by one request, as far as is known; a second where nothing is.
    #[must_use]
    pub fn token_time(&self, now: Instant) -> Duration {
        self.rate(now)
            .map_or(UNKNOWN, |rate| seconds(1.0 / rate).max(LEAST_TOKEN))
    }

    /// True when the share was measured, between two refusals.
    #[must_use]
    pub fn is_measured(&self) -> bool {
        self.curve.is_some_and(|curve| curve.search.is_none())
    }

    /// The first refusal before which a crowd waits: what to search from, and how boldly.
    ///
    /// How many requests were accepted before it tells how alone this instance is: of a bucket that many share, each finds
    /// a few tokens. One that found many searches from what the gate's closing can have refilled, and doubles quickly;
    /// one that found few begins with the rate of the minute.
    fn first_guess(&self, now: Instant, closing: f64) -> Curve {
        let found = self.meter.recent(now);
        let careful = self.careful_guess(now);
        let alone = (found / ALONE).powi(3).min(BOLDEST.max(found / 10.0));
        let rate = careful.max(alone / closing.max(LEAST_TIME));
        let how = if found >= ALONE {
            Search::Bold
        } else {
            Search::Careful
        };
        Curve::search(rate, how)
    }

    fn careful_guess(&self, now: Instant) -> f64 {
        self.least_guess.max(self.meter.rate(now) * FIRST_GUESS)
    }

    /// A refusal with too few accepted since the last one to measure by: whatever the rate was, it was too much.
    fn corrected(&self, now: Instant, curve: &Curve, closing: f64) -> Curve {
        let Some((rate, how)) = curve.search else {
            return Curve::measured(curve.share * RELIEF, closing, 1.0);
        };
        let most = match how {
            Search::Careful => rate,
            Search::Bold => self.timid_guess(now),
        };
        Curve::search((rate * RELIEF).min(most), Search::Careful)
    }

    /// What is left of a bold guess that was refused at once: what was accepted meanwhile, or nothing but the minute.
    fn timid_guess(&self, now: Instant) -> f64 {
        match self.epochs.back() {
            Some(epoch) if epoch.accepted >= 2.0 => {
                (epoch.accepted + 1.0) / epoch.busy.max(LEAST_TIME)
            }
            _ => self.careful_guess(now),
        }
    }

    /// How far the share of the epoch that ends now is to be trusted, up to 1.
    ///
    /// Behind the closed gate a small bucket overflows, and what it would have refilled is missing from the measure:
    /// the larger a part of the epoch that was, the sooner the curve is to come back and look.
    fn trust(&self) -> f64 {
        self.epochs.back().map_or(1.0, |epoch| {
            let closed = epoch.closing / epoch.busy.max(LEAST_TIME);
            (1.0 - OVERFLOW * closed).clamp(LEAST_TRUST, 1.0)
        })
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
                share = Some(accepted / busy.max(LEAST_TIME));
            }
            if accepted >= FULL_SAMPLE {
                break;
            }
        }
        share
    }
}

#[cfg(test)]
#[path = "pace_tests.rs"]
mod tests;

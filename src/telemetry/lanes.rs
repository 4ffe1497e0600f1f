//! The metric families of the lanes: what an operator needs to see a storm, and what is done about it.
//!
//! `lane` is the name of a model that the vendor serves, as far as [`super::ModelNames`] tells them apart; `other` stands for
//! the rest, `none` for requests without a model ([`crate::lane::Label`]). Lanes of several credentials with one model
//! share their series: counts and places are summed, of pace and retry quota the tightest is shown.

use std::time::Duration;

use prometheus::{CounterVec, GaugeVec, HistogramVec, IntCounterVec};

use super::families::Adder;
use crate::lane::{View, WaitReason, Waits};

/// Seconds in the queue: from nothing to the longest patience that makes sense.
const WAIT_BUCKETS: &[f64] = &[
    0.001, 0.01, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 40.0, 60.0, 120.0,
];

/// Seconds that a vendor asks for, up to a day.
const HINT_BUCKETS: &[f64] = &[
    0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 600.0, 3600.0, 86_400.0,
];

/// Families with the labels `upstream` and `lane`.
#[derive(Debug, Clone)]
pub struct LaneFamilies {
    /// How long attempts waited for their turn, by what came of it; the others count as nothing.
    pub queue_wait_seconds: HistogramVec,
    /// Waits that the upstream asked for when it refused.
    pub hint_seconds: HistogramVec,
    /// Attempts on which all others waited.
    pub probes: IntCounterVec,
    /// Requests that were not let through, by reason.
    pub refused: IntCounterVec,
    /// Closings of gate and breaker, and recoveries.
    pub changes: IntCounterVec,
    /// Time in which nobody was let through, by reason.
    closed_seconds: CounterVec,
    lanes: GaugeVec,
    waiting: GaugeVec,
    inflight: GaugeVec,
    window: GaugeVec,
    oldest: GaugeVec,
    quota_used: GaugeVec,
    pace: GaugeVec,
    retry_tokens: GaugeVec,
}

impl LaneFamilies {
    #[expect(
        clippy::too_many_lines,
        reason = "one statement a family; a split would only hide some"
    )]
    pub(super) fn new(add: &Adder) -> prometheus::Result<Self> {
        let lane = ["upstream", "lane"];
        let by = |label| ["upstream", "lane", label];
        Ok(Self {
            queue_wait_seconds: add.histograms(
                "surgetank_queue_wait_seconds",
                "Time that attempts waited for their turn in a lane, by what came of it: sent, abandoned, \
                 or the reason for which it was refused.",
                &by("outcome"),
                WAIT_BUCKETS,
            )?,
            hint_seconds: add.histograms(
                "surgetank_hint_seconds",
                "Waits that an upstream asked for when it refused.",
                &lane,
                HINT_BUCKETS,
            )?,
            probes: add.counters(
                "surgetank_probes_total",
                "Attempts that were sent alone, to see whether the upstream takes them.",
                &lane,
            )?,
            refused: add.counters(
                "surgetank_lane_refused_total",
                "Requests that were not sent because their wait would have been in vain, by reason.",
                &by("reason"),
            )?,
            changes: add.counters(
                "surgetank_lane_changes_total",
                "Times that a lane's gate closed (a throttle), its breaker shut (failures), or its upstream recovered.",
                &by("change"),
            )?,
            closed_seconds: add.seconds(
                "surgetank_gate_closed_seconds_total",
                "Time in which a lane let nobody through: its gate or breaker was shut, or a probe was out.",
                &by("reason"),
            )?,
            lanes: add.gauges(
                "surgetank_gate_state",
                "Lanes by what a request would wait for now: open, breaker, gate, probe, pace or window.",
                &by("state"),
            )?,
            waiting: add.gauges("surgetank_queue_waiting", "Requests that wait for their turn.", &lane)?,
            inflight: add.gauges("surgetank_inflight", "Answers of an upstream that have not ended.", &lane)?,
            window: add.gauges("surgetank_window_limit", "Live answers that are allowed.", &lane)?,
            oldest: add.gauges(
                "surgetank_queue_oldest_seconds",
                "How long the request that waits for longest has waited for its turn.",
                &lane,
            )?,
            quota_used: add.gauges(
                "surgetank_vendor_quota_used_ratio",
                "The part of a vendor's quota that is used, as it last told, of the lane that has used most; absent where \
                 nothing was told, or where the quota is whole again.",
                &by("quota"),
            )?,
            pace: add.gauges(
                "surgetank_pace_limit_per_second",
                "The learned or told rate of the slowest lane, in requests a second; absent where there is none.",
                &lane,
            )?,
            retry_tokens: add.gauges(
                "surgetank_retry_quota_tokens",
                "Tokens left for retries, of the lane with the fewest: a retry costs 5 after a throttle, 14 after a failure.",
                &lane,
            )?,
        })
    }

    /// Forgets the state of all lanes, before each is told anew.
    pub fn begin_refresh(&self) {
        for gauges in [
            &self.lanes,
            &self.waiting,
            &self.inflight,
            &self.window,
            &self.oldest,
            &self.quota_used,
            &self.pace,
            &self.retry_tokens,
        ] {
            gauges.reset();
        }
    }

    /// Tells one lane's state, and the time that it was closed since it was last told.
    pub fn refresh(&self, [upstream, lane]: [&str; 2], view: &View, closed: &Waits) {
        let (labels, now) = ([upstream, lane], &view.snapshot);
        let state = match now.reason {
            WaitReason::Idle => "open",
            reason => reason.as_str(),
        };
        self.lanes.with_label_values(&[upstream, lane, state]).inc();
        self.waiting
            .with_label_values(&labels)
            .add(now.waiting as f64);
        self.inflight
            .with_label_values(&labels)
            .add(now.live as f64);
        self.window
            .with_label_values(&labels)
            .add(now.window as f64);
        higher(&self.oldest, &labels, view.longest_wait.as_secs_f64());
        for left in &view.quotas {
            let labels = [upstream, lane, left.of.as_str()];
            higher(&self.quota_used, &labels, 1.0 - left.part());
        }
        lower(&self.retry_tokens, labels, now.retry_tokens);
        if let Some(pace) = now.pace {
            lower(&self.pace, labels, pace);
        }
        for (reason, time) in closed.iter() {
            self.closed(labels, reason, time);
        }
    }

    fn closed(&self, [upstream, lane]: [&str; 2], reason: WaitReason, time: Duration) {
        self.closed_seconds
            .with_label_values(&[upstream, lane, reason.as_str()])
            .inc_by(time.as_secs_f64());
    }
}

/// Sets a gauge to the higher of two values, none of which is negative.
fn higher(gauges: &GaugeVec, labels: &[&str], value: f64) {
    let gauge = gauges.with_label_values(labels);
    gauge.set(gauge.get().max(value));
}

/// Sets a gauge to the lower of two values; the first is zero until something was told, which neither value ever is.
fn lower(gauges: &GaugeVec, labels: [&str; 2], value: f64) {
    let gauge = gauges.with_label_values(&labels);
    let known = gauge.get();
    gauge.set(if known > 0.0 { known.min(value) } else { value });
}

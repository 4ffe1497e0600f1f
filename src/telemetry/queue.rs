//! The families of the durable queue.

use prometheus::{Gauge, GaugeVec, HistogramVec, IntCounterVec, IntGauge};

use super::families::Adder;

/// Seconds in the queue: from at once to a day.
const WAIT_BUCKETS: &[f64] = &[
    0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14400.0, 86400.0,
];

/// Requests that are kept and carried out later.
#[derive(Clone, Debug)]
pub struct QueueFamilies {
    /// Requests that were offered, by what came of it.
    pub offered: IntCounterVec,
    /// How tries of queued requests ended.
    pub ended: IntCounterVec,
    /// How long requests were in the queue.
    pub wait_seconds: HistogramVec,
    /// Webhooks by what came of telling them.
    pub webhooks: IntCounterVec,
    /// Entries by state.
    pub requests: GaugeVec,
    /// Bytes of everything that is kept.
    pub bytes: IntGauge,
    /// How old the oldest entry is that has not ended.
    pub oldest_seconds: Gauge,
    /// Whether the storage works.
    pub up: IntGauge,
}

impl QueueFamilies {
    pub(super) fn new(add: &Adder) -> prometheus::Result<Self> {
        Ok(Self {
            offered: add.counters(
                "surgetank_queued_total",
                "Requests that were to be queued, by whether they were: kept, known (the repeat of an idempotency key), or \
                 why not; then the chain went on.",
                &["route", "result"],
            )?,
            ended: add.counters(
                "surgetank_queued_tries_total",
                "Tries of queued requests by how they ended; `again` is tried once more, `expired` and `cancelled` were \
                 ended without one.",
                &["route", "end"],
            )?,
            wait_seconds: add.histograms(
                "surgetank_queued_wait_seconds",
                "From queueing a request to its end, whichever that was.",
                &["route"],
                WAIT_BUCKETS,
            )?,
            webhooks: add.counters(
                "surgetank_queued_webhooks_total",
                "Messages to webhooks by what came of them; `again` is sent once more.",
                &["result"],
            )?,
            requests: add.gauges(
                "surgetank_queued_requests",
                "Requests in the queue by state; those done, failed and uncertain wait to be read.",
                &["state"],
            )?,
            bytes: add.gauge(
                "surgetank_queued_bytes",
                "Bytes of queued requests and their answers.",
            )?,
            oldest_seconds: add.float_gauge(
                "surgetank_queued_oldest_seconds",
                "Age of the oldest queued request that has not ended; 0 without one.",
            )?,
            up: add.gauge(
                "surgetank_queued_up",
                "Whether the queue's storage works: 0 without one, and while it does not.",
            )?,
        })
    }
}

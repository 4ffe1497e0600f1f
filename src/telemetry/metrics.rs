//! The metric families, each with the operator's question that it answers.
//!
//! Label values come from the configuration file (routes, upstreams), from closed enums, or from a
//! table of bounded size (models), so the number of series is bounded: `routes × models × kinds`,
//! `upstreams × models × classes × 2` and `routes × dialects × outcomes` are the largest products.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use prometheus::{
    Encoder as _, HistogramVec, IntCounter, IntCounterVec, IntGauge, Registry, TextEncoder,
    local::LocalHistogram,
};

use super::{
    families::{Adder, Family},
    lanes::LaneFamilies,
    models::ModelNames,
    queue::QueueFamilies,
    trouble::TroubleLog,
};
use crate::{call::Call, dialect::Usage, upstream::Upstream};

/// Seconds to the first byte: from a cached answer to a reasoning model's long silence.
const FIRST_BYTE_BUCKETS: &[f64] = &[
    0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0, 120.0,
];

/// Seconds between two pieces of a stream: from what is hurried to what a caller takes for a standstill.
const CHUNK_BUCKETS: &[f64] = &[
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0,
];

/// Seconds of a whole request, streams included.
const DURATION_BUCKETS: &[f64] = &[
    0.05, 0.25, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0, 640.0,
];

/// Seconds of a call on the shared store, which is given up after a tenth of one.
const STORE_BUCKETS: &[f64] = &[
    0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0,
];

/// The times between the pieces of one stream, kept with the stream and added to the others' at its end.
pub type ChunkTimes = LocalHistogram;

/// All families, registered once; parts of the program hold handles, never names.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Registry,
    families: Arc<[Family]>,
    /// What became of the callers' requests.
    pub requests: IntCounterVec,
    /// How long they took, whole streams included.
    pub request_seconds: HistogramVec,
    /// What the upstreams said to each attempt; `attempt="retry"` over all is the amplification.
    pub attempts: IntCounterVec,
    /// Why a failed attempt was not followed by another.
    pub retries_denied: IntCounterVec,
    /// How long an upstream takes to its first byte.
    pub first_byte_seconds: HistogramVec,
    /// How long callers of streams wait for the first of them.
    pub first_token_seconds: HistogramVec,
    /// How evenly streams come.
    pub chunk_seconds: HistogramVec,
    /// Requests that only a retry could serve: what surgetank is for.
    pub saved: IntCounter,
    /// Time that requests were made to wait, by reason.
    pub waited_seconds: prometheus::CounterVec,
    /// Bytes of prompts that were sent again.
    pub resent_bytes: IntCounter,
    /// Substituted answers by kind, and by the lane and the class of the failure behind them.
    pub fallbacks: IntCounterVec,
    /// Streams that did not end as an answer must.
    pub broken: IntCounterVec,
    /// Answers that were begun before they were there, so that their callers could be told to wait.
    pub begun: IntCounterVec,
    /// Answers of upstreams by why their model stopped.
    pub answers: IntCounterVec,
    /// Answers that ended at their token limit: whole as HTTP, cut as text.
    pub truncated: IntCounterVec,
    /// Answers that were asked for once more with a larger limit, by what came of it.
    pub larger: IntCounterVec,
    /// Answers that were to be continued, by why and by what came of it.
    pub continued: IntCounterVec,
    /// Answers whose JSON was taken out of its fence.
    pub unwrapped: IntCounterVec,
    /// What answers cost, as the vendors told.
    pub tokens: IntCounterVec,
    /// Which models are labels.
    pub models: ModelNames,
    /// Requests refused by a user's limit.
    pub limited: IntCounterVec,
    /// What the lanes do, and what they have learned.
    pub lanes: LaneFamilies,
    /// Requests that are carried out later.
    pub queue: QueueFamilies,
    /// How long the shared store takes to answer, by what it was asked.
    pub store_seconds: HistogramVec,
    /// Calls on the shared store without an answer, by reason.
    pub store_errors: IntCounterVec,
    /// Whether the shared store is in use: 0 without one, and while it is away.
    pub store_up: IntGauge,
    /// Decisions on limits that were made without the shared store, by what `store.fail` says.
    pub limiter_degraded: IntCounterVec,
    /// Ended requests whose real use the shared store was not told.
    pub limiter_unsettled: IntCounter,
    /// Requests that went out without the protection of a retry, because their body was too large to hold.
    pub unprotected: IntCounter,
    /// Requests whose answer has not ended.
    pub in_flight: IntGauge,
    /// Live connections of callers.
    pub connections: IntGauge,
    /// Open tunnels.
    pub tunnels: IntGauge,
    /// Bytes that passed through them.
    pub tunnel_bytes: IntCounterVec,
    /// Bytes of bodies held in memory.
    pub held_bytes: IntGauge,
    /// Users known to the limiter.
    pub users: IntGauge,
    /// Handlers that panicked; anything above zero is a bug.
    pub panics: IntCounter,
    /// Requests of callers who showed no token that opens.
    pub strangers: IntCounterVec,
    /// What went wrong lately: no metric, but told to the same reader.
    pub trouble: TroubleLog,
    /// Whether a changed configuration was put in force.
    config_reloads: IntCounterVec,
    /// Since when the configuration holds that is in force, in seconds since 1970.
    config_read_at: IntGauge,
    /// 0 while the file holds a configuration that cannot be used.
    config_is_good: IntGauge,
}

impl Metrics {
    /// Registers every family.
    ///
    /// # Errors
    /// When two families share a name, which a test rules out.
    #[expect(
        clippy::too_many_lines,
        reason = "one statement a family; a split would only hide some"
    )]
    pub fn new() -> prometheus::Result<Self> {
        let registry = Registry::new();
        let add = Adder::new(&registry);
        add.collector(prometheus::process_collector::ProcessCollector::for_self())?;
        add.own_counter(super::logs::dropped())?;
        let build = add.gauges(
            "surgetank_build_info",
            "A constant 1 with the version that runs.",
            &["version"],
        )?;
        build
            .with_label_values(&[env!("CARGO_PKG_VERSION")])
            .set(1.0);
        let metrics = Self {
            requests: add.counters(
                "surgetank_requests_total",
                "Requests of callers by route, dialect and what became of them.",
                &["route", "dialect", "outcome"],
            )?,
            request_seconds: add.histograms(
                "surgetank_request_seconds",
                "From a request's arrival to the end of its answer.",
                &["route", "outcome"],
                DURATION_BUCKETS,
            )?,
            attempts: add.counters(
                "surgetank_upstream_attempts_total",
                "Attempts on an upstream by triage class; attempt=\"retry\" are all but the first of a request.",
                &["upstream", "lane", "class", "attempt"],
            )?,
            retries_denied: add.counters(
                "surgetank_retries_denied_total",
                "Failed attempts that were not followed by another, by reason.",
                &["upstream", "lane", "reason"],
            )?,
            first_byte_seconds: add.histograms(
                "surgetank_first_byte_seconds",
                "From sending an attempt to the first byte of an answer that served (of a stream: until it may leave, with its first content).",
                &["upstream", "lane"],
                FIRST_BYTE_BUCKETS,
            )?,
            first_token_seconds: add.histograms(
                "surgetank_first_token_seconds",
                "From a request's arrival to the first content of its stream, all waits and retries included.",
                &["route"],
                FIRST_BYTE_BUCKETS,
            )?,
            chunk_seconds: add.histograms(
                "surgetank_chunk_seconds",
                "Between two pieces of an upstream's stream.",
                &["upstream"],
                CHUNK_BUCKETS,
            )?,
            saved: add.counter("surgetank_requests_saved_total", "Requests that were served only because they were retried.")?,
            waited_seconds: add.seconds("surgetank_waited_seconds_total", "Time that requests waited on purpose.", &["reason"])?,
            resent_bytes: add.counter("surgetank_resent_bytes_total", "Bytes of request bodies that were sent again.")?,
            fallbacks: add.counters(
                "surgetank_fallback_total",
                "Answers that were substituted, by kind, by the lane whose failure is behind them, and by its class.",
                &["upstream", "lane", "kind", "cause"],
            )?,
            broken: add.counters(
                "surgetank_stream_broken_total",
                "Answers that broke after their first byte had left.",
                &["upstream", "lane", "cause"],
            )?,
            begun: add.counters(
                "surgetank_begun_early_total",
                "Answers that were begun with a notice while they were awaited, by what became of them: \
                 joined by the real answer or a reply, failed within, or abandoned by the caller.",
                &["form", "end"],
            )?,
            truncated: add.counters(
                "surgetank_truncated_total",
                "Answers that were cut by their token limit.",
                &["route", "upstream", "model"],
            )?,
            answers: add.counters(
                "surgetank_answers_total",
                "Answers of upstreams by why their model stopped.",
                &["route", "model", "finish"],
            )?,
            larger: add.counters(
                "surgetank_larger_total",
                "Truncated answers under `retry_larger`, by what came of it: whole or cut (the larger answer was given), failed, or why \
                 it was not tried.",
                &["route", "outcome"],
            )?,
            continued: add.counters(
                "surgetank_continued_total",
                "Answers that were to be continued behind the place where they were truncated or broken, by what came of it: \
                 continued, failed, or why it was not tried.",
                &["route", "cause", "outcome"],
            )?,
            unwrapped: add.counters(
                "surgetank_unwrapped_total",
                "Answers whose JSON was taken out of its Markdown fence.",
                &["route"],
            )?,
            tokens: add.counters(
                "surgetank_tokens_total",
                "Tokens as the vendors counted them. No token is in two kinds: input + cached_input + cache_write were read, \
                 output + reasoning were written.",
                &["route", "model", "kind"],
            )?,
            models: ModelNames::default(),
            limited: add.counters("surgetank_limited_total", "Requests refused by a user's limit.", &["rule"])?,
            lanes: LaneFamilies::new(&add)?,
            queue: QueueFamilies::new(&add)?,
            store_seconds: add.histograms(
                "surgetank_store_seconds",
                "From a call on the shared store to its answer.",
                &["operation"],
                STORE_BUCKETS,
            )?,
            store_errors: add.counters(
                "surgetank_store_errors_total",
                "Calls on the shared store that had no answer, by reason; `down` are those not tried.",
                &["operation", "reason"],
            )?,
            store_up: add.gauge("surgetank_store_up", "Whether the shared store is connected and answers in time.")?,
            limiter_degraded: add.counters(
                "surgetank_limiter_degraded_total",
                "Decisions on limits that were made without the shared store, because it did not answer, by what `store.fail` says.",
                &["mode"],
            )?,
            limiter_unsettled: add.counter(
                "surgetank_limiter_unsettled_total",
                "Ended requests whose real use the shared store could not be told; the estimate stays charged.",
            )?,
            unprotected: add.counter(
                "surgetank_unprotected_requests_total",
                "Requests whose body was too large to hold, and which could therefore not be retried.",
            )?,
            in_flight: add.gauge("surgetank_in_flight_requests", "Requests whose answer has not ended.")?,
            connections: add.gauge("surgetank_connections", "Live connections of callers.")?,
            tunnels: add.gauge("surgetank_tunnels", "Open WebSockets.")?,
            tunnel_bytes: add.counters(
                "surgetank_tunnel_bytes_total",
                "Bytes that passed through WebSockets, up to the upstream and down to the caller.",
                &["upstream", "direction"],
            )?,
            held_bytes: add.gauge("surgetank_held_bytes", "Bytes of bodies held in memory for retries.")?,
            users: add.gauge("surgetank_limited_users", "Users known to the limiter.")?,
            panics: add.counter("surgetank_panics_total", "Requests that ended in a panic of ours.")?,
            strangers: add.counters(
                "surgetank_unauthorized_total",
                "Requests refused because they showed no token, one that is not known, or came from where too many such came from.",
                &["token"],
            )?,
            trouble: TroubleLog::default(),
            config_reloads: add.counters(
                "surgetank_config_reloads_total",
                "Times that the configuration was read again; result=\"failure\" left the old one in force.",
                &["result"],
            )?,
            config_read_at: add.gauge(
                "surgetank_config_last_reload_success_timestamp_seconds",
                "When the configuration that is in force was read.",
            )?,
            config_is_good: add.gauge(
                "surgetank_config_last_reload_successful",
                "1 if the configuration was in order when it was last read, 0 if an older one is in force.",
            )?,
            families: Arc::default(),
            registry,
        };
        let families = add.families().into();
        Ok(Self {
            families,
            ..metrics
        })
    }

    /// Every family of ours, by name.
    #[must_use]
    pub fn families(&self) -> &[Family] {
        &self.families
    }

    /// The exposition format, as `/metrics` serves it.
    #[must_use]
    pub fn render(&self) -> Vec<u8> {
        let mut text = Vec::new();
        // Writing to memory cannot fail; a family that cannot be encoded is left out.
        let _ = TextEncoder::new().encode(&self.registry.gather(), &mut text);
        text
    }

    /// The configuration is in force as it was read at the start.
    pub fn config_begins(&self) {
        for result in ["success", "failure"] {
            self.config_reloads.with_label_values(&[result]).inc_by(0);
        }
        self.config_in_force();
    }

    /// The configuration was read again, and is in force if it was `usable`.
    pub fn config_read(&self, usable: bool) {
        let result = if usable { "success" } else { "failure" };
        self.config_reloads.with_label_values(&[result]).inc();
        if usable {
            self.config_in_force();
        } else {
            self.config_is_good.set(0);
        }
    }

    fn config_in_force(&self) {
        let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let seconds = since_1970.map_or(0, |time| time.as_secs());
        self.config_read_at
            .set(i64::try_from(seconds).unwrap_or(i64::MAX));
        self.config_is_good.set(1);
    }

    /// The first content of a stream is about to leave.
    pub fn first_token(&self, call: &Call) {
        self.first_token_seconds
            .with_label_values(&[call.route.name()])
            .observe(call.arrived.elapsed().as_secs_f64());
    }

    /// Where one stream notes the time between its pieces; the sum is told when it has ended.
    #[must_use]
    pub fn chunks_of(&self, upstream: &Upstream) -> ChunkTimes {
        self.chunk_seconds
            .with_label_values(&[upstream.name.as_ref()])
            .local()
    }

    /// Counts what the answers to one request cost.
    pub fn used(&self, route: &str, model: &str, usage: &Usage) {
        let fresh = usage
            .input
            .saturating_sub(usage.cached_input)
            .saturating_sub(usage.cache_write);
        for (kind, tokens) in [
            ("input", fresh),
            ("cached_input", usage.cached_input),
            ("cache_write", usage.cache_write),
            ("output", usage.output.saturating_sub(usage.reasoning)),
            ("reasoning", usage.reasoning),
        ] {
            if tokens > 0 {
                let labels = [route, model, kind];
                self.tokens.with_label_values(&labels).inc_by(tokens);
            }
        }
    }

    /// Counts a deliberate wait.
    pub fn waited(&self, reason: &str, time: Duration) {
        self.waited_seconds
            .with_label_values(&[reason])
            .inc_by(time.as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_family_registers_and_is_exposed_with_its_help() {
        let metrics = Metrics::new().expect("no name twice");
        metrics
            .requests
            .with_label_values(&["default", "openai_chat", "served"])
            .inc();
        metrics.waited("backoff", Duration::from_millis(1500));
        let text = String::from_utf8(metrics.render()).expect("text");
        assert!(text.contains("surgetank_requests_total{dialect=\"openai_chat\",outcome=\"served\",route=\"default\"} 1"), "{text}");
        assert!(text.contains("surgetank_waited_seconds_total{reason=\"backoff\"} 1.5"));
        assert!(text.contains("surgetank_build_info{version="));
        assert!(text.contains("# HELP surgetank_panics_total"));
        assert!(text.contains("process_cpu_seconds_total"));
    }
}

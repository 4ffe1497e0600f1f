//! What the operator is told of an attempt's passage through its lane: metrics, the call's journal, and a line in the log
//! for what concerns everybody in the lane.
//!
//! What concerns one request goes into its journal and so into the one line that each request has, however many wait:
//! a storm must not become a storm of log lines.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{Change, ChangeKind, Lane, Permit, RefuseReason, Refused};
use crate::{
    attempt::{Cause, Failure},
    call::{Attempt, Call},
    retry::triage::{Class, Verdict},
    telemetry::Metrics,
    upstream::Upstream,
};

/// The outcome of a wait that its caller did not see the end of.
const ABANDONED: &str = "abandoned";
/// Notes on one attempt. Dropped before the lane has decided, its caller has left.
pub(super) struct Notes<'a> {
    metrics: &'a Metrics,
    call: Arc<Call>,
    upstream: Arc<Upstream>,
    lane: Arc<Lane>,
    began: Instant,
    decided: bool,
}

impl<'a> Notes<'a> {
    /// The attempt asks to be let through.
    pub(super) fn begin(metrics: &'a Metrics, attempt: &Attempt, now: Instant) -> Self {
        Self {
            metrics,
            call: attempt.call.clone(),
            upstream: attempt.upstream.clone(),
            lane: attempt.lane.clone(),
            began: now,
            decided: false,
        }
    }

    /// It may be sent.
    pub(super) fn admitted(&mut self, permit: &Permit) {
        self.decided = true;
        self.metrics
            .sent(&self.upstream, &self.lane, permit.waited());
        let mut journal = self.call.journal();
        for (reason, time) in permit.waits().iter() {
            self.metrics.waited(reason.as_str(), time);
            journal.lane_waits.add(reason, time);
        }
        journal.waited += permit.waited();
        drop(journal);
        if permit.is_probe() {
            self.metrics
                .lanes
                .probes
                .with_label_values(&self.labels())
                .inc();
        }
    }

    /// It may not; what its caller is to be told.
    pub(super) fn refused(&mut self, refused: Refused) -> Failure {
        self.decided = true;
        let (reason, waited) = (refused.reason, self.began.elapsed());
        self.waited(reason.as_str(), waited);
        let [upstream, lane] = self.labels();
        let labels = [upstream, lane, reason.as_str()];
        self.metrics.lanes.refused.with_label_values(&labels).inc();
        let mut journal = self.call.journal();
        for (reason, time) in refused.waits.iter() {
            self.metrics.waited(reason.as_str(), time);
            journal.lane_waits.add(reason, time);
        }
        journal.waited += refused.waits.total();
        journal.gave_up = Some(reason.as_str());
        drop(journal);
        tracing::debug!(
            request_id = self.call.id.as_str(),
            upstream,
            lane,
            reason = reason.as_str(),
            waiting_for = refused.waiting_for.as_str(),
            retry_after_s = refused.retry_after.as_secs(),
            "a request was not let through: its wait would be in vain"
        );
        let class = if reason == RefuseReason::Exhausted {
            Class::Exhausted
        } else {
            Class::Throttled
        };
        Failure {
            verdict: Verdict::final_of(class),
            cause: Cause::Refused(refused),
        }
    }

    /// The lane knows what became of the attempt; `change` is what that means for everybody.
    pub(super) fn told(&self, class: Class, hint: Option<Duration>, change: Option<Change>) {
        if let Some(hint) = hint.filter(|_| matches!(class, Class::Throttled | Class::Overloaded)) {
            let seconds = self
                .metrics
                .lanes
                .hint_seconds
                .with_label_values(&self.labels());
            seconds.observe(hint.as_secs_f64());
        }
        if let Some(change) = change {
            self.changed(class, hint, change);
        }
    }

    fn changed(&self, class: Class, hint: Option<Duration>, change: Change) {
        let [upstream, lane] = self.labels();
        let labels = [upstream, lane, change.kind.as_str()];
        self.metrics.lanes.changes.with_label_values(&labels).inc();
        let what = match change.kind {
            ChangeKind::GateClosed => {
                "the upstream refuses: its lane waits, then one request goes to see"
            }
            ChangeKind::BreakerShut => {
                "the upstream fails: its lane waits, then one request goes to see"
            }
            ChangeKind::Recovered => "the upstream works again",
        };
        tracing::info!(
            request_id = self.call.id.as_str(),
            upstream,
            lane,
            change = change.kind.as_str(),
            class = class.as_str(),
            hint_ms = hint.map(in_millis),
            held_for_ms = in_millis(change.held_for),
            pace_per_second = change.pace,
            waiting = change.waiting,
            "{what}"
        );
    }

    fn waited(&self, outcome: &str, time: Duration) {
        let [upstream, lane] = self.labels();
        let seconds = &self.metrics.lanes.queue_wait_seconds;
        seconds
            .with_label_values(&[upstream, lane, outcome])
            .observe(time.as_secs_f64());
    }

    fn labels(&self) -> [&str; 2] {
        [&self.upstream.name, self.lane.label().as_str()]
    }
}

impl Drop for Notes<'_> {
    fn drop(&mut self) {
        if !self.decided {
            self.waited(ABANDONED, self.began.elapsed());
        }
    }
}

fn in_millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

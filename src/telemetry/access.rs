//! One line and one count for each request, when its answer has ended, whichever way.

use std::{
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::StatusCode;
use http_body::{Frame, SizeHint};
use tokio::time::Instant;

use super::{
    Metrics, TraceParent, Traces,
    traces::{Spot, Told},
    trouble::{Event, Kind},
};
use crate::{
    body::{Body, BodyError},
    call::{Call, CallId, Journal},
    dialect::Finish,
    lane::WaitReason,
};

/// What became of a request, as its caller would put it.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The upstream's answer arrived whole.
    Served,
    /// The upstream refused the request, and that was passed on: the caller's own fault.
    Refused,
    /// The vendor's account is out of money or quota; passed on at once.
    Exhausted,
    /// Something took the place of the upstream's answer.
    Substituted,
    /// A limit of ours refused it.
    Limited,
    /// The upstream failed and nothing could be put in its place: the caller saw an error.
    Failed,
    /// The answer began and broke.
    Broken,
    /// The caller left.
    Abandoned,
    /// The request was not acceptable to surgetank itself.
    Rejected,
}

impl Outcome {
    /// Every outcome, in the order of declaration.
    pub const ALL: [Self; 9] = [
        Self::Served,
        Self::Refused,
        Self::Exhausted,
        Self::Substituted,
        Self::Limited,
        Self::Failed,
        Self::Broken,
        Self::Abandoned,
        Self::Rejected,
    ];

    /// A label value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Served => "served",
            Self::Refused => "refused",
            Self::Exhausted => "exhausted",
            Self::Substituted => "substituted",
            Self::Limited => "limited",
            Self::Failed => "failed",
            Self::Broken => "broken",
            Self::Abandoned => "abandoned",
            Self::Rejected => "rejected",
        }
    }
}

/// Who is told of a request.
#[derive(Debug)]
pub struct Telling {
    /// Where spans are sent.
    pub traces: Traces,
    /// The request's place in a trace, if it has one.
    pub spot: Option<Spot>,
    /// The caller's place in its own.
    pub parent: Option<TraceParent>,
    /// The share of served requests that are told of.
    pub sample: f64,
}

/// Follows one request from its arrival; writes its line when dropped. Dropped without an answer, or
/// with one that had not ended, the caller has left.
#[derive(Debug)]
pub struct Report {
    metrics: Arc<Metrics>,
    telling: Telling,
    id: CallId,
    arrived: Instant,
    call: Arc<OnceLock<Arc<Call>>>,
    outcome: Option<Outcome>,
    status: Option<StatusCode>,
    broken_by: Option<&'static str>,
    bytes_out: u64,
    finished: bool,
}

impl Report {
    /// Begins with a request's arrival. `call` is set once the request is understood; from then on its
    /// journal tells the rest.
    #[must_use]
    pub fn begin(
        metrics: Arc<Metrics>,
        telling: Telling,
        id: CallId,
        arrived: Instant,
        call: Arc<OnceLock<Arc<Call>>>,
    ) -> Self {
        metrics.in_flight.inc();
        Self {
            metrics,
            telling,
            id,
            arrived,
            call,
            outcome: None,
            status: None,
            broken_by: None,
            bytes_out: 0,
            finished: false,
        }
    }

    /// An answer is about to leave, and it means `outcome` if it arrives whole.
    pub fn answered(&mut self, outcome: Outcome, status: StatusCode) {
        self.outcome = Some(outcome);
        self.status = Some(status);
    }

    /// The answer has no body on the wire, whatever its message holds: hyper will not ask for it.
    pub fn ends_with_its_head(&mut self) {
        self.finished = true;
    }

    fn final_outcome(&self) -> Outcome {
        // An answer that was begun before it was there finds out later what it means.
        let known_late = self.call.get().and_then(|call| call.journal().outcome);
        match known_late.or(self.outcome) {
            _ if self.broken_by.is_some() => Outcome::Broken,
            Some(outcome) if self.finished => outcome,
            _ => Outcome::Abandoned,
        }
    }

    fn write(&self, outcome: Outcome) {
        let duration_ms = in_millis(self.arrived.elapsed());
        let status = self.status.map(|status| status.as_u16());
        let trace_id = self.trace_id();
        let Some(call) = self.call.get() else {
            tracing::info!(
                request_id = self.id.as_str(),
                trace_id,
                outcome = outcome.as_str(),
                status,
                duration_ms,
                "request"
            );
            return;
        };
        let journal = call.journal();
        tracing::info!(
            request_id = self.id.as_str(),
            trace_id,
            route = call.route.name(),
            dialect = call.dialect.as_str(),
            outcome = outcome.as_str(),
            status,
            upstream = journal
                .upstream
                .as_ref()
                .map(|upstream| upstream.name.as_ref()),
            upstream_status = journal.upstream_status,
            class = journal.class.map(crate::retry::triage::Class::as_str),
            attempts = journal.attempts,
            waited_ms = in_millis(journal.waited),
            wait_limit_ms = some_millis(journal.limit_waits),
            wait_backoff_ms = some_millis(journal.backoff_waits),
            wait_hint_ms = some_millis(journal.hint_waits),
            wait_breaker_ms = some_millis(journal.lane_waits.get(WaitReason::Breaker)),
            wait_gate_ms = some_millis(journal.lane_waits.get(WaitReason::Gate)),
            wait_probe_ms = some_millis(journal.lane_waits.get(WaitReason::Probe)),
            wait_pace_ms = some_millis(journal.lane_waits.get(WaitReason::Pace)),
            wait_window_ms = some_millis(journal.lane_waits.get(WaitReason::Window)),
            first_byte_ms = journal.first_byte.map(in_millis),
            gave_up = journal.gave_up,
            substituted = journal.substituted,
            begun_early = journal.begun.then_some(true),
            broken_by = self.broken_by,
            model = self.model(&journal),
            finish = journal.answer.finish.map(Finish::as_str),
            truncated = journal.answer.is_truncated().then_some(true),
            tokens_in = journal.used.map(|used| used.input),
            tokens_cached = journal.used.map(|used| used.cached_input),
            tokens_out = journal.used.map(|used| used.output),
            bytes_out = self.bytes_out,
            duration_ms,
            "request"
        );
    }

    fn count(&self, outcome: Outcome) {
        let (route, dialect) = self.call.get().map_or(("none", "none"), |call| {
            (call.route.name(), call.dialect.as_str())
        });
        self.metrics
            .requests
            .with_label_values(&[route, dialect, outcome.as_str()])
            .inc();
        self.metrics
            .request_seconds
            .with_label_values(&[route, outcome.as_str()])
            .observe(self.arrived.elapsed().as_secs_f64());
        let Some(call) = self.call.get() else { return };
        let journal = call.journal();
        if outcome == Outcome::Served && journal.attempts > 1 {
            self.metrics.saved.inc();
        }
        let Some(upstream) = &journal.upstream else {
            return;
        };
        self.count_answer(call, &journal, &upstream.name);
        if let Some(cause) = self.broken_by {
            // Whatever has an upstream was let go by a lane.
            let lane = journal
                .lane
                .as_ref()
                .map_or("none", |lane| lane.label().as_str());
            let labels = [upstream.name.as_ref(), lane, cause];
            self.metrics.broken.with_label_values(&labels).inc();
        }
    }
}

impl Report {
    /// What the status page remembers: requests that met trouble, also those that a retry has saved.
    fn note_trouble(&self, outcome: Outcome) {
        let journal = self.call.get().map(|call| call.journal());
        let failed = journal.as_ref().and_then(|journal| journal.failed.clone());
        // A caller may leave for reasons of its own; after a failed try the wait was the reason.
        let met_trouble = match outcome {
            Outcome::Served | Outcome::Abandoned => failed.is_some(),
            _ => true,
        };
        if !met_trouble {
            return;
        }
        let gave_up = journal.as_ref().and_then(|journal| journal.gave_up);
        let latest = journal
            .as_ref()
            .and_then(|journal| journal.upstream.as_ref());
        let upstream = failed.as_ref().map(|failed| &failed.upstream);
        let kind = Kind {
            route: self.call.get().map(|call| call.route.name().to_owned()),
            upstream: upstream.or(latest.map(|latest| &latest.name)).cloned(),
            class: failed.as_ref().map(|failed| failed.class),
            status: failed.as_ref().and_then(|failed| failed.status),
            outcome,
            reason: self.broken_by.or(gave_up),
        };
        let event = Event {
            kind,
            request: self.id,
            tries: journal.as_ref().map_or(0, |journal| journal.attempts),
            waited: journal.map_or(Duration::ZERO, |journal| journal.waited),
        };
        self.metrics.trouble.note(Instant::now(), event);
    }

    /// What ties the line to a trace: the caller's own, or ours.
    fn trace_id(&self) -> Option<String> {
        let parent = self.telling.parent.map(|parent| parent.trace);
        let trace = parent.or(self.telling.spot.map(|spot| spot.trace))?;
        Some(format!("{trace:032x}"))
    }

    fn trace(&self, outcome: Outcome) {
        let Some(spot) = self.telling.spot else {
            return;
        };
        let call = self.call.get();
        let journal = call.map(|call| call.journal().clone());
        self.telling.traces.tell(&Told {
            spot,
            id: self.id,
            arrived: self.arrived,
            ended: Instant::now(),
            outcome,
            status: self.status.map(|status| status.as_u16()),
            broken_by: self.broken_by,
            model: journal.as_ref().and_then(|journal| self.model(journal)),
            call: call.map(AsRef::as_ref).zip(journal.as_ref()),
        });
    }

    /// What the upstream's answer told of itself. A name that no upstream has answered to is no label.
    fn count_answer(&self, call: &Call, journal: &Journal, upstream: &str) {
        let (Some(model), route) = (self.model(journal), call.route.name()) else {
            return;
        };
        if let Some(finish) = journal.answer.finish {
            let labels = [route, model, finish.as_str()];
            self.metrics.answers.with_label_values(&labels).inc();
        }
        if journal.answer.is_truncated() {
            let labels = [route, upstream, model];
            self.metrics.truncated.with_label_values(&labels).inc();
        }
        if let Some(used) = &journal.used {
            self.metrics.used(route, model, used);
        }
    }

    /// The model that has answered, as a label; `None` where none has.
    fn model<'a>(&'a self, journal: &'a Journal) -> Option<&'a str> {
        let has_answered = journal.answer.finish.is_some() || journal.used.is_some();
        let asked = || {
            let call = self.call.get()?;
            let upstream = journal.upstream.as_ref()?;
            upstream.model.as_deref().or(call.ask.model.as_deref())
        };
        has_answered.then(|| self.metrics.models.label(asked()))
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        self.metrics.in_flight.dec();
        let outcome = self.final_outcome();
        self.count(outcome);
        self.note_trouble(outcome);
        // What was served is like the rest of what was served; everything else is worth its line.
        if outcome != Outcome::Served || self.id.fraction() < self.telling.sample {
            self.write(outcome);
            self.trace(outcome);
        }
    }
}

fn in_millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// A field that is left out where there is nothing to tell.
fn some_millis(time: Duration) -> Option<u64> {
    (!time.is_zero()).then(|| in_millis(time))
}

pin_project_lite::pin_project! {
    /// An answer's body under a report.
    #[derive(Debug)]
    pub struct Observed {
        #[pin]
        body: Body,
        report: Report,
    }
}

impl Observed {
    /// Watches `body`. A body that has no bytes counts as ended at once: hyper does not poll it.
    #[must_use]
    pub fn new(body: Body, mut report: Report) -> Self {
        report.finished |= http_body::Body::is_end_stream(&body);
        Self { body, report }
    }
}

impl http_body::Body for Observed {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let mut this = self.project();
        let polled = this.body.as_mut().poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                this.report.bytes_out += frame.data_ref().map_or(0, |data| data.len() as u64);
                // hyper stops polling here when the length is known, so the end shows only now.
                this.report.finished |= this.body.is_end_stream();
            }
            // A failure that was told is an answer, and it is out.
            Poll::Ready(Some(Err(BodyError::Told)) | None) => this.report.finished = true,
            Poll::Ready(Some(Err(error))) => this.report.broken_by = Some(error.cause()),
            Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

//! One line and one count for each request, when its answer has ended, whichever way.

use std::{
    fmt::Write as _,
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
    json_lines::{Put, put_info},
    traces::{Spot, Told},
    trouble::{Event, Kind},
};
use crate::{
    body::{Body, BodyError},
    call::{Call, CallId, Journal},
    dialect::Finish,
    lane::WaitReason,
    retry::triage::Class,
};

/// What the line of every request says.
const MESSAGE: &str = "request";

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

    /// Leaves the request's line in the log.
    fn write(&self, outcome: Outcome, took: Duration) {
        if !tracing::enabled!(tracing::Level::INFO) {
            return;
        }
        let is_put = put_info(module_path!(), MESSAGE, |line| {
            self.put(outcome, took, line);
        });
        if !is_put {
            let mut shown = Shown(MESSAGE.to_owned());
            self.put(outcome, took, &mut shown);
            tracing::info!("{}", shown.0);
        }
    }

    /// The fields of the line.
    fn put(&self, outcome: Outcome, took: Duration, line: &mut impl Put) {
        line.text("request_id", self.id.as_str());
        line.some_text("trace_id", self.trace_id().as_deref());
        let status = self.status.map(|status| status.as_u16());
        let Some(call) = self.call.get() else {
            line.text("outcome", outcome.as_str());
            line.some_number("status", status);
            line.number("duration_ms", in_millis(took));
            return;
        };
        line.text("route", call.route.name());
        line.text("dialect", call.dialect.as_str());
        line.text("outcome", outcome.as_str());
        line.some_number("status", status);
        let journal = call.journal();
        put_tries(&journal, line);
        line.some_text("broken_by", self.broken_by);
        line.some_text("model", self.model(&journal));
        put_answer(&journal, line);
        line.number("bytes_out", self.bytes_out);
        line.number("duration_ms", in_millis(took));
    }

    fn count(&self, outcome: Outcome, took: Duration) {
        let call = self.call.get();
        let route = call.map(|call| (call.route.name(), &call.route.series));
        let dialect = call.map(|call| call.dialect);
        self.metrics.ended(route, dialect, outcome, took);
        let Some(call) = self.call.get() else { return };
        let journal = call.journal();
        if outcome == Outcome::Served && journal.was_tried_again() {
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
        let took = self.arrived.elapsed();
        self.count(outcome, took);
        self.note_trouble(outcome);
        // What was served is like the rest of what was served; everything else is worth its line.
        if outcome != Outcome::Served || self.id.fraction() < self.telling.sample {
            self.write(outcome, took);
            self.trace(outcome);
        }
    }
}

/// What happened on the way to an answer.
fn put_tries(journal: &Journal, line: &mut impl Put) {
    let upstream = journal.upstream.as_ref();
    line.some_text("upstream", upstream.map(|upstream| &*upstream.name));
    line.some_number("upstream_status", journal.upstream_status);
    line.some_text("class", journal.class.map(Class::as_str));
    line.number("attempts", journal.attempts.into());
    line.number("waited_ms", in_millis(journal.waited));
    let in_lane = |reason| journal.lane_waits.get(reason);
    for (name, time) in [
        ("wait_limit_ms", journal.limit_waits),
        ("wait_backoff_ms", journal.backoff_waits),
        ("wait_hint_ms", journal.hint_waits),
        ("wait_breaker_ms", in_lane(WaitReason::Breaker)),
        ("wait_gate_ms", in_lane(WaitReason::Gate)),
        ("wait_probe_ms", in_lane(WaitReason::Probe)),
        ("wait_pace_ms", in_lane(WaitReason::Pace)),
        ("wait_window_ms", in_lane(WaitReason::Window)),
    ] {
        line.some_number(name, some_millis(time));
    }
    line.some_number("first_byte_ms", journal.first_byte.map(in_millis));
    line.some_text("gave_up", journal.gave_up);
    line.some_text("substituted", journal.substituted);
    if journal.begun {
        line.flag("begun_early", true);
    }
}

/// What the answer has told of itself.
fn put_answer(journal: &Journal, line: &mut impl Put) {
    line.some_text("finish", journal.answer.finish.map(Finish::as_str));
    if journal.answer.is_truncated() {
        line.flag("truncated", true);
    }
    if let Some(used) = journal.used {
        line.number("tokens_in", used.input);
        line.number("tokens_cached", used.cached_input);
        line.number("tokens_out", used.output);
    }
}

/// The line as it is shown to eyes.
struct Shown(String);

impl Put for Shown {
    fn text(&mut self, name: &'static str, value: &str) {
        // Writing to memory cannot fail.
        let _ = write!(self.0, " {name}={value:?}");
    }

    fn number(&mut self, name: &'static str, value: u64) {
        let _ = write!(self.0, " {name}={value}");
    }

    fn flag(&mut self, name: &'static str, value: bool) {
        let _ = write!(self.0, " {name}={value}");
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eyes_see_the_same_fields() {
        let mut shown = Shown(MESSAGE.to_owned());
        shown.text("route", "a \"b\"");
        shown.some_number("status", Some(200_u16));
        shown.some_text("model", None);
        shown.flag("truncated", true);
        assert_eq!(
            shown.0,
            r#"request route="a \"b\"" status=200 truncated=true"#
        );
    }
}

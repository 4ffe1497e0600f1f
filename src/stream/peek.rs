//! Judges an answer before its first byte may leave: the last moment at which a failure can still be
//! retried without the caller seeing it.
//!
//! An error status is read for its code. A stream is judged by its first content (`stream`), because
//! vendors send `200 OK` and then an error in it. A plain answer to a generation request is short and
//! useless in part, so it is held until it is `whole`. All within bounds of size, memory and time.

mod stream;
mod whole;

use std::{
    collections::VecDeque,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderMap, Response, StatusCode, header, response::Parts};
use http_body_util::BodyExt as _;
use tokio::time::{Instant, timeout_at};
use tower::{Layer, Service};

use super::{
    inspect,
    relay::{Patience, Relay},
    watch::Watch,
};
use crate::{
    attempt::{Answer, Attempted, Cause, Failure, verdict_of},
    body::Body,
    budget::{Budget, Reservation},
    call::{Attempt, Call},
    dialect::{Endpoint, ErrorKind, ErrorSignal},
    headers::is_of_type,
    retry::{
        hints,
        triage::{Class, Outcome, Signal, Transport, triage},
    },
    server::Lifecycle,
    stacked::Stacked,
    telemetry::Metrics,
    tunnel::{ends, handshake},
    upstream::{AnswerBody, SendError, SendErrorKind, Upstream, forward, upload::Upload},
};

/// What every answer is judged with.
#[derive(Clone, Debug)]
pub struct PeekLayer {
    /// Memory for held answers, shared with the requests' bodies.
    pub budget: Budget,
    /// Tells relayed streams to end.
    pub lifecycle: Lifecycle,
    /// First-byte times.
    pub metrics: Arc<Metrics>,
}

impl<S: Clone> Layer<S> for PeekLayer {
    type Service = Peek<S>;

    fn layer(&self, inner: S) -> Peek<S> {
        Peek(Stacked::new(self.clone(), inner))
    }
}

/// Sends one attempt and judges what comes back.
#[derive(Clone, Debug)]
pub struct Peek<S>(Stacked<PeekLayer, S>);

impl<S> Service<Attempt> for Peek<S>
where
    S: Service<Attempt, Response = Response<AnswerBody>, Error = SendError, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static,
    S::Future: 'static,
{
    type Response = Answer;
    type Error = Failure;
    type Future = BoxFuture<'static, Attempted>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, attempt: Attempt) -> Self::Future {
        let (with, started) = (self.0.clone(), Instant::now());
        let (call, upstream, upload) = (
            attempt.call.clone(),
            attempt.upstream.clone(),
            attempt.upload.clone(),
        );
        if let Some(upload) = &upload {
            upload.restart();
        }
        let lane = attempt.lane.clone();
        let sending = self.0.below().call(attempt);
        Box::pin(async move {
            let judged = judge(sending, call, &upstream, upload, &with, started).await;
            // An error comes quickly, or not at all: neither tells how long an answer takes.
            if verdict_of(&judged).class == Class::Served {
                with.metrics.first_byte(&upstream, &lane, started.elapsed());
            }
            judged
        })
    }
}

fn not_sent(kind: SendErrorKind) -> Failure {
    Failure {
        verdict: triage(&kind.outcome()),
        cause: Cause::Send(kind),
    }
}

fn failed(transport: Transport, cause: Cause) -> Failure {
    Failure {
        verdict: triage(&Outcome::Transport(transport)),
        cause,
    }
}

/// The moment by which something must have come, and what it means if not.
#[derive(Copy, Clone)]
struct Timer {
    at: Instant,
    late: Cause,
}

impl Timer {
    fn new(call: &Call, limit: Duration, started: Instant) -> Self {
        let first_byte = Self {
            at: started + limit,
            late: Cause::FirstByte(limit),
        };
        let answer_by = call.deadline.answer_by();
        if answer_by < first_byte.at {
            Self {
                at: answer_by,
                late: Cause::Deadline,
            }
        } else {
            first_byte
        }
    }

    fn failure(self) -> Failure {
        failed(Transport::FirstByteTimeout, self.late)
    }
}

/// Waits for the head of the answer to what is `sending`.
async fn head_of(
    sending: impl Future<Output = Result<Response<AnswerBody>, SendError>>,
    upload: Option<Upload>,
    timer: Timer,
    limit: Duration,
    answer_by: Instant,
) -> Result<Response<AnswerBody>, Failure> {
    let response = match upload {
        None => timeout_at(timer.at, sending)
            .await
            .map_err(|_| timer.failure())?,
        Some(upload) => {
            let sending = upload.wait_for(sending, limit, answer_by);
            let sent = Box::pin(sending).await;
            sent.ok_or_else(|| {
                if upload.waits_for_caller() {
                    not_sent(SendErrorKind::UploadLate)
                } else {
                    timer.failure()
                }
            })?
        }
    };
    response.map_err(|error| not_sent(error.kind()))
}

/// An answer of which only the head has come, cleaned. In a box: what is awaited with it would keep one more of it each.
struct Arrived {
    parts: Parts,
    body: AnswerBody,
}

impl Arrived {
    fn of(response: Response<AnswerBody>) -> Box<Self> {
        let (mut parts, body) = response.into_parts();
        forward::clean_response(&mut parts.headers);
        Box::new(Self { parts, body })
    }
}

async fn judge(
    sending: impl Future<Output = Result<Response<AnswerBody>, SendError>>,
    call: Arc<Call>,
    upstream: &Upstream,
    upload: Option<Upload>,
    with: &PeekLayer,
    started: Instant,
) -> Attempted {
    let limit = upstream.timeouts.first_byte_for(call.ask.stream);
    let timer = Timer::new(&call, limit, started);
    let attempt_was_long = upload.is_some();
    let arrived = {
        let answer_by = call.deadline.answer_by();
        let response = head_of(sending, upload, timer, limit, answer_by).await?;
        if response.status().is_informational() {
            return tunnel(&call, upstream, with, response);
        }
        Arrived::of(response)
    };
    // After a long upload the timer lies in the past; an answer's first event gets its time anew.
    let timer = if attempt_was_long {
        Timer::new(&call, limit, Instant::now())
    } else {
        timer
    };
    let judging = Judging {
        patience: Patience {
            idle: upstream.timeouts.idle,
            end_by: call.deadline.end_by(),
            total: upstream.timeouts.total,
        },
        call,
        upstream,
        with,
        timer,
    };
    let status = arrived.parts.status;
    judging.call.journal().upstream_status = Some(status.as_u16());
    if status.is_client_error() || status.is_server_error() {
        Box::pin(judging.error_status(arrived)).await
    } else if status == StatusCode::OK && judging.should_be_peeked(&arrived.parts) {
        Box::pin(judging.stream(arrived)).await
    } else if status == StatusCode::OK && judging.should_be_whole(&arrived) {
        judging.whole(arrived).await
    } else {
        Ok(judging.passing(*arrived))
    }
}

/// A switch of protocols: right after a handshake that it answers, and otherwise no HTTP.
fn tunnel(
    call: &Call,
    upstream: &Upstream,
    with: &PeekLayer,
    mut response: Response<AnswerBody>,
) -> Attempted {
    let is_granted = call.is_handshake
        && response.status() == StatusCode::SWITCHING_PROTOCOLS
        && call
            .head()
            .is_some_and(|asked| handshake::is_granted(&asked.headers, response.headers()));
    if !is_granted {
        return Err(not_sent(SendErrorKind::Malformed));
    }
    forward::clean_response(response.headers_mut());
    call.journal().upstream_status = Some(response.status().as_u16());
    ends::open(response, upstream, with.lifecycle.clone(), &with.metrics)
        .map(served)
        .ok_or_else(|| not_sent(SendErrorKind::Reset))
}

fn served(response: Response<Body>) -> Answer {
    let outcome = Outcome::Answered {
        status: response.status().as_u16(),
        has_retry_after: false,
        should_retry: None,
        signal: None,
    };
    Answer {
        response,
        verdict: triage(&outcome),
        hint: None,
        whole: None,
    }
}

/// One answer under judgement.
struct Judging<'a> {
    call: Arc<Call>,
    upstream: &'a Upstream,
    with: &'a PeekLayer,
    patience: Patience,
    timer: Timer,
}

impl Judging<'_> {
    fn relay(
        &self,
        body: AnswerBody,
        held: VecDeque<Bytes>,
        reserved: Option<Reservation>,
        watch: Option<Watch>,
    ) -> Relay {
        Relay::new(
            body,
            held,
            reserved,
            watch,
            self.patience,
            self.with.lifecycle.clone(),
            self.call.clone(),
        )
    }

    /// Whether this is a stream that an answer is generated in. Others, such as a channel for notices, may be
    /// silent for hours before their first event, and what an error in them would look like is not known.
    fn should_be_peeked(&self, parts: &Parts) -> bool {
        !matches!(self.call.dialect.endpoint(), Endpoint::Other)
            && self.call.method != http::Method::HEAD
            && is_of_type(&parts.headers, "text/event-stream")
    }

    async fn error_status(&self, arrived: Box<Arrived>) -> Attempted {
        let Arrived { parts, mut body } = *arrived;
        let inspected = inspect::read_error(&parts.headers, &mut body).await;
        if inspected.is_cut {
            return Err(failed(Transport::BodyCut, Cause::Cut));
        }
        let hint = hint_of(&parts.headers, inspected.signal.as_ref());
        let should_retry =
            parts
                .headers
                .get("x-should-retry")
                .and_then(|value| match value.as_bytes() {
                    b"true" => Some(true),
                    b"false" => Some(false),
                    _ => None,
                });
        let outcome = Outcome::Answered {
            status: parts.status.as_u16(),
            has_retry_after: parts.headers.contains_key(header::RETRY_AFTER),
            should_retry,
            signal: inspected
                .signal
                .as_ref()
                .map(|signal| signal_of(signal.kind)),
        };
        let relay = self.relay(body, inspected.read, None, None).boxed_unsync();
        Ok(Answer {
            response: Response::from_parts(parts, relay),
            verdict: triage(&outcome),
            hint,
            whole: None,
        })
    }
}

/// When the upstream said to come back, in its headers or in the error itself.
fn hint_of(headers: &HeaderMap, signal: Option<&ErrorSignal>) -> Option<hints::Hint> {
    let fields = headers
        .iter()
        .filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
    hints::read(
        fields,
        signal.and_then(|signal| signal.retry_after),
        SystemTime::now(),
    )
}

/// The dialect's word for an error in the words of triage.
fn signal_of(kind: ErrorKind) -> Signal {
    match kind {
        ErrorKind::RateLimited => Signal::RateLimited,
        ErrorKind::Overloaded => Signal::Overloaded,
        ErrorKind::ServerError => Signal::ServerError,
        ErrorKind::Timeout => Signal::Timeout,
        ErrorKind::Exhausted => Signal::Exhausted,
        ErrorKind::TooLarge => Signal::TooLarge,
        ErrorKind::Busy => Signal::Busy,
        ErrorKind::ContextTooLong => Signal::ContextTooLong,
        ErrorKind::ContentFiltered => Signal::ContentFiltered,
        ErrorKind::Invalid => Signal::Invalid,
        ErrorKind::Authentication => Signal::Authentication,
        ErrorKind::Permission => Signal::Permission,
        ErrorKind::NotFound => Signal::NotFound,
        ErrorKind::Unknown => Signal::Unknown,
    }
}

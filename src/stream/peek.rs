//! Judges an answer before its first byte may leave: the last moment at which a failure can still be
//! retried without the caller seeing it.
//!
//! An error status is read for its code. A stream is judged at its first event, because vendors send
//! `200 OK` and then an error in it. A plain answer to a generation request is short and useless in
//! part, so it is held until it is whole, within bounds of size, memory and time.

use std::{
    collections::VecDeque,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header, response::Parts};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::time::{Instant, timeout_at};
use tower::{Layer, Service};

use super::{
    inspect,
    relay::{Patience, Relay},
    watch::Watch,
};
use crate::{
    attempt::{Answer, Attempted, Cause, Failure},
    body::{self, Body},
    budget::{Budget, Reservation},
    call::{Attempt, Call},
    dialect::{AnswerReader, End, Endpoint, ErrorKind, ErrorSignal, Meaning, Reading},
    retry::{
        hints,
        triage::{Outcome, Signal, Transport, triage},
    },
    server::Lifecycle,
    telemetry::Metrics,
    upstream::{SendError, SendErrorKind, Upstream, forward, upload::Upload},
};

/// The largest plain answer that is held until it is whole.
const MAX_WHOLE: usize = 1024 * 1024;

/// How long a plain answer is held after its head. Some vendors keep long calls alive with white
/// space; holding that back for ever would undo it.
const WHOLE_TIME: Duration = Duration::from_secs(20);

/// How much of a stream is held while its first event is awaited.
const MAX_PREFIX: usize = 64 * 1024;

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

impl<S> Layer<S> for PeekLayer {
    type Service = Peek<S>;

    fn layer(&self, inner: S) -> Peek<S> {
        Peek {
            inner,
            with: self.clone(),
        }
    }
}

/// Sends one attempt and judges what comes back.
#[derive(Clone, Debug)]
pub struct Peek<S> {
    inner: S,
    with: PeekLayer,
}

impl<S> Service<Attempt> for Peek<S>
where
    S: Service<Attempt, Response = Response<Incoming>, Error = SendError, Future: Send>,
    S::Future: 'static,
{
    type Response = Answer;
    type Error = Failure;
    type Future = BoxFuture<'static, Attempted>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        self.inner.poll_ready(cx).map_err(|error| not_sent(&error))
    }

    fn call(&mut self, attempt: Attempt) -> Self::Future {
        let (with, started) = (self.with.clone(), Instant::now());
        let (call, upstream, upload) = (
            attempt.call.clone(),
            attempt.upstream.clone(),
            attempt.upload.clone(),
        );
        if let Some(upload) = &upload {
            upload.restart();
        }
        let sending = self.inner.call(attempt);
        Box::pin(async move {
            let judged = judge(sending, call, &upstream, upload, &with, started).await;
            let time = started.elapsed().as_secs_f64();
            with.metrics
                .first_byte_seconds
                .with_label_values(&[upstream.name.as_ref()])
                .observe(time);
            judged
        })
    }
}

fn not_sent(error: &SendError) -> Failure {
    Failure {
        verdict: triage(&error.kind().outcome()),
        cause: Cause::Send(error.kind()),
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

async fn judge(
    sending: impl Future<Output = Result<Response<Incoming>, SendError>>,
    call: Arc<Call>,
    upstream: &Upstream,
    upload: Option<Upload>,
    with: &PeekLayer,
    started: Instant,
) -> Attempted {
    let limit = upstream.timeouts.first_byte_for(call.ask.stream);
    let timer = Timer::new(&call, limit, started);
    let attempt_was_long = upload.is_some();
    let response = match upload {
        None => timeout_at(timer.at, sending)
            .await
            .map_err(|_| timer.failure())?,
        Some(upload) => {
            let sent = upload
                .wait_for(sending, limit, call.deadline.answer_by())
                .await;
            sent.ok_or_else(|| timer.failure())?
        }
    };
    let response = response.map_err(|error| not_sent(&error))?;
    let total = upstream.timeouts.total;
    let patience = Patience {
        idle: upstream.timeouts.idle,
        end_by: call.deadline.end_by(),
        total,
    };
    // After a long upload the timer lies in the past; an answer's first event gets its time anew.
    let timer = if attempt_was_long {
        Timer::new(&call, limit, Instant::now())
    } else {
        timer
    };
    let judging = Judging {
        call,
        with,
        patience,
        timer,
    };
    let (mut parts, body) = response.into_parts();
    if parts.status.is_informational() {
        // A switch of protocols that nobody asked for: `Upgrade` is never forwarded.
        let kind = SendErrorKind::Malformed;
        return Err(Failure {
            verdict: triage(&kind.outcome()),
            cause: Cause::Send(kind),
        });
    }
    forward::clean_response(&mut parts.headers);
    judging.call.journal().upstream_status = Some(parts.status.as_u16());
    if parts.status.is_client_error() || parts.status.is_server_error() {
        judging.error_status(parts, body).await
    } else if parts.status == StatusCode::OK && is(&parts.headers, "text/event-stream") {
        judging.stream(parts, body).await
    } else if parts.status == StatusCode::OK && judging.should_be_whole(&parts, &body) {
        judging.whole(parts, body).await
    } else {
        let reader = judging.reader(&parts);
        let relay = judging.relay_plain(body, VecDeque::new(), None, reader);
        Ok(served(Response::from_parts(parts, relay)))
    }
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
    }
}

fn is(headers: &HeaderMap, media_type: &str) -> bool {
    let value = headers
        .get(header::CONTENT_TYPE)
        .map(http::HeaderValue::as_bytes)
        .unwrap_or_default();
    value
        .get(..media_type.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(media_type.as_bytes()))
}

/// One answer under judgement.
struct Judging<'a> {
    call: Arc<Call>,
    with: &'a PeekLayer,
    patience: Patience,
    timer: Timer,
}

impl Judging<'_> {
    fn relay(&self, body: Incoming, held: VecDeque<Bytes>, watch: Option<Watch>) -> Body {
        Relay::new(
            body,
            held,
            None,
            watch,
            self.patience,
            self.with.lifecycle.clone(),
            self.call.clone(),
        )
        .boxed_unsync()
    }

    async fn error_status(&self, parts: Parts, mut body: Incoming) -> Attempted {
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
        let relay = self.relay(body, inspected.read, None);
        Ok(Answer {
            response: Response::from_parts(parts, relay),
            verdict: triage(&outcome),
            hint,
        })
    }

    /// Reads until the first event is there, so that an error in its place can still be retried.
    async fn stream(&self, mut parts: Parts, mut body: Incoming) -> Attempted {
        // An error event may have to be added, so a declared length would be a promise we cannot keep.
        parts.headers.remove(header::CONTENT_LENGTH);
        let readable = !parts.headers.contains_key(header::CONTENT_ENCODING);
        let mut watch = Watch::new(self.call.dialect);
        let (mut held, mut len) = (VecDeque::new(), 0);
        while len < MAX_PREFIX {
            let frame = timeout_at(self.timer.at, body.frame())
                .await
                .map_err(|_| self.timer.failure())?;
            let data = match frame {
                None if len == 0 || readable => {
                    return Err(failed(Transport::BodyCut, Cause::EmptyStream));
                }
                None => break,
                Some(Err(_)) => return Err(failed(Transport::BodyCut, Cause::Cut)),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => data,
                    Err(_) => continue, // trailers: the end follows
                },
            };
            len += data.len();
            held.push_back(data.clone());
            if !readable {
                break; // compressed: passed on unread
            }
            match watch.first_event(&data) {
                None => {}
                Some(Meaning::Error(signal) | Meaning::End(End::Failed(signal))) => {
                    return Ok(self.stream_error(parts, body, held, watch, &signal));
                }
                Some(_) => break,
            }
        }
        watch.rest();
        let relay = self.relay(body, held, readable.then_some(watch));
        Ok(served(Response::from_parts(parts, relay)))
    }

    /// An error where the first event should be: triaged as if the status had said it.
    fn stream_error(
        &self,
        parts: Parts,
        body: Incoming,
        held: VecDeque<Bytes>,
        mut watch: Watch,
        signal: &ErrorSignal,
    ) -> Answer {
        watch.rest();
        let hint = hint_of(&parts.headers, Some(signal));
        let relay = self.relay(body, held, Some(watch));
        let verdict = triage(&Outcome::StreamError {
            signal: signal_of(signal.kind),
        });
        Answer {
            response: Response::from_parts(parts, relay),
            verdict,
            hint,
        }
    }

    fn relay_plain(
        &self,
        body: Incoming,
        held: VecDeque<Bytes>,
        reserved: Option<Reservation>,
        reader: Option<AnswerReader>,
    ) -> Body {
        Relay::new(
            body,
            held,
            reserved,
            None,
            self.patience,
            self.with.lifecycle.clone(),
            self.call.clone(),
        )
        .read_by(reader)
        .boxed_unsync()
    }

    fn should_be_whole(&self, parts: &Parts, body: &Incoming) -> bool {
        let small = body.size_hint().lower() <= MAX_WHOLE as u64;
        small && self.generates(parts)
    }

    /// Whether this is the plain answer of an endpoint that costs tokens.
    fn generates(&self, parts: &Parts) -> bool {
        !matches!(self.call.dialect.endpoint(), Endpoint::Other)
            && self.call.method == http::Method::POST
            && is(&parts.headers, "application/json")
    }

    /// Reads a plain answer while it passes, where it is one that tells something.
    fn reader(&self, parts: &Parts) -> Option<AnswerReader> {
        let is_answer = parts.status == StatusCode::OK && self.generates(parts);
        let is_readable = !parts.headers.contains_key(header::CONTENT_ENCODING);
        (is_answer && is_readable).then(|| AnswerReader::new(self.call.dialect))
    }

    /// A whole answer is understood before its head leaves. One that its token limit has cut is marked:
    /// it looks like any other, and is not one.
    fn note_whole(&self, parts: &mut Parts, reading: Reading) {
        if reading.is_truncated() {
            parts
                .headers
                .insert("x-surgetank-truncated", HeaderValue::from_static("true"));
        }
        self.call.note_answer(reading);
    }

    /// Holds a plain answer until it is whole, so that one that is cut can be retried.
    async fn whole(&self, mut parts: Parts, mut body: Incoming) -> Attempted {
        let commit_at = self.timer.at.min(Instant::now() + WHOLE_TIME);
        let (mut reserved, mut held, mut len) = (self.with.budget.open(), VecDeque::new(), 0);
        let mut reader = self.reader(&parts);
        loop {
            // Too slow to hold on: the caller gets what there is.
            let Ok(frame) = timeout_at(commit_at, body.frame()).await else {
                break;
            };
            match frame {
                None => {
                    let whole = body::joined(held);
                    if let Some(reader) = &reader {
                        self.note_whole(&mut parts, reader.reading());
                    }
                    return Ok(served(Response::from_parts(parts, body::full(whole))));
                }
                Some(Err(_)) => return Err(failed(Transport::BodyCut, Cause::Cut)),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => {
                        len += data.len();
                        if let Some(reader) = &mut reader {
                            reader.see(&data);
                        }
                        let fits = len <= MAX_WHOLE && reserved.grow(data.len());
                        held.push_back(data);
                        if !fits {
                            break;
                        }
                    }
                    // Trailers need the framing they came in.
                    Err(trailers) => {
                        let data = body::joined(held);
                        if let Some(reader) = &reader {
                            self.note_whole(&mut parts, reader.reading());
                        }
                        let whole =
                            body::with_trailers(data, trailers.into_trailers().unwrap_or_default());
                        return Ok(served(Response::from_parts(parts, whole)));
                    }
                },
            }
        }
        let relay = self.relay_plain(body, held, Some(reserved), reader);
        Ok(served(Response::from_parts(parts, relay)))
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

//! The edge: from here on every request ends in a response, in the caller's own dialect.
//!
//! This is the only place where an error becomes HTTP. Each error has two messages: what the caller
//! reads here is from a fixed vocabulary, and the log has the cause.

use std::{
    convert::Infallible,
    panic::AssertUnwindSafe,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
};

use futures_util::{FutureExt as _, future::BoxFuture};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use tokio::time::Instant;
use tower::{Layer, Service, ServiceExt as _};

use crate::{
    app::{Arrival, Inbound},
    attempt::{Cause, Failure},
    body::{self, Body},
    call::{Call, CallId},
    dialect::{Dialect, ErrorKind, Vendor, errors},
    fallback::Finished,
    limit::layer::OverLimit,
    payload::PayloadError,
    retry::triage::Class,
    server::guard::Ambiguous,
    telemetry::{Metrics, Observed, Outcome, Report},
    upstream::SendErrorKind,
};

/// Everything that can end a request without an answer of the upstream's or a substitute.
#[derive(Debug, thiserror::Error)]
pub enum Stop {
    /// The head could be read in two ways.
    #[error(transparent)]
    Ambiguous(#[from] Ambiguous),
    /// The request has been here before.
    #[error(
        "this request has already passed through this surgetank: an upstream's `base_url` points back at it"
    )]
    Loop,
    /// No route takes it.
    #[error("no route takes this request; add one without `match` at the end of `routes`")]
    NoRoute,
    /// The body did not arrive.
    #[error(transparent)]
    Payload(#[from] PayloadError),
    /// The user asks for too much.
    #[error(transparent)]
    OverLimit(#[from] OverLimit),
    /// The upstream failed and the chain had nothing to put in its place.
    #[error(transparent)]
    Failed(#[from] Failure),
}

/// What the caller is told.
struct Told {
    status: StatusCode,
    kind: ErrorKind,
    outcome: Outcome,
}

impl Stop {
    fn told(&self) -> Told {
        let told = |status, kind, outcome| Told {
            status,
            kind,
            outcome,
        };
        match self {
            Self::Ambiguous(ambiguous) => {
                told(ambiguous.status(), ErrorKind::Invalid, Outcome::Rejected)
            }
            Self::Loop => told(
                StatusCode::LOOP_DETECTED,
                ErrorKind::Invalid,
                Outcome::Rejected,
            ),
            Self::NoRoute => told(
                StatusCode::NOT_FOUND,
                ErrorKind::NotFound,
                Outcome::Rejected,
            ),
            Self::Payload(PayloadError::Stalled) => told(
                StatusCode::REQUEST_TIMEOUT,
                ErrorKind::Timeout,
                Outcome::Rejected,
            ),
            Self::Payload(PayloadError::Broken(_)) => told(
                StatusCode::BAD_REQUEST,
                ErrorKind::Invalid,
                Outcome::Rejected,
            ),
            Self::OverLimit(_) => told(
                StatusCode::TOO_MANY_REQUESTS,
                ErrorKind::RateLimited,
                Outcome::Limited,
            ),
            Self::Failed(failure) => {
                let (status, kind) = status_of(failure);
                told(status, kind, Outcome::Failed)
            }
        }
    }

    /// Fields beside the body.
    fn fields(&self, vendor: Vendor, headers: &mut HeaderMap) {
        match self {
            Self::OverLimit(over) => over.fields(vendor, headers),
            // Our own retries are over: the SDK above must not multiply them.
            Self::Failed(failure) => {
                headers.insert("x-should-retry", HeaderValue::from_static("false"));
                if let Cause::Refused(refused) = failure.cause {
                    headers.insert(
                        header::RETRY_AFTER,
                        HeaderValue::from(refused.retry_after.as_secs().max(1)),
                    );
                }
            }
            Self::Loop => {
                headers.insert("x-should-retry", HeaderValue::from_static("false"));
            }
            Self::Ambiguous(_) | Self::Payload(_) => {
                // What follows on this connection cannot be trusted to be a new request.
                headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            Self::NoRoute => {}
        }
        if matches!(self, Self::Ambiguous(Ambiguous::Method)) {
            headers.insert(
                header::ALLOW,
                HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"),
            );
        }
    }
}

fn status_of(failure: &Failure) -> (StatusCode, ErrorKind) {
    match failure.cause {
        Cause::FirstByte(_) | Cause::Deadline | Cause::Send(SendErrorKind::ConnectTimeout) => {
            (StatusCode::GATEWAY_TIMEOUT, ErrorKind::Timeout)
        }
        Cause::Refused(_) => (StatusCode::SERVICE_UNAVAILABLE, ErrorKind::Overloaded),
        _ if failure.verdict.class == Class::Throttled => {
            (StatusCode::SERVICE_UNAVAILABLE, ErrorKind::Overloaded)
        }
        _ => (StatusCode::BAD_GATEWAY, ErrorKind::ServerError),
    }
}

/// Makes a fallible stack infallible.
#[derive(Clone, Debug)]
pub struct RescueLayer {
    /// Where outcomes are counted.
    pub metrics: Arc<Metrics>,
}

impl<S> Layer<S> for RescueLayer {
    type Service = Rescue<S>;

    fn layer(&self, inner: S) -> Rescue<S> {
        Rescue {
            inner,
            metrics: self.metrics.clone(),
        }
    }
}

/// Gives every request an id, a report and a response.
#[derive(Clone, Debug)]
pub struct Rescue<S> {
    inner: S,
    metrics: Arc<Metrics>,
}

impl<S> Service<Arrival> for Rescue<S>
where
    S: Service<Inbound, Response = Finished, Error = Stop, Future: Send> + Clone + Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, arrival: Arrival) -> Self::Future {
        let (inner, metrics) = (self.inner.clone(), self.metrics.clone());
        Box::pin(async move { Ok(answer(inner, metrics, arrival).await) })
    }
}

async fn answer<S>(inner: S, metrics: Arc<Metrics>, arrival: Arrival) -> Response<Body>
where
    S: Service<Inbound, Response = Finished, Error = Stop, Future: Send> + Send + 'static,
{
    let (id, arrived) = (CallId::random(&mut rand::rng()), Instant::now());
    let Arrival { request, peer } = arrival;
    let dialect = Dialect::detect(
        request.uri().path(),
        request.headers().contains_key("anthropic-version"),
    );
    let understood = Arc::new(OnceLock::new());
    let mut report = Report::begin(metrics.clone(), id, arrived, understood.clone());
    let inbound = Inbound {
        request,
        peer,
        id,
        arrived,
        dialect,
        understood: understood.clone(),
    };
    let run = AssertUnwindSafe(inner.oneshot(inbound)).catch_unwind();
    let (mut response, outcome) = match run.await {
        Ok(Ok(Finished { response, outcome })) => (response, outcome),
        Ok(Err(stop)) => stopped(&stop, dialect, id),
        Err(_) => {
            // The panic hook has told where; the payload may hold anything, so it is not logged.
            metrics.panics.inc();
            tracing::error!(
                request_id = id.as_str(),
                "a request ended in a panic of surgetank's"
            );
            let message = "surgetank failed on this request; its log has the place";
            (
                error_response(
                    dialect,
                    id,
                    StatusCode::INTERNAL_SERVER_ERROR,
                    ErrorKind::ServerError,
                    message,
                ),
                Outcome::Failed,
            )
        }
    };
    tell(
        response.headers_mut(),
        id,
        understood.get().map(AsRef::as_ref),
    );
    report.answered(outcome, response.status());
    response.map(|body| Observed::new(body, report).boxed_unsync())
}

fn stopped(stop: &Stop, dialect: Dialect, id: CallId) -> (Response<Body>, Outcome) {
    let Told {
        status,
        kind,
        outcome,
    } = stop.told();
    if outcome != Outcome::Limited {
        tracing::info!(request_id = id.as_str(), status = status.as_u16(), reason = %stop, "a request was not answered by an upstream");
    }
    let mut response = error_response(dialect, id, status, kind, &stop.to_string());
    stop.fields(dialect.vendor(), response.headers_mut());
    (response, outcome)
}

fn error_response(
    dialect: Dialect,
    id: CallId,
    status: StatusCode,
    kind: ErrorKind,
    message: &str,
) -> Response<Body> {
    let spec = errors::ErrorSpec {
        status: status.as_u16(),
        kind,
        message,
        request_id: id.as_str(),
    };
    let mut response = Response::new(body::full(errors::body(dialect, &spec)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    let id_name = if dialect.vendor() == Vendor::Anthropic {
        "request-id"
    } else {
        "x-request-id"
    };
    if let Ok(value) = HeaderValue::from_str(id.as_str()) {
        headers.insert(id_name, value);
    }
    response
}

/// Our own fields, on every response.
fn tell(headers: &mut HeaderMap, id: CallId, call: Option<&Call>) {
    let mut set = |name: &'static str, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    };
    set("x-surgetank-request-id", id.as_str());
    let Some(call) = call else { return };
    let first_byte = call.arrived.elapsed();
    let journal = {
        let mut journal = call.journal();
        journal.first_byte = Some(first_byte);
        journal.clone()
    };
    if let Some(upstream) = &journal.upstream {
        set("x-surgetank-upstream", &upstream.name);
    }
    set("x-surgetank-attempts", &journal.attempts.to_string());
    set(
        "x-surgetank-waited-ms",
        &journal.waited.as_millis().to_string(),
    );
    if let Some(kind) = journal.substituted {
        set("x-surgetank-fallback", kind);
    }
    let upstream_ms = first_byte.saturating_sub(journal.waited).as_millis();
    let timing = format!(
        "upstream;dur={upstream_ms}, wait;dur={}",
        journal.waited.as_millis()
    );
    if let Ok(value) = HeaderValue::from_str(&timing) {
        headers.append("server-timing", value);
    }
}

//! Everything that ends a request without an answer, and how that is told.

use http::{HeaderMap, HeaderValue, StatusCode, header};

use crate::{
    attempt::{Cause, Failure},
    auth::Stranger,
    dialect::{ErrorKind, Vendor},
    limit::layer::OverLimit,
    payload::PayloadError,
    queue::desk::Turned,
    retry::triage::Class,
    server::guard::Ambiguous,
    telemetry::Outcome,
    upstream::SendErrorKind,
};

/// When to come back while the shared store is away: it is tried again at least that often.
const STORE_AWAY_RETRY_S: u32 = 2;

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
    /// Its caller has not shown a token that opens.
    #[error(transparent)]
    Unauthorized(#[from] Stranger),
    /// A queued request has no answer to give out.
    #[error(transparent)]
    Queued(#[from] Turned),
    /// No route takes it.
    #[error("no route takes this request; add one without `match` at the end of `routes`")]
    NoRoute,
    /// The body did not arrive.
    #[error(transparent)]
    Payload(#[from] PayloadError),
    /// The user asks for too much.
    #[error(transparent)]
    OverLimit(#[from] OverLimit),
    /// Nobody knows what the user has used, and the operator wants nobody let in then.
    #[error(
        "the store that keeps the limits does not answer, and no request is let in until it does (`store.fail: closed`); try again in {STORE_AWAY_RETRY_S} s"
    )]
    StoreAway,
    /// The upstream failed and the chain had nothing to put in its place.
    #[error(transparent)]
    Failed(#[from] Failure),
    /// The process ends, and the request had no answer yet.
    #[error("surgetank is stopping, and this request had no answer yet; send it again")]
    Stopping,
    /// A bug of ours.
    #[error("surgetank failed on this request; its log has the place")]
    Panicked,
}

/// What the caller is told.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Told {
    /// The status, where there is still one to give.
    pub(crate) status: StatusCode,
    /// The kind of error, in the words of every dialect.
    pub(crate) kind: ErrorKind,
    /// What it counts as.
    pub(crate) outcome: Outcome,
}

impl Stop {
    /// How this is told to a caller, with a status or within a stream.
    pub(crate) fn told(&self) -> Told {
        let told = |status, kind, outcome| Told {
            status,
            kind,
            outcome,
        };
        let rejected = |status, kind| told(status, kind, Outcome::Rejected);
        match self {
            Self::Ambiguous(ambiguous) => rejected(ambiguous.status(), ErrorKind::Invalid),
            Self::Loop => rejected(StatusCode::LOOP_DETECTED, ErrorKind::Invalid),
            Self::Unauthorized(Stranger::TooMany(_)) => {
                rejected(StatusCode::TOO_MANY_REQUESTS, ErrorKind::RateLimited)
            }
            Self::Unauthorized(_) => rejected(StatusCode::UNAUTHORIZED, ErrorKind::Authentication),
            Self::Queued(turned) => {
                let (status, kind) = turned.told();
                rejected(status, kind)
            }
            Self::NoRoute => rejected(StatusCode::NOT_FOUND, ErrorKind::NotFound),
            Self::Payload(PayloadError::Stalled | PayloadError::Late) => {
                rejected(StatusCode::REQUEST_TIMEOUT, ErrorKind::Timeout)
            }
            Self::Payload(PayloadError::Left) => told(
                StatusCode::BAD_REQUEST,
                ErrorKind::Invalid,
                Outcome::Abandoned,
            ),
            Self::Payload(PayloadError::Broken(_)) => {
                rejected(StatusCode::BAD_REQUEST, ErrorKind::Invalid)
            }
            Self::OverLimit(_) => told(
                StatusCode::TOO_MANY_REQUESTS,
                ErrorKind::RateLimited,
                Outcome::Limited,
            ),
            Self::Failed(failure) => {
                let (status, kind) = status_of(failure);
                told(status, kind, outcome_of(failure))
            }
            Self::StoreAway | Self::Stopping => told(
                StatusCode::SERVICE_UNAVAILABLE,
                ErrorKind::Overloaded,
                Outcome::Failed,
            ),
            Self::Panicked => told(
                StatusCode::INTERNAL_SERVER_ERROR,
                ErrorKind::ServerError,
                Outcome::Failed,
            ),
        }
    }

    /// Fields beside the body.
    pub(super) fn fields(&self, vendor: Vendor, headers: &mut HeaderMap) {
        match self {
            Self::OverLimit(over) => over.fields(vendor, headers),
            // Our own retries are over: the SDK above must not multiply them.
            Self::Failed(failure) => {
                headers.insert("x-should-retry", HeaderValue::from_static("false"));
                if failure.verdict.class == Class::Abandoned {
                    // The rest of its body may still follow.
                    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
                }
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
            // Nobody has answered it, so the caller may well try again; here there is nobody any more.
            Self::Stopping => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            Self::StoreAway => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from(STORE_AWAY_RETRY_S));
            }
            Self::Unauthorized(Stranger::TooMany(wait)) => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from(wait.as_secs() + 1));
            }
            Self::Unauthorized(_) => {
                let scheme = HeaderValue::from_static("Bearer realm=\"surgetank\"");
                headers.insert(header::WWW_AUTHENTICATE, scheme);
            }
            Self::Queued(turned) => turned.fields(headers),
            Self::NoRoute | Self::Panicked => {}
        }
        if matches!(self, Self::Ambiguous(Ambiguous::Method)) {
            headers.insert(
                header::ALLOW,
                HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"),
            );
        }
    }
}

fn outcome_of(failure: &Failure) -> Outcome {
    match failure.cause {
        Cause::Send(SendErrorKind::UploadLate)
        | Cause::KeyReused
        | Cause::Unsure
        | Cause::NoWebhook => Outcome::Rejected,
        _ if failure.verdict.class == Class::Abandoned => Outcome::Abandoned,
        _ => Outcome::Failed,
    }
}

fn status_of(failure: &Failure) -> (StatusCode, ErrorKind) {
    match failure.cause {
        Cause::FirstByte(_) | Cause::Deadline | Cause::Send(SendErrorKind::ConnectTimeout) => {
            (StatusCode::GATEWAY_TIMEOUT, ErrorKind::Timeout)
        }
        Cause::Send(SendErrorKind::UploadLate) => (StatusCode::REQUEST_TIMEOUT, ErrorKind::Timeout),
        Cause::KeyReused => (StatusCode::UNPROCESSABLE_ENTITY, ErrorKind::Invalid),
        Cause::Unsure => (StatusCode::CONFLICT, ErrorKind::Invalid),
        Cause::NoWebhook => (StatusCode::BAD_REQUEST, ErrorKind::Invalid),
        Cause::Refused(_) | Cause::LeftAlone | Cause::NotBegun => {
            (StatusCode::SERVICE_UNAVAILABLE, ErrorKind::Overloaded)
        }
        _ if failure.verdict.class == Class::Throttled => {
            (StatusCode::SERVICE_UNAVAILABLE, ErrorKind::Overloaded)
        }
        _ => (StatusCode::BAD_GATEWAY, ErrorKind::ServerError),
    }
}

//! What one attempt came to, judged before its first byte may leave.

use std::time::Duration;

use bytes::Bytes;
use http::Response;

use crate::{
    body::Body,
    dialect::Reading,
    lane::Refused,
    retry::{hints::Hint, triage::Verdict},
    upstream::SendErrorKind,
};

/// The upstream answered, well or badly.
#[derive(Debug)]
pub struct Answer {
    /// Its message: cleaned of hop-by-hop fields, otherwise as it came.
    pub response: Response<Body>,
    /// What it means.
    pub verdict: Verdict,
    /// When the upstream said to come back.
    pub hint: Option<Hint>,
    /// The body once more, where it is plain and already here.
    pub whole: Option<Whole>,
}

/// A plain answer that is wholly in memory.
#[derive(Clone)]
pub struct Whole {
    /// As it came, in whatever coding.
    pub bytes: Bytes,
    /// What it tells of itself.
    pub reading: Reading,
}

/// Tells the size, not the text: an answer belongs in no log.
impl std::fmt::Debug for Whole {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Whole")
            .field("len", &self.bytes.len())
            .field("reading", &self.reading)
            .finish()
    }
}

/// The upstream did not answer.
#[derive(Debug, thiserror::Error)]
#[error("{cause}")]
pub struct Failure {
    /// What it means.
    pub verdict: Verdict,
    /// What happened.
    pub cause: Cause,
}

/// Why there is no answer, in words for the caller and the log.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Cause {
    /// The exchange failed.
    #[error("{}", .0.describe())]
    Send(SendErrorKind),
    /// Nothing came in time.
    #[error("the upstream sent nothing for {} s", .0.as_secs_f32())]
    FirstByte(Duration),
    /// The caller's own time, or the request's, ran out before an answer.
    #[error("the time of this request was used up before the upstream answered")]
    Deadline,
    /// An answer's body broke before any of it had left.
    #[error("the upstream's answer broke off before it was complete")]
    Cut,
    /// A stream ended without a single event.
    #[error("the upstream's stream ended without an answer in it")]
    EmptyStream,
    /// The lane did not let it go.
    #[error("{0}")]
    Refused(Refused),
    /// It was not asked, because it is known to fail and there is another.
    #[error("the upstream is failing and is left alone for a moment")]
    LeftAlone,
    /// Another request was queued under its idempotency key.
    #[error("another request was queued with this idempotency key; a key belongs to one request")]
    KeyReused,
    /// It was queued before under its idempotency key, and that entry's fate is not known.
    #[error(
        "this request was queued before, and may have been carried out; to have it carried out all the same, send it with another idempotency key"
    )]
    Unsure,
    /// Its caller wishes a webhook to be told that is not there.
    #[error(
        "there is no webhook of the name that `x-surgetank-webhook` gives; leave the header out, or ask who runs this service for the names that there are"
    )]
    NoWebhook,
    /// It was queued, and cannot be begun: it was cancelled, or the storage does not work.
    #[error("the queued request could not be begun")]
    NotBegun,
}

/// Either, as the layers between retry and the client hand it on.
pub type Attempted = Result<Answer, Failure>;

/// What an attempt means, however it went.
#[must_use]
pub fn verdict_of(attempted: &Attempted) -> Verdict {
    match attempted {
        Ok(answer) => answer.verdict,
        Err(failure) => failure.verdict,
    }
}

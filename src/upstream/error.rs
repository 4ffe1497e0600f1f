//! Why no answer came, told apart by one question: can the upstream have acted on the request?

use std::io;

use super::h1::TooManyInterim;
use crate::{
    body::BodyError,
    payload::PayloadError,
    retry::triage::{Outcome, Transport},
};

/// A request ended without an answer's head.
///
/// The text comes from a fixed vocabulary: errors of HTTP clients like to quote the URL, and URLs
/// of some vendors carry the key in their query.
#[derive(Debug, thiserror::Error)]
#[error("{}", .kind.describe())]
pub struct SendError {
    kind: SendErrorKind,
}

/// What went wrong.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum SendErrorKind {
    /// The name could not be resolved, or nobody listens, or the connection ended in the handshake: nothing was
    /// sent.
    Connect,
    /// There was no agreement on TLS: an untrusted or expired certificate, another name, an old version.
    Tls,
    /// The same, because `timeouts.connect` ran out.
    ConnectTimeout,
    /// The connection was closed before the request was written to it.
    ClosedBeforeWrite,
    /// A kept connection closed under the request, before any byte of an answer.
    ReusedConnectionClosed,
    /// A fresh connection closed or was reset before an answer's head was complete.
    Reset,
    /// What came back is not HTTP.
    Malformed,
    /// The body could not be sent a second time, or the caller's own upload broke.
    Spent,
    /// The caller's own upload stopped, or went on for longer than its time.
    UploadLate,
}

impl SendErrorKind {
    /// In a sentence, from a fixed vocabulary.
    #[must_use]
    pub fn describe(self) -> &'static str {
        match self {
            Self::Connect => "could not connect to the upstream",
            Self::Tls => {
                "could not connect to the upstream: no agreement on TLS (is its certificate trusted, valid, and of this name?)"
            }
            Self::ConnectTimeout => {
                "connecting to the upstream took longer than `timeouts.connect`"
            }
            Self::ClosedBeforeWrite => {
                "the upstream closed the connection before the request was sent"
            }
            Self::ReusedConnectionClosed => {
                "the upstream closed a kept connection instead of answering"
            }
            Self::Reset => "the upstream closed the connection instead of answering",
            Self::Malformed => "the upstream's answer is not valid HTTP",
            Self::Spent => "the request's body could not be sent",
            Self::UploadLate => "the request's body did not arrive in time",
        }
    }

    /// The same in the words of triage.
    #[must_use]
    pub fn outcome(self) -> Outcome {
        Outcome::Transport(match self {
            Self::Connect | Self::Tls | Self::ConnectTimeout => Transport::Connect,
            Self::ClosedBeforeWrite => Transport::ClosedBeforeWrite,
            Self::ReusedConnectionClosed => Transport::ReusedConnectionClosed,
            Self::Reset => Transport::Reset,
            Self::Malformed => Transport::Malformed,
            // Only a body that comes from the caller can fail to be sent.
            Self::Spent | Self::UploadLate => return Outcome::CallerLeft,
        })
    }
}

impl SendError {
    pub(super) fn spent() -> Self {
        Self {
            kind: SendErrorKind::Spent,
        }
    }

    pub(super) fn malformed() -> Self {
        Self {
            kind: SendErrorKind::Malformed,
        }
    }

    /// What went wrong.
    #[must_use]
    pub fn kind(&self) -> SendErrorKind {
        self.kind
    }

    /// No connection came about.
    pub(super) fn connecting(error: &(dyn std::error::Error + 'static)) -> Self {
        Self::from(connect_kind(error), error)
    }

    /// A connection carried a request and no answer. Whether it had carried an answer before is `reused`.
    pub(super) fn exchanging(error: &(dyn std::error::Error + 'static), reused: bool) -> Self {
        Self::from(exchange_kind(error, reused), error)
    }

    /// A connection ended under a request without a word.
    pub(super) fn lost(reused: bool) -> Self {
        Self {
            kind: lost_kind(reused),
        }
    }

    fn from(kind: SendErrorKind, error: &(dyn std::error::Error + 'static)) -> Self {
        // The chain may hold host names and certificates' subjects, but never the URL or a header.
        tracing::debug!(?kind, cause = deepest(error), "no answer from the upstream");
        Self { kind }
    }
}

fn lost_kind(reused: bool) -> SendErrorKind {
    if reused {
        SendErrorKind::ReusedConnectionClosed
    } else {
        SendErrorKind::Reset
    }
}

fn connect_kind(error: &(dyn std::error::Error + 'static)) -> SendErrorKind {
    if find::<rustls::Error>(error).is_some() {
        return SendErrorKind::Tls;
    }
    match find::<io::Error>(error).map(io::Error::kind) {
        Some(io::ErrorKind::TimedOut) => SendErrorKind::ConnectTimeout,
        _ => SendErrorKind::Connect,
    }
}

fn exchange_kind(error: &(dyn std::error::Error + 'static), reused: bool) -> SendErrorKind {
    if let Some(BodyError::Caller(PayloadError::Stalled | PayloadError::Late)) = find(error) {
        return SendErrorKind::UploadLate;
    }
    if find::<TooManyInterim>(error).is_some() {
        return SendErrorKind::Malformed;
    }
    let Some(error) = find::<hyper::Error>(error) else {
        return SendErrorKind::Reset;
    };
    if error.is_canceled() {
        SendErrorKind::ClosedBeforeWrite
    } else if error.is_parse() {
        SendErrorKind::Malformed
    } else if error.is_user() {
        SendErrorKind::Spent
    } else {
        lost_kind(reused)
    }
}

fn find<'a, T: std::error::Error + 'static>(
    error: &'a (dyn std::error::Error + 'static),
) -> Option<&'a T> {
    let mut error = Some(error);
    while let Some(link) = error {
        if let Some(found) = link.downcast_ref() {
            return Some(found);
        }
        error = within(link);
    }
    None
}

/// The next link of an error's chain. What an I/O error was made of is not among its sources, only behind it.
fn within<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> Option<&'a (dyn std::error::Error + 'static)> {
    let custom = error
        .downcast_ref::<io::Error>()
        .and_then(io::Error::get_ref);
    match custom {
        Some(custom) => Some(custom),
        None => error.source(),
    }
}

fn deepest(error: &(dyn std::error::Error + 'static)) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}

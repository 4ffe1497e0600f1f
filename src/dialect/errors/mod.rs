//! Errors: what a vendor's means, and how to say one of our own.
//!
//! A status alone does not tell what to do. A 429 may pass in a second, or
//! never, because the money is spent; a 400 may be the caller's fault or a
//! billing matter; a 200 may carry an error in its first event. The difference
//! stands in the body, in a different place for every vendor. [`read`] brings
//! all of them to one [`ErrorKind`]; it says what the error *is*, and leaves
//! what to do about it to those who retry.
//!
//! [`body`] and [`frame`] go the other way. An error in the wrong vendor's
//! shape is worse than none: Anthropic's SDKs ignore an error in `OpenAI`'s
//! shape within a stream, and the caller takes half an answer for a whole one.

mod codes;
mod read;
mod retold;
mod write;

use std::time::Duration;

pub use read::read;
pub use retold::{kind_of_status, retold};
pub use write::{ErrorSpec, body, frame};

/// What an error body or an error event says, in one word for all vendors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// A rate of requests or tokens was exceeded; it passes by itself.
    RateLimited,
    /// The whole service has no capacity at the moment.
    Overloaded,
    /// The service failed.
    ServerError,
    /// The service, or one behind it, did not finish in time.
    Timeout,
    /// Credit, quota or a spending limit is used up. Waiting does not help
    /// until somebody pays, raises the limit, or the month or day is over.
    Exhausted,
    /// The request is larger than the limit or quota could ever admit.
    TooLarge,
    /// The conversation or thread is in use by another request; it passes by itself.
    Busy,
    /// The prompt does not fit the model's context.
    ContextTooLong,
    /// A content policy refused the prompt.
    ContentFiltered,
    /// The request is wrong in itself.
    Invalid,
    /// The credential is missing or wrong.
    Authentication,
    /// The credential is good, but not for this.
    Permission,
    /// The model or object does not exist.
    NotFound,
    /// An error, but none that is known here; the status must decide.
    Unknown,
}

impl ErrorKind {
    /// A name from a closed set, fit for a metric label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RateLimited => "rate_limited",
            Self::Overloaded => "overloaded",
            Self::ServerError => "server_error",
            Self::Timeout => "timeout",
            Self::Exhausted => "exhausted",
            Self::TooLarge => "too_large",
            Self::Busy => "busy",
            Self::ContextTooLong => "context_too_long",
            Self::ContentFiltered => "content_filtered",
            Self::Invalid => "invalid",
            Self::Authentication => "authentication",
            Self::Permission => "permission",
            Self::NotFound => "not_found",
            Self::Unknown => "unknown",
        }
    }
}

/// What was read from an error body or an error event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorSignal {
    /// What kind of error it is.
    pub kind: ErrorKind,
    /// The most specific code that the vendor gave: 1 to 64 ASCII letters,
    /// digits, `_`, `-` or `.`; absent if it gave none of that form. Fit for a
    /// log, not for a label: it comes from outside.
    pub code: Option<String>,
    /// How long the body asks to wait. Only Gemini says it there; from all
    /// others it comes in a header.
    pub retry_after: Option<Duration>,
}

impl ErrorSignal {
    /// An error of which nothing is known but that it is one.
    #[must_use]
    pub const fn unknown() -> Self {
        Self {
            kind: ErrorKind::Unknown,
            code: None,
            retry_after: None,
        }
    }
}

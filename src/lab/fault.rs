//! The vocabulary of faults: what can go wrong, by name.
//!
//! One grammar serves the scenario file, the request headers and the tests in process, so that a fault found with one
//! can be repeated with another: `NAME[;key=value…]`, for instance `429;retry-after=2` or `cut;after=3`.

mod catalogue;
mod params;
mod script;

pub use catalogue::{CATALOGUE, Entry};
pub(super) use params::{
    After, BodyKind, ErrorForm, MOST_WORDS, Params, Part, RetryAfter, Split, Spoil,
};
pub use script::{FaultError, FaultSpec, Script};

use std::borrow::Cow;

/// Every way in which the lab can answer.
///
/// The name in code style is the one that scenario files and the headers `x-lab-fault` and `x-lab-script` use.
/// [`CATALOGUE`] lists the parameters that each takes; `surgetank lab --list-faults` prints it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// `ok`: a healthy answer; its parameters shape it. The only one that the quota is asked about.
    Ok,
    /// `204`, `301` to `308`, `400` to `599`: this status with the vendor's headers and body; `502` comes as HTML.
    Status(u16),
    /// `insufficient-quota`: a permanent 429, the account has no money.
    InsufficientQuota,
    /// `credit-balance-exhausted`: a permanent 429, prepaid credit is used up.
    CreditBalanceExhausted,
    /// `spend-limit`: a permanent 429, the organization's spend limit is reached.
    SpendLimit,
    /// `usage-limit`: the limit that the organization set for itself (Anthropic: 400, OpenAI: 429); permanent.
    UsageLimit,
    /// `request-too-large`: a 429 that no wait can mend, one request asks for more tokens than a minute allows.
    RequestTooLarge,
    /// `slow-down`: a 429 because the rate rose too fast.
    SlowDown,
    /// `refuse`: the connection is reset at once; with `for`, so is every new connection for that long.
    Refuse,
    /// `closed`: the connection is reset and the listening socket is closed for `for` (1 s): connects are refused.
    Closed,
    /// `hang`: the request is read, nothing is ever answered.
    Hang,
    /// `reset`: the request is read, then the connection is reset (RST).
    Reset,
    /// `fin`: the request is read, then the connection is closed (FIN) without an answer.
    Fin,
    /// `fin-head`: half of the response head, then FIN.
    FinHead,
    /// `hang-body`: part of the body, then silence.
    HangBody,
    /// `reset-body`: part of the body, then RST.
    ResetBody,
    /// `cut`: part of the body, then FIN; the last chunk or the rest of the declared length is missing.
    Cut,
    /// `cut-clean`: part of the body, ended as HTTP should end it; the stream's own terminator is missing.
    CutClean,
    /// `drip`: the whole answer, one byte per `every`.
    Drip,
    /// `short-length`: `content-length` is smaller than the body that follows.
    ShortLength,
    /// `long-length`: `content-length` is larger than the body; FIN follows.
    LongLength,
    /// `error-first`: a 200 whose first event is an error.
    ErrorFirst,
    /// `error-preamble`: a 200 with the lifecycle events that come before content, then an error event.
    ErrorPreamble,
    /// `error-mid`: a 200 with some content, then an error event.
    ErrorMid,
    /// `giant-event`: one content event of `size`.
    GiantEvent,
    /// `giant-headers`: `count` response headers, together `size` long.
    GiantHeaders,
    /// `invalid-utf8`: bytes in the answer's text that are not UTF-8.
    InvalidUtf8,
    /// `interim`: `count` interim answers (`status` 103 or 102) before the final one.
    Interim,
    /// `gzip`: the answer with `content-encoding: gzip`, asked for or not.
    Gzip,
    /// `length-and-chunked`: `content-length` and `transfer-encoding: chunked` together.
    LengthAndChunked,
    /// `trailers`: a chunked answer with trailer fields.
    Trailers,
    /// `bad-head`: a response head that breaks the rules of HTTP, chosen by `kind`.
    BadHead,
    /// `close-idle`: a healthy keep-alive answer; the idle connection is closed after `for`, unannounced.
    CloseIdle,
    /// `empty`: a 200 without a byte of body.
    Empty,
    /// `json`: JSON although a stream was asked for.
    Json,
    /// `raw`: the given bytes instead of an HTTP answer, then FIN.
    Raw,
}

impl Fault {
    /// The name as scenario files and headers write it.
    #[must_use]
    pub fn name(self) -> Cow<'static, str> {
        if let Self::Status(status) = self {
            return Cow::Owned(status.to_string());
        }
        Cow::Borrowed(
            CATALOGUE
                .iter()
                .find(|entry| entry.fault == self)
                .map_or("unlisted", |entry| entry.name),
        )
    }

    /// Whether the model was at work for this answer, so that a vendor would bill it.
    ///
    /// True for every answer that carries output, whole or broken; false for statuses and for silence before the head.
    #[must_use]
    pub fn executes(self) -> bool {
        matches!(
            self,
            Self::Ok
                | Self::FinHead
                | Self::HangBody
                | Self::ResetBody
                | Self::Cut
                | Self::CutClean
                | Self::Drip
                | Self::ShortLength
                | Self::LongLength
                | Self::ErrorMid
                | Self::GiantEvent
                | Self::GiantHeaders
                | Self::InvalidUtf8
                | Self::Interim
                | Self::Gzip
                | Self::LengthAndChunked
                | Self::Trailers
                | Self::BadHead
                | Self::CloseIdle
                | Self::Json
        )
    }
}

//! What the AI vendors' APIs say, and how to say it back.
//!
//! Three APIs carry nearly all traffic: Anthropic Messages, `OpenAI` Chat
//! Completions and `OpenAI` Responses; dozens of vendors speak one of them.
//! Everything that depends on which one a caller speaks is in this module, so
//! that the rest of the proxy can decide without knowing a vendor:
//!
//! * [`Dialect::detect`]: which API is this request for;
//! * [`Ask::read`]: what does it ask for, and for whom;
//! * [`errors::read`]: what does an error body mean;
//! * [`AnswerReader`], and [`Ending`] for streams: why did an answer end, and what did it cost;
//! * [`meaning()`]: what does one event of a stream mean, and [`Ending`]: is the stream whole;
//! * [`reply::render`]: an answer of our own, in the caller's dialect;
//! * [`errors::body`] and [`errors::frame`]: an error of our own, in the caller's dialect.
//!
//! Two rules hold throughout.
//! Reading never fails: a proxy that rejects what it does not understand breaks
//! every feature that is newer than itself, so what cannot be read is taken as
//! absent or unknown and passes.
//! Writing is exact: official SDKs silently swallow errors and crash on answers
//! whose shape is slightly off, so every shape written here is one that was run
//! against them (`tests/payloads/`).
//!
//! Nothing here does I/O, knows the time or decides on a retry.

pub mod answer;
pub mod ask;
pub mod continuation;
mod ending;
pub mod errors;
pub mod fence;
mod json;
mod meaning;
pub mod reply;
mod scan;
mod sieve;
#[cfg(test)]
mod tests;
pub mod text;
pub(crate) mod times;
mod usage;
mod wire;
mod words;

pub use answer::{AnswerReader, Reading};
pub use ask::{Ask, Private, Structured};
pub use ending::Ending;
pub use errors::{ErrorKind, ErrorSignal, ErrorSpec};
pub use meaning::{End, Finish, Meaning, meaning};
pub use reply::{Rendered, ReplyText};
pub(crate) use scan::plain as json_plain;
pub use usage::Usage;

/// Whose conventions a request follows; compatible vendors count as the one they imitate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Vendor {
    /// Errors are `{"type":"error","error":{…}}`.
    Anthropic,
    /// Errors are `{"error":{…}}`; also what an unknown path is taken for.
    OpenAi,
}

/// Which call of the API it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// Anthropic `/v1/messages`.
    Messages,
    /// `OpenAI` `/v1/chat/completions`.
    ChatCompletions,
    /// `OpenAI` `/v1/responses`.
    Responses,
    /// `OpenAI` `/v1/completions`, the legacy text completion.
    Completions,
    /// `OpenAI` `/v1/embeddings`.
    Embeddings,
    /// Anything else: token counts, batches, files, audio, what comes next year.
    Other,
}

/// The API that a caller speaks: the vendor and the call.
///
/// The fields are private because not every pair exists; use the constants or [`detect`](Self::detect).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Dialect {
    vendor: Vendor,
    endpoint: Endpoint,
}

impl Dialect {
    /// Anthropic Messages.
    pub const MESSAGES: Self = Self::of(Vendor::Anthropic, Endpoint::Messages);
    /// Any other call of the Anthropic API.
    pub const ANTHROPIC_OTHER: Self = Self::of(Vendor::Anthropic, Endpoint::Other);
    /// `OpenAI` Chat Completions.
    pub const CHAT_COMPLETIONS: Self = Self::of(Vendor::OpenAi, Endpoint::ChatCompletions);
    /// `OpenAI` Responses.
    pub const RESPONSES: Self = Self::of(Vendor::OpenAi, Endpoint::Responses);
    /// `OpenAI` legacy Completions.
    pub const COMPLETIONS: Self = Self::of(Vendor::OpenAi, Endpoint::Completions);
    /// `OpenAI` Embeddings.
    pub const EMBEDDINGS: Self = Self::of(Vendor::OpenAi, Endpoint::Embeddings);
    /// Any other call of the `OpenAI` API, and any call that is not recognised.
    pub const OPENAI_OTHER: Self = Self::of(Vendor::OpenAi, Endpoint::Other);

    /// Every dialect there is.
    pub const ALL: [Self; 7] = [
        Self::MESSAGES,
        Self::ANTHROPIC_OTHER,
        Self::CHAT_COMPLETIONS,
        Self::RESPONSES,
        Self::COMPLETIONS,
        Self::EMBEDDINGS,
        Self::OPENAI_OTHER,
    ];

    const fn of(vendor: Vendor, endpoint: Endpoint) -> Self {
        Self { vendor, endpoint }
    }

    /// Tells the dialect from the request's path, and from the presence of an
    /// `anthropic-version` header for paths that both vendors have (`/v1/models`, `/v1/files`).
    ///
    /// The path is decisive because headers are not: an `x-api-key` no longer
    /// marks Anthropic traffic. Only its last segments count, so prefixes of
    /// gateways and clouds do not matter (`/openai/deployments/x/chat/completions`,
    /// `/v1beta/openai/chat/completions`), nor does a trailing slash. The query
    /// is no part of the path and is ignored if it is passed along. The method
    /// is not looked at: a `GET` of `/v1/chat/completions` lists stored answers.
    #[must_use]
    pub fn detect(path: &str, has_anthropic_version: bool) -> Self {
        // Most requests are for one of these, and need no taking apart.
        match path {
            "/v1/messages" => return Self::MESSAGES,
            "/v1/chat/completions" => return Self::CHAT_COMPLETIONS,
            "/v1/responses" => return Self::RESPONSES,
            _ => {}
        }
        Self::detect_in_parts(path, has_anthropic_version)
    }

    fn detect_in_parts(path: &str, has_anthropic_version: bool) -> Self {
        let path = path.split_once('?').map_or(path, |(path, _)| path);
        let mut from_end = path.rsplit('/').filter(|segment| !segment.is_empty());
        let last = from_end.next().unwrap_or_default();
        let before = from_end.next().unwrap_or_default();

        match (before, last) {
            // Threads and stored chats of OpenAI have `…/messages` too, below an id.
            (version, "messages") if is_version(version) => Self::MESSAGES,
            ("" | "anthropic", "messages") if has_anthropic_version => Self::MESSAGES,
            ("chat", "completions") => Self::CHAT_COMPLETIONS,
            (_, "completions") => Self::COMPLETIONS,
            (_, "responses") => Self::RESPONSES,
            (_, "embeddings") => Self::EMBEDDINGS,
            (version, "complete") if is_version(version) => Self::ANTHROPIC_OTHER,
            _ if has_anthropic_version || is_below_messages(path) => Self::ANTHROPIC_OTHER,
            _ => Self::OPENAI_OTHER,
        }
    }

    /// Whose conventions to follow.
    #[must_use]
    pub const fn vendor(self) -> Vendor {
        self.vendor
    }

    /// Which call it is.
    #[must_use]
    pub const fn endpoint(self) -> Endpoint {
        self.endpoint
    }

    /// A name from a closed set, fit for a metric label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self.endpoint {
            Endpoint::Messages => "anthropic_messages",
            Endpoint::ChatCompletions => "openai_chat",
            Endpoint::Responses => "openai_responses",
            Endpoint::Completions => "openai_completions",
            Endpoint::Embeddings => "openai_embeddings",
            Endpoint::Other => match self.vendor {
                Vendor::Anthropic => "anthropic_other",
                Vendor::OpenAi => "openai_other",
            },
        }
    }
}

/// `v1`, `v2`, `v1beta`: the segment that vendors put before the resource.
fn is_version(segment: &str) -> bool {
    segment
        .strip_prefix('v')
        .is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
}

/// `/v1/messages/count_tokens`, `/v1/messages/batches/{id}/results` and their kind.
fn is_below_messages(path: &str) -> bool {
    let mut segments = path
        .split('/')
        .filter(|segment| !segment.is_empty())
        .peekable();
    while let Some(segment) = segments.next() {
        if is_version(segment) && segments.peek() == Some(&"messages") {
            return true;
        }
    }
    false
}

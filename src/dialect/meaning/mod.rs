//! What one event of a stream means for the answer as a whole.
//!
//! A stream's status is sent before its answer exists, so a 200 proves nothing:
//! an overloaded service answers 200, greets with an event or two and then says
//! that it is overloaded. Until the first event with content, nothing has been
//! given to the caller that could not be replaced; after it, everything has.
//! This module finds that line, and the events that tell how the answer ended.
//!
//! Content is by far the most frequent event and the caller waits for it, so it
//! is recognised by the event's name or by a search of its bytes; JSON is read
//! only where those leave a doubt. The searches are sound because a quote
//! inside a JSON string is always escaped: `"finish_reason":` cannot occur in
//! the text of an answer.

mod chat;
mod messages;
mod responses;
#[cfg(test)]
mod tests;

pub(super) use chat::finished_choices;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Dialect, Endpoint, ErrorSignal, errors, json, words};
use crate::stream::sse::Event;

/// The longest word of an API's own, such as an event's type or a stop reason.
pub(super) const MAX_WORD_LEN: usize = 64;

/// What an event means. Until the first event that is neither [`Preamble`](Self::Preamble)
/// nor [`Other`](Self::Other), an answer can still be replaced by another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Meaning {
    /// The answer is announced, but nothing of it is here: `message_start`,
    /// `ping`, `response.created`, a chunk with a role alone, an empty delta.
    Preamble,
    /// A part of the answer.
    Content,
    /// The model has stopped, for this reason; the same event may hold the last of the content.
    Finish(Finish),
    /// The stream has said all that it had to say.
    End(End),
    /// The stream reports an error; nothing sensible follows.
    Error(ErrorSignal),
    /// Neither: a usage report, an event of a kind that says nothing of the answer.
    Other,
}

impl Meaning {
    /// Whether nothing of the answer stands in the event, nor of its end: after it, another answer can
    /// still take this one's place.
    #[must_use]
    pub const fn is_preamble(&self) -> bool {
        matches!(self, Self::Preamble | Self::Other)
    }
}

/// Why the model stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Finish {
    /// It had finished, or met a stop sequence.
    Stop,
    /// The answer reached its token limit: it is cut.
    Length,
    /// Prompt and answer filled the model's context: it is cut, and a larger limit would not help.
    ContextFull,
    /// It asks for a tool.
    ToolUse,
    /// It declined, or a content filter stopped it.
    Filtered,
    /// It paused in the middle and waits to be continued (`pause_turn`).
    Paused,
    /// A reason that is not known here.
    Other,
}

impl Finish {
    /// Whether the answer is cut by a limit.
    #[must_use]
    pub const fn is_truncated(self) -> bool {
        matches!(self, Self::Length | Self::ContextFull)
    }

    /// The reason of an answer of which one choice ended by `first` and another by `second`: that one
    /// of them is cut must not be lost.
    pub(super) fn of_several(first: Option<Self>, second: Option<Self>) -> Option<Self> {
        first
            .filter(|first| first.is_truncated())
            .or(second)
            .or(first)
    }

    /// In the words of `incomplete_details.reason` of Responses.
    pub(super) fn of_incomplete(reason: &str) -> Self {
        match reason {
            "max_output_tokens" => Self::Length,
            "content_filter" => Self::Filtered,
            _ => Self::Other,
        }
    }

    /// A name from a closed set, fit for a metric label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::ContextFull => "context_full",
            Self::ToolUse => "tool_use",
            Self::Filtered => "filtered",
            Self::Paused => "paused",
            Self::Other => "other",
        }
    }
}

/// How a stream says that it is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// The bare terminator, `[DONE]` or `message_stop`; the reason came before.
    Terminator,
    /// `response.completed` or `response.incomplete`: terminator and reason in one.
    Finished(Finish),
    /// `response.failed`. Some SDKs raise on it, others leave it to the
    /// application. If nothing but preamble came before, it is as good as an
    /// error status; later it is the upstream's own end of the stream.
    Failed(ErrorSignal),
}

/// What `event` means in a stream of this dialect. Never fails; an event that
/// cannot be read is taken by its name, or for content.
#[must_use]
pub fn meaning(dialect: Dialect, event: &Event) -> Meaning {
    if event.name() == Some(b"error") {
        return Meaning::Error(errors::read(event.data()).unwrap_or(ErrorSignal::unknown()));
    }
    match dialect.endpoint() {
        Endpoint::Messages => messages::meaning(event),
        Endpoint::Responses => responses::meaning(event),
        Endpoint::ChatCompletions | Endpoint::Completions => chat::meaning(event),
        Endpoint::Embeddings | Endpoint::Other => unknown_meaning(event),
    }
}

/// Why the model stopped, in the endpoint's own word; `None` for a word that says it has not.
pub(super) fn finish_word(endpoint: Endpoint, word: &str) -> Option<Finish> {
    Some(match (endpoint, word) {
        (Endpoint::Messages, "end_turn" | "stop_sequence")
        | (Endpoint::ChatCompletions | Endpoint::Completions, "stop")
        | (Endpoint::Responses, "completed") => Finish::Stop,
        (Endpoint::Messages, "max_tokens")
        | (Endpoint::ChatCompletions | Endpoint::Completions, "length") => Finish::Length,
        (Endpoint::Messages, "model_context_window_exceeded") => Finish::ContextFull,
        (Endpoint::Messages, "tool_use")
        | (Endpoint::ChatCompletions | Endpoint::Completions, "tool_calls" | "function_call") => {
            Finish::ToolUse
        }
        (Endpoint::Messages, "refusal")
        | (Endpoint::ChatCompletions | Endpoint::Completions, "content_filter") => Finish::Filtered,
        (Endpoint::Messages, "pause_turn") => Finish::Paused,
        (Endpoint::Responses, "queued" | "in_progress") => return None,
        _ => Finish::Other,
    })
}

/// Of a stream that is not known here, nothing can be said but where it fails and ends.
fn unknown_meaning(event: &Event) -> Meaning {
    if is_done(event) {
        return Meaning::End(End::Terminator);
    }
    error_in(event).map_or(Meaning::Content, Meaning::Error)
}

/// `[DONE]`, as `OpenAI`'s SDKs recognise it: by how the data begins.
fn is_done(event: &Event) -> bool {
    event.data().starts_with(b"[DONE]")
}

/// The error that an event without the name `error` carries.
fn error_in(event: &Event) -> Option<ErrorSignal> {
    let data = event.data();
    // The word stands in every form of error: as a key, or as the value of `type`.
    words::ERROR
        .is_in(data)
        .then(|| errors::read(data))
        .flatten()
}

/// Whether an empty string may stand in the data: as bytes, `""`.
///
/// Without one, no delta is empty and the JSON need not be read.
fn may_hold_empty_text(event: &Event) -> bool {
    words::EMPTY.is_in(event.data())
}

/// Whether the value is an empty string.
fn is_empty_text(value: Option<&RawValue>) -> bool {
    value.is_some_and(|value| value.get() == "\"\"")
}

/// The fields by which an event without a name tells what it is.
#[derive(Default, Deserialize)]
struct Typed<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<&'a RawValue>,
}

/// The event's kind: its name, or the `type` within its data for a server that leaves the name out.
fn with_kind(event: &Event, of_kind: impl FnOnce(&[u8]) -> Meaning) -> Meaning {
    if let Some(name) = event.name() {
        return of_kind(name);
    }
    let typed: Typed<'_> = json::object(event.data()).unwrap_or_default();
    let kind = json::text(typed.kind, MAX_WORD_LEN);
    of_kind(kind.as_deref().unwrap_or_default().as_bytes())
}

/// An event of a kind that a dialect with kinds does not have.
fn of_unknown_kind(event: &Event) -> Meaning {
    // `[DONE]` ends nothing in such a dialect, but some servers add it.
    if is_done(event) {
        return Meaning::Other;
    }
    // An error in another dialect's shape comes from a gateway in between. All
    // else may be of a kind newer than this code: it must not be held back.
    error_in(event).map_or(Meaning::Content, Meaning::Error)
}

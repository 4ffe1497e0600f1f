//! An answer of our own in place of the model's, in the caller's dialect.
//!
//! When no upstream can answer, a sentence that a person can read serves an
//! application better than an exception: a chat shows "please try again"
//! instead of a stack trace. But only where a sentence is what the application
//! expects. A caller that parses JSON gets the JSON that the operator has for it,
//! or the vendor's *refusal* form, which the SDKs' parse helpers understand as
//! "no result"; prose would make them raise.
//! And where an invented answer would do harm, there is none:
//!
//! * embeddings: a made-up vector would be stored and searched for ever;
//! * legacy completions: the text is a continuation of the prompt, and ends up
//!   inside the user's code or sentence;
//! * a request that is chained to state at the vendor: the vendor would not
//!   know our answer's id, and the next call would fail;
//! * endpoints that are not known.
//!
//! The shapes are those in `tests/payloads/`, which were run against every
//! official SDK: some of them fail on answers that merely leave a field out.

mod chat;
mod messages;
mod responses;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use serde::Serialize;

use super::{Ask, Dialect, Endpoint, Structured, wire};

/// The content type of an answer in one piece. Without it, the JavaScript SDKs give the bare text.
const JSON: &str = "application/json";
/// The content type of a streamed answer.
const EVENT_STREAM: &str = "text/event-stream; charset=utf-8";

/// The model's name in an answer to a request that named none.
const NO_MODEL: &str = "surgetank";

/// What an answer of our own says.
#[derive(Debug, Clone, Copy)]
pub struct ReplyText<'a> {
    /// The sentence for the person at the end.
    pub text: &'a str,
    /// A JSON object, as text, for a caller that asked for JSON; without it that caller gets a refusal.
    pub json: Option<&'a str>,
    /// Makes the answer's id unique (`msg_…`, `chatcmpl-…`, `resp_…`):
    /// applications use those as keys. Letters, digits, `_` and `-`.
    pub id: &'a str,
    /// The time of the answer, in seconds since 1970 (UTC).
    pub unix_time: u64,
}

/// An answer of our own, ready to be sent with status 200.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// The value for the `content-type` header.
    pub content_type: &'static str,
    /// The whole body.
    pub body: Bytes,
    /// The body is a stream of events, not one JSON document.
    pub streamed: bool,
}

/// All that a dialect needs to write the answer.
#[derive(Clone, Copy)]
struct Draft<'a> {
    text: &'a str,
    id: &'a str,
    unix_time: u64,
    model: &'a str,
    form: Form,
    include_usage: bool,
}

/// What the text is written as.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// The assistant's words.
    Prose,
    /// The assistant's reason not to answer, for callers that parse the words.
    Refusal,
}

/// The answer to a request, in the form that it asked for; `None` where none would make sense.
///
/// See the [module](self) for when that is. The model's name is the request's own.
#[must_use]
pub fn render(dialect: Dialect, ask: &Ask, reply: &ReplyText<'_>) -> Option<Rendered> {
    if ask.chained {
        return None;
    }
    let (form, text) = match (ask.structured, reply.json) {
        (Structured::No, _) => (Form::Prose, reply.text),
        (Structured::JsonObject | Structured::JsonSchema, Some(json)) => (Form::Prose, json),
        // No tool can be called in the model's name.
        _ => (Form::Refusal, reply.text),
    };
    let draft = Draft {
        text,
        form,
        id: reply.id,
        unix_time: reply.unix_time,
        model: ask.model.as_deref().unwrap_or(NO_MODEL),
        include_usage: ask.include_usage,
    };
    match (dialect.endpoint(), ask.stream) {
        (Endpoint::Messages, false) => Some(whole(&messages::whole(&draft))),
        (Endpoint::Messages, true) => Some(streamed(messages::stream(&draft))),
        (Endpoint::ChatCompletions, false) => Some(whole(&chat::whole(&draft))),
        (Endpoint::ChatCompletions, true) => Some(streamed(chat::stream(&draft))),
        (Endpoint::Responses, false) => Some(whole(&responses::whole(&draft))),
        (Endpoint::Responses, true) => Some(streamed(responses::stream(&draft))),
        (Endpoint::Completions | Endpoint::Embeddings | Endpoint::Other, _) => None,
    }
}

fn whole(answer: &impl Serialize) -> Rendered {
    let mut body = Vec::with_capacity(1024);
    wire::push_json(&mut body, answer);
    Rendered {
        content_type: JSON,
        body: body.into(),
        streamed: false,
    }
}

fn streamed(body: Vec<u8>) -> Rendered {
    Rendered {
        content_type: EVENT_STREAM,
        body: body.into(),
        streamed: true,
    }
}

/// The deltas that a text is streamed in: the two of the verified streams, one
/// for a short text, so that callers who join deltas and callers who show them
/// one by one both do what they do every day.
fn deltas(text: &str) -> impl Iterator<Item = &str> {
    const FIRST_CHARS: usize = 24;
    let end = text
        .char_indices()
        .nth(FIRST_CHARS)
        .map_or(text.len(), |(at, _)| at);
    let (first, rest) = text.split_at(end);
    [first, rest].into_iter().filter(|delta| !delta.is_empty())
}

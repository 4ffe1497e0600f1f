//! Events of Anthropic Messages.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    End, Event, Finish, MAX_WORD_LEN, Meaning, finish_word, is_empty_text, may_hold_empty_text,
    of_unknown_kind, with_kind,
};
use crate::dialect::{Endpoint, json};

/// `content_block_start`, `content_block_delta` and `message_delta`.
#[derive(Default, Deserialize)]
struct Data<'a> {
    #[serde(borrow)]
    content_block: Option<&'a RawValue>,
    #[serde(borrow)]
    delta: Option<&'a RawValue>,
}

/// A block or a delta.
#[derive(Default, Deserialize)]
struct Part<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<&'a RawValue>,
    #[serde(borrow)]
    text: Option<&'a RawValue>,
    #[serde(borrow)]
    thinking: Option<&'a RawValue>,
    #[serde(borrow)]
    partial_json: Option<&'a RawValue>,
    #[serde(borrow)]
    stop_reason: Option<&'a RawValue>,
}

pub(super) fn meaning(event: &Event) -> Meaning {
    with_kind(event, |kind| match kind {
        b"content_block_delta" => of_block_delta(event),
        b"content_block_start" => of_block_start(event),
        b"message_delta" => of_message_delta(event),
        b"message_stop" => Meaning::End(End::Terminator),
        b"message_start" | b"ping" => Meaning::Preamble,
        b"content_block_stop" => Meaning::Other,
        _ => of_unknown_kind(event),
    })
}

fn of_block_delta(event: &Event) -> Meaning {
    if !may_hold_empty_text(event) {
        return Meaning::Content;
    }
    let data: Data<'_> = json::object(event.data()).unwrap_or_default();
    let delta: Part<'_> = json::object_in(data.delta);
    let is_empty = [delta.text, delta.thinking, delta.partial_json]
        .into_iter()
        .any(is_empty_text);
    if is_empty {
        Meaning::Preamble
    } else {
        Meaning::Content
    }
}

/// A block of text begins empty; one of a tool or a citation is a decision of the model already.
fn of_block_start(event: &Event) -> Meaning {
    let data: Data<'_> = json::object(event.data()).unwrap_or_default();
    let block: Part<'_> = json::object_in(data.content_block);
    let text = match json::text(block.kind, MAX_WORD_LEN).as_deref() {
        Some("text") => block.text,
        Some("thinking") => block.thinking,
        _ => return Meaning::Content,
    };
    if is_empty_text(text) {
        Meaning::Preamble
    } else {
        Meaning::Content
    }
}

fn of_message_delta(event: &Event) -> Meaning {
    let data: Data<'_> = json::object(event.data()).unwrap_or_default();
    let delta: Part<'_> = json::object_in(data.delta);
    let Some(reason) = delta.stop_reason else {
        return Meaning::Other;
    };
    let word = json::text(Some(reason), MAX_WORD_LEN);
    let finish = word.and_then(|word| finish_word(Endpoint::Messages, &word));
    Meaning::Finish(finish.unwrap_or(Finish::Other))
}

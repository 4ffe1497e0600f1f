//! Events of `OpenAI` Responses.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    End, ErrorSignal, Event, Finish, MAX_WORD_LEN, Meaning, is_empty_text, may_hold_empty_text,
    of_unknown_kind, with_kind,
};
use crate::dialect::{errors, json};

/// What announces an answer or an empty part of it, or keeps the connection alive.
const PREAMBLE: [&[u8]; 7] = [
    b"response.created",
    b"response.queued",
    b"response.in_progress",
    b"response.content_part.added",
    b"response.reasoning_summary_part.added",
    b"ping",
    b"keepalive",
];

#[derive(Default, Deserialize)]
struct Data<'a> {
    #[serde(borrow)]
    delta: Option<&'a RawValue>,
    #[serde(borrow)]
    item: Option<&'a RawValue>,
    #[serde(borrow)]
    response: Option<&'a RawValue>,
}

/// An output item or a response.
#[derive(Default, Deserialize)]
struct Part<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<&'a RawValue>,
    #[serde(borrow)]
    incomplete_details: Option<&'a RawValue>,
    #[serde(borrow)]
    reason: Option<&'a RawValue>,
}

pub(super) fn meaning(event: &Event) -> Meaning {
    with_kind(event, |kind| match kind {
        kind if PREAMBLE.contains(&kind) => Meaning::Preamble,
        b"response.output_item.added" => of_item(event),
        b"response.completed" => Meaning::End(End::Finished(Finish::Stop)),
        b"response.incomplete" => Meaning::End(End::Finished(incomplete_reason(event))),
        b"response.failed" => Meaning::End(End::Failed(failure(event))),
        kind if kind.ends_with(b".delta") => of_delta(event),
        kind if kind.starts_with(b"response.") => Meaning::Content,
        _ => of_unknown_kind(event),
    })
}

/// A message or a reasoning begins empty; any other item is a decision of the model already.
fn of_item(event: &Event) -> Meaning {
    let data: Data<'_> = json::object(event.data()).unwrap_or_default();
    let item: Part<'_> = json::object_in(data.item);
    match json::text(item.kind, MAX_WORD_LEN).as_deref() {
        Some("message" | "reasoning") => Meaning::Preamble,
        _ => Meaning::Content,
    }
}

fn of_delta(event: &Event) -> Meaning {
    if !may_hold_empty_text(event) {
        return Meaning::Content;
    }
    let data: Data<'_> = json::object(event.data()).unwrap_or_default();
    if is_empty_text(data.delta) {
        Meaning::Preamble
    } else {
        Meaning::Content
    }
}

fn incomplete_reason(event: &Event) -> Finish {
    let data: Data<'_> = json::object(event.data()).unwrap_or_default();
    let response: Part<'_> = json::object_in(data.response);
    let details: Part<'_> = json::object_in(response.incomplete_details);
    json::text(details.reason, MAX_WORD_LEN)
        .map_or(Finish::Other, |reason| Finish::of_incomplete(&reason))
}

fn failure(event: &Event) -> ErrorSignal {
    let data: Data<'_> = json::object(event.data()).unwrap_or_default();
    data.response
        .and_then(|response| errors::read(response.get().as_bytes()))
        .unwrap_or(ErrorSignal::unknown())
}

//! Chunks of `OpenAI` Chat Completions, and of the legacy Completions, which differ in the delta only.

use std::{borrow::Cow, collections::BTreeMap};

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{End, Event, Finish, MAX_WORD_LEN, Meaning, error_in, finish_word, is_done};
use crate::dialect::{Endpoint, json, words};

#[derive(Deserialize)]
struct Chunk<'a> {
    #[serde(borrow)]
    choices: Option<&'a RawValue>,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
struct Choice<'a> {
    #[serde(borrow)]
    index: Option<&'a RawValue>,
    #[serde(borrow)]
    delta: Option<&'a RawValue>,
    /// The legacy API's delta.
    #[serde(borrow)]
    text: Option<&'a RawValue>,
    #[serde(borrow)]
    finish_reason: Option<&'a RawValue>,
}

pub(super) fn meaning(event: &Event) -> Meaning {
    if is_done(event) {
        return Meaning::End(End::Terminator);
    }
    if let Some(error) = error_in(event) {
        return Meaning::Error(error);
    }
    if is_plain_content(event.data()) {
        return Meaning::Content;
    }
    let Some(chunk) = json::object::<Chunk<'_>>(event.data()) else {
        return Meaning::Content;
    };
    let choices = choices(&chunk);
    if choices.is_empty() {
        // Azure begins with its verdict on the prompt; the end may be a usage report.
        let is_usage = chunk.usage.is_some();
        return if is_usage {
            Meaning::Other
        } else {
            Meaning::Preamble
        };
    }
    let reasons = choices.iter().filter_map(Choice::reason);
    let finish = reasons.fold(None, |all, reason| {
        Finish::of_several(all, Some(finish(reason)))
    });
    if let Some(finish) = finish {
        return Meaning::Finish(finish);
    }
    let is_empty = choices.iter().all(Choice::is_empty);
    if is_empty {
        Meaning::Preamble
    } else {
        Meaning::Content
    }
}

/// The choices named in this chunk, as bits, and those of them that finish with it.
///
/// Choices above the 128th, the most that the API gives, are left out.
pub(in crate::dialect) fn finished_choices(event: &Event) -> (u128, u128) {
    let Some(chunk) = json::object::<Chunk<'_>>(event.data()) else {
        return (0, 0);
    };
    let (mut seen, mut finished) = (0, 0);
    for choice in choices(&chunk) {
        let index = json::whole_number(choice.index).unwrap_or(0);
        let bit = u32::try_from(index)
            .ok()
            .and_then(|index| 1_u128.checked_shl(index))
            .unwrap_or(0);
        seen |= bit;
        if choice.reason().is_some() {
            finished |= bit;
        }
    }
    (seen, finished)
}

/// Whether a search of the bytes already shows text, and no reason to stop.
///
/// `false` when in doubt; then the JSON is read.
fn is_plain_content(data: &[u8]) -> bool {
    let has_text = [&words::CONTENT, &words::TEXT]
        .into_iter()
        .filter_map(|key| key.first_rest(data))
        .any(|text| text.first().is_some_and(|first| *first != b'"'));
    has_text && !says_finished(data)
}

/// Whether any `finish_reason` may be something else than `null`.
fn says_finished(data: &[u8]) -> bool {
    let mut values = words::FINISH_REASON.values(data);
    values.any(|value| !value.starts_with(b"null") && !value.starts_with(b"\"\""))
}

fn choices<'a>(chunk: &Chunk<'a>) -> Vec<Choice<'a>> {
    chunk
        .choices
        .map(|choices| json::elements(choices.get().as_bytes()))
        .unwrap_or_default()
        .into_iter()
        .map(|choice| json::object_in(Some(choice)))
        .collect()
}

fn finish(reason: &RawValue) -> Finish {
    json::text(Some(reason), MAX_WORD_LEN)
        .and_then(|word| finish_word(Endpoint::ChatCompletions, &word))
        .unwrap_or(Finish::Other)
}

// === impl Choice ===

impl<'a> Choice<'a> {
    /// The reason to stop; some servers write an empty one for none.
    fn reason(&self) -> Option<&'a RawValue> {
        self.finish_reason
            .filter(|reason| json::is_truthy(Some(reason)))
    }

    /// Whether nothing but a role is in it. Vendors have added many kinds of
    /// content to the delta, so any other field that is not empty counts.
    fn is_empty(&self) -> bool {
        let delta: BTreeMap<Cow<'_, str>, &RawValue> = json::object_in(self.delta);
        let is_silent = |(key, value): (&Cow<'_, str>, &&RawValue)| {
            key == "role" || !json::is_truthy(Some(value))
        };
        delta.iter().all(is_silent) && !json::is_truthy(self.text)
    }
}

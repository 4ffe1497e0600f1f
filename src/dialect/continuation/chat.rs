//! Streams of Chat Completions: chunks of one choice, each with the ids of its answer.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value, value::RawValue};

use super::{Event, Fate, Held, Text, Unfit, Usage, event_of};
use crate::dialect::json;

/// What every chunk of one answer carries, as it is spelt in the first.
#[derive(Debug, Default)]
pub(super) struct Chunks {
    ids: Option<[Option<Box<str>>; 3]>,
}

#[derive(Default, Deserialize)]
struct Chunk<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    created: Option<&'a RawValue>,
    #[serde(borrow)]
    model: Option<&'a RawValue>,
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
    #[serde(borrow)]
    finish_reason: Option<&'a RawValue>,
}

impl<'a> Chunk<'a> {
    fn ids(&self) -> [Option<&'a RawValue>; 3] {
        [self.id, self.created, self.model]
    }
}

/// What the only choice of a chunk says.
struct Said<'a> {
    text: String,
    finish_reason: Option<&'a RawValue>,
}

impl Chunks {
    pub(super) fn see(
        &mut self,
        event: &Event,
        is_later: bool,
        text: &mut Text,
        usage: &mut Usage,
    ) -> Fate {
        let Some(chunk) = json::object::<Chunk<'_>>(event.data()) else {
            return Fate::Pass; // the terminator
        };
        if self.ids.is_none() {
            let spelt = |id: Option<&RawValue>| id.map(|id| id.get().into());
            self.ids = Some(chunk.ids().map(spelt));
        }
        let told = chunk.usage.filter(|usage| json::is_truthy(Some(usage)));
        if let Some(told) = told {
            usage.note(told);
        }
        let choices = chunk
            .choices
            .map(|choices| json::elements(choices.get().as_bytes()))
            .unwrap_or_default();
        let said = match read(&choices) {
            Ok(said) => said,
            Err(unfit) => {
                text.refuse(unfit);
                None
            }
        };
        text.push(said.as_ref().map_or("", |said| &said.text));
        let is_mute = said
            .as_ref()
            .is_some_and(|said| said.text.is_empty() && said.finish_reason.is_none());
        if is_later && is_mute && told.is_none() {
            return Fate::Drop; // a second beginning
        }
        let raw = if is_later {
            self.changed(event, &chunk, told.and_then(|_| usage.total()))
        } else {
            None
        };
        match said.filter(|said| said.finish_reason.is_some()) {
            Some(said) => Fate::Hold(Held {
                instead: unfinished(event, raw.as_ref(), &said),
                raw: raw.map_or_else(Bytes::new, |data| event_of(event, &data)),
            }),
            None => raw.map_or(Fate::Pass, |data| Fate::Change(event_of(event, &data))),
        }
    }

    /// The chunk's data with the ids of the first stream, and the cost of all.
    fn changed(&self, event: &Event, chunk: &Chunk<'_>, total: Option<Value>) -> Option<Vec<u8>> {
        let total = total.map(|total| total.to_string());
        let first = self.ids.as_ref()?.iter().map(Option::as_deref);
        let mut edits: Vec<_> = chunk
            .ids()
            .into_iter()
            .zip(first)
            .chain([(chunk.usage, total.as_deref())])
            .filter_map(|(own, new)| {
                let span = json::span(event.data(), own)?;
                Some((span, new?.as_bytes()))
            })
            .collect();
        edits.sort_by_key(|(span, _)| span.start);
        json::spliced(event.data(), &edits)
    }
}

/// What the choices of a chunk say: nothing, or one of them something that is text and no more.
fn read<'a>(choices: &[&'a RawValue]) -> Result<Option<Said<'a>>, Unfit> {
    let [choice] = choices else {
        return if choices.is_empty() {
            Ok(None)
        } else {
            Err(Unfit::Content)
        };
    };
    let choice: Choice<'a> = json::object_in(Some(choice));
    if json::whole_number(choice.index).unwrap_or(0) != 0 {
        return Err(Unfit::Content);
    }
    let delta = choice.delta.map(|delta| serde_json::from_str(delta.get()));
    let delta: Map<String, Value> = match delta {
        None => Map::new(),
        Some(delta) => delta.map_err(|_| Unfit::Unreadable)?,
    };
    let is_silent = |value: &Value| match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    };
    let mut text = String::new();
    for (key, value) in delta {
        match (key.as_str(), value) {
            ("role", _) => {}
            ("content", Value::String(content)) => text = content,
            (_, value) if is_silent(&value) => {}
            _ => return Err(Unfit::Content),
        }
    }
    let finish_reason = choice
        .finish_reason
        .filter(|reason| json::is_truthy(Some(reason)));
    Ok(Some(Said {
        text,
        finish_reason,
    }))
}

/// The last chunk as one that is not the last; nothing where it says nothing else.
fn unfinished(event: &Event, changed: Option<&Vec<u8>>, said: &Said<'_>) -> Option<Bytes> {
    if said.text.is_empty() {
        return None;
    }
    let data = changed.map_or(event.data().as_ref(), Vec::as_slice);
    let mut chunk: Value = serde_json::from_slice(data).ok()?;
    chunk["choices"][0]["finish_reason"] = Value::Null;
    Some(event_of(event, chunk.to_string().as_bytes()))
}

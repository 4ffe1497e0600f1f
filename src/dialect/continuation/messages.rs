//! Streams of Messages: blocks by index, and one beginning and end.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Event, Fate, Held, Text, Unfit, Usage, event_of};
use crate::dialect::json;

/// The longest kind of an event, block or delta.
const MAX_WORD: usize = 64;

/// The blocks that the caller has seen begin and end.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    /// The block that text is being written into.
    open: Option<u64>,
    /// The latest index that was given out.
    latest: Option<u64>,
    /// Added to the indices of a later stream.
    offset: u64,
    /// Whether a later stream has begun a block.
    has_begun: bool,
}

#[derive(Default, Deserialize)]
struct Data<'a> {
    #[serde(borrow)]
    index: Option<&'a RawValue>,
    #[serde(borrow)]
    content_block: Option<&'a RawValue>,
    #[serde(borrow)]
    delta: Option<&'a RawValue>,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
    #[serde(borrow)]
    message: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
struct Part<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<&'a RawValue>,
    #[serde(borrow)]
    text: Option<&'a RawValue>,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
}

impl Part<'_> {
    fn is(&self, kind: &str) -> bool {
        json::text(self.kind, MAX_WORD).as_deref() == Some(kind)
    }

    fn text(&self) -> Option<String> {
        serde_json::from_str(self.text?.get()).ok()
    }
}

impl Blocks {
    pub(super) fn see(
        &mut self,
        event: &Event,
        is_later: bool,
        text: &mut Text,
        usage: &mut Usage,
    ) -> Fate {
        let Some(data) = json::object::<Data<'_>>(event.data()) else {
            return Fate::Pass;
        };
        match event.name().unwrap_or_default() {
            b"message_start" => {
                let message: Part<'_> = json::object_in(data.message);
                note(usage, message.usage);
                if is_later {
                    self.has_begun = false;
                    return Fate::Drop;
                }
                Fate::Pass
            }
            b"content_block_start" => self.begin(event, &data, is_later, text),
            b"content_block_delta" => {
                let delta: Part<'_> = json::object_in(data.delta);
                match delta.text().filter(|_| delta.is("text_delta")) {
                    Some(more) => text.push(&more),
                    None => text.refuse(Unfit::Content),
                }
                self.moved(event, &data, is_later)
            }
            b"content_block_stop" => {
                let raw = match self.moved(event, &data, is_later) {
                    Fate::Change(changed) => changed,
                    _ => Bytes::new(),
                };
                Fate::Hold(Held { raw, instead: None })
            }
            b"message_delta" => {
                note(usage, data.usage);
                match usage.total().filter(|_| is_later) {
                    Some(total) => priced(event, &data, &total.to_string()),
                    None => Fate::Pass,
                }
            }
            _ => Fate::Pass,
        }
    }

    fn begin(&mut self, event: &Event, data: &Data<'_>, is_later: bool, text: &mut Text) -> Fate {
        let block: Part<'_> = json::object_in(data.content_block);
        let index = json::whole_number(data.index).unwrap_or(0);
        let is_text = block.is("text");
        if !is_text {
            text.refuse(Unfit::Content);
        }
        if !is_later {
            if self.latest.is_some() {
                text.refuse(Unfit::Content);
            }
            self.latest = self.latest.max(Some(index));
            self.open = is_text.then_some(index);
            text.push(&block.text().unwrap_or_default());
            return Fate::Pass;
        }
        let is_first = !std::mem::replace(&mut self.has_begun, true);
        match self.open.filter(|_| is_first) {
            // The rest of the text goes into the block that it is the rest of.
            Some(open) if is_text => {
                self.offset = open.saturating_sub(index);
                Fate::Drop
            }
            // Something else comes first: the text ends here.
            Some(open) => {
                self.offset = open.saturating_add(1).saturating_sub(index);
                self.open = None;
                let end = format!(
                    "event: content_block_stop\ndata: {{\"type\":\"content_block_stop\",\"index\":{open}}}\n\n"
                );
                match self.moved(event, data, true) {
                    Fate::Change(begins) => Fate::Change([end.as_bytes(), &begins].concat().into()),
                    other => other,
                }
            }
            None => {
                text.refuse(Unfit::Content);
                self.moved(event, data, true)
            }
        }
    }

    /// The event with the index that its block has for the caller.
    fn moved(&self, event: &Event, data: &Data<'_>, is_later: bool) -> Fate {
        if !is_later || self.offset == 0 {
            return Fate::Pass;
        }
        let index = json::whole_number(data.index).map(|index| index.saturating_add(self.offset));
        let changed = index.and_then(|index| {
            let span = json::span(event.data(), data.index)?;
            json::spliced(event.data(), &[(span, index.to_string().as_bytes())])
        });
        changed.map_or(Fate::Pass, |data| Fate::Change(event_of(event, &data)))
    }
}

fn note(usage: &mut Usage, told: Option<&RawValue>) {
    if let Some(told) = told {
        usage.note(told);
    }
}

/// The event with the cost of all streams.
fn priced(event: &Event, data: &Data<'_>, total: &str) -> Fate {
    let changed = json::span(event.data(), data.usage)
        .and_then(|span| json::spliced(event.data(), &[(span, total.as_bytes())]));
    changed.map_or(Fate::Pass, |data| Fate::Change(event_of(event, &data)))
}

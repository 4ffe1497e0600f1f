//! Streams of Responses in the background: events with numbers, from a run that goes on without a listener.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Event, Fate};
use crate::dialect::json;

/// The longest id that is put into a path.
const MAX_ID: usize = 128;

/// Which run it is, and how far the caller has heard it.
#[derive(Debug, Default)]
pub(super) struct Run {
    id: Option<String>,
    heard: Option<u64>,
}

#[derive(Default, Deserialize)]
struct Data<'a> {
    #[serde(borrow)]
    sequence_number: Option<&'a RawValue>,
    #[serde(borrow)]
    response: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
struct Response<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
}

impl Run {
    pub(super) fn see(&mut self, event: &Event) -> Fate {
        let data: Data<'_> = json::object(event.data()).unwrap_or_default();
        if self.id.is_none() {
            let response: Response<'_> = json::object_in(data.response);
            let id = json::text(response.id, MAX_ID);
            self.id = id.filter(|id| is_plain(id)).map(Into::into);
        }
        let Some(number) = json::whole_number(data.sequence_number) else {
            return Fate::Pass;
        };
        if self.heard.is_some_and(|heard| number <= heard) {
            return Fate::Drop;
        }
        self.heard = Some(number);
        Fate::Pass
    }

    pub(super) fn next_target(&self) -> Option<String> {
        let (id, heard) = (self.id.as_deref()?, self.heard?);
        Some(format!("/{id}?stream=true&starting_after={heard}"))
    }
}

/// Whether an id can stand in a path and means nothing else there.
fn is_plain(id: &str) -> bool {
    id.bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
}

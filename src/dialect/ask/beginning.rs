//! The fields at the beginning of a body that is too large to be held.
//!
//! Such a body is passed on as it arrives, and only its beginning is known when it has to be decided on.
//! What can be read there is read: otherwise anybody could leave the limits of their user, and the form
//! in which they want errors, by making a request large enough. A field that stands behind the large
//! part is out of sight; official SDKs put the short fields of a request in either place.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer as _, IgnoredAny, MapAccess, Visitor};
use serde_json::{Deserializer, value::RawValue};

use super::Body;

/// What stands complete at the beginning of a JSON object; nothing, if a field of it stands there twice.
pub(super) fn fields(beginning: &[u8]) -> Body<'_> {
    let mut found = Body::default();
    let visitor = Beginning { found: &mut found };
    // The text ends in the middle, so that reading it always fails; what was found before counts.
    let read = Deserializer::from_slice(beginning).deserialize_map(visitor);
    if read.is_ok_and(|twice| twice) {
        return Body::default();
    }
    found
}

struct Beginning<'b, 'a> {
    found: &'b mut Body<'a>,
}

impl<'a> Visitor<'a> for Beginning<'_, 'a> {
    /// Whether a field stood there twice.
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut entries: A) -> Result<bool, A::Error> {
        while let Some(key) = entries.next_key::<Cow<'_, str>>()? {
            let Some(slot) = self.found.slot(&key) else {
                entries.next_value::<IgnoredAny>()?;
                continue;
            };
            let is_first = slot.is_none();
            *slot = Some(entries.next_value::<&RawValue>()?);
            if !is_first {
                *self.found = Body::default();
                return Ok(true);
            }
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Ask, Private};
    use crate::dialect::Dialect;

    const BODY: &str = r#"{"model":"m","stream":true,"metadata":{"user_id":"ann"},"max_tokens":7,
        "messages":[{"role":"user","content":"a long story that never"#;

    fn read(beginning: &str) -> Ask {
        Ask::read_beginning(Dialect::CHAT_COMPLETIONS, beginning.as_bytes())
    }

    #[test]
    fn what_stands_before_the_large_part_is_read() {
        let ask = read(BODY);
        assert_eq!(ask.model.as_deref(), Some("m"));
        assert_eq!(
            ask.metadata_user_id.as_ref().map(Private::expose),
            Some("ann")
        );
        assert!(ask.stream);
        assert_eq!(ask.max_output, Some(7));
        assert_eq!(ask.model_span, None, "nothing in it can be replaced");
    }

    #[test]
    fn what_is_not_complete_or_not_clear_is_not_there() {
        assert_eq!(read(r#"{"messages":[],"user":"an"#), Ask::default());
        assert_eq!(
            read(r#"{"user":"a","user":"b","messages":["#),
            Ask::default()
        );
        assert_eq!(read(r#"{"user":{"#), Ask::default());
        assert_eq!(read(r#"["user","a"#), Ask::default());
        assert_eq!(read(""), Ask::default());
        assert!(read(r#"{"u\u0073er":"a","x":["#).user.is_some());
    }

    proptest! {
        /// However little of a body is known: never a panic, and never something else than the whole would give.
        #[test]
        fn every_cut_reads_a_part_of_the_whole(cut in 0..BODY.len()) {
            let whole = format!("{BODY}\"}}]}}");
            let all = Ask::read(Dialect::CHAT_COMPLETIONS, whole.as_bytes());
            let part = read(&BODY[..cut]);
            prop_assert!(part.model.is_none() || part.model == all.model);
            prop_assert!(part.metadata_user_id.is_none() || part.metadata_user_id == all.metadata_user_id);
            prop_assert!(!part.stream || all.stream);
            prop_assert!(part.max_output.is_none() || part.max_output == all.max_output);
        }
    }
}

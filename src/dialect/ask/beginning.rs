//! What is read at the beginning of a body that is too large to be held.

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

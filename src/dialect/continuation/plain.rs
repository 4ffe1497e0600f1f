//! Plain answers: the text of a first part and of its rest as one text, in the first part's document.

use std::ops::Range;

use serde::{Deserialize, Deserializer};
use serde_json::{Value, value::RawValue};

use super::{By, Unfit, add, request_for};
use crate::dialect::{Dialect, Endpoint, json, text};

/// What changes when a rest is joined on.
#[derive(Default, Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    choices: Option<&'a RawValue>,
    #[serde(borrow)]
    content: Option<&'a RawValue>,
    #[serde(borrow)]
    stop_reason: Option<&'a RawValue>,
    /// An answer that was cut has `null` here, and that has a place too.
    #[serde(borrow, default, deserialize_with = "even_null")]
    stop_sequence: Option<&'a RawValue>,
    #[serde(borrow)]
    finish_reason: Option<&'a RawValue>,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
}

fn even_null<'de, D: Deserializer<'de>>(value: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(value).map(Some)
}

/// The text of a plain answer that can be gone on with: the only thing in it.
struct Sole<'a> {
    text: String,
    place: Range<usize>,
    /// Why it ended, and where more is said of that.
    ends: [Option<&'a RawValue>; 2],
    usage: Option<&'a RawValue>,
}

fn sole(dialect: Dialect, answer: &[u8]) -> Result<Sole<'_>, Unfit> {
    let read: Answer<'_> = json::object(answer).ok_or(Unfit::Unreadable)?;
    let (parts, ends) = match dialect.endpoint() {
        Endpoint::Messages => (read.content, [read.stop_reason, read.stop_sequence]),
        Endpoint::ChatCompletions => {
            let choices = read
                .choices
                .map(|list| json::elements(list.get().as_bytes()));
            let choice = choices.and_then(|choices| choices.first().copied());
            let choice: Answer<'_> = json::object_in(choice);
            (read.choices, [choice.finish_reason, None])
        }
        _ => return Err(Unfit::Content),
    };
    let parts = parts.map(|parts| json::elements(parts.get().as_bytes()).len());
    let places = text::sole_texts(dialect, answer);
    let ([place], Some(1)) = (places.as_slice(), parts) else {
        return Err(Unfit::Content);
    };
    Ok(Sole {
        text: text::at(answer, place).ok_or(Unfit::Unreadable)?,
        place: place.clone(),
        ends,
        usage: read.usage,
    })
}

/// The request that goes on with a plain answer, made of the caller's own.
///
/// # Errors
/// When nothing can go on with it.
pub fn next_plain_request(
    dialect: Dialect,
    request: &[u8],
    answer: &[u8],
    by: By,
) -> Result<Vec<u8>, Unfit> {
    let said = sole(dialect, answer)?.text;
    request_for(&said, request, by, dialect.endpoint() == Endpoint::Messages)
}

/// A plain answer with its rest: the text of both, the ending of the rest, the usage of both, and every other byte as the
/// first had it.
///
/// # Errors
/// When one of them is more or less than one text, or does not say how it ended.
pub fn joined_plain(dialect: Dialect, first: &[u8], rest: &[u8]) -> Result<Vec<u8>, Unfit> {
    let (before, after) = (sole(dialect, first)?, sole(dialect, rest)?);
    let mut edits = vec![(
        before.place,
        Value::from(before.text + &after.text).to_string(),
    )];
    let mut replace = |old: Option<&RawValue>, new: String| {
        let place = json::span(first, old);
        edits.extend(place.map(|place| (place, new)));
    };
    for (index, (old, new)) in before.ends.into_iter().zip(after.ends).enumerate() {
        match (old, new) {
            (Some(old), Some(new)) => replace(Some(old), new.get().to_owned()),
            // An answer that does not say why it ended would keep the reason of its first part.
            _ if index == 0 => return Err(Unfit::Unreadable),
            _ => {}
        }
    }
    if let (Some(old), Some(new)) = (before.usage, after.usage) {
        replace(Some(old), both(old, new).ok_or(Unfit::Unreadable)?);
    }
    edits.sort_by_key(|(place, _)| place.start);
    let edits: Vec<(Range<usize>, &[u8])> = edits
        .iter()
        .map(|(place, new)| (place.clone(), new.as_bytes()))
        .collect();
    json::spliced(first, &edits).ok_or(Unfit::Unreadable)
}

/// What both have cost.
fn both(before: &RawValue, after: &RawValue) -> Option<String> {
    let mut sum: Value = serde_json::from_str(before.get()).ok()?;
    add(&mut sum, &serde_json::from_str(after.get()).ok()?);
    Some(sum.to_string())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Dialect, the first part, its rest, both as one; `-` for what is not joined.
    const TABLE: &str = r#"
        messages | { "content" : [{"type":"text","text": "a"}], "stop_reason":"max_tokens" ,"stop_sequence": null, "x":1e5}
                 | {"content":[{"type":"text","text":"b"}],"stop_reason":"stop_sequence","stop_sequence":"."}
                 | { "content" : [{"type":"text","text": "ab"}], "stop_reason":"stop_sequence" ,"stop_sequence": ".", "x":1e5}
        messages | {"usage":{"input_tokens":1,"tier":"t"},"content":[{"type":"text","text":"a"}],"stop_reason":"max_tokens"}
                 | {"usage":{"input_tokens":2},"content":[{"type":"text","text":"b"}],"stop_reason":"end_turn"}
                 | {"usage":{"input_tokens":3,"tier":"t"},"content":[{"type":"text","text":"ab"}],"stop_reason":"end_turn"}
        messages | {"content":[{"type":"thinking","thinking":"t"},{"type":"text","text":"a"}],"stop_reason":"max_tokens"}
                 | {"content":[{"type":"text","text":"b"}],"stop_reason":"end_turn"}
                 | -
        messages | {"content":[{"type":"text","text":"a"}],"stop_reason":"max_tokens"}
                 | {"content":[{"type":"text","text":"b"},{"type":"tool_use","name":"n"}],"stop_reason":"tool_use"}
                 | -
        messages | {"content":[{"type":"text","text":"a"}],"stop_reason":"max_tokens"}
                 | {"content":[{"type":"text","text":"b"}],"stop_reason":null}
                 | -
        chat     | {"choices":[{"finish_reason":"length","message":{"content":"a"}}],"usage":null}
                 | {"choices":[{"message":{"content":"b"},"finish_reason":"stop"}],"usage":{"total_tokens":1}}
                 | {"choices":[{"finish_reason":"stop","message":{"content":"ab"}}],"usage":null}
        chat     | {"choices":[{"finish_reason":"length","message":{"content":"a"}},{"message":{"content":"a"}}]}
                 | {"choices":[{"message":{"content":"b"},"finish_reason":"stop"}]}
                 | -
        chat     | no JSON
                 | {"choices":[{"message":{"content":"b"},"finish_reason":"stop"}]}
                 | -
    "#;

    fn dialect(name: &str) -> Dialect {
        match name {
            "messages" => Dialect::MESSAGES,
            _ => Dialect::CHAT_COMPLETIONS,
        }
    }

    #[test]
    fn two_parts_become_one_and_nothing_else_changes() {
        let cells: Vec<&str> = TABLE.split(['|', '\n']).map(str::trim).collect();
        let cells: Vec<&str> = cells.into_iter().filter(|cell| !cell.is_empty()).collect();
        assert_eq!(cells.len() % 4, 0);
        for row in cells.chunks(4) {
            let [name, first, rest, expected] = row else {
                continue;
            };
            let joined = joined_plain(dialect(name), first.as_bytes(), rest.as_bytes());
            let joined = joined.map_or("-".to_owned(), |bytes| {
                String::from_utf8(bytes).expect("text")
            });
            assert_eq!(joined, *expected, "{name}: {first} and {rest}");
        }
    }

    #[test]
    fn what_no_vendor_documents_is_not_gone_on_with() {
        let answer =
            br#"{"output":[{"type":"message","content":[{"type":"output_text","text":"a"}]}]}"#;
        let next = next_plain_request(Dialect::RESPONSES, b"{}", answer, By::Message);
        assert_eq!(next, Err(Unfit::Content));
    }

    proptest! {
        #[test]
        fn any_two_texts_are_joined(a in ".*", b in ".*") {
            let body = |text: &str, end: &str| {
                serde_json::json!({ "content": [{ "type": "text", "text": text }], "stop_reason": end }).to_string()
            };
            let joined = joined_plain(
                Dialect::MESSAGES,
                body(&a, "max_tokens").as_bytes(),
                body(&b, "end_turn").as_bytes(),
            );
            let expected = body(&(a + &b), "end_turn");
            prop_assert_eq!(joined.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()), Ok(expected));
        }
    }
}

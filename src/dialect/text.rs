//! The text of a plain answer, and where in it that stands.
//!
//! Whoever changes a text must change nothing else, so what is given are places, not values.

use std::ops::Range;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Dialect, Endpoint, json, meaning::MAX_WORD_LEN};

/// A plain answer of any dialect.
#[derive(Default, Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    choices: Option<&'a RawValue>,
    #[serde(borrow)]
    output: Option<&'a RawValue>,
    #[serde(borrow)]
    content: Option<&'a RawValue>,
}

/// A choice of Chat or its message, an item or a part of Responses, a block of Messages.
#[derive(Default, Deserialize)]
struct Part<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<&'a RawValue>,
    #[serde(borrow)]
    message: Option<&'a RawValue>,
    #[serde(borrow)]
    content: Option<&'a RawValue>,
    #[serde(borrow)]
    text: Option<&'a RawValue>,
    #[serde(borrow)]
    refusal: Option<&'a RawValue>,
    #[serde(borrow)]
    tool_calls: Option<&'a RawValue>,
    #[serde(borrow)]
    function_call: Option<&'a RawValue>,
    /// Tell of the text by its places in it, and would be wrong of any other.
    #[serde(borrow)]
    logprobs: Option<&'a RawValue>,
    #[serde(borrow)]
    annotations: Option<&'a RawValue>,
    #[serde(borrow)]
    citations: Option<&'a RawValue>,
}

/// Where the strings stand, quotes included, that are the whole text of this answer, or of one of its
/// choices: at most one each. Nothing is given where tools, refusals or several texts are in it, or
/// notes that refer to places in the text.
#[must_use]
pub fn sole_texts(dialect: Dialect, body: &[u8]) -> Vec<Range<usize>> {
    let answer: Answer<'_> = json::object(body).unwrap_or_default();
    let texts: Vec<&RawValue> = match dialect.endpoint() {
        Endpoint::ChatCompletions => parts(answer.choices)
            .filter_map(Part::sole_text_of_choice)
            .collect(),
        Endpoint::Responses => sole_text_of_output(answer.output).into_iter().collect(),
        Endpoint::Messages => sole(
            parts(answer.content).filter(|part| !part.is_thinking()),
            "text",
        )
        .into_iter()
        .collect(),
        Endpoint::Completions | Endpoint::Embeddings | Endpoint::Other => Vec::new(),
    };
    let places = texts
        .into_iter()
        .filter_map(|text| json::span(body, Some(text)));
    places.collect()
}

/// `body` with other texts at these places, and every other byte as it was; `None` if the places are
/// not of this body.
#[must_use]
pub fn replace(body: &[u8], texts: &[(Range<usize>, &str)]) -> Option<Vec<u8>> {
    let quoted: Vec<(Range<usize>, String)> = texts
        .iter()
        .map(|(place, text)| (place.clone(), serde_json::Value::from(*text).to_string()))
        .collect();
    let edits: Vec<(Range<usize>, &[u8])> = quoted
        .iter()
        .map(|(place, text)| (place.clone(), text.as_bytes()))
        .collect();
    json::spliced(body, &edits)
}

/// The text that the string at this place stands for.
#[must_use]
pub fn at(body: &[u8], place: &Range<usize>) -> Option<String> {
    serde_json::from_slice(body.get(place.clone())?).ok()
}

fn parts(list: Option<&RawValue>) -> impl Iterator<Item = Part<'_>> {
    list.map(|list| json::elements(list.get().as_bytes()))
        .unwrap_or_default()
        .into_iter()
        .map(|part| json::object_in(Some(part)))
}

fn sole_text_of_output(output: Option<&RawValue>) -> Option<&RawValue> {
    let mut items = parts(output).filter(|item| !item.is("reasoning"));
    let message = items.next().filter(|item| item.is("message"))?;
    if items.next().is_some() {
        return None;
    }
    sole(parts(message.content), "output_text")
}

/// The text of the only part, which must be of this kind.
fn sole<'a>(mut parts: impl Iterator<Item = Part<'a>>, kind: &str) -> Option<&'a RawValue> {
    let part = parts
        .next()
        .filter(|part| part.is(kind) && !part.is_annotated())?;
    parts.next().is_none().then_some(())?;
    string(part.text)
}

fn string(value: Option<&RawValue>) -> Option<&RawValue> {
    value.filter(|value| value.get().starts_with('"'))
}

impl<'a> Part<'a> {
    fn is(&self, kind: &str) -> bool {
        json::text(self.kind, MAX_WORD_LEN).as_deref() == Some(kind)
    }

    fn is_thinking(&self) -> bool {
        self.is("thinking") || self.is("redacted_thinking")
    }

    fn is_annotated(&self) -> bool {
        [self.logprobs, self.annotations, self.citations]
            .into_iter()
            .any(json::is_truthy)
    }

    fn sole_text_of_choice(self) -> Option<&'a RawValue> {
        let message: Part<'a> = json::object_in(self.message);
        let has_more = [message.refusal, message.tool_calls, message.function_call]
            .into_iter()
            .any(json::is_truthy);
        if has_more || self.is_annotated() || message.is_annotated() {
            return None;
        }
        string(message.content)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Dialect, the texts that are found, the answer.
    const TABLE: &str = r#"
        chat      | a   | {"choices":[{"message":{"content":"a","refusal":null,"tool_calls":[]},"logprobs":null}]}
        chat      | a,b | {"choices":[{"message":{"content":"a"}},{"message":{"content":"b"}}]}
        chat      | b   | {"choices":[{"message":{"content":"a","tool_calls":[{"id":"c"}]}},{"message":{"content":"b"}}]}
        chat      |     | {"choices":[{"message":{"content":"a"},"logprobs":{"content":[]}}]}
        chat      |     | {"choices":[{"message":{"content":"a","annotations":[{"type":"url_citation"}]}}]}
        chat      |     | {"choices":[{"message":{"content":null,"refusal":"no"}}]}
        chat      |     | {"choices":[{"message":{"content":[{"text":"a"}]}}]}
        chat      |     | {"content":[{"type":"text","text":"a"}]}
        responses | a   | {"output":[{"type":"reasoning","summary":[]},{"type":"message","content":[{"type":"output_text","text":"a","annotations":[]}]}]}
        responses |     | {"output":[{"type":"message","content":[{"type":"output_text","text":"a"}]},{"type":"function_call"}]}
        responses |     | {"output":[{"type":"message","content":[{"type":"refusal","refusal":"a"}]}]}
        responses |     | {"output":[{"type":"message","content":[{"type":"output_text","text":"a"},{"type":"output_text","text":"b"}]}]}
        responses |     | {"output":[{"type":"message","content":[{"type":"output_text","text":"a","annotations":[{}]}]}]}
        messages  | a   | {"content":[{"type":"text","text":"a","citations":null}]}
        messages  | a   | {"content":[{"type":"thinking","thinking":"t"},{"type":"text","text":"a"}]}
        messages  |     | {"content":[{"type":"text","text":"a"},{"type":"tool_use","name":"t"}]}
        messages  |     | {"content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}
        messages  |     | {"content":[{"type":"text","text":"a","citations":[{}]}]}
        messages  |     | {"content":[]}
        messages  |     | no JSON
        other     |     | {"choices":[{"message":{"content":"a"}}]}
    "#;

    #[test]
    fn the_text_is_found_where_it_is_all_that_was_said() {
        for line in TABLE.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let cells: Vec<&str> = line.splitn(3, '|').map(str::trim).collect();
            let dialect = match cells[0] {
                "chat" => Dialect::CHAT_COMPLETIONS,
                "responses" => Dialect::RESPONSES,
                "messages" => Dialect::MESSAGES,
                _ => Dialect::OPENAI_OTHER,
            };
            let body = cells[2].as_bytes();
            let texts: Vec<String> = sole_texts(dialect, body)
                .iter()
                .map(|place| at(body, place).expect("a string"))
                .collect();
            assert_eq!(texts.join(","), cells[1], "{line}");
        }
    }

    #[test]
    fn a_text_is_replaced_and_nothing_else() {
        let body =
            r#"{ "content" : [{"type":"text", "text": "one \u00e9 \"q\""} ],"x":1e5 }"#.as_bytes();
        let places = sole_texts(Dialect::MESSAGES, body);
        assert_eq!(at(body, &places[0]).as_deref(), Some("one \u{e9} \"q\""));
        let new = replace(body, &[(places[0].clone(), "a \"b\"\n")]).expect("its own place");
        let expected = br#"{ "content" : [{"type":"text", "text": "a \"b\"\n"} ],"x":1e5 }"#;
        assert_eq!(new, expected);
        assert_eq!(replace(b"short", &[(places[0].clone(), "a")]), None);
    }
}

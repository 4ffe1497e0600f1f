//! JSON that a model has put into a Markdown fence.
//!
//! Models that were asked for JSON by their prompt alone, or that serve through a gateway which drops
//! the request for it, answer in a fence now and then; the application's parser fails on the backticks.
//! Taking the fence away is safe only where nothing else is there and where what remains is certainly
//! what was asked for. So the rule is narrow: the whole text is one fence, plain or marked `json`, and
//! its inside is one JSON object or array. With any word before or behind, with a second fence, with
//! half a document, the text stays as it is.

use serde_json::value::RawValue;

const FENCE: &str = "```";

/// The JSON inside of a text that is one fence around it; `None` where the text is anything else.
/// Which characters stand for which bytes does not matter within: they are given as they are.
#[must_use]
pub fn unfenced(text: &str) -> Option<&str> {
    let fenced = text.trim().strip_prefix(FENCE)?.strip_suffix(FENCE)?;
    let (mark, inside) = fenced.split_once('\n')?;
    let mark = mark.trim();
    if !(mark.is_empty() || mark.eq_ignore_ascii_case("json")) {
        return None;
    }
    let inside = inside.trim();
    let is_document = inside.starts_with(['{', '[']);
    (is_document && serde_json::from_str::<&RawValue>(inside).is_ok()).then_some(inside)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_one_whole_fence_around_json_is_taken_away() {
        for (text, inside) in [
            ("```json\n{\"a\":1}\n```", Some("{\"a\":1}")),
            ("```\n{\"a\":1}\n```", Some("{\"a\":1}")),
            ("```JSON\r\n{\"a\":1}\r\n```\r\n", Some("{\"a\":1}")),
            ("\n\n ```json \n [1, 2]\n```\n ", Some("[1, 2]")),
            ("```json\n{\n  \"a\": 1\n}\n```", Some("{\n  \"a\": 1\n}")),
            ("```json\n{\"a\":1}```", Some("{\"a\":1}")),
            (
                "```json\n{\"a\":\"```\\n```\"}\n```",
                Some("{\"a\":\"```\\n```\"}"),
            ),
            ("{\"a\":1}", None),
            ("```json\n\n```", None),
            ("``````", None),
            ("```json {\"a\":1} ```", None),
            ("```bash\n{\"a\":1}\n```", None),
            ("```json5\n{\"a\":1}\n```", None),
            ("````json\n{\"a\":1}\n````", None),
            ("~~~json\n{\"a\":1}\n~~~", None),
            ("```json\n{\"a\":1\n```", None),
            ("```json\n{'a':1}\n```", None),
            ("```json\n\"text\"\n```", None),
            ("```json\n{\"a\":1} {\"b\":2}\n```", None),
            ("Here you are:\n```json\n{\"a\":1}\n```", None),
            ("```json\n{\"a\":1}\n```\nAnything else?", None),
            ("```json\n{\"a\":1}\n```\n```json\n{\"b\":2}\n```", None),
            ("```json\n{\"a\":1}", None),
            ("{\"a\":1}\n```", None),
            ("", None),
            ("```", None),
        ] {
            assert_eq!(unfenced(text), inside, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_gives_json_or_nothing(text in "[`a-z{}\\[\\]\":,\n\r 0-9]{0,60}") {
            if let Some(inside) = unfenced(&text) {
                let value: serde_json::Value = serde_json::from_str(inside).expect("JSON");
                prop_assert!(value.is_object() || value.is_array());
            }
        }

        #[test]
        fn any_document_comes_out_as_it_was(key in ".{0,20}", text in ".{0,40}") {
            let document = serde_json::json!({ key: text, "`": ["```\n```", null] });
            let inside = serde_json::to_string_pretty(&document).expect("a value serialises");
            let fenced = format!("```json\n{inside}\n```");
            prop_assert_eq!(unfenced(&fenced), Some(inside.as_str()));
        }
    }
}

//! What a whole, plain answer says about its own end.

use memchr::memmem;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Dialect, Endpoint, json};

/// Longer words are none that is known.
const MAX_WORD_LEN: usize = 64;

#[derive(Default, Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    choices: Option<&'a RawValue>,
    #[serde(borrow)]
    stop_reason: Option<&'a RawValue>,
    #[serde(borrow)]
    incomplete_details: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
struct Reason<'a> {
    #[serde(borrow)]
    finish_reason: Option<&'a RawValue>,
    #[serde(borrow)]
    reason: Option<&'a RawValue>,
}

/// Whether the answer was cut by its token limit or by the model's context. `body` is the plain JSON
/// answer; anything else is not truncated.
///
/// Most answers are not, and are told apart by a search for the words without being parsed.
#[must_use]
pub fn is_truncated(dialect: Dialect, body: &[u8]) -> bool {
    let words: &[&str] = match dialect.endpoint() {
        Endpoint::ChatCompletions | Endpoint::Completions => &["length"],
        Endpoint::Responses => &["max_output_tokens"],
        Endpoint::Messages => &["max_tokens", "model_context_window_exceeded"],
        Endpoint::Embeddings | Endpoint::Other => return false,
    };
    let quoted = |word: &&str| memmem::find(body, format!("\"{word}\"").as_bytes()).is_some();
    if !words.iter().any(quoted) {
        return false;
    }
    let answer: Answer<'_> = json::object(body).unwrap_or_default();
    let says = |reason: Option<&RawValue>| {
        json::text(reason, MAX_WORD_LEN).is_some_and(|reason| words.contains(&reason.as_ref()))
    };
    let choices = answer
        .choices
        .map(|choices| json::elements(choices.get().as_bytes()));
    let any_choice = choices.unwrap_or_default().into_iter().any(|choice| {
        let choice: Reason<'_> = json::object(choice.get().as_bytes()).unwrap_or_default();
        says(choice.finish_reason)
    });
    let details: Reason<'_> = json::object_in(answer.incomplete_details);
    any_choice || says(answer.stop_reason) || says(details.reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_answers_own_end_counts() {
        let table: &[(Dialect, &str, bool)] = &[
            (Dialect::MESSAGES, r#"{"stop_reason":"max_tokens"}"#, true),
            (
                Dialect::MESSAGES,
                r#"{"stop_reason": "model_context_window_exceeded"}"#,
                true,
            ),
            (
                Dialect::MESSAGES,
                r#"{"stop_reason":"end_turn","content":[{"text":"\"max_tokens\""}]}"#,
                false,
            ),
            (
                Dialect::MESSAGES,
                r#"{"content":[{"stop_reason":"max_tokens"}],"stop_reason":"end_turn"}"#,
                false,
            ),
            (
                Dialect::CHAT_COMPLETIONS,
                r#"{"choices":[{"finish_reason":"stop"},{"finish_reason":"length"}]}"#,
                true,
            ),
            (
                Dialect::CHAT_COMPLETIONS,
                r#"{"choices":[{"finish_reason":"stop","length":"length"}]}"#,
                false,
            ),
            (
                Dialect::RESPONSES,
                r#"{"incomplete_details":{"reason":"max_output_tokens"}}"#,
                true,
            ),
            (
                Dialect::RESPONSES,
                r#"{"incomplete_details":null,"max_output_tokens":5}"#,
                false,
            ),
            (
                Dialect::OPENAI_OTHER,
                r#"{"choices":[{"finish_reason":"length"}]}"#,
                false,
            ),
            (Dialect::MESSAGES, r#"{"stop_reason":"max_tokens""#, false),
        ];
        for (dialect, body, expected) in table {
            assert_eq!(is_truncated(*dialect, body.as_bytes()), *expected, "{body}");
        }
    }
}

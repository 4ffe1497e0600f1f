//! OpenAI Responses.

use super::super::json::Quoted;
use super::{Speech, event};

/// Number of events before the first content.
pub(super) const PREAMBLE: usize = 4;

pub(super) fn json(speech: &Speech) -> String {
    let item = item(speech, &part(&speech.text()), status(speech));
    response(speech, status(speech), "null", &item, &usage(speech))
}

pub(super) fn preamble(speech: &Speech) -> Vec<String> {
    let created = response(speech, "in_progress", "null", "", "null");
    let place = place(speech);
    vec![
        numbered("response.created", 0, &format!(r#""response":{created}"#)),
        numbered(
            "response.in_progress",
            1,
            &format!(r#""response":{created}"#),
        ),
        numbered(
            "response.output_item.added",
            2,
            &format!(
                r#""output_index":0,"item":{}"#,
                item(speech, "", "in_progress")
            ),
        ),
        numbered(
            "response.content_part.added",
            3,
            &format!(r#"{place},"part":{}"#, part("")),
        ),
    ]
}

pub(super) fn delta(speech: &Speech, index: usize, token: &str) -> String {
    let rest = format!(
        r#"{},"delta":{},"logprobs":[]"#,
        place(speech),
        Quoted(token)
    );
    numbered("response.output_text.delta", PREAMBLE + index, &rest)
}

pub(super) fn closing(speech: &Speech) -> Vec<String> {
    let (text, place, status) = (speech.text(), place(speech), status(speech));
    let (part, first) = (part(&text), PREAMBLE + speech.len());
    let item = item(speech, &part, status);
    let whole = response(speech, status, "null", &item, &usage(speech));
    let end = format!("response.{status}");
    vec![
        numbered(
            "response.output_text.done",
            first,
            &format!(r#"{place},"text":{},"logprobs":[]"#, Quoted(&text)),
        ),
        numbered(
            "response.content_part.done",
            first + 1,
            &format!(r#"{place},"part":{part}"#),
        ),
        numbered(
            "response.output_item.done",
            first + 2,
            &format!(r#""output_index":0,"item":{item}"#),
        ),
        numbered(&end, first + 3, &format!(r#""response":{whole}"#)),
    ]
}

/// The event that ends a failed response; `error` is the error object.
pub(super) fn failed(speech: &Speech, error: &str, sequence: usize) -> String {
    numbered(
        "response.failed",
        sequence,
        &format!(r#""response":{}"#, failed_json(speech, error)),
    )
}

/// The whole response, failed.
pub(super) fn failed_json(speech: &Speech, error: &str) -> String {
    response(speech, "failed", error, "", "null")
}

/// The status of the whole response and of its item.
fn status(speech: &Speech) -> &'static str {
    if speech.truncated {
        "incomplete"
    } else {
        "completed"
    }
}

fn numbered(name: &str, sequence: usize, rest: &str) -> String {
    event(
        name,
        &format!(r#"{{"type":"{name}","sequence_number":{sequence},{rest}}}"#),
    )
}

fn place(speech: &Speech) -> String {
    format!(
        r#""item_id":"msg_lab_{:06}","output_index":0,"content_index":0"#,
        speech.serial
    )
}

fn part(text: &str) -> String {
    format!(
        r#"{{"type":"output_text","text":{},"annotations":[]}}"#,
        Quoted(text)
    )
}

fn item(speech: &Speech, content: &str, status: &str) -> String {
    format!(
        r#"{{"id":"msg_lab_{:06}","type":"message","status":"{status}","role":"assistant","content":[{content}]}}"#,
        speech.serial
    )
}

fn usage(speech: &Speech) -> String {
    let (input, output) = (speech.input_tokens, speech.len());
    let total = input + output as u64;
    format!(
        r#"{{"input_tokens":{input},"input_tokens_details":{{"cached_tokens":0}},"output_tokens":{output},"output_tokens_details":{{"reasoning_tokens":0}},"total_tokens":{total}}}"#
    )
}

fn response(speech: &Speech, status: &str, error: &str, output: &str, usage: &str) -> String {
    let incomplete = if status == "incomplete" {
        r#"{"reason":"max_output_tokens"}"#
    } else {
        "null"
    };
    format!(
        r#"{{"id":"resp_lab_{:06}","object":"response","created_at":{},"status":"{status}","error":{error},"incomplete_details":{incomplete},"instructions":null,"metadata":{{}},"model":{},"output":[{output}],"parallel_tool_calls":true,"temperature":null,"tool_choice":"auto","tools":[],"top_p":null,"usage":{usage}}}"#,
        speech.serial,
        speech.created,
        Quoted(&speech.model),
    )
}

//! Anthropic Messages.

use super::super::json::Quoted;
use super::{Speech, event};

pub(super) fn json(speech: &Speech) -> String {
    let text = speech.text();
    let content = format!(r#"{{"type":"text","text":{}}}"#, Quoted(&text));
    let stop = Quoted(stop_reason(speech)).to_string();
    message(speech, &content, &stop, speech.len())
}

/// `ping` may come anywhere; the vendor sends one early.
pub(super) fn preamble(speech: &Speech) -> Vec<String> {
    let start = format!(
        r#"{{"type":"message_start","message":{}}}"#,
        message(speech, "", "null", 1)
    );
    let block =
        r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#;
    vec![
        event("message_start", &start),
        event("content_block_start", block),
        event("ping", r#"{"type":"ping"}"#),
    ]
}

pub(super) fn delta(token: &str) -> String {
    let delta = format!(
        r#"{{"type":"content_block_delta","index":0,"delta":{{"type":"text_delta","text":{}}}}}"#,
        Quoted(token)
    );
    event("content_block_delta", &delta)
}

pub(super) fn closing(speech: &Speech) -> Vec<String> {
    let delta = format!(
        r#"{{"type":"message_delta","delta":{{"stop_reason":"{}","stop_sequence":null}},"usage":{{"output_tokens":{}}}}}"#,
        stop_reason(speech),
        speech.len()
    );
    vec![
        event(
            "content_block_stop",
            r#"{"type":"content_block_stop","index":0}"#,
        ),
        event("message_delta", &delta),
        event("message_stop", r#"{"type":"message_stop"}"#),
    ]
}

fn stop_reason(speech: &Speech) -> &'static str {
    if speech.truncated {
        "max_tokens"
    } else {
        "end_turn"
    }
}

fn message(speech: &Speech, content: &str, stop_reason: &str, output_tokens: usize) -> String {
    format!(
        r#"{{"id":"msg_lab_{:06}","type":"message","role":"assistant","model":{},"content":[{content}],"stop_reason":{stop_reason},"stop_sequence":null,"usage":{{"input_tokens":{},"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":{output_tokens}}}}}"#,
        speech.serial,
        Quoted(&speech.model),
        speech.input_tokens,
    )
}

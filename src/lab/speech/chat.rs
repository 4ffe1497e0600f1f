//! OpenAI Chat Completions.

use super::super::json::Quoted;
use super::Speech;

pub(super) fn json(speech: &Speech) -> String {
    format!(
        r#"{{"id":"chatcmpl-lab-{:06}","object":"chat.completion","created":{},"model":{},"choices":[{{"index":0,"message":{{"role":"assistant","content":{},"refusal":null}},"logprobs":null,"finish_reason":"{}"}}],"usage":{}}}"#,
        speech.serial,
        speech.created,
        Quoted(&speech.model),
        Quoted(&speech.text()),
        finish_reason(speech),
        usage(speech),
    )
}

pub(super) fn preamble(speech: &Speech) -> Vec<String> {
    vec![choice(
        speech,
        r#"{"role":"assistant","content":"","refusal":null}"#,
        "null",
    )]
}

pub(super) fn delta(speech: &Speech, token: &str) -> String {
    choice(
        speech,
        &format!(r#"{{"content":{}}}"#, Quoted(token)),
        "null",
    )
}

/// The usage chunk has no choices, and is sent only to those who asked for it.
pub(super) fn closing(speech: &Speech) -> Vec<String> {
    let mut events = vec![choice(
        speech,
        "{}",
        &Quoted(finish_reason(speech)).to_string(),
    )];
    if speech.include_usage {
        events.push(chunk(speech, "", &format!(r#","usage":{}"#, usage(speech))));
    }
    events.push("data: [DONE]\n\n".to_owned());
    events
}

fn choice(speech: &Speech, delta: &str, finish_reason: &str) -> String {
    let choice =
        format!(r#"{{"index":0,"delta":{delta},"logprobs":null,"finish_reason":{finish_reason}}}"#);
    chunk(
        speech,
        &choice,
        if speech.include_usage {
            r#","usage":null"#
        } else {
            ""
        },
    )
}

fn chunk(speech: &Speech, choices: &str, usage: &str) -> String {
    format!(
        "data: {{\"id\":\"chatcmpl-lab-{:06}\",\"object\":\"chat.completion.chunk\",\"created\":{},\"model\":{},\"choices\":[{choices}]{usage}}}\n\n",
        speech.serial,
        speech.created,
        Quoted(&speech.model),
    )
}

fn finish_reason(speech: &Speech) -> &'static str {
    if speech.truncated { "length" } else { "stop" }
}

fn usage(speech: &Speech) -> String {
    let (input, output) = (speech.input_tokens, speech.len());
    let total = input + output as u64;
    format!(r#"{{"prompt_tokens":{input},"completion_tokens":{output},"total_tokens":{total}}}"#)
}

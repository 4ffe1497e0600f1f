use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::dialect::{
    Ending, ErrorKind,
    tests::{event, events, payload, payload_names, rows},
};

/// A short word for a meaning, for tables.
fn word(meaning: &Meaning) -> String {
    match meaning {
        Meaning::Preamble => "preamble".to_owned(),
        Meaning::Content => "content".to_owned(),
        Meaning::Other => "other".to_owned(),
        Meaning::Finish(finish) => format!("finish {}", finish.as_str()),
        Meaning::End(End::Terminator) => "end".to_owned(),
        Meaning::End(End::Finished(finish)) => format!("end {}", finish.as_str()),
        Meaning::End(End::Failed(signal)) => format!("failed {}", signal.kind.as_str()),
        Meaning::Error(signal) => format!("error {}", signal.kind.as_str()),
    }
}

fn word_of(dialect: Dialect, name: &str, data: &str) -> String {
    word(&meaning(dialect, &event(name, data)))
}

fn words(dialect: Dialect, stream: &[u8]) -> Vec<String> {
    events(stream)
        .iter()
        .map(|event| word(&meaning(dialect, event)))
        .collect()
}

fn check_payload(dialect: Dialect, file: &str, expected: &[&str]) {
    assert_eq!(words(dialect, &payload(file)), expected, "{file}");
}

#[test]
fn the_streams_of_messages() {
    let dialect = Dialect::MESSAGES;
    let answer = [
        "preamble",
        "preamble",
        "content",
        "content",
        "other",
        "finish stop",
        "end",
    ];
    check_payload(dialect, "anthropic.messages.sse", &answer);
    let refusal = ["preamble", "finish filtered", "end"];
    check_payload(dialect, "anthropic.messages.refusal_empty.sse", &refusal);
    check_payload(dialect, "anthropic.error.sse", &["error overloaded"]);
}

#[test]
fn the_streams_of_chat() {
    let dialect = Dialect::CHAT_COMPLETIONS;
    let answer = ["preamble", "content", "content", "finish stop", "end"];
    check_payload(dialect, "openai.chat.sse", &answer);
    check_payload(dialect, "openai.chat.refusal.sse", &answer);
    let with_usage = [
        "preamble",
        "content",
        "content",
        "finish stop",
        "other",
        "end",
    ];
    check_payload(dialect, "openai.chat.include_usage.sse", &with_usage);
    check_payload(dialect, "openai.chat.error.sse", &["error server_error"]);
}

#[test]
fn the_streams_of_responses() {
    let dialect = Dialect::RESPONSES;
    let answer = [
        "preamble", "preamble", "preamble", "preamble", "content", "content", "content", "content",
        "content", "end stop",
    ];
    check_payload(dialect, "openai.responses.sse", &answer);
    check_payload(dialect, "openai.responses.refusal.sse", &answer);
    check_payload(dialect, "openai.responses.incomplete.sse", &["end length"]);
    check_payload(
        dialect,
        "openai.responses.failed.sse",
        &["failed server_error"],
    );
    check_payload(
        dialect,
        "openai.responses.error.sse",
        &["error server_error"],
    );
    check_payload(
        dialect,
        "openai.responses.error_hybrid.sse",
        &["error server_error"],
    );
}

#[test]
fn every_form_of_error_is_one_in_every_dialect() {
    let detail = r#"{"type":"overloaded_error","message":"m","code":"server_is_overloaded"}"#;
    let anthropic = format!(r#"{{"type":"error","error":{detail}}}"#);
    let chat = format!(r#"{{"error":{detail}}}"#);
    let spaced = format!("{{ \"id\" : \"x\", \"error\" : {detail} }}");
    let live = format!(r#"{{"type":"error","sequence_number":1,"error":{detail}}}"#);
    let flat =
        r#"{"type":"error","sequence_number":1,"code":"server_is_overloaded","message":"m"}"#;
    let router = format!(
        r#"{{"id":"gen-1","error":{detail},"choices":[{{"index":0,"delta":{{"content":""}},"finish_reason":"error"}}]}}"#
    );
    for dialect in Dialect::ALL {
        for data in [&anthropic, &chat, &spaced, &live, flat, &router] {
            let context = format!("{} {data}", dialect.as_str());
            assert_eq!(
                word_of(dialect, "error", data),
                "error overloaded",
                "{context}"
            );
            assert_eq!(
                word_of(dialect, "", data),
                "error overloaded",
                "unnamed: {context}"
            );
        }
        assert_eq!(
            word_of(dialect, "error", "upstream exploded"),
            "error unknown"
        );
        assert_eq!(word_of(dialect, "error", ""), "error unknown");
        assert_eq!(word_of(dialect, "message", &chat), "error overloaded");
    }
}

#[test]
fn content_that_speaks_of_errors_and_ends_is_content() {
    for text in [
        "\"error\"",
        "error",
        "{\"error\": {\"code\": 500}}",
        "\"error",
        "\"finish_reason\": \"stop\"",
        "\"finish_reason",
        "[DONE]",
        "\"\"",
        "\\\"",
    ] {
        let chat =
            json!({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": null}]});
        assert_eq!(
            word_of(Dialect::CHAT_COMPLETIONS, "", &chat.to_string()),
            "content",
            "{text}"
        );
        let legacy = json!({"choices": [{"index": 0, "text": text, "finish_reason": null}]});
        assert_eq!(
            word_of(Dialect::COMPLETIONS, "", &legacy.to_string()),
            "content",
            "{text}"
        );

        let kind = "content_block_delta";
        let delta =
            json!({"type": kind, "index": 0, "delta": {"type": "text_delta", "text": text}});
        assert_eq!(
            word_of(Dialect::MESSAGES, kind, &delta.to_string()),
            "content",
            "{text}"
        );
        assert_eq!(
            word_of(Dialect::MESSAGES, "", &delta.to_string()),
            "content",
            "{text}"
        );

        let kind = "response.output_text.delta";
        let delta = json!({"type": kind, "sequence_number": 4, "delta": text});
        assert_eq!(
            word_of(Dialect::RESPONSES, kind, &delta.to_string()),
            "content",
            "{text}"
        );
        assert_eq!(
            word_of(Dialect::RESPONSES, "", &delta.to_string()),
            "content",
            "{text}"
        );

        let unknown = json!({"text": text}).to_string();
        assert_eq!(
            word_of(Dialect::OPENAI_OTHER, "", &unknown),
            "content",
            "{text}"
        );
    }
}

/// The fields of a chat chunk's only choice.
const CHAT_CHOICES: &str = r#"
    "delta": {}                                               | preamble
    "delta": {"role": "assistant"}, "finish_reason": null     | preamble
    "delta": {"role": "assistant", "content": null}           | preamble
    "delta": {"content": "", "tool_calls": []}                | preamble
    "delta": {"content": ""}, "finish_reason": ""             | preamble
    "delta":{"content":"x"},"finish_reason":""                | content
    "delta": {"content" : "x"}, "finish_reason" : null        | content
    "delta": {"refusal": "x"}                                 | content
    "delta": {"reasoning_content": "x"}                       | content
    "delta": {"tool_calls": [{"index": 0, "id": "c"}]}        | content
    "delta":{"content":"last"},"finish_reason":"stop"         | finish stop
    "delta": {"content": "last"}, "finish_reason" : "stop"    | finish stop
    "delta": {}, "finish_reason": "length"                    | finish length
    "delta": {}, "finish_reason": "tool_calls"                | finish tool_use
    "delta": {}, "finish_reason": "function_call"             | finish tool_use
    "delta": {}, "finish_reason": "content_filter"            | finish filtered
    "delta": {}, "finish_reason": "eos"                       | finish other
    "text": "", "finish_reason": null                         | preamble
    "text": "x", "finish_reason": null                        | content
"#;

const CHAT_CHUNKS: &str = r#"
    {"choices": [], "prompt_filter_results": [{"prompt_index": 0}]} | preamble
    {"choices": [], "usage": null}                                  | preamble
    {"choices": [], "usage": {"total_tokens": 1}}                   | other
    [DONE]                                                          | end
    [DONE]x                                                         | end
    not JSON                                                        | content
"#;

#[test]
fn chat_chunks() {
    for [choice, expected] in rows(CHAT_CHOICES) {
        let data = format!("{{\"choices\":[{{\"index\":0,{choice}}}]}}");
        for dialect in [Dialect::CHAT_COMPLETIONS, Dialect::COMPLETIONS] {
            assert_eq!(word_of(dialect, "", &data), expected, "{data}");
        }
    }
    for [data, expected] in rows(CHAT_CHUNKS) {
        assert_eq!(
            word_of(Dialect::CHAT_COMPLETIONS, "", data),
            expected,
            "{data}"
        );
    }
}

const MESSAGE_EVENTS: &str = r#"
    ping                | {"type": "ping"}                                                | preamble
    content_block_start | {"content_block": {"type": "text", "text": ""}}                 | preamble
    content_block_start | {"content_block": {"type": "text", "text": "x"}}                | content
    content_block_start | {"content_block": {"type": "thinking", "thinking": ""}}         | preamble
    content_block_start | {"content_block": {"type": "tool_use", "name": "t"}}            | content
    content_block_start | {"content_block": {"type": "redacted_thinking"}}                | content
    content_block_start | not JSON                                                        | content
    content_block_delta | {"delta": {"type": "text_delta", "text": ""}}                   | preamble
    content_block_delta | {"delta": {"type": "thinking_delta", "thinking": ""}}           | preamble
    content_block_delta | {"delta": {"type": "input_json_delta", "partial_json": ""}}     | preamble
    content_block_delta | {"delta": {"type": "input_json_delta", "partial_json": "{"}}    | content
    content_block_delta | {"delta": {"type": "signature_delta", "signature": "s"}}        | content
    content_block_delta | not JSON ""                                                     | content
    message_delta       | {"delta": {"stop_reason": "end_turn"}}                          | finish stop
    message_delta       | {"delta": {"stop_reason": "stop_sequence"}}                     | finish stop
    message_delta       | {"delta": {"stop_reason": "max_tokens"}}                        | finish length
    message_delta       | {"delta": {"stop_reason": "model_context_window_exceeded"}}     | finish context_full
    message_delta       | {"delta": {"stop_reason": "tool_use"}}                          | finish tool_use
    message_delta       | {"delta": {"stop_reason": "pause_turn"}}                        | finish paused
    message_delta       | {"delta": {"stop_reason": "refusal"}}                           | finish filtered
    message_delta       | {"delta": {"stop_reason": "whim"}}                              | finish other
    message_delta       | {"delta": {"stop_reason": null}}                                | other
    -                   | [DONE]                                                          | other
    event_of_next_year  | {"type": "event_of_next_year"}                                  | content
    -                   | {"type": "message_stop"}                                        | end
"#;

#[test]
fn message_events() {
    for [name, data, expected] in rows(MESSAGE_EVENTS) {
        assert_eq!(
            word_of(Dialect::MESSAGES, name, data),
            expected,
            "{name} {data}"
        );
    }
}

const RESPONSE_EVENTS: &str = r#"
    response.queued                          | {}                                      | preamble
    response.output_item.added               | {"item": {"type": "message"}}           | preamble
    response.output_item.added               | {"item": {"type": "reasoning"}}         | preamble
    response.output_item.added               | {"item": {"type": "function_call"}}     | content
    response.output_item.added               | {"item": {"type": "web_search_call"}}   | content
    response.output_text.delta               | {"delta": ""}                           | preamble
    response.output_text.delta               | {"delta": "x", "obfuscation": ""}       | content
    response.reasoning_summary_text.delta    | {"delta": "x"}                          | content
    response.function_call_arguments.delta   | {"delta": "{"}                          | content
    response.web_search_call.searching       | {}                                      | content
    response.incomplete | {"response": {"incomplete_details": {"reason": "max_output_tokens"}}} | end length
    response.incomplete | {"response": {"incomplete_details": {"reason": "content_filter"}}}    | end filtered
    response.incomplete | {"response": {"incomplete_details": {"reason": "max_messages"}}}      | end other
    response.incomplete | not JSON                                                      | end other
    response.failed     | {"response": {"error": {"code": "rate_limit_exceeded"}}}      | failed rate_limited
    response.failed     | {"response": {"error": {"code": "insufficient_quota"}}}       | failed exhausted
    response.failed     | {"response": {"error": null}}                                 | failed unknown
    response.failed     | not JSON                                                      | failed unknown
    -                   | {"type": "response.completed"}                                | end stop
    -                   | {"type": "response.created"}                                  | preamble
    -                   | [DONE]                                                        | other
"#;

#[test]
fn response_events() {
    for [name, data, expected] in rows(RESPONSE_EVENTS) {
        assert_eq!(
            word_of(Dialect::RESPONSES, name, data),
            expected,
            "{name} {data}"
        );
    }
}

#[test]
fn streams_of_unknown_endpoints_are_content() {
    for dialect in [
        Dialect::OPENAI_OTHER,
        Dialect::ANTHROPIC_OTHER,
        Dialect::EMBEDDINGS,
    ] {
        assert_eq!(word_of(dialect, "", "[DONE]"), "end");
        assert_eq!(
            word_of(dialect, "transcript.text.delta", "{\"delta\":\"\"}"),
            "content"
        );
        assert_eq!(word_of(dialect, "", ""), "content");
    }
}

// === endings ===

/// An ending that has followed these events, given as name and data.
fn ending_after<'a>(
    dialect: Dialect,
    events: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Ending {
    let mut ending = Ending::new(dialect);
    for (name, data) in events {
        let event = event(name, data);
        ending.observe(&event, &meaning(dialect, &event));
    }
    ending
}

#[test]
fn verified_answers_are_complete_at_their_end_and_not_before() {
    for (dialect, file, may_miss) in [
        (Dialect::MESSAGES, "anthropic.messages.sse", 0),
        (Dialect::MESSAGES, "anthropic.messages.refusal_empty.sse", 0),
        // The finish reason is enough where a server sends no `[DONE]`.
        (Dialect::CHAT_COMPLETIONS, "openai.chat.sse", 1),
        (
            Dialect::CHAT_COMPLETIONS,
            "openai.chat.include_usage.sse",
            2,
        ),
        (Dialect::RESPONSES, "openai.responses.sse", 0),
        (Dialect::RESPONSES, "openai.responses.refusal.sse", 0),
        (Dialect::RESPONSES, "openai.responses.incomplete.sse", 0),
    ] {
        let events = events(&payload(file));
        let mut ending = Ending::new(dialect);
        for (index, event) in events.iter().enumerate() {
            let missing = events.len() - index;
            assert_eq!(
                ending.is_complete(),
                missing <= may_miss,
                "{file} without {missing}"
            );
            ending.observe(event, &meaning(dialect, event));
        }
        assert!(ending.is_complete() && !ending.has_failed(), "{file}");
        assert!(ending.finish().is_some(), "{file}");
    }
}

#[test]
fn failures_within_a_stream_are_told_apart_from_breaks() {
    let error = (
        "error",
        r#"{"type":"error","error":{"type":"overloaded_error"}}"#,
    );
    for dialect in Dialect::ALL {
        assert!(
            ending_after(dialect, [error]).has_failed(),
            "{}",
            dialect.as_str()
        );
        assert!(
            !ending_after(dialect, []).has_failed(),
            "{}",
            dialect.as_str()
        );
    }
    let failed = ending_after(Dialect::RESPONSES, [("response.failed", "{}")]);
    assert!(failed.has_failed() && failed.is_complete());
}

#[test]
fn a_failure_is_told_only_in_a_form_that_every_sdk_raises() {
    let native = (
        "error",
        r#"{"type":"error","error":{"type":"overloaded_error","message":"m"}}"#,
    );
    let chat = ("", r#"{"error":{"message":"m","type":"server_error"}}"#);
    let flat = (
        "error",
        r#"{"type":"error","code":"server_error","message":"m"}"#,
    );
    let (messages, completions, responses) = (
        Dialect::MESSAGES,
        Dialect::CHAT_COMPLETIONS,
        Dialect::RESPONSES,
    );
    for (dialect, event, told) in [
        (messages, native, true),
        (messages, chat, false),
        (messages, flat, true),
        (completions, native, true),
        (completions, chat, true),
        (completions, flat, false),
        (responses, native, true),
        (responses, chat, true),
        (responses, flat, false),
        (responses, ("response.failed", "{}"), false),
    ] {
        let ending = ending_after(dialect, [event]);
        assert!(ending.has_failed(), "{dialect:?} {event:?}");
        assert_eq!(ending.has_told_failure(), told, "{dialect:?} {event:?}");
    }
}

#[test]
fn an_empty_stream_is_no_answer() {
    for dialect in [
        Dialect::MESSAGES,
        Dialect::CHAT_COMPLETIONS,
        Dialect::RESPONSES,
        Dialect::COMPLETIONS,
    ] {
        assert!(!Ending::new(dialect).is_complete(), "{}", dialect.as_str());
    }
    for dialect in [
        Dialect::OPENAI_OTHER,
        Dialect::ANTHROPIC_OTHER,
        Dialect::EMBEDDINGS,
    ] {
        assert!(Ending::new(dialect).is_complete(), "{}", dialect.as_str());
    }
}

#[test]
fn a_chat_without_the_terminator_needs_the_reason_of_every_choice() {
    let dialect = Dialect::CHAT_COMPLETIONS;
    let role = |index: u8| {
        json!({"choices": [{"index": index, "delta": {"role": "assistant"}}]}).to_string()
    };
    let finish = |index: u8| {
        json!({"choices": [{"index": index, "delta": {}, "finish_reason": "stop"}]}).to_string()
    };
    let (role_0, role_1, role_200) = (role(0), role(1), role(200));
    let (finish_0, finish_1) = (finish(0), finish(1));
    let complete =
        |data: &[&str]| ending_after(dialect, data.iter().map(|data| ("", *data))).is_complete();

    assert!(!complete(&[&role_0, &role_1, &finish_1]));
    assert!(complete(&[&role_0, &role_1, &finish_1, &finish_0]));
    assert!(complete(&[&role_0, &role_1, &finish_1, "[DONE]"]));
    assert!(complete(&["[DONE]"]), "some servers give no reason");
    assert!(
        complete(&[&role_200, &finish_0]),
        "an index beyond the API's counts for nothing"
    );
}

#[test]
fn the_last_reason_is_kept() {
    let chat = [
        (
            "",
            r#"{"choices":[{"index":0,"delta":{},"finish_reason":"length"}]}"#,
        ),
        ("", "[DONE]"),
    ];
    let finish = ending_after(Dialect::CHAT_COMPLETIONS, chat).finish();
    assert_eq!(finish, Some(Finish::Length));
    assert!(finish.is_some_and(Finish::is_truncated));
    assert!(!Finish::Stop.is_truncated());
}

// === properties ===

proptest! {
    #[test]
    fn random_events_never_panic(
        name in prop_oneof![
            Just(String::new()),
            prop::sample::select(vec![
                "error", "message_delta", "content_block_start", "content_block_delta",
                "response.failed", "response.incomplete", "response.output_item.added", "response.x.delta",
            ]).prop_map(str::to_owned),
            ".{0,20}",
        ],
        data in prop::collection::vec(any::<u8>(), 0..100),
    ) {
        let event = Event::new(Some(name.into()), data.into());
        for dialect in Dialect::ALL {
            Ending::new(dialect).observe(&event, &meaning(dialect, &event));
        }
    }

    #[test]
    fn damaged_payloads_never_panic(
        file in any::<prop::sample::Index>(),
        which in any::<prop::sample::Index>(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5),
    ) {
        let names = payload_names(".sse");
        let events = events(&payload(&names[file.index(names.len())]));
        let event = &events[which.index(events.len())];
        let mut data = event.data().to_vec();
        for (at, byte) in damage {
            let at = at.index(data.len());
            data[at] = byte;
        }
        let name = event.name().map(|name| name.to_vec().into());
        let event = Event::new(name, data.into());
        for dialect in Dialect::ALL {
            Ending::new(dialect).observe(&event, &meaning(dialect, &event));
        }
    }

    /// The search of the bytes must never say otherwise than the JSON.
    #[test]
    fn any_text_in_a_chunk_is_content(text in "[\"\\\\:{}a-z_ ]{1,30}", key in prop::sample::select(vec!["content", "reasoning"])) {
        let delta = json!({"choices": [{"index": 0, "delta": {key: text}, "logprobs": null, "finish_reason": null}]});
        let found = meaning(Dialect::CHAT_COMPLETIONS, &event("", &delta.to_string()));
        prop_assert_eq!(found, Meaning::Content);
        let last = json!({"choices": [{"index": 0, "delta": {key: text}, "finish_reason": "length"}]});
        let found = meaning(Dialect::CHAT_COMPLETIONS, &event("", &last.to_string()));
        prop_assert_eq!(found, Meaning::Finish(Finish::Length));
    }
}

#[test]
fn an_error_keeps_its_signal() {
    let data = r#"{"type":"error","error":{"type":"rate_limit_error","message":"m"}}"#;
    let Meaning::Error(signal) = meaning(Dialect::MESSAGES, &event("error", data)) else {
        panic!("not an error")
    };
    assert_eq!(signal.kind, ErrorKind::RateLimited);
    assert_eq!(signal.code.as_deref(), Some("rate_limit_error"));
}

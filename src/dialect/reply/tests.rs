use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::dialect::{
    Ending, Meaning, meaning,
    tests::{events, payload, readable},
};

const TEXT: &str = "The assistant is busy right now. Please try again in a minute.";

fn ask(model: &str, stream: bool, structured: Structured) -> Ask {
    Ask {
        model: Some(model.to_owned()),
        stream,
        structured,
        ..Ask::default()
    }
}

fn reply<'a>(text: &'a str, id: &'a str) -> ReplyText<'a> {
    ReplyText {
        text,
        json: None,
        id,
        unix_time: 1_700_000_000,
    }
}

/// The model and the id in the payload files of a dialect.
fn names_in_payloads(dialect: Dialect) -> (&'static str, &'static str) {
    match dialect.endpoint() {
        Endpoint::Messages => ("claude-sonnet-5-5", "surgetank_0001"),
        Endpoint::ChatCompletions => ("gpt-4o-mini", "surgetank-0001"),
        _ => ("gpt-4o-mini", "surgetank_0001"),
    }
}

fn check_payload(dialect: Dialect, file: &str, structured: Structured, include_usage: bool) {
    let (model, id) = names_in_payloads(dialect);
    let is_stream = file.strip_suffix(".sse").is_some();
    let ask = Ask {
        include_usage,
        ..ask(model, is_stream, structured)
    };
    let rendered = render(dialect, &ask, &reply(TEXT, id)).expect("a reply");
    assert_eq!(rendered.streamed, is_stream, "{file}");

    let expected = payload(file);
    if is_stream {
        assert_eq!(rendered.content_type, "text/event-stream; charset=utf-8");
        let written: Vec<_> = events(&rendered.body).iter().map(readable).collect();
        let verified: Vec<_> = events(&expected).iter().map(readable).collect();
        assert_eq!(written, verified, "{file}");
    } else {
        assert_eq!(rendered.content_type, "application/json");
        let written: Value = serde_json::from_slice(&rendered.body).expect("valid JSON");
        let verified: Value = serde_json::from_slice(&expected).expect("valid JSON");
        assert_eq!(written, verified, "{file}");
    }
}

#[test]
fn answers_equal_the_verified_ones() {
    for (dialect, file) in [
        (Dialect::MESSAGES, "anthropic.messages"),
        (Dialect::CHAT_COMPLETIONS, "openai.chat"),
        (Dialect::RESPONSES, "openai.responses"),
    ] {
        check_payload(dialect, &format!("{file}.json"), Structured::No, false);
        check_payload(dialect, &format!("{file}.sse"), Structured::No, false);
    }
    let with_usage = "openai.chat.include_usage.sse";
    check_payload(Dialect::CHAT_COMPLETIONS, with_usage, Structured::No, true);
}

#[test]
fn refusals_equal_the_verified_ones() {
    for structured in [
        Structured::JsonObject,
        Structured::JsonSchema,
        Structured::ForcedTool,
    ] {
        for (dialect, file) in [
            (Dialect::MESSAGES, "anthropic.messages.refusal_empty"),
            (Dialect::CHAT_COMPLETIONS, "openai.chat.refusal"),
            (Dialect::RESPONSES, "openai.responses.refusal"),
        ] {
            check_payload(dialect, &format!("{file}.json"), structured, false);
            check_payload(dialect, &format!("{file}.sse"), structured, false);
        }
    }
}

/// Streams are byte for byte those that the SDKs were run against.
#[test]
fn streams_equal_the_verified_ones_to_the_byte() {
    for (dialect, file) in [
        (Dialect::MESSAGES, "anthropic.messages.sse"),
        (Dialect::CHAT_COMPLETIONS, "openai.chat.sse"),
        (Dialect::RESPONSES, "openai.responses.sse"),
    ] {
        let (model, id) = names_in_payloads(dialect);
        let ask = ask(model, true, Structured::No);
        let rendered = render(dialect, &ask, &reply(TEXT, id)).expect("a reply");
        assert_eq!(
            String::from_utf8_lossy(&rendered.body),
            String::from_utf8_lossy(&payload(file)),
            "{file}"
        );
    }
}

#[test]
fn there_is_no_reply_where_one_would_do_harm() {
    for stream in [false, true] {
        let plain = ask("m", stream, Structured::No);
        for dialect in [
            Dialect::COMPLETIONS,
            Dialect::EMBEDDINGS,
            Dialect::OPENAI_OTHER,
            Dialect::ANTHROPIC_OTHER,
        ] {
            assert_eq!(
                render(dialect, &plain, &reply(TEXT, "1")),
                None,
                "{}",
                dialect.as_str()
            );
        }
        let chained = Ask {
            chained: true,
            ..plain
        };
        for dialect in Dialect::ALL {
            assert_eq!(
                render(dialect, &chained, &reply(TEXT, "1")),
                None,
                "{}",
                dialect.as_str()
            );
        }
    }
}

#[test]
fn a_request_without_a_model_gets_ours() {
    for dialect in [
        Dialect::MESSAGES,
        Dialect::CHAT_COMPLETIONS,
        Dialect::RESPONSES,
    ] {
        let rendered = render(dialect, &Ask::default(), &reply(TEXT, "1")).expect("a reply");
        let answer: Value = serde_json::from_slice(&rendered.body).expect("valid JSON");
        assert_eq!(answer["model"], "surgetank");
    }
}

/// The text that a client puts together from a stream.
fn streamed_text(dialect: Dialect, body: &[u8]) -> String {
    events(body)
        .iter()
        .filter_map(|event| {
            let (name, data) = readable(event);
            let delta = match (dialect.endpoint(), name.as_deref()) {
                (Endpoint::Messages, Some("content_block_delta")) => &data["delta"]["text"],
                (Endpoint::Responses, Some("response.output_text.delta")) => &data["delta"],
                (Endpoint::ChatCompletions, None) => &data["choices"][0]["delta"]["content"],
                _ => return None,
            };
            delta.as_str().map(str::to_owned)
        })
        .collect()
}

proptest! {
    #[test]
    fn any_text_arrives_whole(
        text in prop_oneof![".{0,80}", "(?s).{0,80}", "[\r\n\"\\\\\u{0}\u{2028}]{0,40}"],
        model in "(?s).{1,20}",
        id in "[A-Za-z0-9_-]{1,40}",
    ) {
        for dialect in [Dialect::MESSAGES, Dialect::CHAT_COMPLETIONS, Dialect::RESPONSES] {
            let whole = render(dialect, &ask(&model, false, Structured::No), &reply(&text, &id)).expect("a reply");
            let answer: Value = serde_json::from_slice(&whole.body).expect("valid JSON");
            let found = match dialect.endpoint() {
                Endpoint::Messages => &answer["content"][0]["text"],
                Endpoint::ChatCompletions => &answer["choices"][0]["message"]["content"],
                _ => &answer["output"][0]["content"][0]["text"],
            };
            prop_assert_eq!(found.as_str(), Some(text.as_str()));
            prop_assert_eq!(answer["model"].as_str(), Some(model.as_str()));
            prop_assert!(answer["id"].as_str().is_some_and(|found| found.ends_with(&id)));

            let stream = render(dialect, &ask(&model, true, Structured::No), &reply(&text, &id)).expect("a reply");
            prop_assert_eq!(streamed_text(dialect, &stream.body), text.as_str());
        }
    }

    /// What we write, we read as a complete answer without an error.
    #[test]
    fn our_streams_are_whole_in_our_own_eyes(
        text in "(?s).{0,60}",
        structured in prop::sample::select(vec![Structured::No, Structured::JsonObject]),
        include_usage: bool,
    ) {
        for dialect in [Dialect::MESSAGES, Dialect::CHAT_COMPLETIONS, Dialect::RESPONSES] {
            let ask = Ask { include_usage, ..ask("m", true, structured) };
            let rendered = render(dialect, &ask, &reply(&text, "1")).expect("a reply");
            let mut ending = Ending::new(dialect);
            for event in events(&rendered.body) {
                let meaning = meaning(dialect, &event);
                prop_assert!(!matches!(meaning, Meaning::Error(_)));
                ending.observe(&event, &meaning);
            }
            prop_assert!(ending.is_complete() && !ending.has_failed());
        }
    }
}

#[test]
fn who_parses_json_gets_the_operators_object_and_a_forced_tool_a_refusal() {
    let said = ReplyText {
        json: Some(r#"{"status":"busy"}"#),
        ..reply(TEXT, "1")
    };
    let text = |structured| {
        let rendered = render(
            Dialect::CHAT_COMPLETIONS,
            &ask("m", false, structured),
            &said,
        )
        .expect("a reply");
        let answer: Value = serde_json::from_slice(&rendered.body).expect("valid JSON");
        answer["choices"][0]["message"]["content"]
            .as_str()
            .map(str::to_owned)
    };
    assert_eq!(text(Structured::No).as_deref(), Some(TEXT));
    for structured in [Structured::JsonObject, Structured::JsonSchema] {
        assert_eq!(text(structured).as_deref(), said.json);
    }
    assert_eq!(text(Structured::ForcedTool), None);
}

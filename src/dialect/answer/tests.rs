use bytes::Bytes;

use super::*;
use crate::dialect::{Ending, meaning};
use crate::stream::sse::{FrameKind, Framer};

fn payload(name: &str) -> Vec<u8> {
    let path = format!("{}/tests/payloads/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(path).expect("a payload of the vendors")
}

/// The lines of a table, cut into their cells.
fn rows<const N: usize>(table: &str) -> impl Iterator<Item = [&str; N]> {
    let lines = table.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.map(|line| {
        let cells: Vec<&str> = line.splitn(N, '|').map(str::trim).collect();
        cells.try_into().expect("a line has all its cells")
    })
}

/// The dialect that a name begins or ends with.
fn dialect_of(name: &str) -> Dialect {
    [
        ("messages", Dialect::MESSAGES),
        ("chat", Dialect::CHAT_COMPLETIONS),
        ("responses", Dialect::RESPONSES),
        ("completions", Dialect::COMPLETIONS),
        ("other", Dialect::OPENAI_OTHER),
    ]
    .into_iter()
    .find(|(word, _)| name.split('.').any(|part| part == *word))
    .map(|(_, dialect)| dialect)
    .expect("a known word")
}

/// A payload with other figures in it than its zeros.
fn with_figures(name: &str) -> Vec<u8> {
    let mut text = String::from_utf8(payload(name)).expect("text");
    for (key, figure) in [
        ("prompt_tokens", 30),
        ("completion_tokens", 7),
        ("input_tokens", 30),
        ("output_tokens", 7),
        ("cached_tokens", 20),
        ("reasoning_tokens", 5),
    ] {
        for space in ["", " "] {
            let (from, to) = (
                format!("\"{key}\":{space}0"),
                format!("\"{key}\": {figure}"),
            );
            text = text.replace(&from, &to);
        }
    }
    text.into_bytes()
}

/// Everything that is told of a stream, read in pieces of `len`.
fn read_stream(dialect: Dialect, stream: &[u8], len: usize) -> Reading {
    let (mut framer, mut ending) = (Framer::new(64 * 1024), Ending::new(dialect));
    for piece in stream.chunks(len) {
        framer.push(Bytes::copy_from_slice(piece));
        while let Some(frame) = framer.next_frame() {
            if let FrameKind::Event(event) = frame.kind {
                ending.observe(&event, &meaning(dialect, &event));
            }
        }
    }
    ending.reading()
}

#[test]
fn plain_answers_tell_their_end_and_their_cost() {
    let usage = |cached_input, reasoning| Usage {
        input: 30,
        cached_input,
        cache_write: 0,
        output: 7,
        reasoning,
    };
    for (dialect, file, finish, usage) in [
        (
            Dialect::MESSAGES,
            "anthropic.messages.json",
            Finish::Stop,
            usage(0, 0),
        ),
        (
            Dialect::MESSAGES,
            "anthropic.messages.refusal.json",
            Finish::Filtered,
            usage(0, 0),
        ),
        (
            Dialect::CHAT_COMPLETIONS,
            "openai.chat.json",
            Finish::Stop,
            usage(0, 0),
        ),
        (
            Dialect::RESPONSES,
            "openai.responses.json",
            Finish::Stop,
            usage(20, 5),
        ),
    ] {
        let body = with_figures(file);
        let expected = Reading {
            usage: Some(usage),
            finish: Some(finish),
            content_events: 0,
        };
        assert_eq!(read(dialect, &body), expected, "{file}");
        for len in [1, 7, 100] {
            let mut reader = AnswerReader::new(dialect);
            body.chunks(len).for_each(|piece| reader.see(piece));
            assert_eq!(reader.reading(), expected, "{file} in pieces of {len}");
        }
    }
}

/// File, events with content, reason, and input, cached input, output, reasoning.
const STREAMS: &str = r"
    anthropic.messages.sse               | 2 | stop     | 30 0 7 0
    anthropic.messages.refusal_empty.sse | 0 | filtered | 30 0 7 0
    openai.chat.sse                      | 2 | stop     | -
    openai.chat.include_usage.sse        | 2 | stop     | 30 0 7 0
    openai.responses.sse                 | 5 | stop     | 30 20 7 5
    openai.responses.incomplete.sse      | 0 | length   | 30 20 7 5
";

#[test]
fn streams_tell_their_end_and_their_cost() {
    for [file, content_events, finish, usage] in rows(STREAMS) {
        let stream = with_figures(file);
        for len in [1, 13, 100_000] {
            let told = read_stream(dialect_of(file), &stream, len);
            let figures = told.usage.map_or("-".to_owned(), |usage| {
                let Usage {
                    input,
                    cached_input,
                    output,
                    reasoning,
                    ..
                } = usage;
                format!("{input} {cached_input} {output} {reasoning}")
            });
            assert_eq!(figures, usage, "{file} in pieces of {len}");
            assert_eq!(told.finish.map(Finish::as_str), Some(finish), "{file}");
            assert_eq!(told.content_events.to_string(), content_events, "{file}");
        }
    }
}

#[test]
fn a_cut_stream_tells_what_it_had_told() {
    let start = br#"event: message_start
data: {"type":"message_start","message":{"usage":{"input_tokens":3,"cache_creation_input_tokens":10,"cache_read_input_tokens":200,"output_tokens":1}}}

event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"the key is \"usage\": {\"output_tokens\": 9}"}}

"#;
    let told = read_stream(Dialect::MESSAGES, start, 50);
    assert_eq!(
        told,
        Reading {
            usage: Some(Usage {
                input: 213,
                cached_input: 200,
                cache_write: 10,
                output: 1,
                reasoning: 0
            }),
            finish: None,
            content_events: 1,
        }
    );
    let delta = br#"event: message_delta
data: {"type":"message_delta","delta":{"stop_reason":"max_tokens"},"usage":{"output_tokens":40,"output_tokens_details":{"thinking_tokens":30},"input_tokens":null}}

"#;
    let whole = [&start[..], delta].concat();
    let told = read_stream(Dialect::MESSAGES, &whole, 50);
    assert_eq!(
        told.usage,
        Some(Usage {
            input: 213,
            cached_input: 200,
            cache_write: 10,
            output: 40,
            reasoning: 30
        }),
        "running totals replace, and what is not told again stays"
    );
    assert!(told.is_truncated());
}

#[test]
fn usage_in_every_chunk_counts_once() {
    let chunk = |tokens: u32| {
        format!(
            "data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"x\"}}}}],\"usage\":{{\"prompt_tokens\":9,\"completion_tokens\":{tokens},\"prompt_tokens_details\":{{\"cached_tokens\":4}}}}}}\n\n"
        )
    };
    let stream = [chunk(1), chunk(2), chunk(3)].concat();
    let told = read_stream(Dialect::CHAT_COMPLETIONS, stream.as_bytes(), 1000);
    assert_eq!(
        told.usage,
        Some(Usage {
            input: 9,
            cached_input: 4,
            cache_write: 0,
            output: 3,
            reasoning: 0
        })
    );
    assert_eq!(told.content_events, 3);
}

#[test]
fn other_endpoints_and_other_documents_tell_nothing() {
    let embeddings = br#"{"object":"list","data":[{"embedding":[0.1,0.2]}],"usage":{"prompt_tokens":8,"total_tokens":8}}"#;
    let told = read(Dialect::EMBEDDINGS, embeddings);
    assert_eq!(told.finish, None);
    assert_eq!(
        told.usage.map(|usage| (usage.input, usage.output)),
        Some((8, 0))
    );
    for (dialect, body) in [
        (Dialect::OPENAI_OTHER, &embeddings[..]),
        (Dialect::CHAT_COMPLETIONS, br#"{"error":{"message":"no"}}"#),
        (
            Dialect::CHAT_COMPLETIONS,
            br#"{"usage":{"prompt_tokens":-1,"completion_tokens":1.5}}"#,
        ),
        (
            Dialect::CHAT_COMPLETIONS,
            br#"{"usage":null,"choices":[{"finish_reason":null}]}"#,
        ),
        (
            Dialect::CHAT_COMPLETIONS,
            br#"{"usage":[30,7],"choices":{"finish_reason":"stop"}}"#,
        ),
        (
            Dialect::RESPONSES,
            br#"{"status":"in_progress","usage":null}"#,
        ),
        (Dialect::MESSAGES, b"<html>"),
        (Dialect::MESSAGES, b""),
    ] {
        assert_eq!(
            read(dialect, body),
            Reading::default(),
            "{}",
            String::from_utf8_lossy(body)
        );
    }
}

const ENDS: &str = r#"
    messages    | cut   | {"stop_reason":"max_tokens"}
    messages    | cut   | {"stop_reason": "model_context_window_exceeded"}
    messages    | whole | {"stop_reason":"end_turn","content":[{"text":"\"max_tokens\""}]}
    messages    | whole | {"content":[{"stop_reason":"max_tokens"}],"stop_reason":"end_turn"}
    messages    | whole | {"stop_reason":"length"}
    messages    | whole | {"stop_reason":"max_tokens"
    chat        | cut   | {"choices":[{"finish_reason":"stop"},{"finish_reason":"length"}]}
    chat        | cut   | {"choices":[{"finish_reason":"length"},{"finish_reason":"stop"}]}
    chat        | whole | {"choices":[{"finish_reason":"stop","length":"length"}]}
    chat        | whole | {"choices":[{"finish_reason":"max_tokens"}]}
    completions | cut   | {"choices":[{"text":"x","finish_reason":"length"}]}
    responses   | cut   | {"incomplete_details":{"reason":"max_output_tokens"}}
    responses   | cut   | {"incomplete_details":{"reason":"max_output_tokens"},"status":"incomplete"}
    responses   | whole | {"status":"incomplete","incomplete_details":{"reason":"content_filter"}}
    responses   | whole | {"incomplete_details":null,"max_output_tokens":5,"status":"completed"}
    other       | whole | {"choices":[{"finish_reason":"length"}]}
"#;

#[test]
fn only_an_answers_own_end_counts() {
    for [dialect, end, body] in rows(ENDS) {
        let told = read(dialect_of(dialect), body.as_bytes());
        assert_eq!(told.is_truncated(), end == "cut", "{dialect} {body}");
    }
}

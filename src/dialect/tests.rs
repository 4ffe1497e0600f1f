use std::{collections::HashSet, path::PathBuf};

use bytes::Bytes;
use serde_json::Value;

use super::*;
use crate::stream::sse::{Event, FrameKind, Framer};

// === shared by the tests of all dialect modules ===

/// A file of `tests/payloads/`.
pub(super) fn payload(name: &str) -> Vec<u8> {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "tests", "payloads", name]
        .iter()
        .collect();
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The names of all files of `tests/payloads/` with this ending.
pub(super) fn payload_names(ending: &str) -> Vec<String> {
    let folder: PathBuf = [env!("CARGO_MANIFEST_DIR"), "tests", "payloads"]
        .iter()
        .collect();
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .expect("the folder of payloads")
        .map(|entry| {
            entry
                .expect("a readable entry")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .filter(|name| name.ends_with(ending))
        .collect();
    names.sort();
    assert!(!names.is_empty(), "no payloads with the ending {ending}");
    names
}

/// The events of a whole stream, which must not hold anything else.
pub(super) fn events(stream: &[u8]) -> Vec<Event> {
    let mut framer = Framer::new(1 << 20);
    framer.push(Bytes::copy_from_slice(stream));
    let mut events = Vec::new();
    while let Some(frame) = framer.next_frame() {
        let FrameKind::Event(event) = frame.kind else {
            panic!("not an event: {:?}", frame.kind)
        };
        events.push(event);
    }
    assert!(framer.at_boundary(), "an unfinished event at the end");
    events
}

/// An event with the name, if not empty, and the data.
pub(super) fn event(name: &str, data: &str) -> Event {
    Event::new(Some(name.to_owned().into()), data.to_owned().into())
}

/// The name and the data of an event, read as JSON where they are.
pub(super) fn readable(event: &Event) -> (Option<String>, Value) {
    let name = event
        .name()
        .map(|name| String::from_utf8_lossy(name).into_owned());
    let data = serde_json::from_slice(event.data())
        .unwrap_or_else(|_| Value::from(String::from_utf8_lossy(event.data())));
    (name, data)
}

/// The rows of a table written as lines of `N` cells between bars; `-` stands for an empty one.
pub(super) fn rows<const N: usize>(table: &str) -> Vec<[&str; N]> {
    let lines = table.lines().map(str::trim).filter(|line| !line.is_empty());
    lines
        .map(|line| {
            let cells: Vec<&str> = line
                .split(" | ")
                .map(|cell| if cell.trim() == "-" { "" } else { cell.trim() })
                .collect();
            cells
                .try_into()
                .unwrap_or_else(|_| panic!("not {N} cells: {line}"))
        })
        .collect()
}

// === detection ===

fn detect(path: &str) -> Dialect {
    Dialect::detect(path, false)
}

#[test]
fn the_path_tells_the_dialect() {
    for (path, expected) in [
        ("/v1/messages", Dialect::MESSAGES),
        ("/v1/messages/", Dialect::MESSAGES),
        ("/anthropic/v1/messages", Dialect::MESSAGES),
        ("//v1//messages", Dialect::MESSAGES),
        ("/v1/messages/count_tokens", Dialect::ANTHROPIC_OTHER),
        ("/v1/messages/batches", Dialect::ANTHROPIC_OTHER),
        (
            "/proxy/v1/messages/batches/msgbatch_1/results",
            Dialect::ANTHROPIC_OTHER,
        ),
        ("/v1/complete", Dialect::ANTHROPIC_OTHER),
        ("/v1/chat/completions", Dialect::CHAT_COMPLETIONS),
        ("/chat/completions", Dialect::CHAT_COMPLETIONS),
        ("/api/v1/chat/completions/", Dialect::CHAT_COMPLETIONS),
        ("/v1beta/openai/chat/completions", Dialect::CHAT_COMPLETIONS),
        (
            "/openai/deployments/gpt-x/chat/completions",
            Dialect::CHAT_COMPLETIONS,
        ),
        ("/v1/responses", Dialect::RESPONSES),
        ("/openai/v1/responses", Dialect::RESPONSES),
        ("/v1/completions", Dialect::COMPLETIONS),
        (
            "/openai/deployments/completions/completions",
            Dialect::COMPLETIONS,
        ),
        ("/v1/embeddings", Dialect::EMBEDDINGS),
        (
            "/openai/deployments/messages/embeddings",
            Dialect::EMBEDDINGS,
        ),
    ] {
        assert_eq!(detect(path), expected, "{path}");
        assert_eq!(
            Dialect::detect(path, true),
            expected,
            "{path} with the header"
        );
    }
}

#[test]
fn paths_that_only_look_alike_are_other_calls() {
    for path in [
        "",
        "/",
        "/v1",
        "/v1/responses/resp_123",
        "/v1/responses/resp_123/cancel",
        "/v1/chat/completions/chatcmpl-1",
        "/v1/chat/completions/chatcmpl-1/messages",
        "/v1/threads/thread_1/messages",
        "/v1/models",
        "/v1/files",
        "/v1/audio/transcriptions",
        "/messages",
        "/v1/messagesx",
        "/vx/messages",
        "/v1/x/messages/count_tokens",
        "/v1/%63ompletions",
    ] {
        assert_eq!(detect(path), Dialect::OPENAI_OTHER, "{path}");
    }
}

#[test]
fn the_header_decides_where_both_vendors_have_the_path() {
    for path in ["/v1/models", "/v1/files", "/", "", "/v1/organizations/me"] {
        assert_eq!(
            Dialect::detect(path, true),
            Dialect::ANTHROPIC_OTHER,
            "{path}"
        );
    }
    assert_eq!(Dialect::detect("/messages", true), Dialect::MESSAGES);
    assert_eq!(
        Dialect::detect("/anthropic/messages", true),
        Dialect::MESSAGES
    );
    assert_eq!(
        Dialect::detect("/v1/sessions/s/messages", true),
        Dialect::ANTHROPIC_OTHER
    );
}

#[test]
fn the_query_is_no_part_of_the_path() {
    let path = "/openai/deployments/x/chat/completions?api-version=/v1/messages";
    assert_eq!(detect(path), Dialect::CHAT_COMPLETIONS);
    assert_eq!(
        detect("/v1/models?next=/v1/responses"),
        Dialect::OPENAI_OTHER
    );
}

#[test]
fn labels_are_distinct() {
    let labels: HashSet<&str> = Dialect::ALL
        .iter()
        .map(|dialect| dialect.as_str())
        .collect();
    assert_eq!(labels.len(), Dialect::ALL.len());
}

proptest::proptest! {
    #[test]
    fn any_path_gives_a_dialect(path in ".{0,80}", has_header: bool) {
        let dialect = Dialect::detect(&path, has_header);
        proptest::prop_assert!(Dialect::ALL.contains(&dialect));
    }
}

#[test]
fn the_usual_paths_are_what_they_are_when_taken_apart() {
    for path in ["/v1/messages", "/v1/chat/completions", "/v1/responses"] {
        for flag in [false, true] {
            let in_parts = Dialect::detect_in_parts(path, flag);
            assert_eq!(Dialect::detect(path, flag), in_parts, "{path} {flag}");
        }
    }
}

use serde_json::{Value, json};

use super::*;
use crate::dialect::{
    errors::read,
    tests::{events, payload, readable},
};

const REQUEST_ID: &str = "req_surgetank_0001";

fn written(dialect: Dialect, status: u16, kind: ErrorKind, message: &str) -> Value {
    let error = ErrorSpec {
        status,
        kind,
        message,
        request_id: REQUEST_ID,
    };
    serde_json::from_slice(&body(dialect, &error)).expect("valid JSON")
}

#[test]
fn bodies_equal_the_verified_ones() {
    for (file, dialect, status, kind) in [
        (
            "anthropic.error.429.json",
            Dialect::MESSAGES,
            429,
            ErrorKind::RateLimited,
        ),
        (
            "anthropic.error.429.spend_limit.json",
            Dialect::MESSAGES,
            429,
            ErrorKind::Exhausted,
        ),
        (
            "anthropic.error.503.json",
            Dialect::MESSAGES,
            503,
            ErrorKind::Overloaded,
        ),
        (
            "anthropic.error.504.json",
            Dialect::ANTHROPIC_OTHER,
            504,
            ErrorKind::Timeout,
        ),
        (
            "anthropic.error.529.json",
            Dialect::MESSAGES,
            529,
            ErrorKind::Overloaded,
        ),
        (
            "openai.error.429.json",
            Dialect::CHAT_COMPLETIONS,
            429,
            ErrorKind::RateLimited,
        ),
        (
            "openai.error.429.insufficient_quota.json",
            Dialect::RESPONSES,
            429,
            ErrorKind::Exhausted,
        ),
        (
            "openai.error.503.json",
            Dialect::OPENAI_OTHER,
            503,
            ErrorKind::Overloaded,
        ),
        (
            "openai.embeddings.error.503.json",
            Dialect::EMBEDDINGS,
            503,
            ErrorKind::Unknown,
        ),
    ] {
        let expected: Value = serde_json::from_slice(&payload(file)).expect("valid JSON");
        let message = expected["error"]["message"].as_str().expect("a message");
        assert_eq!(written(dialect, status, kind, message), expected, "{file}");
    }
}

#[test]
fn each_status_has_its_type_and_code() {
    let table = [
        (400, "invalid_request_error", "invalid_request_error", None),
        (
            401,
            "authentication_error",
            "authentication_error",
            Some("invalid_api_key"),
        ),
        (402, "billing_error", "invalid_request_error", None),
        (
            403,
            "permission_error",
            "permission_error",
            Some("permission_denied"),
        ),
        (
            404,
            "not_found_error",
            "invalid_request_error",
            Some("not_found"),
        ),
        (
            405,
            "invalid_request_error",
            "invalid_request_error",
            Some("method_not_allowed"),
        ),
        (
            408,
            "timeout_error",
            "timeout_error",
            Some("request_timeout"),
        ),
        (409, "conflict_error", "conflict_error", None),
        (
            413,
            "request_too_large",
            "invalid_request_error",
            Some("request_too_large"),
        ),
        (
            429,
            "rate_limit_error",
            "rate_limit_error",
            Some("rate_limit_exceeded"),
        ),
        (500, "api_error", "server_error", Some("server_error")),
        (502, "api_error", "server_error", Some("bad_gateway")),
        (
            503,
            "api_error",
            "service_unavailable_error",
            Some("server_is_overloaded"),
        ),
        (
            504,
            "timeout_error",
            "timeout_error",
            Some("gateway_timeout"),
        ),
        (508, "api_error", "server_error", Some("loop_detected")),
        (
            529,
            "overloaded_error",
            "service_unavailable_error",
            Some("server_is_overloaded"),
        ),
    ];
    for (status, anthropic_type, openai_type, openai_code) in table {
        let kind = ErrorKind::Unknown;
        let expected = json!({
            "type": "error",
            "error": {"type": anthropic_type, "message": "No."},
            "request_id": REQUEST_ID,
        });
        assert_eq!(
            written(Dialect::MESSAGES, status, kind, "No."),
            expected,
            "{status}"
        );
        let expected = json!({"error": {
            "message": "No.", "type": openai_type, "param": null, "code": openai_code,
        }});
        assert_eq!(
            written(Dialect::RESPONSES, status, kind, "No."),
            expected,
            "{status}"
        );
    }
}

const LOST: &str = "The upstream connection was lost before the reply was complete.";

#[test]
fn frames_are_the_verified_ones() {
    let frame_of = |dialect, kind, message, sequence| frame(dialect, kind, message, sequence);

    let frame = frame_of(Dialect::MESSAGES, ErrorKind::Overloaded, "Overloaded", None);
    assert_eq!(frame, payload("anthropic.error.sse"));

    let hybrid = payload("openai.responses.error_hybrid.sse");
    let frame = frame_of(Dialect::RESPONSES, ErrorKind::ServerError, LOST, Some(6));
    assert_eq!(frame, hybrid);
    for dialect in [Dialect::OPENAI_OTHER, Dialect::ANTHROPIC_OTHER] {
        assert_eq!(
            frame_of(dialect, ErrorKind::ServerError, LOST, Some(6)),
            hybrid
        );
    }

    // The verified frame has a code of its own; the SDKs take any.
    let chat = String::from_utf8(payload("openai.chat.error.sse")).expect("text");
    let chat = chat.replace("upstream_disconnected", "server_error");
    for dialect in [Dialect::CHAT_COMPLETIONS, Dialect::COMPLETIONS] {
        assert_eq!(
            frame_of(dialect, ErrorKind::ServerError, LOST, Some(6)),
            chat
        );
    }
}

const KINDS: [ErrorKind; 14] = [
    ErrorKind::RateLimited,
    ErrorKind::Overloaded,
    ErrorKind::ServerError,
    ErrorKind::Timeout,
    ErrorKind::Exhausted,
    ErrorKind::TooLarge,
    ErrorKind::Busy,
    ErrorKind::ContextTooLong,
    ErrorKind::ContentFiltered,
    ErrorKind::Invalid,
    ErrorKind::Authentication,
    ErrorKind::Permission,
    ErrorKind::NotFound,
    ErrorKind::Unknown,
];

#[test]
fn a_frame_is_one_event_that_reads_as_it_was_meant() {
    let message = "Two\nlines, \"quotes\", \u{0} and \u{2028}: data: [DONE]\r\n\r\n";
    for dialect in Dialect::ALL {
        for kind in KINDS {
            let frame = frame(dialect, kind, message, Some(3));
            let events = events(&frame);
            assert_eq!(events.len(), 1, "{} {kind:?}", dialect.as_str());
            let (_, data) = readable(&events[0]);
            assert_eq!(data["error"]["message"], message);

            let read_back = read(events[0].data()).expect("an error").kind;
            let expected = match (kind, dialect) {
                (ErrorKind::Unknown, _) => ErrorKind::ServerError,
                // Anthropic has one type for these.
                (ErrorKind::ContextTooLong | ErrorKind::ContentFiltered, Dialect::MESSAGES) => {
                    ErrorKind::Invalid
                }
                (ErrorKind::Busy, Dialect::MESSAGES) => ErrorKind::Unknown,
                _ => kind,
            };
            assert_eq!(read_back, expected, "{} {kind:?}", dialect.as_str());
        }
    }
}

#[test]
fn a_response_without_a_known_sequence_is_numbered_all_the_same() {
    let frame = frame(Dialect::RESPONSES, ErrorKind::Timeout, "x", None);
    let (name, data) = readable(&events(&frame)[0]);
    assert_eq!(name.as_deref(), Some("error"));
    assert_eq!(data["sequence_number"], 0);
}

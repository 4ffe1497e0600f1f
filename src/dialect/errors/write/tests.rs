use serde_json::{Value, json};

use super::*;
use crate::dialect::{
    errors::read,
    tests::{events, payload, readable, rows},
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

/// Status, Anthropic's type, `OpenAI`'s type and code.
const STATUSES: &str = "
    400 | invalid_request_error | invalid_request_error     | -
    401 | authentication_error  | authentication_error      | invalid_api_key
    402 | billing_error         | invalid_request_error     | -
    403 | permission_error      | permission_error          | permission_denied
    404 | not_found_error       | invalid_request_error     | not_found
    405 | invalid_request_error | invalid_request_error     | method_not_allowed
    408 | timeout_error         | timeout_error             | request_timeout
    409 | conflict_error        | conflict_error            | -
    413 | request_too_large     | invalid_request_error     | request_too_large
    429 | rate_limit_error      | rate_limit_error          | rate_limit_exceeded
    500 | api_error             | server_error              | server_error
    502 | api_error             | server_error              | bad_gateway
    503 | api_error             | service_unavailable_error | server_is_overloaded
    504 | timeout_error         | timeout_error             | gateway_timeout
    508 | api_error             | server_error              | loop_detected
    529 | overloaded_error      | service_unavailable_error | server_is_overloaded
";

#[test]
fn each_status_has_its_type_and_code() {
    for [status, anthropic_type, openai_type, openai_code] in rows(STATUSES) {
        let status: u16 = status.parse().expect("a number");
        let code = (!openai_code.is_empty()).then_some(openai_code);
        let expected = json!({
            "type": "error",
            "error": {"type": anthropic_type, "message": "No."},
            "request_id": REQUEST_ID,
        });
        let found = written(Dialect::MESSAGES, status, ErrorKind::Unknown, "No.");
        assert_eq!(found, expected, "{status}");

        let expected = json!({"error": {
            "message": "No.", "type": openai_type, "param": null, "code": code,
        }});
        let found = written(Dialect::RESPONSES, status, ErrorKind::Unknown, "No.");
        assert_eq!(found, expected, "{status}");
    }
}

#[test]
fn only_a_429_can_tell_that_the_money_is_spent() {
    for dialect in [Dialect::MESSAGES, Dialect::RESPONSES] {
        let exhausted = written(dialect, 503, ErrorKind::Exhausted, "No.");
        assert_eq!(exhausted, written(dialect, 503, ErrorKind::Unknown, "No."));
    }
}

const LOST: &str = "The upstream connection was lost before the reply was complete.";

/// The only event of a frame.
fn only_event(frame: &[u8]) -> (Option<String>, Value) {
    let events = events(frame);
    assert_eq!(events.len(), 1);
    readable(&events[0])
}

#[test]
fn frames_equal_the_verified_ones() {
    let written = frame(Dialect::MESSAGES, ErrorKind::Overloaded, "Overloaded", None);
    assert_eq!(
        only_event(&written),
        only_event(&payload("anthropic.error.sse"))
    );

    let hybrid = only_event(&payload("openai.responses.error_hybrid.sse"));
    for dialect in [
        Dialect::RESPONSES,
        Dialect::OPENAI_OTHER,
        Dialect::ANTHROPIC_OTHER,
    ] {
        let written = frame(dialect, ErrorKind::ServerError, LOST, Some(6));
        assert_eq!(only_event(&written), hybrid);
    }

    // The verified frame has a code of its own; the SDKs take any.
    let (name, mut chat) = only_event(&payload("openai.chat.error.sse"));
    chat["error"]["code"] = "server_error".into();
    for dialect in [Dialect::CHAT_COMPLETIONS, Dialect::COMPLETIONS] {
        let written = frame(dialect, ErrorKind::ServerError, LOST, Some(6));
        assert_eq!(only_event(&written), (name.clone(), chat.clone()));
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

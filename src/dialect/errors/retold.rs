//! An error that came with a status, told to a caller whose stream has already begun with 200.
//!
//! What the vendor said is kept to the letter, because that is what its documentation explains; only
//! the frame around it is the one that SDKs raise. Where it said nothing that can be carried over (a
//! page of HTML, nothing at all), its status is told in words.

use std::borrow::Cow;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{ErrorKind, frame, read};
use crate::dialect::{Dialect, Endpoint, json, wire::push_event};

/// The longest message that is carried over, in bytes.
const MAX_MESSAGE_LEN: usize = 16 * 1024;

#[derive(Default, Deserialize)]
struct Outer<'a> {
    #[serde(borrow)]
    error: Option<&'a RawValue>,
    #[serde(borrow)]
    request_id: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
struct Inner<'a> {
    #[serde(borrow)]
    message: Option<&'a RawValue>,
    #[serde(borrow)]
    code: Option<&'a RawValue>,
    #[serde(borrow)]
    param: Option<&'a RawValue>,
}

/// Anthropic's event.
#[derive(Serialize)]
struct Messages<'a> {
    r#type: &'static str,
    error: &'a RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a RawValue>,
}

/// A chunk of Chat.
#[derive(Serialize)]
struct Chat<'a> {
    error: &'a RawValue,
}

/// As the error of our own in [`frame`], with the vendor's object.
#[derive(Serialize)]
struct Hybrid<'a> {
    r#type: &'static str,
    sequence_number: u64,
    code: Option<&'a RawValue>,
    message: &'a RawValue,
    param: Option<&'a RawValue>,
    error: &'a RawValue,
}

/// The error event for an answer with this `status` and `body`, as the first event of its stream.
/// `instead` is the sentence for a body that tells none.
///
/// The work is linear in the body; bound its length before.
#[must_use]
pub fn retold(dialect: Dialect, status: u16, body: &[u8], instead: &str) -> Bytes {
    let one_line = on_one_line(body);
    if let Some(frame) = in_its_words(dialect, &one_line) {
        return frame;
    }
    let kind = read(&one_line).map(|signal| signal.kind);
    let kind = kind
        .filter(|kind| *kind != ErrorKind::Unknown)
        .unwrap_or(kind_of_status(status));
    let outer: Outer<'_> = json::object(&one_line).unwrap_or_default();
    let flat: Inner<'_> = json::object(&one_line).unwrap_or_default();
    let message = json::text(outer.error, MAX_MESSAGE_LEN)
        .or_else(|| json::text(flat.message, MAX_MESSAGE_LEN));
    frame(
        dialect,
        kind,
        message.as_deref().unwrap_or(instead),
        Some(0),
    )
}

/// The frame around the vendor's own error object.
fn in_its_words(dialect: Dialect, body: &[u8]) -> Option<Bytes> {
    let outer: Outer<'_> = json::object(body)?;
    let error = outer.error?;
    let inner: Inner<'_> = json::object(error.get().as_bytes())?;
    json::text(inner.message, MAX_MESSAGE_LEN)?;
    let message = inner.message?;
    let mut out = Vec::with_capacity(body.len() + 128);
    match dialect.endpoint() {
        Endpoint::Messages => push_event(
            &mut out,
            Some("error"),
            &Messages {
                r#type: "error",
                error,
                request_id: outer.request_id,
            },
        ),
        Endpoint::ChatCompletions | Endpoint::Completions => {
            push_event(&mut out, None, &Chat { error });
        }
        Endpoint::Responses | Endpoint::Embeddings | Endpoint::Other => push_event(
            &mut out,
            Some("error"),
            &Hybrid {
                r#type: "error",
                sequence_number: 0,
                code: inner.code,
                message,
                param: inner.param,
                error,
            },
        ),
    }
    Some(out.into())
}

/// A line end within JSON stands between two tokens, where a space means the same: within text it is escaped.
fn on_one_line(body: &[u8]) -> Cow<'_, [u8]> {
    let is_end = |byte: &u8| matches!(byte, b'\r' | b'\n');
    if !body.iter().any(is_end) {
        return Cow::Borrowed(body);
    }
    let on_line = |byte: &u8| if is_end(byte) { b' ' } else { *byte };
    Cow::Owned(body.iter().map(on_line).collect())
}

/// What a status says by itself.
#[must_use]
pub const fn kind_of_status(status: u16) -> ErrorKind {
    match status {
        401 => ErrorKind::Authentication,
        402 => ErrorKind::Exhausted,
        403 => ErrorKind::Permission,
        404 => ErrorKind::NotFound,
        408 | 504 => ErrorKind::Timeout,
        409 => ErrorKind::Busy,
        413 => ErrorKind::TooLarge,
        429 => ErrorKind::RateLimited,
        503 | 529 => ErrorKind::Overloaded,
        400..=499 => ErrorKind::Invalid,
        _ => ErrorKind::ServerError,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INSTEAD: &str = "The upstream answered 502.";

    fn told(dialect: Dialect, status: u16, body: &str) -> String {
        String::from_utf8(retold(dialect, status, body.as_bytes(), INSTEAD).to_vec()).unwrap()
    }

    #[test]
    fn the_vendors_words_are_kept_to_the_letter() {
        let anthropic = include_str!("../../../tests/payloads/anthropic.error.429.json");
        let frame = told(Dialect::MESSAGES, 429, anthropic);
        let data = frame
            .strip_prefix("event: error\ndata: ")
            .and_then(|frame| frame.strip_suffix("\n\n"))
            .unwrap();
        assert!(!data.contains('\n'), "{data}");
        let [frame, body] =
            [data, anthropic].map(|json| serde_json::from_str::<serde_json::Value>(json).unwrap());
        assert_eq!(frame, body);

        let openai = include_str!("../../../tests/payloads/openai.error.429.json");
        let body: serde_json::Value = serde_json::from_str(openai).unwrap();
        let frame = told(Dialect::CHAT_COMPLETIONS, 429, openai);
        let data = frame.strip_prefix("data: ").unwrap();
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(data).unwrap(),
            body
        );

        let frame = told(Dialect::RESPONSES, 429, openai);
        let data = frame.strip_prefix("event: error\ndata: ").unwrap();
        let data: serde_json::Value = serde_json::from_str(data).unwrap();
        assert_eq!(data["error"], body["error"]);
        for key in ["message", "code", "param"] {
            assert_eq!(data[key], body["error"][key]);
        }
        assert_eq!(
            (&data["type"], &data["sequence_number"]),
            (&"error".into(), &0.into())
        );
    }

    #[test]
    fn what_is_no_error_object_is_told_by_its_status() {
        let html = "<html>\n<body>502 Bad Gateway</body>\n</html>";
        for (status, body, kind, message) in [
            (502, html, "api_error", INSTEAD),
            (529, "", "overloaded_error", INSTEAD),
            (404, "{}", "not_found_error", INSTEAD),
            (
                503,
                r#"{"error":"slow down"}"#,
                "overloaded_error",
                "slow down",
            ),
            (
                400,
                r#"{"object":"error","message":"no"}"#,
                "invalid_request_error",
                "no",
            ),
            (429, r#"{"error":{"code":7}}"#, "rate_limit_error", INSTEAD),
            (
                429,
                r#"[{"error":{"code":429,"message":"m","status":"RESOURCE_EXHAUSTED"}}]"#,
                "rate_limit_error",
                INSTEAD,
            ),
            (200, r#"{"id":"msg_1"}"#, "api_error", INSTEAD),
        ] {
            let frame = told(Dialect::MESSAGES, status, body);
            let data = frame.strip_prefix("event: error\ndata: ").unwrap();
            let data: serde_json::Value = serde_json::from_str(data).unwrap();
            assert_eq!(data["error"]["type"], kind, "{status} {body}");
            assert_eq!(data["error"]["message"], message, "{status} {body}");
        }
    }

    #[test]
    fn every_frame_is_one_event_that_is_read_as_an_error() {
        use crate::dialect::{Meaning, meaning};
        use crate::stream::sse::{FrameKind, Framer};
        let bodies = [
            "{\"error\":\r\n{\"message\":\"a\\nb\",\r\n\"type\":\"x\"}}",
            "not JSON\n\ndata: x\n\n",
            "",
        ];
        for dialect in Dialect::ALL {
            for body in bodies {
                let frame = retold(dialect, 500, body.as_bytes(), INSTEAD);
                let mut framer = Framer::new(usize::MAX);
                framer.push(frame.clone());
                let Some(FrameKind::Event(event)) = framer.next_frame().map(|frame| frame.kind)
                else {
                    panic!("{frame:?}");
                };
                assert!(framer.next_frame().is_none() && framer.at_boundary());
                assert!(
                    matches!(meaning(dialect, &event), Meaning::Error(_)),
                    "{dialect:?} {frame:?}"
                );
            }
        }
    }
}

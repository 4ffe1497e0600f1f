//! Writes errors that the SDKs of each dialect raise as the right exception.

#[cfg(test)]
mod tests;

use bytes::Bytes;
use serde::Serialize;

use super::ErrorKind;
use crate::dialect::{
    Dialect, Endpoint, Vendor,
    wire::{push_event, push_json},
};

/// An error of our own, to be told to a caller with an HTTP status.
#[derive(Debug, Clone, Copy)]
pub struct ErrorSpec<'a> {
    /// The HTTP status that the body goes with. It decides the type, because
    /// SDKs choose their exception by the status and must not find another in the body.
    pub status: u16,
    /// What went wrong; tells apart what shares a status.
    pub kind: ErrorKind,
    /// A sentence for the application's developer.
    pub message: &'a str,
    /// Our id of the request.
    pub request_id: &'a str,
}

#[derive(Serialize)]
struct AnthropicError<'a> {
    r#type: &'static str,
    error: AnthropicDetail<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
}

#[derive(Serialize)]
struct AnthropicDetail<'a> {
    r#type: &'static str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<AnthropicCode>,
}

#[derive(Serialize)]
struct AnthropicCode {
    error_code: &'static str,
}

#[derive(Serialize)]
struct OpenAiError<'a> {
    error: OpenAiDetail<'a>,
}

#[derive(Serialize)]
struct OpenAiDetail<'a> {
    message: &'a str,
    r#type: &'static str,
    param: Option<()>,
    code: Option<&'static str>,
}

/// The documented flat error event of the Responses API with the nested object
/// of the others inside: the one form that every SDK of every dialect raises.
#[derive(Serialize)]
struct HybridError<'a> {
    r#type: &'static str,
    sequence_number: u64,
    code: Option<&'static str>,
    message: &'a str,
    param: Option<()>,
    error: OpenAiDetail<'a>,
}

/// The JSON body of an error, in the caller's dialect.
#[must_use]
pub fn body(dialect: Dialect, error: &ErrorSpec<'_>) -> Bytes {
    let is_exhausted = error.kind == ErrorKind::Exhausted;
    let mut out = Vec::with_capacity(256);
    match dialect.vendor() {
        Vendor::Anthropic => push_json(
            &mut out,
            &AnthropicError {
                r#type: "error",
                error: AnthropicDetail {
                    r#type: anthropic_type_of_status(error.status),
                    message: error.message,
                    details: (is_exhausted && error.status == 429).then_some(AnthropicCode {
                        error_code: "enforced_spend_limit_reached",
                    }),
                },
                request_id: Some(error.request_id),
            },
        ),
        Vendor::OpenAi => {
            let (r#type, code) = if is_exhausted && error.status == 429 {
                ("insufficient_quota", Some("insufficient_quota"))
            } else {
                openai_words_of_status(error.status)
            };
            let error = openai_detail(error.message, r#type, code);
            push_json(&mut out, &OpenAiError { error });
        }
    }
    out.into()
}

/// The last event of a stream that failed after its status had gone out.
///
/// Each form was seen to raise in every official SDK and in Vercel's; a plain
/// end of the stream would be taken for the end of the answer. `sequence` is
/// the number that the next event of a Responses stream would have had; other
/// dialects have none. For an unknown endpoint the form is the one that raises
/// everywhere. If the stream stopped within an event, a blank line must go
/// before this frame, or it becomes a part of that event.
#[must_use]
pub fn frame(dialect: Dialect, kind: ErrorKind, message: &str, sequence: Option<u64>) -> Bytes {
    let mut out = Vec::with_capacity(384);
    let (r#type, code) = openai_words_of_kind(kind);
    match dialect.endpoint() {
        Endpoint::Messages => {
            let error = AnthropicDetail {
                r#type: anthropic_type_of_kind(kind),
                message,
                details: None,
            };
            let event = AnthropicError {
                r#type: "error",
                error,
                request_id: None,
            };
            push_event(&mut out, Some("error"), &event);
        }
        Endpoint::ChatCompletions | Endpoint::Completions => {
            let error = openai_detail(message, r#type, code);
            push_event(&mut out, None, &OpenAiError { error });
        }
        Endpoint::Responses | Endpoint::Embeddings | Endpoint::Other => {
            let event = HybridError {
                r#type: "error",
                sequence_number: sequence.unwrap_or(0),
                code,
                message,
                param: None,
                error: openai_detail(message, r#type, code),
            };
            push_event(&mut out, Some("error"), &event);
        }
    }
    out.into()
}

fn openai_detail<'a>(
    message: &'a str,
    r#type: &'static str,
    code: Option<&'static str>,
) -> OpenAiDetail<'a> {
    OpenAiDetail {
        message,
        r#type,
        param: None,
        code,
    }
}

/// Anthropic's types, from its errors page; statuses it does not document get the nearest.
fn anthropic_type_of_status(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        408 | 504 => "timeout_error",
        409 => "conflict_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        529 => "overloaded_error",
        500.. => "api_error",
        _ => "invalid_request_error",
    }
}

fn anthropic_type_of_kind(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::RateLimited => "rate_limit_error",
        ErrorKind::Overloaded => "overloaded_error",
        ErrorKind::Timeout => "timeout_error",
        ErrorKind::Exhausted => "billing_error",
        ErrorKind::TooLarge => "request_too_large",
        ErrorKind::Busy => "conflict_error",
        ErrorKind::ContextTooLong | ErrorKind::ContentFiltered | ErrorKind::Invalid => {
            "invalid_request_error"
        }
        ErrorKind::Authentication => "authentication_error",
        ErrorKind::Permission => "permission_error",
        ErrorKind::NotFound => "not_found_error",
        ErrorKind::ServerError | ErrorKind::Unknown => "api_error",
    }
}

/// `OpenAI`'s type and code; statuses it does not document get a code of the same style.
fn openai_words_of_status(status: u16) -> (&'static str, Option<&'static str>) {
    match status {
        401 => ("authentication_error", Some("invalid_api_key")),
        403 => ("permission_error", Some("permission_denied")),
        404 => ("invalid_request_error", Some("not_found")),
        405 => ("invalid_request_error", Some("method_not_allowed")),
        408 => ("timeout_error", Some("request_timeout")),
        409 => ("conflict_error", None),
        413 => ("invalid_request_error", Some("request_too_large")),
        429 => ("rate_limit_error", Some("rate_limit_exceeded")),
        502 => ("server_error", Some("bad_gateway")),
        503 | 529 => ("service_unavailable_error", Some("server_is_overloaded")),
        504 => ("timeout_error", Some("gateway_timeout")),
        508 => ("server_error", Some("loop_detected")),
        500.. => ("server_error", Some("server_error")),
        _ => ("invalid_request_error", None),
    }
}

fn openai_words_of_kind(kind: ErrorKind) -> (&'static str, Option<&'static str>) {
    match kind {
        ErrorKind::RateLimited => ("rate_limit_error", Some("rate_limit_exceeded")),
        ErrorKind::Overloaded => ("service_unavailable_error", Some("server_is_overloaded")),
        ErrorKind::Timeout => ("timeout_error", Some("timeout")),
        ErrorKind::Exhausted => ("insufficient_quota", Some("insufficient_quota")),
        ErrorKind::TooLarge => ("invalid_request_error", Some("request_too_large")),
        ErrorKind::Busy => ("conflict_error", Some("conversation_locked")),
        ErrorKind::ContextTooLong => ("invalid_request_error", Some("context_length_exceeded")),
        ErrorKind::ContentFiltered => ("invalid_request_error", Some("content_policy_violation")),
        ErrorKind::Invalid => ("invalid_request_error", None),
        ErrorKind::Authentication => ("authentication_error", Some("invalid_api_key")),
        ErrorKind::Permission => ("permission_error", Some("permission_denied")),
        ErrorKind::NotFound => ("invalid_request_error", Some("model_not_found")),
        ErrorKind::ServerError | ErrorKind::Unknown => ("server_error", Some("server_error")),
    }
}

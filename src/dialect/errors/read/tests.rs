use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::dialect::tests::{payload, payload_names, rows};
use ErrorKind::{
    Authentication, Busy, ContentFiltered, ContextTooLong, Exhausted, Invalid, NotFound,
    Overloaded, Permission, RateLimited, ServerError, Timeout, TooLarge, Unknown,
};

fn signal_of(body: &Value) -> ErrorSignal {
    read(body.to_string().as_bytes()).unwrap_or_else(|| panic!("not taken for an error: {body}"))
}

fn kind_of(body: &Value) -> ErrorKind {
    signal_of(body).kind
}

fn anthropic(kind: &str, message: &str, error_code: Option<&str>) -> Value {
    let mut error = json!({"type": kind, "message": message});
    if let Some(error_code) = error_code {
        error["details"] = json!({"error_code": error_code, "more": [1]});
    }
    json!({"type": "error", "error": error, "request_id": "req_1"})
}

fn openai(kind: &str, code: Option<&str>, message: &str) -> Value {
    json!({"error": {"message": message, "type": kind, "param": null, "code": code}})
}

#[test]
fn anthropic_types() {
    for (kind, expected) in [
        ("invalid_request_error", Invalid),
        ("authentication_error", Authentication),
        ("billing_error", Exhausted),
        ("permission_error", Permission),
        ("not_found_error", NotFound),
        ("conflict_error", Unknown),
        ("request_too_large", TooLarge),
        ("rate_limit_error", RateLimited),
        ("api_error", ServerError),
        ("timeout_error", Timeout),
        ("overloaded_error", Overloaded),
        ("an_error_of_next_year", Unknown),
    ] {
        let signal = signal_of(&anthropic(kind, "No.", None));
        assert_eq!(
            (signal.kind, signal.code.as_deref()),
            (expected, Some(kind))
        );
    }
}

#[test]
fn anthropic_error_codes_are_more_specific_than_types() {
    for (kind, code, expected) in [
        (
            "rate_limit_error",
            "enforced_spend_limit_reached",
            Exhausted,
        ),
        (
            "rate_limit_error",
            "contract_spend_limit_reached",
            Exhausted,
        ),
        ("rate_limit_error", "ramp_limit_exceeded", RateLimited),
        (
            "billing_error",
            "linked_organization_spend_limit_reached",
            Exhausted,
        ),
        (
            "billing_error",
            "linked_organization_billing_unavailable",
            Exhausted,
        ),
        ("invalid_request_error", "thread_continue_in_flight", Busy),
        ("invalid_request_error", "request_body_timeout", Timeout),
        (
            "request_too_large",
            "request_body_too_large_after_decoding",
            TooLarge,
        ),
        ("api_error", "cmek_key_unreachable", ServerError),
        ("api_error", "cmek_context_unavailable", ServerError),
        ("overloaded_error", "compaction_unavailable", Overloaded),
        ("invalid_request_error", "a_code_of_next_year", Invalid),
    ] {
        let signal = signal_of(&anthropic(kind, "No.", Some(code)));
        assert_eq!(
            (signal.kind, signal.code.as_deref()),
            (expected, Some(code))
        );
    }
}

#[test]
fn anthropic_messages_tell_what_the_type_does_not() {
    let balance = "Your credit balance is too low to access the Anthropic API.";
    let spend =
        "You have reached your specified API usage limits. You will regain access on 2026-12-01.";
    let long = "prompt is too long: 210000 tokens > 200000 maximum";
    for (kind, message, expected) in [
        ("invalid_request_error", balance, Exhausted),
        ("invalid_request_error", spend, Exhausted),
        (
            "rate_limit_error",
            "You have reached your API usage limits.",
            Exhausted,
        ),
        (
            "rate_limit_error",
            "This request would exceed your rate limit.",
            RateLimited,
        ),
        ("invalid_request_error", long, ContextTooLong),
        ("invalid_request_error", "temperature: range: 0..1", Invalid),
        ("api_error", "Overloaded", Overloaded),
        // A decisive type is not overridden by words that a caller may have written.
        ("authentication_error", balance, Authentication),
        (
            "not_found_error",
            "model: credit balance is too low",
            NotFound,
        ),
    ] {
        assert_eq!(
            kind_of(&anthropic(kind, message, None)),
            expected,
            "{kind}: {message}"
        );
    }
}

const OPENAI_CODES: &str = "
    invalid_request_error     | context_length_exceeded             | context_too_long
    invalid_request_error     | content_policy_violation            | content_filtered
    invalid_request_error     | unsupported_parameter               | invalid
    invalid_request_error     | invalid_value                       | invalid
    invalid_request_error     | -                                   | invalid
    invalid_request_error     | invalid_api_key                     | authentication
    invalid_request_error     | account_deactivated                 | authentication
    authentication_error      | -                                   | authentication
    request_forbidden         | unsupported_country_region_territory | permission
    invalid_request_error     | model_not_found                     | not_found
    timeout                   | -                                   | timeout
    conflict                  | conversation_locked                 | busy
    requests                  | rate_limit_exceeded                 | rate_limited
    tokens                    | rate_limit_exceeded                 | rate_limited
    tokens                    | -                                   | rate_limited
    rate_limit_error          | slow_down                           | rate_limited
    insufficient_quota        | insufficient_quota                  | exhausted
    insufficient_quota        | -                                   | exhausted
    insufficient_quota        | rate_limit_exceeded                 | exhausted
    rate_limit_error          | credit_balance_exhausted            | exhausted
    rate_limit_error          | organization_spend_limit_exceeded   | exhausted
    rate_limit_error          | project_spend_limit_exceeded        | exhausted
    rate_limit_error          | organization_usage_limit_exceeded   | exhausted
    insufficient_quota        | billing_hard_limit_reached          | exhausted
    invalid_request_error     | billing_not_active                  | exhausted
    server_error              | -                                   | server_error
    service_unavailable_error | server_is_overloaded                | overloaded
    server_error              | server_is_overloaded                | overloaded
    server_error              | slow_down                           | rate_limited
    -                         | -                                   | unknown
";

#[test]
fn openai_codes() {
    for [kind, code, expected] in rows(OPENAI_CODES) {
        let code = (!code.is_empty()).then_some(code);
        let found = kind_of(&openai(kind, code, "No."));
        assert_eq!(found.as_str(), expected, "{kind} / {code:?}");
    }
    let engine = "The engine is currently overloaded, please try again later.";
    assert_eq!(kind_of(&openai("server_error", None, engine)), Overloaded);
}

#[test]
fn codes_of_a_failed_response() {
    for (code, expected) in [
        ("server_error", ServerError),
        ("rate_limit_exceeded", RateLimited),
        ("invalid_prompt", ContentFiltered),
        ("vector_store_timeout", Timeout),
        ("invalid_image", Invalid),
        ("image_too_large", Invalid),
        ("bio_policy", ContentFiltered),
        ("misalignment_policy_violation", ContentFiltered),
        ("data_residency_mismatch", Invalid),
        ("insufficient_quota", Exhausted),
        ("server_is_overloaded", Overloaded),
    ] {
        let body =
            json!({"id": "resp_1", "status": "failed", "error": {"code": code, "message": "No."}});
        assert_eq!(kind_of(&body), expected, "{code}");
    }
}

#[test]
fn a_request_above_the_limit_can_never_be_admitted() {
    let prefix = "Request too large for gpt-x in organization org-1 on tokens per min (TPM)";
    let reached = "Rate limit reached for gpt-x on tokens per min (TPM)";
    for (message, expected) in [
        (
            format!("{prefix}: Limit 10000, Requested 12000. Reduce the tokens."),
            TooLarge,
        ),
        (
            format!("{prefix}: Limit 10,000, Requested 12,000."),
            TooLarge,
        ),
        (format!("{prefix}."), TooLarge),
        (
            format!("{prefix}: Limit 10000, Requested 10000."),
            RateLimited,
        ),
        (
            format!("{prefix}: Limit 10000, Requested 9000."),
            RateLimited,
        ),
        (
            format!("{reached}: Limit 10000, Used 9000, Requested 2000. Try again in 6s."),
            RateLimited,
        ),
        (
            format!("{reached}: Limit 10000, Used 0, Requested 20000."),
            TooLarge,
        ),
        (
            format!("{reached}: Limit 99999999999999999999999, Requested 1."),
            RateLimited,
        ),
    ] {
        let body = openai("tokens", Some("rate_limit_exceeded"), &message);
        assert_eq!(kind_of(&body), expected, "{message}");
    }
}

#[test]
fn azure_bodies() {
    let filtered = json!({"error": {
        "message": "The response was filtered", "type": null, "param": "prompt",
        "code": "content_filter", "status": 400,
        "innererror": {"code": "ResponsibleAIPolicyViolation", "content_filter_result": {}}
    }});
    assert_eq!(kind_of(&filtered), ContentFiltered);

    let throttled = json!({"error": {"code": "429", "message": "Requests have exceeded …"}});
    let signal = signal_of(&throttled);
    assert_eq!(
        (signal.kind, signal.code.as_deref()),
        (RateLimited, Some("429"))
    );

    for (code, expected) in [
        ("401", Authentication),
        ("DeploymentNotFound", NotFound),
        ("408", Timeout),
        ("500", ServerError),
        ("InternalServerError", Unknown),
    ] {
        let body = json!({"error": {"code": code, "message": "No."}});
        assert_eq!(kind_of(&body), expected, "{code}");
    }
}

fn gemini(status: &str, code: u16, quota: &str, delay: &str) -> Value {
    json!({"error": {
        "code": code, "message": "You exceeded your current quota.", "status": status,
        "details": [
            {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{"quotaId": quota}]},
            {"@type": "type.googleapis.com/google.rpc.Help", "links": []},
            {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay},
        ]
    }})
}

#[test]
fn gemini_bodies_bare_and_in_an_array() {
    let by_minute = gemini(
        "RESOURCE_EXHAUSTED",
        429,
        "GenerateRequestsPerMinutePerProject",
        "37s",
    );
    for body in [by_minute.clone(), json!([by_minute])] {
        let signal = signal_of(&body);
        assert_eq!(signal.kind, RateLimited);
        assert_eq!(signal.code.as_deref(), Some("RESOURCE_EXHAUSTED"));
        assert_eq!(signal.retry_after, Some(Duration::from_secs(37)));
    }
    let by_day = gemini(
        "RESOURCE_EXHAUSTED",
        429,
        "GenerateRequestsPerDayPerProject",
        "37s",
    );
    assert_eq!(kind_of(&json!([by_day])), Exhausted);

    for (status, code, expected) in [
        ("UNAVAILABLE", 503, Overloaded),
        ("INTERNAL", 500, ServerError),
        ("DEADLINE_EXCEEDED", 504, Timeout),
        ("INVALID_ARGUMENT", 400, Invalid),
        ("PERMISSION_DENIED", 403, Permission),
        ("UNAUTHENTICATED", 401, Authentication),
        ("NOT_FOUND", 404, NotFound),
    ] {
        let body = json!([{"error": {"code": code, "message": "No.", "status": status}}]);
        assert_eq!(kind_of(&body), expected, "{status}");
    }
}

#[test]
fn absurd_delays_count_as_none() {
    let delay = |text: &str| signal_of(&gemini("RESOURCE_EXHAUSTED", 429, "q", text)).retry_after;
    assert_eq!(delay("1.5s"), Some(Duration::from_millis(1500)));
    assert_eq!(delay("0s"), Some(Duration::ZERO));
    for text in [
        "", "s", "-1s", "NaNs", "infs", "1e300s", "37", "37m", "1h37s", "soon",
    ] {
        assert_eq!(delay(text), None, "{text:?}");
    }
}

#[test]
fn bodies_of_other_vendors() {
    for (body, expected) in [
        (
            json!({"error": {"code": 402, "message": "More credits needed", "metadata": {}}}),
            Exhausted,
        ),
        (
            json!({"error": {"code": 429, "message": "Provider returned error"}}),
            RateLimited,
        ),
        (
            json!({"error": {"code": 502, "message": "Provider down"}}),
            ServerError,
        ),
        (
            json!({"object": "error", "type": "BadRequestError", "code": 400, "message": "x"}),
            Invalid,
        ),
        (
            json!({"object": "error", "type": "BadRequestError", "code": 400,
                "message": "This model's maximum context length is 4096 tokens."}),
            ContextTooLong,
        ),
        (json!({"error": "model is overloaded"}), Overloaded),
        (json!({"error": "no"}), Unknown),
        (json!({"error": {"text": "no"}}), Unknown),
        (json!({"error": ["no"]}), Unknown),
        (
            json!({"type": "error", "code": "server_error", "message": "x", "param": null}),
            ServerError,
        ),
        (json!({"type": "error"}), Unknown),
    ] {
        assert_eq!(kind_of(&body), expected, "{body}");
    }
}

#[test]
fn whole_answers_and_foreign_text_are_no_errors() {
    for body in [
        &br#"{"id":"resp_1","status":"completed","error":null,"output":[]}"#[..],
        br#"{"error":{}}"#,
        br#"{"error":""}"#,
        br#"{"error":false}"#,
        br#"{"choices":[{"message":{"content":"{\"error\":{\"code\":\"x\"}}"}}]}"#,
        b"<html><title>502 Bad Gateway</title></html>",
        b"[]",
        b"[1]",
        b"[[{\"error\":{\"code\":429}}]]",
        b"null",
        b"",
    ] {
        assert_eq!(read(body), None, "{}", String::from_utf8_lossy(body));
    }
}

#[test]
fn only_plain_short_codes_are_kept() {
    let longest = "c".repeat(MAX_CODE_LEN);
    for (code, expected) in [
        (longest.as_str(), Some(longest.as_str())),
        (&format!("{longest}c"), Some("server_error")),
        ("two words", Some("server_error")),
        ("line\nend", Some("server_error")),
        ("größe", Some("server_error")),
        ("a.b-C_3", Some("a.b-C_3")),
    ] {
        let signal = signal_of(&openai("server_error", Some(code), "x"));
        assert_eq!(signal.code.as_deref(), expected, "{code:?}");
        assert_eq!(signal.kind, ServerError);
    }
    assert_eq!(signal_of(&json!({"error": {"message": "x"}})).code, None);
}

#[test]
fn the_payloads_are_understood() {
    let expected = [
        ("anthropic.error.429.json", RateLimited),
        ("anthropic.error.429.spend_limit.json", Exhausted),
        ("anthropic.error.503.json", ServerError),
        ("anthropic.error.504.json", Timeout),
        ("anthropic.error.529.json", Overloaded),
        ("openai.embeddings.error.503.json", Overloaded),
        ("openai.error.429.insufficient_quota.json", Exhausted),
        ("openai.error.429.json", RateLimited),
        ("openai.error.503.json", Overloaded),
    ];
    for name in payload_names(".json") {
        let kind = read(&payload(&name)).map(|signal| signal.kind);
        let expected = expected
            .iter()
            .find(|(file, _)| *file == name)
            .map(|(_, kind)| *kind);
        assert_eq!(kind, expected, "{name}");
    }
}

proptest! {
    #[test]
    fn random_bytes_never_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = read(&body);
    }

    #[test]
    fn damaged_payloads_never_panic(
        file in any::<prop::sample::Index>(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5),
    ) {
        let names = payload_names(".json");
        let mut body = payload(&names[file.index(names.len())]);
        for (at, byte) in damage {
            let at = at.index(body.len());
            body[at] = byte;
        }
        if let Some(code) = read(&body).and_then(|signal| signal.code) {
            prop_assert!((1..=MAX_CODE_LEN).contains(&code.len()) && code.is_ascii());
        }
    }

    #[test]
    fn any_message_is_read(message in ".{0,200}", limit: u64, requested: u64) {
        let text = format!("{message} Limit {limit}, Requested {requested} {message}");
        let _ = kind_of(&openai("tokens", Some("rate_limit_exceeded"), &text));
    }
}

//! The vendors' words for what went wrong, as one table.

use super::ErrorKind;

/// Codes, types and status words of all vendors in lower case; numbers are HTTP statuses.
const CODES: &[(ErrorKind, &[&str])] = &[
    (
        // OpenAI's, then Anthropic's.
        ErrorKind::Exhausted,
        &[
            "insufficient_quota",
            "credit_balance_exhausted",
            "organization_spend_limit_exceeded",
            "project_spend_limit_exceeded",
            "organization_usage_limit_exceeded",
            "billing_hard_limit_reached",
            "billing_not_active",
            "enforced_spend_limit_reached",
            "contract_spend_limit_reached",
            "linked_organization_spend_limit_reached",
            "linked_organization_billing_unavailable",
            "billing_error",
            "402",
        ],
    ),
    (
        // `requests` and `tokens` are OpenAI's older types, `resource_exhausted` is Google's.
        ErrorKind::RateLimited,
        &[
            "rate_limit_exceeded",
            "rate_limit_error",
            "slow_down",
            "ramp_limit_exceeded",
            "requests",
            "tokens",
            "too_many_requests",
            "resource_exhausted",
            "429",
        ],
    ),
    (
        ErrorKind::Overloaded,
        &[
            "overloaded_error",
            "overloaded",
            "server_is_overloaded",
            "engine_overloaded",
            "service_unavailable_error",
            "service_unavailable",
            "compaction_unavailable",
            "unavailable",
            "503",
            "529",
        ],
    ),
    (
        ErrorKind::ServerError,
        &[
            "server_error",
            "api_error",
            "internal_error",
            "internal_server_error",
            "internal",
            "cmek_key_unreachable",
            "cmek_context_unavailable",
            "500",
            "502",
        ],
    ),
    (
        ErrorKind::Timeout,
        &[
            "timeout",
            "timeout_error",
            "request_timeout",
            "request_body_timeout",
            "vector_store_timeout",
            "deadline_exceeded",
            "408",
            "504",
        ],
    ),
    (
        ErrorKind::TooLarge,
        &[
            "request_too_large",
            "request_body_too_large_after_decoding",
            "413",
        ],
    ),
    (
        ErrorKind::Busy,
        &["conversation_locked", "thread_continue_in_flight"],
    ),
    (ErrorKind::ContextTooLong, &["context_length_exceeded"]),
    (
        ErrorKind::ContentFiltered,
        &[
            "content_filter",
            "content_policy_violation",
            "responsibleaipolicyviolation",
            "invalid_prompt",
            "bio_policy",
            "misalignment_policy_violation",
        ],
    ),
    (
        ErrorKind::Authentication,
        &[
            "authentication_error",
            "invalid_api_key",
            "account_deactivated",
            "unauthenticated",
            "401",
        ],
    ),
    (
        ErrorKind::Permission,
        &[
            "permission_error",
            "permission_denied",
            "unsupported_country_region_territory",
            "403",
        ],
    ),
    (
        ErrorKind::NotFound,
        &[
            "not_found_error",
            "model_not_found",
            "not_found",
            "deploymentnotfound",
            "404",
        ],
    ),
    (
        ErrorKind::Invalid,
        &["data_residency_mismatch", "400", "405", "422"],
    ),
];

/// How the many codes begin that only say what is wrong with the request:
/// `invalid_request_error`, `unsupported_parameter`, `image_too_large`.
const INVALID_PREFIXES: [&str; 3] = ["invalid_", "unsupported_", "image_"];

/// What a code, type or status word means, whatever the vendor.
///
/// General words have a general meaning, so ask with the most specific one first.
pub(super) fn kind_of_code(code: &str) -> ErrorKind {
    let code = code.to_ascii_lowercase();
    let known = CODES
        .iter()
        .find(|(_, codes)| codes.contains(&code.as_str()));
    if let Some((kind, _)) = known {
        return *kind;
    }
    if INVALID_PREFIXES
        .iter()
        .any(|prefix| code.starts_with(prefix))
    {
        return ErrorKind::Invalid;
    }
    ErrorKind::Unknown
}

/// What the message adds where the codes are too general to act on.
///
/// Only kinds that leave the question open are refined: a message may quote the
/// caller's own words, so it never overrides a code that is decisive.
pub(super) fn refine_by_message(kind: ErrorKind, message: &str) -> ErrorKind {
    let message = message.to_ascii_lowercase();
    let says = |phrases: &[&str]| phrases.iter().any(|phrase| message.contains(phrase));
    match kind {
        // Anthropic tells an empty account and a spending limit with a plain 400 or 429.
        ErrorKind::Invalid | ErrorKind::RateLimited | ErrorKind::Unknown
            if says(&[
                "credit balance is too low",
                "reached your specified api usage limits",
                "reached your api usage limits",
            ]) =>
        {
            ErrorKind::Exhausted
        }
        ErrorKind::RateLimited if can_never_be_admitted(&message) => ErrorKind::TooLarge,
        ErrorKind::Invalid | ErrorKind::Unknown
            if says(&["prompt is too long", "maximum context length"]) =>
        {
            ErrorKind::ContextTooLong
        }
        ErrorKind::ServerError | ErrorKind::Unknown if says(&["overloaded"]) => {
            ErrorKind::Overloaded
        }
        kind => kind,
    }
}

/// Whether a rate limit's message says that the request alone exceeds the limit:
/// "Request too large for …: Limit 10000, Requested 12000".
fn can_never_be_admitted(message: &str) -> bool {
    let limit = number_after(message, "limit ");
    let requested = number_after(message, "requested ");
    match (limit, requested) {
        (Some(limit), Some(requested)) => requested > limit,
        _ => message.contains("request too large"),
    }
}

/// The first whole number that directly follows `word`, thousands separated or not.
fn number_after(message: &str, word: &str) -> Option<u64> {
    message
        .match_indices(word)
        .find_map(|(at, _)| leading_number(&message[at + word.len()..]))
}

fn leading_number(text: &str) -> Option<u64> {
    let end = text
        .find(|next: char| !next.is_ascii_digit() && next != ',')
        .unwrap_or(text.len());
    text[..end].replace(',', "").parse().ok()
}

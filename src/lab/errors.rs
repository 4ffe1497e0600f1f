//! The vendors' errors: which type, code and words belong to which failure.
//!
//! Sources: the vendors' error references and their SDKs, as the project's notes on the protocols have them.

use std::fmt::Write as _;

use super::api::Vendor;
use super::fault::{ErrorForm, Fault, Params};
use super::json::Quoted;

/// One error as a vendor tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct VendorError {
    pub(super) status: u16,
    pub(super) kind: String,
    /// OpenAI's `code`, Anthropic's `details.error_code`.
    pub(super) code: Option<String>,
    pub(super) message: String,
}

/// Type, code and message.
type Row = (&'static str, Option<&'static str>, &'static str);

impl VendorError {
    /// The error that a vendor sends with a status.
    pub(super) fn of_status(vendor: Vendor, status: u16) -> Self {
        let row = match vendor {
            Vendor::Anthropic => anthropic(status),
            Vendor::OpenAi => openai(status),
        };
        Self::new(status, row)
    }

    /// The error of a fault that names more than a status; `None` for those that do not.
    pub(super) fn of_fault(vendor: Vendor, fault: Fault) -> Option<Self> {
        let (status, row) = match vendor {
            Vendor::Anthropic => anthropic_special(fault)?,
            Vendor::OpenAi => (429, openai_special(fault)?),
        };
        Some(Self::new(status, row))
    }

    fn new(status: u16, (kind, code, message): Row) -> Self {
        Self {
            status,
            kind: kind.to_owned(),
            code: code.map(str::to_owned),
            message: message.to_owned(),
        }
    }

    /// Takes over what the scenario wants to be said instead.
    pub(super) fn altered(mut self, params: &Params) -> Self {
        if let Some(kind) = &params.kind_of_error {
            self.kind.clone_from(kind);
        }
        if let Some(code) = &params.code {
            self.code = Some(code.clone());
        }
        if let Some(message) = &params.message {
            self.message.clone_from(message);
        }
        self
    }

    /// The body of an error status.
    pub(super) fn body(&self, vendor: Vendor, request_id: &str) -> String {
        match vendor {
            Vendor::Anthropic => {
                format!(
                    r#"{{"type":"error","error":{},"request_id":{}}}"#,
                    self.anthropic(),
                    Quoted(request_id)
                )
            }
            Vendor::OpenAi => format!(r#"{{"error":{}}}"#, self.openai()),
        }
    }

    /// The error as an event of a stream; `sequence` is the number of the event.
    pub(super) fn frame(&self, form: ErrorForm, sequence: usize) -> String {
        let (code, message) = (self.code_or_kind(), Quoted(&self.message));
        let flat = format!(
            r#""type":"error","sequence_number":{sequence},"code":{code},"message":{message},"param":null"#
        );
        match form {
            ErrorForm::Native => {
                format!(
                    "event: error\ndata: {{\"type\":\"error\",\"error\":{}}}\n\n",
                    self.anthropic()
                )
            }
            ErrorForm::Chat => format!("data: {{\"error\":{}}}\n\n", self.openai()),
            ErrorForm::Flat => format!("event: error\ndata: {{{flat}}}\n\n"),
            ErrorForm::Nested => format!(
                "event: error\ndata: {{\"type\":\"error\",\"sequence_number\":{sequence},\"error\":{}}}\n\n",
                self.openai()
            ),
            ErrorForm::Hybrid => format!(
                "event: error\ndata: {{{flat},\"error\":{}}}\n\n",
                self.openai()
            ),
            // The response object around this error is the speech's own; see `speech::responses`.
            ErrorForm::Failed => format!(r#"{{"code":{code},"message":{message}}}"#),
        }
    }

    fn code_or_kind(&self) -> Quoted<'_> {
        Quoted(self.code.as_deref().unwrap_or(&self.kind))
    }

    fn anthropic(&self) -> String {
        let mut error = format!(
            r#"{{"type":{},"message":{}"#,
            Quoted(&self.kind),
            Quoted(&self.message)
        );
        if let Some(code) = &self.code {
            // Writing to a string cannot fail.
            let _ = write!(error, r#","details":{{"error_code":{}}}"#, Quoted(code));
        }
        error + "}"
    }

    fn openai(&self) -> String {
        let code = self
            .code
            .as_deref()
            .map_or("null".to_owned(), |code| Quoted(code).to_string());
        let (message, kind) = (Quoted(&self.message), Quoted(&self.kind));
        format!(r#"{{"message":{message},"type":{kind},"param":null,"code":{code}}}"#)
    }
}

fn anthropic(status: u16) -> Row {
    match status {
        401 => ("authentication_error", None, "invalid x-api-key"),
        402 => (
            "billing_error",
            Some("linked_organization_billing_unavailable"),
            "There is a problem with the billing of this organization.",
        ),
        403 => (
            "permission_error",
            None,
            "This API key may not use the specified resource.",
        ),
        404 => (
            "not_found_error",
            None,
            "The requested resource could not be found.",
        ),
        408 | 504 => ("timeout_error", None, "The request took too long."),
        409 => (
            "conflict_error",
            None,
            "The resource was changed by another request.",
        ),
        413 => (
            "request_too_large",
            None,
            "Request exceeds the maximum allowed number of bytes.",
        ),
        429 => (
            "rate_limit_error",
            None,
            "This request would exceed the rate limit of your organization.",
        ),
        529 => ("overloaded_error", None, "Overloaded"),
        500..=599 => ("api_error", None, "Internal server error"),
        _ => ("invalid_request_error", None, "The request is not valid."),
    }
}

fn openai(status: u16) -> Row {
    match status {
        401 => (
            "invalid_request_error",
            Some("invalid_api_key"),
            "Incorrect API key provided.",
        ),
        402 => (
            "invalid_request_error",
            Some("billing_not_active"),
            "Your account is not active.",
        ),
        403 => (
            "invalid_request_error",
            Some("unsupported_country_region_territory"),
            "Country, region, or territory not supported.",
        ),
        404 => (
            "invalid_request_error",
            Some("model_not_found"),
            "The model does not exist.",
        ),
        408 => ("timeout", None, "The request timed out."),
        409 => ("conflict_error", None, "The resource is busy."),
        413 => (
            "invalid_request_error",
            Some("request_too_large"),
            "The request body is too large.",
        ),
        429 => (
            "rate_limit_error",
            Some("rate_limit_exceeded"),
            "Rate limit reached for requests.",
        ),
        503 | 529 => (
            "service_unavailable_error",
            Some("server_is_overloaded"),
            "The server is overloaded. Please try again later.",
        ),
        500..=599 => (
            "server_error",
            None,
            "The server had an error while processing your request.",
        ),
        _ => ("invalid_request_error", None, "The request is not valid."),
    }
}

fn anthropic_special(fault: Fault) -> Option<(u16, Row)> {
    const SPENT: &str = "You have reached your API usage limits.";
    let limited = |code, message| (429, ("rate_limit_error", code, message));
    Some(match fault {
        Fault::InsufficientQuota | Fault::SpendLimit => {
            limited(Some("enforced_spend_limit_reached"), SPENT)
        }
        Fault::CreditBalanceExhausted => limited(Some("contract_spend_limit_reached"), SPENT),
        Fault::UsageLimit => (
            400,
            (
                "invalid_request_error",
                None,
                "You have reached your specified API usage limits. You will regain access on 2099-01-01 at 00:00 UTC.",
            ),
        ),
        Fault::RequestTooLarge => (
            400,
            (
                "invalid_request_error",
                None,
                "prompt is too long: 1200000 tokens > 1000000 maximum",
            ),
        ),
        Fault::SlowDown => limited(
            Some("ramp_limit_exceeded"),
            "Your request rate rose too fast.",
        ),
        _ => return None,
    })
}

fn openai_special(fault: Fault) -> Option<Row> {
    Some(match fault {
        Fault::InsufficientQuota => (
            "insufficient_quota",
            Some("insufficient_quota"),
            "You exceeded your current quota, please check your plan and billing details.",
        ),
        Fault::CreditBalanceExhausted => (
            "billing_error",
            Some("credit_balance_exhausted"),
            "Your credit balance is exhausted.",
        ),
        Fault::SpendLimit => (
            "billing_error",
            Some("organization_spend_limit_exceeded"),
            "Your organization has reached its spend limit.",
        ),
        Fault::UsageLimit => (
            "billing_error",
            Some("organization_usage_limit_exceeded"),
            "Your organization has reached its usage limit.",
        ),
        Fault::RequestTooLarge => (
            "tokens",
            Some("rate_limit_exceeded"),
            "Request too large for the model on tokens per min (TPM): Limit 30000, Requested 48000.",
        ),
        Fault::SlowDown => (
            "rate_limit_error",
            Some("slow_down"),
            "Your request rate rose too fast. Slow down.",
        ),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_have_the_verified_shapes() {
        let busy = VendorError::of_status(Vendor::Anthropic, 529);
        assert_eq!(
            busy.body(Vendor::Anthropic, "req_1"),
            r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"},"request_id":"req_1"}"#
        );
        let spent = VendorError::of_fault(Vendor::Anthropic, Fault::SpendLimit).unwrap();
        assert!(
            spent
                .body(Vendor::Anthropic, "r")
                .contains(r#""details":{"error_code":"enforced_spend_limit_reached"}"#)
        );
        let limited = VendorError::of_status(Vendor::OpenAi, 429).body(Vendor::OpenAi, "r");
        assert!(
            limited.ends_with(
                r#""type":"rate_limit_error","param":null,"code":"rate_limit_exceeded"}}"#
            ),
            "{limited}"
        );
    }

    #[test]
    fn every_body_and_frame_is_json() {
        for vendor in [Vendor::Anthropic, Vendor::OpenAi] {
            for status in 400..=599 {
                let mut error = VendorError::of_status(vendor, status);
                error.message = "a \"quoted\"\nline".to_owned();
                let body: serde_json::Value =
                    serde_json::from_str(&error.body(vendor, "r")).unwrap();
                assert_eq!(body["error"]["message"], "a \"quoted\"\nline");
            }
        }
        let error = VendorError::of_status(Vendor::OpenAi, 503);
        for form in [
            ErrorForm::Native,
            ErrorForm::Chat,
            ErrorForm::Flat,
            ErrorForm::Nested,
            ErrorForm::Hybrid,
        ] {
            let frame = error.frame(form, 4);
            let data = frame.trim_end().rsplit("data: ").next().unwrap();
            assert!(
                serde_json::from_str::<serde_json::Value>(data).is_ok(),
                "{form:?}: {data}"
            );
        }
    }
}

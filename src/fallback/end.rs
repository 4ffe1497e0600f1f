//! How a walk ends where nothing of ours is put in the place of the upstream's answer.

use http::{HeaderName, HeaderValue};

use super::{Finished, condition::failure_of};
use crate::{
    attempt::{Answer, Attempted, Cause, Failure},
    config::FailureKind,
    queue::NotQueued,
    retry::triage::{Class, Verdict},
    telemetry::Outcome,
};

const X_SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// The failure of an upstream that was not even asked.
pub(super) fn left_alone() -> Failure {
    Failure {
        verdict: Verdict::final_of(Class::Overloaded),
        cause: Cause::LeftAlone,
    }
}

/// The failure of a repeat that is not to be carried out.
pub(super) fn refused_repeat(because: &NotQueued) -> Failure {
    refused(match because {
        NotQueued::Unsure => Cause::Unsure,
        _ => Cause::KeyReused,
    })
}

/// The failure of a request that is not even tried.
pub(super) fn refused(cause: Cause) -> Failure {
    Failure {
        verdict: Verdict::final_of(Class::Refused),
        cause,
    }
}

/// The upstream's own answer.
pub(super) fn passed_on(tried: Attempted) -> Result<Finished, Failure> {
    let Answer {
        mut response,
        verdict,
        ..
    } = tried?;
    let outcome = match verdict.class {
        Class::Served => Outcome::Served,
        Class::Exhausted => Outcome::Exhausted,
        Class::Refused => Outcome::Refused,
        _ => Outcome::Failed,
    };
    // An SDK would try these statuses again, in vain or on top of our own attempts.
    let status = response.status().as_u16();
    let sdk_repeats = matches!(status, 408 | 409 | 429) || status >= 500;
    let failed = failure_of(verdict).is_some_and(|failure| failure != FailureKind::ContextTooLong);
    if failed || verdict.retryable || (verdict.class == Class::Refused && sdk_repeats) {
        response
            .headers_mut()
            .insert(X_SHOULD_RETRY, HeaderValue::from_static("false"));
    }
    Ok(Finished { response, outcome })
}

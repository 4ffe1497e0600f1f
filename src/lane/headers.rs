//! What the vendors' rate-limit headers say, as reports for the pace.
//!
//! They come on successes too, so a healthy lane can slow down before its first 429. `OpenAI`, Azure
//! and most that are compatible send `x-ratelimit-{limit,remaining,reset}-{requests,tokens,…}`,
//! Anthropic sends `anthropic-ratelimit-{requests,tokens,input-tokens,…}-{limit,remaining,reset}`.

use std::time::{Duration, SystemTime};

use http::HeaderMap;

use super::{Measure, QuotaReport};
use crate::retry::hints::formats;

/// Resets beyond this say no more than this, and moments must not overflow.
const FARTHEST: Duration = Duration::from_secs(24 * 60 * 60);

/// Reports that are read of one answer; vendors send up to four.
const MOST: usize = 6;

/// The quotas that an answer's headers tell of. `tokens` is what a request of this kind takes of a
/// quota on tokens. What cannot be read is left out.
#[must_use]
pub fn quota_reports(headers: &HeaderMap, tokens: f64) -> Vec<QuotaReport> {
    let mut reports = Vec::new();
    for name in headers.keys() {
        let Some((family, what)) = limit_of(name.as_str()) else {
            continue;
        };
        if reports.len() == MOST {
            break;
        }
        let value = |property: &str| {
            headers
                .get(family.field(what, property))
                .and_then(|value| value.to_str().ok())
        };
        let number = |property| {
            value(property)
                .and_then(|text| text.trim().parse::<f64>().ok())
                .filter(|n| *n >= 0.0)
        };
        let reset = value("reset").and_then(|text| formats::reset(text, SystemTime::now()));
        let reset = reset.map(|reset| reset.min(FARTHEST));
        if let (Some(limit), Some(remaining), Some(reset)) =
            (number("limit"), number("remaining"), reset)
        {
            let per_request = if what.contains("token") {
                tokens.max(1.0)
            } else {
                1.0
            };
            reports.push(QuotaReport {
                measure: measure_of(what),
                limit,
                remaining,
                reset,
                per_request,
            });
        }
    }
    reports
}

/// What the vendors' names for limits mean.
fn measure_of(what: &str) -> Measure {
    match what {
        "requests" => Measure::Requests,
        "tokens" | "project-tokens" => Measure::Tokens,
        "input-tokens" => Measure::InputTokens,
        "output-tokens" => Measure::OutputTokens,
        _ => Measure::Other,
    }
}

#[derive(Copy, Clone)]
enum Family {
    OpenAi,
    Anthropic,
}

impl Family {
    fn field(self, what: &str, property: &str) -> String {
        match self {
            Self::OpenAi => format!("x-ratelimit-{property}-{what}"),
            Self::Anthropic => format!("anthropic-ratelimit-{what}-{property}"),
        }
    }
}

/// The quota that a field named `…limit…` speaks of.
fn limit_of(name: &str) -> Option<(Family, &str)> {
    if let Some(what) = name.strip_prefix("x-ratelimit-limit-") {
        return Some((Family::OpenAi, what));
    }
    let what = name
        .strip_prefix("anthropic-ratelimit-")?
        .strip_suffix("-limit")?;
    Some((Family::Anthropic, what))
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn read(fields: &[(&'static str, &'static str)]) -> Vec<QuotaReport> {
        let pairs = fields.iter().map(|(name, value)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )
        });
        quota_reports(&pairs.collect(), 500.0)
    }

    #[test]
    fn openai_sends_durations() {
        let reports = read(&[
            ("x-ratelimit-limit-requests", "60"),
            ("x-ratelimit-remaining-requests", "3"),
            ("x-ratelimit-reset-requests", "6m0s"),
            ("x-ratelimit-limit-tokens", "90000"),
            ("x-ratelimit-remaining-tokens", "80000"),
            ("x-ratelimit-reset-tokens", "20ms"),
        ]);
        let requests = QuotaReport {
            measure: Measure::Requests,
            limit: 60.0,
            remaining: 3.0,
            reset: Duration::from_secs(360),
            per_request: 1.0,
        };
        let tokens = QuotaReport {
            measure: Measure::Tokens,
            limit: 90_000.0,
            remaining: 80_000.0,
            reset: Duration::from_millis(20),
            per_request: 500.0,
        };
        assert_eq!(reports, [requests, tokens]);
    }

    #[test]
    fn anthropic_sends_moments() {
        let reports = read(&[
            ("anthropic-ratelimit-requests-limit", "50"),
            ("anthropic-ratelimit-requests-remaining", "49"),
            ("anthropic-ratelimit-requests-reset", "2999-01-01T00:00:00Z"),
        ]);
        assert_eq!(
            (reports.len(), reports[0].limit, reports[0].remaining),
            (1, 50.0, 49.0)
        );
        assert!(reports[0].reset > Duration::from_secs(3600));
    }

    #[test]
    fn an_absurd_reset_is_bounded() {
        let reports = read(&[
            ("x-ratelimit-limit-requests", "60"),
            ("x-ratelimit-remaining-requests", "0"),
            ("x-ratelimit-reset-requests", "9999999999999999999h"),
        ]);
        assert!(reports.iter().all(|report| report.reset <= FARTHEST));
    }

    #[test]
    fn what_is_missing_or_senseless_is_left_out() {
        assert!(
            read(&[
                ("x-ratelimit-limit-requests", "60"),
                ("x-ratelimit-remaining-requests", "3")
            ])
            .is_empty()
        );
        assert!(
            read(&[
                ("x-ratelimit-limit-requests", "60"),
                ("x-ratelimit-remaining-requests", "-1"),
                ("x-ratelimit-reset-requests", "1s"),
            ])
            .is_empty()
        );
    }
}

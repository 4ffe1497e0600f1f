//! Limits in the vendors' own words, for SDKs and applications that read those and no others.
//!
//! Only on refusals, which are ours alone: on an answer of the vendor's, these fields are the vendor's.

use std::time::{Duration, SystemTime};

use super::plan::Unit;
use super::standing::{RateStanding, Standing};
use crate::dialect::{Vendor, times};

/// A field's name and its value.
pub type Field = (&'static str, String);

/// The fields of `vendor` for what an account has left at `now`, the wall clock's.
///
/// A vendor has one limit of each unit; of several, the scarcest is told.
#[must_use]
pub fn fields(vendor: Vendor, standing: &Standing, now: SystemTime) -> Vec<Field> {
    let mut fields = Vec::new();
    for unit in [Unit::Requests, Unit::Tokens] {
        let of_unit = standing.rates().filter(|rate| rate.unit == unit);
        if let Some(rate) = of_unit.min_by_key(|rate| rate.remaining) {
            let [limit, remaining, reset] = names(vendor, unit);
            fields.push((limit, rate.limit.to_string()));
            fields.push((remaining, rate.remaining.to_string()));
            fields.push((reset, reset_of(vendor, &rate, now)));
        }
    }
    fields
}

fn names(vendor: Vendor, unit: Unit) -> [&'static str; 3] {
    match (vendor, unit) {
        (Vendor::Anthropic, Unit::Requests) => [
            "anthropic-ratelimit-requests-limit",
            "anthropic-ratelimit-requests-remaining",
            "anthropic-ratelimit-requests-reset",
        ],
        (Vendor::Anthropic, Unit::Tokens) => [
            "anthropic-ratelimit-tokens-limit",
            "anthropic-ratelimit-tokens-remaining",
            "anthropic-ratelimit-tokens-reset",
        ],
        (Vendor::OpenAi, Unit::Requests) => [
            "x-ratelimit-limit-requests",
            "x-ratelimit-remaining-requests",
            "x-ratelimit-reset-requests",
        ],
        (Vendor::OpenAi, Unit::Tokens) => [
            "x-ratelimit-limit-tokens",
            "x-ratelimit-remaining-tokens",
            "x-ratelimit-reset-tokens",
        ],
    }
}

/// Anthropic tells a moment, to the second and not too early; the others a time from now, as Go prints it.
fn reset_of(vendor: Vendor, rate: &RateStanding<'_>, now: SystemTime) -> String {
    match vendor {
        Vendor::Anthropic => times::rfc3339(now + rate.reset + Duration::from_millis(999)),
        Vendor::OpenAi => times::go_duration(rate.reset),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::limit::account::{State, decide};
    use crate::limit::plan::{Limit, Plan, Scope};

    fn standing() -> Standing {
        let limit = |unit, count, minutes: u64| Limit {
            unit,
            count,
            per: Duration::from_secs(60 * minutes),
            burst: count,
        };
        let limits = [
            limit(Unit::Requests, 60, 1),
            limit(Unit::Requests, 20, 1_440),
            limit(Unit::Tokens, 6_000, 1),
        ];
        let plan = Plan::new(Scope::User, &limits, Some(8)).expect("sound rates");
        let mut state = State::default();
        decide(&plan, &mut state, 766, 0).expect("within the limits");
        Standing::new(Arc::new(plan), state, 0)
    }

    #[test]
    fn each_vendor_tells_the_scarcest_limit_of_each_unit() {
        let now = UNIX_EPOCH + Duration::from_secs(1_755_780_059);
        let of = |vendor| -> Vec<String> {
            let fields = fields(vendor, &standing(), now).into_iter();
            fields
                .map(|(name, value)| format!("{name}: {value}"))
                .collect()
        };
        assert_eq!(
            of(Vendor::OpenAi),
            [
                "x-ratelimit-limit-requests: 20",
                "x-ratelimit-remaining-requests: 19",
                "x-ratelimit-reset-requests: 1h12m0s",
                "x-ratelimit-limit-tokens: 6000",
                "x-ratelimit-remaining-tokens: 5234",
                "x-ratelimit-reset-tokens: 7.66s",
            ]
        );
        assert_eq!(
            of(Vendor::Anthropic),
            [
                "anthropic-ratelimit-requests-limit: 20",
                "anthropic-ratelimit-requests-remaining: 19",
                "anthropic-ratelimit-requests-reset: 2025-08-21T13:52:59Z",
                "anthropic-ratelimit-tokens-limit: 6000",
                "anthropic-ratelimit-tokens-remaining: 5234",
                "anthropic-ratelimit-tokens-reset: 2025-08-21T12:41:07Z",
            ]
        );
    }
}

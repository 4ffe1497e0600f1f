//! Limits in the vendors' own words, for SDKs and applications that read those and no others.
//!
//! Only on refusals, which are ours alone: on an answer of the vendor's, these fields are the vendor's.

use std::time::{Duration, SystemTime};

use super::plan::Unit;
use super::standing::{RateStanding, Standing};
use crate::dialect::Vendor;

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
        Vendor::Anthropic => wire::rfc3339(now + rate.reset + Duration::from_millis(999)),
        Vendor::OpenAi => wire::go_duration(rate.reset),
    }
}

mod wire {
    //! The vendors' ways to write times.

    pub(super) use crate::dialect::times::{go_duration, rfc3339};
}

//! What a caller is told of its limits: `RateLimit`, `RateLimit-Policy` and `Retry-After`.
//!
//! The first two follow draft 11 of the IETF's `RateLimit` fields: structured-field lists of strings
//! with parameters, one item for each limit. The policy says what holds (`q` units per `w`
//! seconds), the other what is left of it (`r`, and the seconds `t` until that changes).
//!
//! Callers act on these numbers, so each errs to the safe side: a remainder is rounded down, a time
//! up. `Retry-After` is a whole number and never 0, which some SDKs take for "at once" and some for
//! nothing at all; and it is never earlier than `t`, as the draft demands. The optional partition
//! key is left out: it would tell who the user is.

use std::time::Duration;

use super::plan::Unit;
use super::standing::Standing;

/// The largest integer of a structured field (RFC 9651 §3.3.1).
const LARGEST: u64 = 999_999_999_999_999;

/// The value of `RateLimit-Policy`, or `None` where nothing is limited.
#[must_use]
pub fn policy(standing: &Standing) -> Option<String> {
    let mut list = List::default();
    for rate in standing.rates() {
        let (quota, window) = whole_seconds(rate.limit, rate.window);
        let name = rate.name;
        // The draft's register of units has none for tokens, so that one is ours.
        let unit = match rate.unit {
            Unit::Requests => "",
            Unit::Tokens => ";surgetank-unit=\"tokens\"",
        };
        list.item([name])
            .number(";q=", quota)
            .number(";w=", window)
            .text(unit);
    }
    if let Some(concurrent) = standing.concurrent() {
        let (scope, limit) = (standing.scope().as_str(), concurrent.limit);
        list.item([scope, CONCURRENT])
            .number(";q=", limit.into())
            .text(";qu=\"concurrent-requests\"");
    }
    list.finish()
}

/// The value of `RateLimit`, or `None` where nothing is limited.
#[must_use]
pub fn state(standing: &Standing) -> Option<String> {
    let mut list = List::default();
    for rate in standing.rates() {
        let (name, remaining) = (rate.name, rate.remaining.min(LARGEST));
        let reset = seconds_up(rate.reset);
        list.item([name])
            .number(";r=", remaining)
            .number(";t=", reset);
    }
    if let Some(concurrent) = standing.concurrent() {
        let (scope, remaining) = (standing.scope().as_str(), concurrent.remaining);
        list.item([scope, CONCURRENT])
            .number(";r=", remaining.into());
    }
    list.finish()
}

/// The value of `Retry-After`: whole seconds, rounded up, at least 1.
#[must_use]
pub fn retry_after(wait: Duration) -> u64 {
    seconds_up(wait).max(1)
}

/// The value of `Retry-After-Ms`, which official SDKs know: rounded up, at least 1, since some take 0 for "at once" and
/// some for nothing at all.
#[must_use]
pub fn retry_after_ms(wait: Duration) -> u64 {
    let up = u128::from(!wait.subsec_nanos().is_multiple_of(1_000_000));
    u64::try_from(wait.as_millis() + up)
        .unwrap_or(LARGEST)
        .clamp(1, LARGEST)
}

/// Behind the scope in the name of a limit of requests at once.
const CONCURRENT: &str = "-concurrent";

/// A structured-field list in the making. Every answer has two, so they are written without the formatter's detours.
#[derive(Default)]
struct List(String);

impl List {
    /// Begins an item: a string of these parts.
    fn item<const PARTS: usize>(&mut self, name: [&str; PARTS]) -> &mut Self {
        if self.0.is_empty() {
            self.0.reserve(80); // two items as they usually are, in one allocation
        } else {
            self.0.push_str(", ");
        }
        self.0.push('"');
        self.0.extend(name);
        self.0.push('"');
        self
    }

    fn number(&mut self, before: &str, number: u64) -> &mut Self {
        self.text(before).text(itoa::Buffer::new().format(number))
    }

    fn text(&mut self, text: &str) -> &mut Self {
        self.0.push_str(text);
        self
    }

    fn finish(self) -> Option<String> {
        (!self.0.is_empty()).then_some(self.0)
    }
}

/// A limit over any period, told over whole seconds, since the fields know no others.
fn whole_seconds(limit: u64, window: Duration) -> (u64, u64) {
    let seconds = seconds_up(window).max(1);
    let micros = window.as_micros().max(1);
    let quota = u128::from(limit) * u128::from(seconds) * 1_000_000 / micros;
    let quota = u64::try_from(quota).unwrap_or(LARGEST).min(LARGEST);
    (quota, seconds)
}

fn seconds_up(duration: Duration) -> u64 {
    let up = u64::from(duration.subsec_nanos() > 0);
    duration.as_secs().saturating_add(up).min(LARGEST)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::limit::account::{State, decide};
    use crate::limit::plan::{Limit, Plan, Scope};

    fn limit(unit: Unit, count: u64, per: Duration) -> Limit {
        Limit {
            unit,
            count,
            per,
            burst: count,
        }
    }

    /// What is left after so many requests of 100 tokens at one moment.
    fn standing(limits: &[Limit], concurrent: Option<u32>, requests: u32) -> Standing {
        let plan = Plan::new(Scope::User, limits, concurrent).expect("sound rates");
        let mut state = State::default();
        for _ in 0..requests {
            decide(&plan, &mut state, 100, 0).expect("within the limits");
        }
        Standing::new(Arc::new(plan), state, 0)
    }

    const MINUTE: Duration = Duration::from_mins(1);

    #[test]
    fn every_limit_has_its_item() {
        let limits = [
            limit(Unit::Requests, 60, MINUTE),
            limit(Unit::Requests, 1_000, 1_440 * MINUTE),
            limit(Unit::Tokens, 200_000, MINUTE),
        ];
        let standing = standing(&limits, Some(8), 3);
        assert_eq!(
            policy(&standing).as_deref(),
            Some(
                "\"user\";q=60;w=60, \"user-per-day\";q=1000;w=86400, \
                 \"user-tokens\";q=200000;w=60;surgetank-unit=\"tokens\", \
                 \"user-concurrent\";q=8;qu=\"concurrent-requests\""
            )
        );
        assert_eq!(
            state(&standing).as_deref(),
            Some(
                "\"user\";r=57;t=3, \"user-per-day\";r=997;t=260, \
                 \"user-tokens\";r=199700;t=1, \"user-concurrent\";r=5"
            )
        );
    }

    #[test]
    fn one_limit_or_none() {
        let only = standing(&[limit(Unit::Requests, 60, MINUTE)], None, 48);
        assert_eq!(policy(&only).as_deref(), Some("\"user\";q=60;w=60"));
        assert_eq!(state(&only).as_deref(), Some("\"user\";r=12;t=48"));
        let only = standing(&[], Some(8), 5);
        assert_eq!(state(&only).as_deref(), Some("\"user-concurrent\";r=3"));
        let none = standing(&[], None, 5);
        assert_eq!((policy(&none), state(&none)), (None, None));
    }

    #[test]
    fn a_limit_over_odd_periods_is_told_over_whole_seconds() {
        for (limit, window_ms, expected) in [
            (60, 60_000, (60, 60)),
            (10, 250, (40, 1)),
            (3, 1_500, (4, 2)),
            (1, 86_400_000, (1, 86_400)),
            (u64::from(u32::MAX), 1, (u64::from(u32::MAX) * 1_000, 1)),
            (u64::MAX, 1, (LARGEST, 1)),
        ] {
            let window = Duration::from_millis(window_ms);
            assert_eq!(
                whole_seconds(limit, window),
                expected,
                "{limit} per {window:?}"
            );
        }
    }

    #[test]
    fn waits_are_whole_rounded_up_and_never_zero() {
        for (wait, seconds, millis) in [
            (Duration::ZERO, 1, 1),
            (Duration::from_nanos(1), 1, 1),
            (Duration::from_secs(1), 1, 1_000),
            (Duration::from_micros(1_000_001), 2, 1_001),
            (Duration::from_millis(11_999), 12, 11_999),
            (Duration::MAX, LARGEST, LARGEST),
        ] {
            assert_eq!(retry_after(wait), seconds, "{wait:?}");
            assert_eq!(retry_after_ms(wait), millis, "{wait:?}");
        }
    }

    proptest! {
        /// The grammar of RFC 9651, as far as these fields use it.
        #[test]
        fn every_value_is_a_structured_list(
            count in 1..1_000_000_000_u64,
            millis in 1..86_400_000_u64,
            requests in 0..20_u32,
            concurrent: Option<u32>,
        ) {
            let per = Duration::from_millis(millis);
            let limits = [limit(Unit::Requests, count.max(20), per), limit(Unit::Tokens, count.max(2_000), per)];
            // A prime number of units in an odd time is not for us to count.
            prop_assume!(Plan::new(Scope::User, &limits, None).is_ok());
            let standing = standing(&limits, concurrent.map(|limit| limit.max(20)), requests);
            let fields = [policy(&standing), state(&standing)].map(Option::unwrap_or_default);
            for item in fields.iter().flat_map(|field| field.split(", ")) {
                let mut parts = item.split(';');
                let name = parts.next().unwrap_or_default();
                prop_assert!(name.len() > 2 && name.starts_with('"') && name.ends_with('"'));
                for parameter in parts {
                    let (key, value) = parameter.split_once('=').unwrap_or_default();
                    match key {
                        "qu" => prop_assert_eq!(value, "\"concurrent-requests\""),
                        "surgetank-unit" => prop_assert_eq!(value, "\"tokens\""),
                        _ => {
                            prop_assert!(["q", "w", "r", "t"].contains(&key));
                            prop_assert!(value.len() <= 15 && value.parse::<u64>().is_ok());
                        }
                    }
                }
            }
        }

        #[test]
        fn retry_after_is_never_earlier_than_the_reset_it_is_told_with(wait: Duration) {
            prop_assert!(retry_after(wait) >= seconds_up(wait));
            prop_assert!(retry_after(wait) >= 1);
        }
    }
}

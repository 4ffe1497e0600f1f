//! Which links of the chain are there for which failure. Decided here, without the request itself.
//!
//! A link with no word about failures takes what is nobody's own fault. Two failures are different. An exhausted
//! account is for another upstream to cover, but not for a friendly text: somebody has to see it. A prompt that is
//! too long for one model is the caller's doing, so only a link that names that failure, with a larger model behind
//! it, is asked. And what a content policy has refused is offered to nobody else: shopping for a model that says yes
//! is not a fallback.

use std::time::Duration;

use crate::{
    config::{FailureKind, When},
    retry::triage::{Class, Signal, Verdict},
};

/// What the conditions of a link look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Situation<'a> {
    /// How the request failed last.
    pub failure: FailureKind,
    /// The class of its user, if that is in one.
    pub class: Option<&'a str>,
    /// It asks for an answer in a given form.
    pub structured: bool,
    /// What its caller's time leaves.
    pub time_left: Duration,
}

/// What kind of answer a link leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A real one, of another upstream or model.
    Upstream,
    /// One of our own, now or later.
    Own,
    /// The error as it came.
    Error,
}

/// The failure that a chain may cover; `None` for success and for what stays the caller's own.
#[must_use]
pub fn failure_of(verdict: Verdict) -> Option<FailureKind> {
    match verdict.class {
        Class::Unsent => Some(FailureKind::Unsent),
        Class::Throttled => Some(FailureKind::Throttled),
        Class::Overloaded => Some(FailureKind::Overloaded),
        Class::Faulty => Some(FailureKind::Faulty),
        Class::Exhausted => Some(FailureKind::Exhausted),
        Class::Refused if verdict.signal == Some(Signal::ContextTooLong) => {
            Some(FailureKind::ContextTooLong)
        }
        Class::Refused | Class::Served | Class::Broken | Class::Abandoned => None,
    }
}

/// Whether a link with these conditions is tried.
#[must_use]
pub fn applies(when: &When, kind: Kind, situation: &Situation<'_>) -> bool {
    let Situation {
        failure,
        class,
        structured,
        time_left,
    } = *situation;
    let fits_failure = if when.failure.is_empty() {
        match failure {
            FailureKind::ContextTooLong => false,
            FailureKind::Exhausted => kind != Kind::Own,
            _ => true,
        }
    } else {
        when.failure.contains(&failure)
    };
    let fits_class = when.class.is_empty()
        || class.is_some_and(|class| when.class.iter().any(|wanted| wanted == class));
    fits_failure
        && fits_class
        && when.structured.is_none_or(|wanted| wanted == structured)
        && when.time_left.is_none_or(|least| time_left >= least)
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, option::of, prelude::*, sample::select};

    use super::*;
    use crate::retry::triage::{Outcome, triage};
    use FailureKind as F;

    const ALL: [F; 6] = [
        F::Unsent,
        F::Throttled,
        F::Overloaded,
        F::Faulty,
        F::Exhausted,
        F::ContextTooLong,
    ];

    fn situation(failure: F) -> Situation<'static> {
        Situation {
            failure,
            class: None,
            structured: false,
            time_left: Duration::from_secs(10),
        }
    }

    #[test]
    fn a_link_without_conditions_covers_what_is_nobodys_fault() {
        let any = When::default();
        for failure in ALL {
            let at = situation(failure);
            let expected = failure != F::ContextTooLong;
            assert_eq!(applies(&any, Kind::Upstream, &at), expected, "{failure:?}");
            let expected = expected && failure != F::Exhausted;
            assert_eq!(applies(&any, Kind::Own, &at), expected, "{failure:?}");
        }
    }

    #[test]
    fn named_failures_are_the_only_ones() {
        for named in ALL {
            let when = When {
                failure: vec![named],
                ..When::default()
            };
            for failure in ALL {
                for kind in [Kind::Upstream, Kind::Own, Kind::Error] {
                    let at = situation(failure);
                    assert_eq!(applies(&when, kind, &at), failure == named, "{failure:?}");
                }
            }
        }
    }

    #[test]
    fn every_condition_must_hold() {
        let at = situation(F::Faulty);
        let structured = Situation {
            structured: true,
            ..at
        };
        for (wanted, plain, for_json) in [
            (None, true, true),
            (Some(true), false, true),
            (Some(false), true, false),
        ] {
            let when = When {
                structured: wanted,
                ..When::default()
            };
            assert_eq!(applies(&when, Kind::Upstream, &at), plain, "{wanted:?}");
            assert_eq!(
                applies(&when, Kind::Upstream, &structured),
                for_json,
                "{wanted:?}"
            );
        }
        for (least, expected) in [(9, true), (10, true), (11, false)] {
            let when = When {
                time_left: Some(Duration::from_secs(least)),
                ..When::default()
            };
            assert_eq!(applies(&when, Kind::Upstream, &at), expected, "{least} s");
        }
    }

    #[test]
    fn a_link_for_classes_is_there_for_their_users_alone() {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        // (the link's classes, the user's class, whether it is tried)
        for (wanted, class, expected) in [
            (&[][..], None, true),
            (&[], Some("gold"), true),
            (&["gold"], None, false),
            (&["gold"], Some("gold"), true),
            (&["gold"], Some("Gold"), false),
            (&["gold"], Some("free"), false),
            (&["free", "gold"], Some("gold"), true),
            (&["free", "gold"], None, false),
        ] {
            let when = When {
                class: words(wanted),
                ..When::default()
            };
            for kind in [Kind::Upstream, Kind::Own, Kind::Error] {
                let at = Situation {
                    class,
                    ..situation(F::Faulty)
                };
                assert_eq!(applies(&when, kind, &at), expected, "{wanted:?} {class:?}");
                // It is one condition beside the others.
                let at = Situation {
                    class,
                    ..situation(F::ContextTooLong)
                };
                assert!(!applies(&when, kind, &at), "{wanted:?} {class:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn a_condition_more_never_opens_a_link(
            wanted in vec("[a-c]", 0..3),
            class in of("[a-d]"),
            failure in select(ALL.to_vec()),
            named in vec(select(ALL.to_vec()), 0..3),
            structured in any::<bool>(),
            least in of(0_u64..20),
        ) {
            let kinds = [Kind::Upstream, Kind::Own, Kind::Error];
            let at = Situation { class: class.as_deref(), structured, ..situation(failure) };
            let when = When {
                failure: named,
                class: wanted,
                structured: None,
                time_left: least.map(Duration::from_secs),
            };
            let without = When { class: Vec::new(), ..when.clone() };
            for kind in kinds {
                let is_one_of_them = when.class.is_empty()
                    || class.as_ref().is_some_and(|class| when.class.contains(class));
                let expected = applies(&without, kind, &at) && is_one_of_them;
                prop_assert_eq!(applies(&when, kind, &at), expected);
            }
        }
    }

    #[test]
    fn only_the_length_of_a_prompt_makes_a_refusal_a_failure() {
        let refused = |signal| {
            failure_of(triage(&Outcome::Answered {
                status: 400,
                has_retry_after: false,
                should_retry: None,
                signal: Some(signal),
            }))
        };
        assert_eq!(refused(Signal::ContextTooLong), Some(F::ContextTooLong));
        for signal in [
            Signal::ContentFiltered,
            Signal::Invalid,
            Signal::TooLarge,
            Signal::Authentication,
        ] {
            assert_eq!(refused(signal), None, "{signal:?}");
        }
        let in_stream = triage(&Outcome::StreamError {
            signal: Signal::ContextTooLong,
        });
        assert_eq!(failure_of(in_stream), Some(F::ContextTooLong));
    }
}

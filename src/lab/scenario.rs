//! Rules: which request meets which fault.
//!
//! A rule is judged with the request, the time since the lab started and a random number, all passed in, so a scenario
//! with a seed plays the same way twice.

use std::time::Duration;

use rand::{Rng, RngExt};
use serde::Deserialize;

use super::fault::FaultSpec;
use super::units;

/// One rule of a scenario.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Which requests it is for; all if absent.
    #[serde(default, rename = "match")]
    pub matching: Match,
    /// How often it is played at most; without end if absent.
    #[serde(default)]
    pub times: Option<u64>,
    /// The fault, in the same form as in the request header: `529` or `"cut;after=3"`.
    pub fault: FaultSpec,
}

/// The conditions of a rule; all that are given must hold.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Match {
    /// The path without the query; a trailing `*` stands for any rest.
    pub path: Option<String>,
    /// The request's model; a trailing `*` stands for any rest.
    pub model: Option<String>,
    /// Whether a stream was asked for.
    pub stream: Option<bool>,
    /// The time since the start (or the last reset) from which the rule holds.
    #[serde(deserialize_with = "units::de_some_duration")]
    pub from: Option<Duration>,
    /// The time since the start until which it holds.
    #[serde(deserialize_with = "units::de_some_duration")]
    pub until: Option<Duration>,
    /// Only the n-th (from 1) of the requests that reach this rule and meet the conditions above.
    pub nth: Option<u64>,
    /// Every n-th of them.
    pub every: Option<u64>,
    /// The chance (0 to 1) of each of them.
    pub probability: Option<f64>,
}

/// What a rule may look at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Facts<'a> {
    pub(super) path: &'a str,
    pub(super) model: &'a str,
    pub(super) stream: bool,
    /// Time since the lab started.
    pub(super) at: Duration,
}

/// The rules with what they have counted so far.
#[derive(Debug)]
pub(super) struct Scenario {
    rules: Vec<(Rule, Count)>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Count {
    /// Requests that met the conditions which do not count.
    met: u64,
    /// Requests that got the fault.
    played: u64,
}

impl Scenario {
    pub(super) fn new(rules: &[Rule]) -> Self {
        Self {
            rules: rules
                .iter()
                .map(|rule| (rule.clone(), Count::default()))
                .collect(),
        }
    }

    /// The fault of the first rule that holds, if one does.
    pub(super) fn decide(&mut self, facts: Facts<'_>, random: &mut impl Rng) -> Option<FaultSpec> {
        for (rule, count) in &mut self.rules {
            let spent = rule.times.is_some_and(|times| count.played >= times);
            // Candidates are counted and draw a number; a request that is none changes nothing.
            if !spent && rule.matching.is_for(facts) && rule.matching.counts(count, random) {
                count.played += 1;
                return Some(rule.fault.clone());
            }
        }
        None
    }
}

impl Rule {
    pub(super) fn validate(&self) -> Result<(), String> {
        let Match {
            nth,
            every,
            probability,
            from,
            until,
            ..
        } = &self.matching;
        if *nth == Some(0) || *every == Some(0) {
            return Err("`nth` and `every` count from 1".to_owned());
        }
        if let Some(chance) = probability
            && !(0.0..=1.0).contains(chance)
        {
            return Err(format!("`probability` is {chance}, it must be 0 to 1"));
        }
        if let (Some(from), Some(until)) = (from, until)
            && from >= until
        {
            return Err(format!("it ends ({until:?}) before it begins ({from:?})"));
        }
        Ok(())
    }
}

impl Match {
    /// The conditions that depend on the request and the time alone.
    fn is_for(&self, facts: Facts<'_>) -> bool {
        self.path
            .as_deref()
            .is_none_or(|pattern| fits(pattern, facts.path))
            && self
                .model
                .as_deref()
                .is_none_or(|pattern| fits(pattern, facts.model))
            && self.stream.is_none_or(|stream| stream == facts.stream)
            && self.from.is_none_or(|from| facts.at >= from)
            && self.until.is_none_or(|until| facts.at < until)
    }

    /// The conditions that count or draw.
    fn counts(&self, count: &mut Count, random: &mut impl Rng) -> bool {
        count.met += 1;
        self.nth.is_none_or(|nth| count.met == nth)
            && self
                .every
                .is_none_or(|every| count.met.is_multiple_of(every))
            && self
                .probability
                .is_none_or(|chance| random.random::<f64>() < chance)
    }
}

/// Whether `text` is `pattern`, or begins with it where it ends in `*`.
fn fits(pattern: &str, text: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => text.starts_with(start),
        None => text == pattern,
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    const CHAT: Facts<'_> = Facts {
        path: "/v1/chat/completions",
        model: "gpt-4o-mini",
        stream: true,
        at: Duration::from_secs(5),
    };

    /// The names of the faults that so many requests of one kind meet; `-` where none.
    fn played(rules: &str, facts: Facts<'_>, requests: usize) -> Vec<String> {
        let rules: Vec<Rule> = serde_saphyr::from_str(rules).unwrap();
        let mut scenario = Scenario::new(&rules);
        let mut random = StdRng::seed_from_u64(1);
        (0..requests)
            .map(|_| scenario.decide(facts, &mut random))
            .map(|spec| spec.map_or("-".to_owned(), |spec| spec.fault().name().into_owned()))
            .collect()
    }

    #[test]
    fn the_first_rule_that_holds_wins() {
        let rules = "
            - { match: { path: /v1/messages }, fault: 529 }
            - { match: { model: gpt-* }, times: 2, fault: 500 }
            - { fault: 503 }";
        assert_eq!(played(rules, CHAT, 3), ["500", "500", "503"]);
        assert_eq!(
            played(
                rules,
                Facts {
                    path: "/v1/messages",
                    ..CHAT
                },
                1
            ),
            ["529"]
        );
        assert_eq!(
            played(
                rules,
                Facts {
                    model: "claude",
                    ..CHAT
                },
                1
            ),
            ["503"]
        );
    }

    #[test]
    fn nth_and_every_count_the_candidates_alone() {
        let rules = "
            - { match: { path: /other, nth: 1 }, fault: 400 }
            - { match: { nth: 2 }, fault: 429 }
            - { match: { every: 3 }, fault: 500 }";
        // The second rule takes the second request, so the third rule counts requests 1, 3, 4, 5, 6, 7.
        assert_eq!(
            played(rules, CHAT, 7),
            ["-", "429", "-", "500", "-", "-", "500"]
        );
    }

    #[test]
    fn windows_are_half_open() {
        let rules = "[{ match: { from: 5s, until: 6s }, fault: 503 }]";
        assert_eq!(played(rules, CHAT, 1), ["503"]);
        assert_eq!(
            played(
                rules,
                Facts {
                    at: Duration::from_millis(4999),
                    ..CHAT
                },
                1
            ),
            ["-"]
        );
        assert_eq!(
            played(
                rules,
                Facts {
                    at: Duration::from_secs(6),
                    ..CHAT
                },
                1
            ),
            ["-"]
        );
    }

    #[test]
    fn probability_is_met_and_repeatable() {
        let rules = "[{ match: { probability: 0.25 }, fault: 503 }]";
        let first = played(rules, CHAT, 4000);
        let hits = first.iter().filter(|name| *name == "503").count();
        assert!((850..1150).contains(&hits), "{hits} of 4000");
        assert_eq!(first, played(rules, CHAT, 4000));
    }

    #[test]
    fn stream_is_a_condition() {
        let rules = "[{ match: { stream: true }, fault: cut }]";
        assert_eq!(played(rules, CHAT, 1), ["cut"]);
        assert_eq!(
            played(
                rules,
                Facts {
                    stream: false,
                    ..CHAT
                },
                1
            ),
            ["-"]
        );
    }
}

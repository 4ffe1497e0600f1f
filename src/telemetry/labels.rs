//! Every value that a label may have, and so how many series there can be.
//!
//! A label that a caller can choose grows a time-series database until it falls over, on the very day
//! on which somebody needs it. So each label's values come from the configuration, from a table of
//! bounded size, or from a list that stands here; tests hold every series they see to it, and the
//! reference in `docs/metrics.md` is made of it.

use super::{Family, Outcome, models::MAX_MODELS};
use crate::{
    dialect::Dialect,
    lane::{Measure, RefuseReason, WaitReason},
    retry::triage::Class,
    store::jobs::State,
};

/// Where the values of a label come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Values {
    /// The names of the configured routes, and `none`.
    Routes,
    /// The names of the configured upstreams.
    Upstreams,
    /// Names of models that an upstream has answered to: at most 32, `other` and `none`.
    Models,
    /// The version that runs.
    Version,
    /// These and no others.
    OneOf(Vec<&'static str>),
}

/// How large an installation is, as far as series are concerned.
#[derive(Copy, Clone, Debug)]
pub struct Size {
    /// Configured routes.
    pub routes: usize,
    /// Configured upstreams.
    pub upstreams: usize,
    /// Models that are asked for by name, at most `MAX_MODELS`.
    pub models: usize,
}

/// The values that `label` may have in `family`; nothing for a label that is not known here.
#[must_use]
pub fn values(family: &str, label: &str) -> Option<Values> {
    let values = match label {
        "route" => Values::Routes,
        "upstream" => Values::Upstreams,
        "model" | "lane" => Values::Models,
        "version" => Values::Version,
        _ => return listed(family, label).map(Values::OneOf),
    };
    Some(values)
}

/// The labels whose values are known beforehand.
fn listed(family: &str, label: &str) -> Option<Vec<&'static str>> {
    let reasons = || RefuseReason::ALL.map(RefuseReason::as_str);
    let waits = || WaitReason::ALL.map(WaitReason::as_str);
    let values = match (family, label) {
        (_, "dialect") => with(Dialect::ALL.map(Dialect::as_str), &["none"]),
        ("surgetank_queue_wait_seconds", "outcome") => with(reasons(), &["sent", "abandoned"]),
        ("surgetank_larger_total" | "surgetank_continued_total", "outcome") => {
            spelt_out(family, label)?.into()
        }
        (_, "outcome") => Outcome::ALL.map(Outcome::as_str).into(),
        (_, "class") | ("surgetank_fallback_total", "cause") => {
            Class::ALL.map(Class::as_str).into()
        }
        ("surgetank_lane_refused_total", "reason") => reasons().into(),
        ("surgetank_gate_closed_seconds_total", "reason") => waits().into(),
        ("surgetank_waited_seconds_total", "reason") => {
            with(waits(), &["limit", "backoff", "hint"])
        }
        ("surgetank_queued_requests", "state") => State::ALL
            .map(State::as_str)
            .into_iter()
            .filter(|state| *state != "gone")
            .collect(),
        (_, "state") => with(waits(), &["open"]),
        (_, "quota") => Measure::ALL.map(Measure::as_str).into(),
        _ => spelt_out(family, label)?.into(),
    };
    Some(values)
}

/// What came of asking again for an answer that was cut.
const LARGER: &[&str] = &[
    "whole",
    "cut",
    "failed",
    "context_full",
    "no_limit",
    "largest",
    "deadline",
    "memory",
];

/// What came of going on with a stream.
const CONTINUED: &[&str] = &[
    "continued",
    "failed",
    "unfit",
    "content",
    "empty",
    "too_long",
    "prefilled",
    "unreadable",
    "spent",
    "memory",
];

/// Why there was no further try.
const DENIED: &[&str] = &[
    "committed",
    "body",
    "post_policy",
    "attempts",
    "hint",
    "quota",
    "patience",
    "deadline",
];

/// Whether a request was queued, or why not.
const OFFERED: &[&str] = &[
    "kept",
    "known",
    "full",
    "busy",
    "down",
    "slow",
    "unfit",
    "no_credential",
    "key_reused",
    "unsure",
    "left",
];

/// How a try of a queued request ended, or that request without one.
const ENDED: &[&str] = &[
    "done",
    "again",
    "failed",
    "uncertain",
    "expired",
    "cancelled",
];

/// The same, where no enum has the list.
fn spelt_out(family: &str, label: &str) -> Option<&'static [&'static str]> {
    let values: &[_] = match (family, label) {
        (_, "attempt") => &["first", "retry"],
        ("surgetank_retries_denied_total", "reason") => DENIED,
        ("surgetank_larger_total", "outcome") => LARGER,
        ("surgetank_queued_total", "result") => OFFERED,
        ("surgetank_queued_tries_total", "end") => ENDED,
        ("surgetank_queued_webhooks_total", "result") => &["told", "again", "given_up"],
        (_, "direction") => &["up", "down"],
        ("surgetank_continued_total", "outcome") => CONTINUED,
        ("surgetank_continued_total", "cause") => &["truncated", "broken"],
        (_, "token") => &["missing", "unknown", "too_many"],
        (_, "change") => &["gate_closed", "breaker_shut", "recovered"],
        ("surgetank_fallback_total", "kind") => &["upstream", "queue", "reply"],
        ("surgetank_stream_broken_total", "cause") => &[
            "cut",
            "incomplete",
            "packed",
            "idle",
            "deadline",
            "stopping",
            "caller",
        ],
        (_, "form") => &["events", "json"],
        (_, "end") => &["joined", "failed", "abandoned"],
        (_, "finish") => &[
            "stop",
            "length",
            "context_full",
            "tool_use",
            "filtered",
            "paused",
            "other",
        ],
        ("surgetank_tokens_total", "kind") => &[
            "input",
            "cached_input",
            "cache_write",
            "output",
            "reasoning",
        ],
        (_, "rule") => &[
            "rate",
            "tokens",
            "concurrency",
            "total_rate",
            "total_tokens",
            "total_concurrency",
        ],
        (_, "operation") => &["connect", "admit", "settle", "renew", "queue"],
        ("surgetank_limiter_degraded_total", "mode") => &["local", "open", "closed"],
        ("surgetank_store_errors_total", "reason") => &["down", "timeout", "failed"],
        (_, "result") => &["success", "failure"],
        _ => return None,
    };
    Some(values)
}

fn with<const N: usize>(values: [&'static str; N], more: &[&'static str]) -> Vec<&'static str> {
    [values.as_slice(), more].concat()
}

impl Values {
    /// How many values there are at most.
    #[must_use]
    pub fn most(&self, size: Size) -> usize {
        match self {
            Self::Routes => size.routes + 1,
            Self::Upstreams => size.upstreams,
            Self::Models => size.models.min(MAX_MODELS) + 2,
            Self::Version => 1,
            Self::OneOf(values) => values.len(),
        }
    }
}

/// The most series that a family can have: every value of each label with every value of the others.
///
/// `None` when one of its labels is not known here.
#[must_use]
pub fn most_series(family: &Family, size: Size) -> Option<usize> {
    let labels = family.labels.iter();
    let combinations = labels
        .map(|label| values(&family.name, label).map(|values| values.most(size)))
        .product::<Option<usize>>()?;
    Some(combinations * family.series)
}

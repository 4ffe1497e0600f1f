//! A storm as data.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

/// One file of `tests/scenarios/`. Times are seconds from the start.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Scenario {
    pub seeds: u64,
    /// Processes that share the key; callers are dealt to them at random.
    #[serde(default = "one")]
    pub instances: usize,
    /// `alone` plays the same callers without a lane: each backs off and obeys hints for itself.
    #[serde(default)]
    pub policy: Policy,
    #[serde(default = "minute")]
    pub patience: f64,
    /// The route's `retry.base`, in seconds: the retry layer's first wait, and the lane's tempo.
    #[serde(default = "two")]
    pub base: f64,
    #[serde(default)]
    pub quota_share: Option<f64>,
    pub vendor: Vendor,
    pub callers: Vec<Callers>,
    /// The proxy's clock leaps: the process was suspended, or a machine's clock is bad.
    #[serde(default)]
    pub leaps: Vec<Leap>,
    /// Ranges of the mean over all seeds, by the figure's name in `report.rs`.
    pub expect: BTreeMap<String, (f64, f64)>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Policy {
    #[default]
    Lane,
    Alone,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Vendor {
    /// Quota steps: from `at` on, `per_minute`.
    pub quota: Vec<Step>,
    pub burst: f64,
    /// The whole minute's quota comes back at each full minute, instead of steadily; `burst` is then its size.
    #[serde(default)]
    pub by_the_minute: bool,
    /// Tokens that a refused call costs.
    #[serde(default)]
    pub refusal_costs: f64,
    /// How deep refusals can push the bucket below empty.
    #[serde(default)]
    pub debt: f64,
    #[serde(default)]
    pub hints: Hints,
    #[serde(default)]
    pub headers: bool,
    /// Seconds to the first byte, and to the end of the body after it: uniform in the range.
    pub first_byte: (f64, f64),
    pub body: (f64, f64),
    /// The vendor refuses beyond this many live answers.
    #[serde(default)]
    pub concurrency: Option<usize>,
    #[serde(default)]
    pub faults: Vec<Fault>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Step {
    pub at: f64,
    pub per_minute: f64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Hints {
    /// The time to the next token, in milliseconds.
    #[default]
    Exact,
    /// The same, rounded up to whole seconds.
    Seconds,
    None,
    /// A tenth of the truth.
    Short,
    /// Days, or nothing.
    Absurd,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Fault {
    pub from: f64,
    pub to: f64,
    pub kind: FaultKind,
    /// The part of calls that meet it.
    #[serde(default = "unit")]
    pub share: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FaultKind {
    Overloaded,
    Broken,
    /// No connection at all.
    Unreachable,
    /// Silence until the first-byte timer ends it after ten seconds.
    Hanging,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Callers {
    /// Users among whom the calls are dealt in turn.
    pub users: u64,
    /// Calls in all.
    pub calls: u64,
    /// They arrive evenly at random in this span.
    #[serde(default)]
    pub from: f64,
    #[serde(default)]
    pub to: f64,
    /// Counted apart, as the light users beside a greedy one.
    #[serde(default)]
    pub light: bool,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Leap {
    pub at: f64,
    pub by: f64,
}

impl Scenario {
    pub(crate) fn read(file: &Path) -> Self {
        let text = std::fs::read_to_string(file).expect("a readable scenario");
        assert!(
            text.starts_with('#'),
            "{} does not say what shape it expects",
            file.display()
        );
        let parsed =
            serde_saphyr::from_str(&text).map_err(|error| format!("{}: {error}", file.display()));
        parsed.expect("a scenario in the form of this file")
    }
}

impl Vendor {
    /// How long an answer takes on average, from sending to the end of its body.
    pub(crate) fn mean_answer(&self) -> f64 {
        (self.first_byte.0 + self.first_byte.1 + self.body.0 + self.body.1) / 2.0
    }
}

const fn two() -> f64 {
    2.0
}

const fn one() -> usize {
    1
}

const fn unit() -> f64 {
    1.0
}

const fn minute() -> f64 {
    60.0
}

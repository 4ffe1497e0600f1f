//! How failures are tried again.
//!
//! The default is the classic policy: after the first try up to three more, waiting 2, 4 and 8 s and each time a random 0 to 2 s on top,
//! within a minute in all. It is patient enough to outlast a throttled minute and short enough that nobody has left.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::units::{
    DurationText, MOST_RETRIES, PositiveDurationText, at_least_one, factor, retries,
};

/// How failed requests are tried again.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Retry {
    /// How often a request is tried again after its first try; 0 switches retries off.
    #[serde(deserialize_with = "retries")]
    #[schemars(range(max = MOST_RETRIES))]
    pub max_retries: u32,
    /// How often a request is sent at most, to all upstreams of its chain together, first tries and retries.
    #[serde(deserialize_with = "at_least_one")]
    #[schemars(range(min = 1))]
    pub max_attempts: u32,
    /// The wait before the first retry.
    #[serde(with = "PositiveDurationText")]
    pub base: Duration,
    /// What each wait is multiplied by for the next; at least 1.
    #[serde(deserialize_with = "factor")]
    #[schemars(range(min = 1.0))]
    pub factor: f64,
    /// No wait is longer than this, before jitter.
    #[serde(with = "PositiveDurationText")]
    pub cap: Duration,
    /// Each wait is lengthened by a random time up to this, so that callers who failed together do not return together.
    #[serde(with = "DurationText")]
    pub jitter: Duration,
    /// The longest that a caller is kept waiting for a first byte by waits of surgetank's own, all together.
    /// A wait that would pass it is not begun.
    #[serde(with = "PositiveDurationText")]
    pub patience: Duration,
    /// A `Retry-After` up to this is obeyed to the letter; a longer one ends the retries and goes to the caller.
    #[serde(with = "DurationText")]
    pub hint_cap: Duration,
    /// Which failures of a POST are tried again. A generation that was begun twice is paid twice.
    pub post: PostRetry,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            max_retries: 3,
            max_attempts: 8,
            base: Duration::from_secs(2),
            factor: 2.0,
            cap: Duration::from_secs(30),
            jitter: Duration::from_secs(2),
            patience: Duration::from_mins(1),
            hint_cap: Duration::from_mins(1),
            post: PostRetry::Always,
        }
    }
}

/// Which failures of a POST are tried again.
///
/// A POST may have been carried out although its answer never came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PostRetry {
    /// Every failure that is worth another try, even if the upstream may have begun the work. What the official SDKs do.
    #[default]
    Always,
    /// Only when the upstream refused it with a status, or it was never sent.
    Answered,
    /// Only when it was never sent.
    Unsent,
}

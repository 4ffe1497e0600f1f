//! What an operator may set on a lane, with the defaults.
//!
//! Constants that follow from a formula stay beside that formula; only judgements about a workload are settings.

use std::time::Duration;

/// Settings shared by all lanes of one upstream.
#[derive(Debug, Clone, PartialEq)]
pub struct LaneSettings {
    /// The longest `Retry-After` that is believed. A longer one cannot be obeyed within anybody's patience,
    /// so it neither closes the gate for that long nor is retried by the caller's retry layer.
    pub hint_cap: Duration,
    /// The part of the vendor's quota that this instance may use, in `(0, 1]`; `1/replicas` splits a key evenly.
    pub quota_share: f64,
    /// Requests of one user that may wait at once. More are refused at once.
    pub queue_per_user: usize,
    /// Requests of all users that may wait at once.
    pub queue_per_lane: usize,
    /// Live responses allowed before anything has been learned. Values below 1 count as 1.
    pub window_initial: u32,
    /// Live responses allowed at most, however healthy the upstream.
    pub window_max: u32,
    /// How much longer (or shorter) than usual the lane's own waits are: the gate's and the breaker's pauses.
    /// 1 is for a backoff that begins with 2 s. Server hints are never scaled.
    pub tempo: f64,
    /// How long an account reported as exhausted is not asked again. Zero asks every time: such answers cost
    /// nothing, come at once, and tell the caller more than a guess of ours.
    pub exhausted_for: Duration,
    /// Capacity of the retry quota, in tokens; a retry of a failure costs 14, of a throttle 5.
    pub retry_tokens: u32,
}

impl Default for LaneSettings {
    fn default() -> Self {
        Self {
            hint_cap: Duration::from_mins(1),
            quota_share: 1.0,
            queue_per_user: 2_000,
            queue_per_lane: 8_000,
            window_initial: 8,
            window_max: 16_384,
            tempo: 1.0,
            exhausted_for: Duration::ZERO,
            retry_tokens: 1_400,
        }
    }
}

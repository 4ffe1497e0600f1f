//! When silence means that a request was taken.
//!
//! Quotas are checked on arrival, answers take longer. Without this, a lane of slow non-streaming answers would learn at
//! their pace, and its probe would hold everybody for the length of an answer.
//! How long a refusal takes to come is seen at refusals: one that is four times as late as the slowest of late is not to be
//! expected. Until then, and at most, it is a second.

use std::time::Duration;

/// Silence for this many times the slowest refusal is consent.
const TIMES: f64 = 4.0;
/// What the slowest refusal still counts for at the next one.
const DECAY: f64 = 0.8;
/// No shorter: a refusal can be late for many reasons.
pub(super) const LEAST: Duration = Duration::from_millis(250);
/// No longer.
pub(super) const MOST: Duration = Duration::from_secs(1);

/// The time after which a request without an answer counts as taken.
#[derive(Debug)]
pub(super) struct Settling {
    /// The slowest refusal of late.
    slowest: Duration,
}

impl Default for Settling {
    fn default() -> Self {
        Self { slowest: MOST }
    }
}

impl Settling {
    /// A request was refused this long after it was sent.
    pub(super) fn on_refusal(&mut self, after: Duration) {
        self.slowest = self.slowest.mul_f64(DECAY).max(after.min(MOST));
    }

    /// How long after sending silence means that the request was taken.
    pub(super) fn time(&self) -> Duration {
        self.slowest.mul_f64(TIMES).clamp(LEAST, MOST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quick_refusals_make_silence_short_and_a_slow_one_makes_it_long_again() {
        let mut settling = Settling::default();
        assert_eq!(settling.time(), MOST);
        for _ in 0..30 {
            settling.on_refusal(Duration::from_millis(100));
        }
        assert_eq!(settling.time(), Duration::from_millis(400));
        settling.on_refusal(Duration::from_millis(1));
        assert_eq!(settling.time(), Duration::from_millis(320));
        settling.on_refusal(Duration::from_secs(90));
        assert_eq!(settling.time(), MOST);
        for _ in 0..90 {
            settling.on_refusal(Duration::ZERO);
        }
        assert_eq!(settling.time(), LEAST);
    }
}

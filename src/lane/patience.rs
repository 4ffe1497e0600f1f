//! Patience: a request that cannot be served in time is told so on arrival.
//!
//! To let a caller wait out its patience for a turn that arithmetic excludes costs the caller its time and the queue its
//! places. So the expected wait is estimated when the request comes, and one that would exceed the request's patience
//! or deadline is refused at once, with the estimate as its `retry-after`; the fallback can speak a minute earlier.
//!
//! The estimate errs towards letting in: what is unknown counts as no wait.

use std::time::Duration;

use super::time::seconds;

/// What the estimate is made of.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outlook {
    /// Time until gate and breaker could let a request pass.
    pub closed_for: Duration,
    /// Requests that will be served before this one.
    pub ahead: usize,
    /// Releases a second to be expected in the long run, if anything is known about it.
    pub rate: Option<f64>,
}

impl Outlook {
    /// The expected wait: the time until the doors open, then one gap for each request ahead and one for itself.
    ///
    /// While the doors are shut the upstream's quota refills, so the two overlap: the longer of both counts.
    #[must_use]
    pub fn wait(&self) -> Duration {
        let turns = match self.rate {
            Some(rate) if rate > 0.0 && self.ahead > 0 => seconds((self.ahead as f64 + 1.0) / rate),
            _ => Duration::ZERO,
        };
        self.closed_for.max(turns)
    }
}

/// A wait as it may be told to a client: whole seconds rounded up, at least one, at most `cap`.
///
/// Zero makes some SDKs retry immediately, and some ignore more than a minute and retry within a second.
#[must_use]
pub fn tellable(wait: Duration, cap: Duration) -> Duration {
    let rounded = Duration::from_secs(wait.as_secs() + u64::from(wait.subsec_nanos() > 0));
    rounded.min(cap).max(Duration::from_secs(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_rates_and_empty_queues_cost_nothing() {
        let cases = [
            (
                Outlook {
                    closed_for: Duration::ZERO,
                    ahead: 500,
                    rate: None,
                },
                0.0,
            ),
            (
                Outlook {
                    closed_for: Duration::ZERO,
                    ahead: 0,
                    rate: Some(0.01),
                },
                0.0,
            ),
            (
                Outlook {
                    closed_for: Duration::ZERO,
                    ahead: 29,
                    rate: Some(0.5),
                },
                60.0,
            ),
            (
                Outlook {
                    closed_for: Duration::from_secs(7),
                    ahead: 3,
                    rate: Some(1.0),
                },
                7.0,
            ),
            (
                Outlook {
                    closed_for: Duration::from_secs(7),
                    ahead: 9,
                    rate: Some(1.0),
                },
                10.0,
            ),
            (
                Outlook {
                    closed_for: Duration::ZERO,
                    ahead: 3,
                    rate: Some(0.0),
                },
                0.0,
            ),
        ];
        for (outlook, expected) in cases {
            assert!(
                (outlook.wait().as_secs_f64() - expected).abs() < 1e-9,
                "{outlook:?}"
            );
        }
    }

    #[test]
    fn told_waits_are_whole_seconds_between_one_and_the_cap() {
        let cap = Duration::from_mins(1);
        for (wait_ms, told) in [
            (0, 1),
            (1, 1),
            (1_000, 1),
            (1_001, 2),
            (59_500, 60),
            (3_600_000, 60),
        ] {
            assert_eq!(
                tellable(Duration::from_millis(wait_ms), cap),
                Duration::from_secs(told),
                "{wait_ms} ms"
            );
        }
    }
}

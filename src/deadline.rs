//! Until when anything may still be started for a request.

use std::time::Duration;

use tokio::time::Instant;

/// Two moments: when the caller stops waiting for an answer to begin, and when its time is over
/// altogether. An SDK's timeout usually ends with the answer's head, so it bounds the first only.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Deadline {
    answer_by: Instant,
    end_by: Instant,
}

impl Deadline {
    /// For a request that arrived at `arrived`, may last `total`, and whose caller waits for `patience`
    /// (if it said so).
    #[must_use]
    pub fn new(arrived: Instant, total: Duration, patience: Option<Duration>) -> Self {
        let end_by = arrived + total;
        Self { answer_by: patience.map_or(end_by, |patience| end_by.min(arrived + patience)), end_by }
    }

    /// An answer that begins later reaches nobody.
    #[must_use]
    pub fn answer_by(&self) -> Instant {
        self.answer_by
    }

    /// The end of everything, streams included.
    #[must_use]
    pub fn end_by(&self) -> Instant {
        self.end_by
    }

    /// What is left at `now` for an answer to begin.
    #[must_use]
    pub fn remaining(&self, now: Instant) -> Duration {
        self.answer_by.saturating_duration_since(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caller_can_only_shorten_the_time() {
        let now = Instant::now();
        let (minute, hour) = (Duration::from_secs(60), Duration::from_secs(3600));
        assert_eq!(Deadline::new(now, minute, None).answer_by(), now + minute);
        assert_eq!(Deadline::new(now, minute, Some(hour)).answer_by(), now + minute);
        let short = Deadline::new(now, hour, Some(minute));
        assert_eq!((short.answer_by(), short.end_by()), (now + minute, now + hour));
        assert_eq!(short.remaining(now + hour), Duration::ZERO);
    }
}

//! Until when anything may still be started for a request.

use std::time::Duration;

use tokio::time::Instant;

use crate::retry::deadline::Budget;

/// Two moments: when the caller stops waiting for an answer to begin, and when its time is over
/// altogether. An SDK's timeout usually ends with the answer's head, so it bounds the first only.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Deadline {
    answer_by: Instant,
    end_by: Instant,
}

impl Deadline {
    /// For a request that arrived at `arrived`, may last `total`, and whose caller waits for `budget`
    /// (if it said so). A caller can only shorten the time.
    #[must_use]
    pub fn new(arrived: Instant, total: Duration, budget: Option<Budget>) -> Self {
        let all = arrived + total;
        let Some(budget) = budget else {
            return Self {
                answer_by: all,
                end_by: all,
            };
        };
        let answer_by = all.min(arrived + budget.answer_within());
        Self {
            answer_by,
            end_by: if budget.source.bounds_whole_answer() {
                answer_by
            } else {
                all
            },
        }
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
    use crate::retry::deadline::BudgetSource;

    #[test]
    fn the_caller_can_only_shorten_the_time() {
        let now = Instant::now();
        let (minute, hour) = (Duration::from_secs(60), Duration::from_secs(3600));
        let budget = |limit, source| Some(Budget { limit, source });
        assert_eq!(Deadline::new(now, minute, None).answer_by(), now + minute);
        assert_eq!(
            Deadline::new(now, minute, budget(hour, BudgetSource::OwnHeader)).answer_by(),
            now + minute
        );
        let sdk = Deadline::new(now, hour, budget(minute, BudgetSource::SdkTimeout));
        assert!(sdk.answer_by() <= now + minute);
        assert_eq!(
            sdk.end_by(),
            now + hour,
            "an SDK's timeout ends with the answer's head"
        );
        let own = Deadline::new(now, hour, budget(minute, BudgetSource::OwnHeader));
        assert_eq!(
            own.end_by(),
            own.answer_by(),
            "our own header bounds everything"
        );
        assert_eq!(own.remaining(now + hour), Duration::ZERO);
    }
}

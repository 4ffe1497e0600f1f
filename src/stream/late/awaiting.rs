//! What a request waits for, and how that is told to its caller.

use std::{mem::discriminant, sync::Arc};

use tokio::time::Instant;

use crate::lane::Lane;

/// What a request waits for at the moment. Noted in its journal by whoever makes it wait.
#[derive(Clone, Debug, Default)]
pub struct Awaiting {
    /// The cause of the wait.
    pub what: What,
    /// The retry that is awaited; none before the first has failed.
    pub retry: Option<Retry>,
}

/// The causes of a wait.
#[derive(Clone, Default)]
pub enum What {
    /// Nothing that could be told.
    #[default]
    Nothing,
    /// Its user's own limit, at least until then.
    Limit(Instant),
    /// The end of the pause before a retry.
    Pause(Instant),
    /// Its turn in this lane.
    Turn(Arc<Lane>),
    /// The upstream's answer.
    Answer,
}

/// Which retry it is, counted from 1, and of how many.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Retry {
    /// This one.
    pub number: u32,
    /// All that there may be.
    pub of: u32,
}

impl Awaiting {
    /// Whether a caller who was told `self` knows what `other` says, but for the time.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        discriminant(&self.what) == discriminant(&other.what) && self.retry == other.retry
    }

    /// In words, behind the operator's own. One line.
    #[must_use]
    pub fn tell(&self, notice: &str, now: Instant) -> String {
        let retry = self
            .retry
            .map(|Retry { number, of }| format!("retry {number} of {of}"));
        let told = match (&self.what, retry) {
            (What::Nothing, retry) => retry,
            (What::Limit(until), _) => Some(format!(
                "the limit on this user admits it in {} s",
                seconds(*until, now)
            )),
            (What::Pause(until), retry) => Some(format!(
                "{} in {} s",
                retry.as_deref().unwrap_or("retry"),
                seconds(*until, now)
            )),
            (What::Turn(lane), retry) => Some(format!(
                "{}waiting for its turn among {}",
                retry.map(|retry| retry + " is ").unwrap_or_default(),
                lane.snapshot().waiting.max(1)
            )),
            (What::Answer, Some(retry)) => Some(retry + " is under way"),
            (What::Answer, None) => Some("waiting for the answer to begin".to_owned()),
        };
        match told {
            Some(told) => format!("{}; {told}", notice.trim_end_matches('.')),
            None => notice.to_owned(),
        }
    }
}

/// Rounded up: who is told 0 s has been told that it is over.
fn seconds(until: Instant, now: Instant) -> u64 {
    let left = until.saturating_duration_since(now);
    left.as_secs() + u64::from(left.subsec_nanos() > 0)
}

impl std::fmt::Debug for What {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Nothing => "Nothing",
            Self::Limit(_) => "Limit",
            Self::Pause(_) => "Pause",
            Self::Turn(_) => "Turn",
            Self::Answer => "Answer",
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::lane::{Label, LaneSettings};

    const NOTICE: &str = "We're experiencing high demand, please wait a moment.";

    #[test]
    fn a_caller_is_told_what_is_awaited() {
        let now = Instant::now();
        let after = |ms| now + Duration::from_millis(ms);
        let retry = Some(Retry { number: 2, of: 3 });
        let lane = Arc::new(Lane::new(LaneSettings::default(), Label::shared()));
        for (what, retry, expected) in [
            (What::Nothing, None, "."),
            (What::Nothing, retry, "; retry 2 of 3"),
            (
                What::Limit(after(2500)),
                None,
                "; the limit on this user admits it in 3 s",
            ),
            (What::Pause(after(4000)), retry, "; retry 2 of 3 in 4 s"),
            (What::Pause(after(3001)), retry, "; retry 2 of 3 in 4 s"),
            (What::Pause(now), retry, "; retry 2 of 3 in 0 s"),
            (
                What::Turn(lane.clone()),
                None,
                "; waiting for its turn among 1",
            ),
            (
                What::Turn(lane),
                retry,
                "; retry 2 of 3 is waiting for its turn among 1",
            ),
            (What::Answer, None, "; waiting for the answer to begin"),
            (What::Answer, retry, "; retry 2 of 3 is under way"),
        ] {
            let told = Awaiting { what, retry }.tell(NOTICE, now);
            let (said, told) = told.split_at(NOTICE.len() - 1);
            assert_eq!((said, told), (&NOTICE[..NOTICE.len() - 1], expected));
        }
    }

    #[test]
    fn only_news_are_told_again() {
        let now = Instant::now();
        let pause = |at, number| Awaiting {
            what: What::Pause(at),
            retry: Some(Retry { number, of: 3 }),
        };
        let later = now + Duration::from_secs(1);
        assert!(pause(now, 1).is_same(&pause(later, 1)));
        assert!(!pause(now, 1).is_same(&pause(now, 2)));
        let answer = Awaiting {
            what: What::Answer,
            ..pause(now, 1)
        };
        assert!(!pause(now, 1).is_same(&answer));
    }
}

//! Time, by what it was waited for.

use std::time::Duration;

use super::outcome::WaitReason;

/// How long something waited for each [`WaitReason`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Waits([Duration; WaitReason::ALL.len()]);

impl Waits {
    /// Counts a wait. For [`WaitReason::Idle`] there is nothing to count.
    pub fn add(&mut self, reason: WaitReason, time: Duration) {
        if let Some(sum) = reason.index().and_then(|index| self.0.get_mut(index)) {
            *sum = sum.saturating_add(time);
        }
    }

    /// The time for one reason.
    #[must_use]
    pub fn get(&self, reason: WaitReason) -> Duration {
        let time = reason.index().and_then(|index| self.0.get(index));
        time.copied().unwrap_or_default()
    }

    /// What was added since these were `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut waits = *self;
        for (sum, before) in waits.0.iter_mut().zip(earlier.0) {
            *sum = sum.saturating_sub(before);
        }
        waits
    }

    /// The reasons with a time, in the order of [`WaitReason::ALL`].
    pub fn iter(&self) -> impl Iterator<Item = (WaitReason, Duration)> + '_ {
        let all = WaitReason::ALL.into_iter().zip(self.0);
        all.filter(|(_, time)| !time.is_zero())
    }

    /// All of it.
    #[must_use]
    pub fn total(&self) -> Duration {
        self.0.iter().sum()
    }
}

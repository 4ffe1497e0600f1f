//! Backoff: when the next try may begin, if the server has said nothing.
//!
//! Waits grow so that a short fault is outlived at little cost and a long one is not hammered. They
//! are random so that callers who failed together do not come back together. Of the two, the
//! randomness does the work, and only if it keeps its proportion: a fixed second or two beside a
//! wait of thirty spreads nobody (in a simulation of a hundred colliding clients, exponential
//! waits with a fixed jitter cost 1,794 calls and 58 s, with a proportional one some 850 and 10 s).
//! Hence three rules, each against a mistake that well-known libraries have made: the jitter is
//! added *after* the cap, so that it does not vanish there; it is drawn anew for every wait from
//! the caller's random source, never from a copied one; and it grows with the wait.

use std::time::Duration;

use rand::{Rng, RngExt as _};

#[cfg(test)]
mod tests;

/// The least width over which a jittered wait is spread.
pub const MIN_SPREAD: Duration = Duration::from_millis(250);

/// Exponential backoff with proportional jitter.
///
/// The wait before retry `n` (from 0) is `v + U(0, max(jitter, v/4))` with
/// `v = min(cap, base·factorⁿ)`. With the defaults that is 2, 4, 8 s, each plus a random 0 to 2 s,
/// and from there on the random part grows with the wait.
///
/// Any values are safe, if not sensible: a `factor` below 1 or not a number counts as 1, and
/// nothing overflows for any `n`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backoff {
    /// The wait before the first retry, without jitter.
    pub base: Duration,
    /// What each wait is multiplied by to give the next.
    pub factor: f64,
    /// The longest wait, without jitter.
    pub cap: Duration,
    /// The least upper bound of the random part. Zero turns all jitter off, also that on server
    /// hints: for tests only, since it sends everybody who failed together back together.
    pub jitter: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            base: Duration::from_secs(2),
            factor: 2.0,
            cap: Duration::from_secs(30),
            jitter: Duration::from_secs(2),
        }
    }
}

impl Backoff {
    /// How long to wait before retry `retry_index`, where 0 is the first retry.
    pub fn wait(&self, retry_index: u32, rng: &mut impl Rng) -> Duration {
        self.window(retry_index).draw(rng)
    }

    /// The window from which [`Backoff::wait`] draws.
    #[must_use]
    pub fn window(&self, retry_index: u32) -> Window {
        let floor = self.floor(retry_index);
        Window {
            floor,
            spread: self.spread(floor / 4, self.jitter),
        }
    }

    /// The window after a server's hint `h`: `h + U(0, max(0.25 s, h/2))`, never earlier than told
    /// and spread later (Envoy's rate-limited backoff does the same).
    #[must_use]
    pub fn window_after_hint(&self, hint: Duration) -> Window {
        Window {
            floor: hint,
            spread: self.spread(hint / 2, MIN_SPREAD),
        }
    }

    /// `min(cap, base·factorⁿ)`.
    fn floor(&self, retry_index: u32) -> Duration {
        if self.base.is_zero() {
            return Duration::ZERO; // otherwise 0·∞ would be the cap
        }
        let growth = self.factor.max(1.0).powf(f64::from(retry_index));
        Duration::try_from_secs_f64(self.base.as_secs_f64() * growth)
            .map_or(self.cap, |v| v.min(self.cap))
    }

    fn spread(&self, proportional: Duration, least: Duration) -> Duration {
        if self.jitter.is_zero() {
            Duration::ZERO
        } else {
            proportional.max(least)
        }
    }
}

/// The span in which a retry may begin, counted from now: at `floor` at the earliest, and at
/// `floor + spread` at the latest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// The earliest moment.
    pub floor: Duration,
    /// The width of the span.
    pub spread: Duration,
}

impl Window {
    /// At once.
    pub const NOW: Self = Self {
        floor: Duration::ZERO,
        spread: Duration::ZERO,
    };

    /// The window that satisfies both: it begins and ends with the later of the two.
    #[must_use]
    pub fn later_of(self, other: Self) -> Self {
        let floor = self.floor.max(other.floor);
        let end = self.end().max(other.end());
        Self {
            floor,
            spread: end.saturating_sub(floor),
        }
    }

    /// The part of the window that ends within `room`, or `None` if that leaves too little.
    ///
    /// Too little is a window that begins past `room`, or that would be squeezed below
    /// [`MIN_SPREAD`]: everybody squeezed against the same end would come back at once.
    #[must_use]
    pub fn within(self, room: Duration) -> Option<Self> {
        let left = room.checked_sub(self.floor)?;
        (left >= self.spread.min(MIN_SPREAD)).then_some(Self {
            floor: self.floor,
            spread: self.spread.min(left),
        })
    }

    /// A moment of the window, all equally likely.
    pub fn draw(self, rng: &mut impl Rng) -> Duration {
        let offset = rng.random_range(Duration::ZERO..=self.spread);
        self.floor.saturating_add(offset)
    }

    fn end(self) -> Duration {
        self.floor.saturating_add(self.spread)
    }
}

//! GCRA: the generic cell rate algorithm, with variable cost and exact integers.
//!
//! A token bucket that keeps a single moment instead of a level and a timestamp. That moment is the
//! *theoretical arrival time* (TAT): when the bucket will be full again. An arrival of cost `n`
//! moves it on by `n` intervals of `per / count` each, and is admitted if it is then no further
//! ahead of now than `burst` intervals. It is the same bucket (a property test holds the two
//! against each other, arrival by arrival), but there is nothing to refill and a user at rest is a
//! moment in the past, which needs no memory at all.
//!
//! # Exactness
//!
//! Seven requests a minute are one every 8,571,428 and four sevenths of a microsecond. Rounded to
//! whole microseconds, an interval would let a little too much through or turn away somebody who
//! keeps to the limit exactly, and a rate of millions of tokens a minute would be wrong by percents.
//! So a moment is whole microseconds and a fraction, counted in parts of the rule's own denominator
//! ([`Tat`]). Nothing is ever rounded but what is shown to people.
//!
//! # The same in a script
//!
//! All moments stay below 2^53 (microseconds of Unix time until the year 2255), so that the same
//! arithmetic can run where every number is a double, as in a script of a Redis server. What could
//! leave that range is the product of a cost and an interval, so it is taken here ([`Rule::span`])
//! and never there: the script is left with sums, differences and comparisons, which are exact.

use std::time::Duration;

#[cfg(test)]
mod tests;

/// The end of time: the largest moment, so that every integer up to it is exact in a double.
pub const END_OF_TIME: u64 = 1 << 53;

/// The longest time over which a rule's whole burst may spread, in microseconds: 71 years.
const LONGEST_SPAN: u64 = 1 << 51;

/// A rate: `count` units per `per`, of which up to `burst` may come at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    count: u64,
    per: Duration,
    burst: u64,
    /// The interval between two units is `numerator / denominator` microseconds, in lowest terms.
    numerator: u64,
    denominator: u32,
}

/// Why a [`Rule`] cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// A rate of nothing.
    #[error("a rate must allow at least 1 unit per period and a burst of at least 1")]
    Nothing,
    /// More units in lowest terms than 32 bits count, which no rate that people write has.
    #[error("a rate of {count} per {per:?} cannot be counted exactly; choose a rounder number")]
    Odd {
        /// Units per period.
        count: u64,
        /// The period.
        per: Duration,
    },
    /// A period that is no time, or not whole microseconds.
    #[error("a rate's period must be a whole number of microseconds and at least 1, not {0:?}")]
    Period(Duration),
    /// A burst that takes too long to regain to be counted exactly.
    #[error(
        "a burst of {burst} takes more than 71 years to regain at {count} per {per:?}; lower the burst or raise the rate"
    )]
    Span {
        /// The burst asked for.
        burst: u64,
        /// Units per period.
        count: u64,
        /// The period.
        per: Duration,
    },
}

/// A user's theoretical arrival time under one [`Rule`]: when its quota is whole again.
///
/// [`Tat::default`] is the beginning of time: a user never seen, with its full quota.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tat {
    /// Microseconds since an origin that all moments of one store share.
    pub micros: u64,
    /// The fraction of a microsecond beyond, in parts of the rule's denominator.
    pub parts: u32,
}

impl Tat {
    /// The moment `micros` after the origin.
    #[must_use]
    pub const fn at(micros: u64) -> Self {
        Self { micros, parts: 0 }
    }
}

/// A stretch of time under one [`Rule`], in the units of [`Tat`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Whole microseconds.
    pub micros: u64,
    /// The fraction beyond, in parts of the rule's denominator.
    pub parts: u32,
}

/// The answer to one arrival, and what the user is to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Whether it is admitted.
    pub answer: Answer,
    /// What is left for now.
    pub quota: Quota,
}

/// Whether an arrival is admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Yes; its cost has been taken.
    Admitted,
    /// Not now; nothing has been taken. The same arrival would be admitted after this time, and not
    /// a microsecond earlier, if nobody else comes in between.
    RetryAfter(Duration),
    /// Never: it costs more than the whole burst.
    TooCostly,
}

/// What a user has left at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// The units that could be had at once.
    pub remaining: u64,
    /// The time until the whole burst could be had, if nothing comes before.
    pub reset_after: Duration,
}

impl Rule {
    /// A rate of `count` units per `per` with a burst of `burst` units.
    pub fn new(count: u64, per: Duration, burst: u64) -> Result<Self, RuleError> {
        if count == 0 || burst == 0 {
            return Err(RuleError::Nothing);
        }
        let whole_micros = per.subsec_nanos().is_multiple_of(1_000);
        let period = u64::try_from(per.as_micros())
            .ok()
            .filter(|&micros| micros > 0 && whole_micros)
            .ok_or(RuleError::Period(per))?;

        let divisor = gcd(period, count);
        let rule = Self {
            count,
            per,
            burst,
            numerator: period / divisor,
            denominator: u32::try_from(count / divisor)
                .map_err(|_| RuleError::Odd { count, per })?,
        };
        let span = burst.checked_mul(rule.numerator);
        match span.map(|parts| parts / u64::from(rule.denominator)) {
            Some(0..=LONGEST_SPAN) => Ok(rule),
            _ => Err(RuleError::Span { burst, count, per }),
        }
    }

    /// Units per period.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// The period.
    #[must_use]
    pub const fn per(&self) -> Duration {
        self.per
    }

    /// The units that may come at once.
    #[must_use]
    pub const fn burst(&self) -> u64 {
        self.burst
    }

    /// Into how many parts this rule divides a microsecond.
    #[must_use]
    pub const fn denominator(&self) -> u32 {
        self.denominator
    }

    /// The time in which `cost` units are regained.
    #[must_use]
    pub fn span(&self, cost: u64) -> Span {
        // Saturates only for a debit of more than any rule's burst, at more than the end of time.
        let parts = cost.saturating_mul(self.numerator);
        let denominator = u64::from(self.denominator);
        Span {
            micros: (parts / denominator).min(END_OF_TIME),
            parts: of_32_bits(parts % denominator),
        }
    }

    /// Decides on an arrival of `cost` units at `now`, in microseconds since the origin of `tat`,
    /// and takes them if it is admitted.
    ///
    /// A `now` before an earlier one is safe: it admits nothing that the earlier one would not.
    pub fn check(&self, tat: &mut Tat, now: u64, cost: u64) -> Decision {
        let answer = if cost > self.burst {
            Answer::TooCostly
        } else {
            let next = self.after(self.from(*tat, now), cost);
            let latest = self.latest(now);
            if next <= latest {
                *tat = next;
                Answer::Admitted
            } else {
                Answer::RetryAfter(rounded_up(next, latest))
            }
        };
        Decision {
            answer,
            quota: self.quota(*tat, now),
        }
    }

    /// What is left at `now`, taking nothing.
    #[must_use]
    pub fn quota(&self, tat: Tat, now: u64) -> Quota {
        let from = self.from(tat, now);
        let latest = self.latest(now);
        let remaining = if from < latest {
            let parts = self.parts_between(from, latest);
            parts / self.numerator
        } else {
            0
        };
        Quota {
            remaining,
            reset_after: rounded_up(from, Tat::at(now)),
        }
    }

    /// Whether the quota is whole at `now`, so that `tat` says no more than [`Tat::default`] does.
    #[must_use]
    pub fn is_whole(tat: Tat, now: u64) -> bool {
        tat <= Tat::at(now)
    }

    /// Gives `cost` units back that were taken but not used. Never gives more than the burst.
    pub fn refund(&self, tat: &mut Tat, cost: u64) {
        let Span { micros, parts } = self.span(cost);
        let (parts, borrow) = if tat.parts >= parts {
            (tat.parts - parts, 0)
        } else {
            // Both are below the denominator, so the sum is again.
            (self.denominator - (parts - tat.parts), 1)
        };
        *tat = match tat.micros.checked_sub(micros.saturating_add(borrow)) {
            Some(micros) => Tat { micros, parts },
            None => Tat::default(),
        };
    }

    /// Takes `cost` units that have been used already, whether or not they are there: the user may
    /// come to owe, and is admitted again when the debt has been worked off.
    pub fn debit(&self, tat: &mut Tat, now: u64, cost: u64) {
        *tat = self.after(self.from(*tat, now), cost);
    }

    /// Where a quota begins to be used: a moment in the past counts as now, since what was not used
    /// then is not saved up beyond the burst.
    fn from(&self, tat: Tat, now: u64) -> Tat {
        debug_assert!(tat.parts < self.denominator, "this TAT is of another rule");
        tat.max(Tat::at(now))
    }

    /// The latest TAT that an admitted arrival may leave behind.
    fn latest(&self, now: u64) -> Tat {
        self.after(Tat::at(now), self.burst)
    }

    /// The moment `cost` intervals after `tat`.
    fn after(&self, tat: Tat, cost: u64) -> Tat {
        let Span { micros, parts } = self.span(cost);
        let parts = u64::from(tat.parts) + u64::from(parts);
        let denominator = u64::from(self.denominator);
        let (carry, parts) = (parts / denominator, parts % denominator);
        Tat {
            micros: tat
                .micros
                .saturating_add(micros)
                .saturating_add(carry)
                .min(END_OF_TIME),
            parts: of_32_bits(parts),
        }
    }

    /// `later - earlier` in parts. At most a burst apart, so it fits by [`Rule::new`].
    fn parts_between(&self, earlier: Tat, later: Tat) -> u64 {
        let whole = (later.micros - earlier.micros) * u64::from(self.denominator);
        (whole + u64::from(later.parts)).saturating_sub(u64::from(earlier.parts))
    }
}

/// `later - earlier`, up to the next microsecond; zero if `later` is not the later one.
fn rounded_up(later: Tat, earlier: Tat) -> Duration {
    if later <= earlier {
        return Duration::ZERO;
    }
    let up = u64::from(later.parts > earlier.parts);
    Duration::from_micros(later.micros - earlier.micros + up)
}

/// A remainder or a divisor of a number of 32 bits, as such.
fn of_32_bits(number: u64) -> u32 {
    u32::try_from(number).expect("what divides a 32-bit count, or is left by it, has 32 bits")
}

/// The greatest common divisor, by Euclid.
const fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

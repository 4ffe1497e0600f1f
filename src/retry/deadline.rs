//! The caller's deadline: until when somebody waits for the answer.
//!
//! An answer that comes after the caller has hung up is paid for and thrown away, and so is a
//! friendly reply. So nothing is begun that cannot end in time, and what we say instead must leave
//! a little before the caller's own timer fires.
//!
//! Callers tell in one of two ways: in our own header, or in those that the official SDKs send
//! with every request. The latter do not all mean the whole answer:
//!
//! | header | who | what it bounds |
//! |---|---|---|
//! | `x-surgetank-timeout-ms` | the application | everything, to the last byte |
//! | `x-stainless-timeout` | the JavaScript SDKs | the time to the response headers; in the newest `OpenAI` SDK also the body, unless it streams |
//! | `x-stainless-read-timeout` | the Python SDKs | each silence between two bytes, not the whole |
//!
//! Before the response headers the three are the same: so long, and no byte later. After them, only
//! the first still binds ([`BudgetSource::bounds_whole_answer`]). A caller with a read timeout who
//! is sent keepalives is never silent to it, so once those flow its limit is met by them; without
//! them (a plain JSON answer) the limit holds until the headers are out.

use std::time::Duration;

#[cfg(test)]
mod tests;

/// The longest budget that is believed; longer ones count as this. Keeps arithmetic on moments safe.
pub const LONGEST: Duration = Duration::from_hours(24);

/// Where the caller's limit was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BudgetSource {
    /// `x-surgetank-timeout-ms`.
    OwnHeader,
    /// `x-stainless-timeout`.
    SdkTimeout,
    /// `x-stainless-read-timeout`.
    SdkReadTimeout,
}

impl BudgetSource {
    /// Whether the limit binds to the last byte of the answer, or only until its headers.
    #[must_use]
    pub const fn bounds_whole_answer(self) -> bool {
        matches!(self, Self::OwnHeader)
    }
}

/// How long the caller waits, counted from the arrival of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// The caller's own limit: positive, and at most [`LONGEST`].
    pub limit: Duration,
    /// Where it was found, and so what it bounds.
    pub source: BudgetSource,
}

impl Budget {
    /// The time within which our answer has to leave so that it arrives before the limit.
    ///
    /// The limit less a fiftieth, at least 10 and at most 500 ms, and never less than half of the
    /// limit: the caller's timer was started before the request reached us.
    #[must_use]
    pub fn answer_within(&self) -> Duration {
        let margin = (self.limit / 50).clamp(Duration::from_millis(10), Duration::from_millis(500));
        self.limit.saturating_sub(margin.min(self.limit / 2))
    }
}

/// Reads the caller's budget from the request's header fields, (name, value) in any case.
///
/// Our own header goes before the SDKs'; of several values the shortest counts. What is not a
/// positive number (the SDKs send the literal `NOT_GIVEN`, or `None`) is absent.
#[must_use]
pub fn caller_budget<'a>(headers: impl IntoIterator<Item = (&'a str, &'a str)>) -> Option<Budget> {
    let (mut own, mut sdk) = (None::<Budget>, None::<Budget>);
    for (name, value) in headers {
        let (kind, source, unit) = if name.eq_ignore_ascii_case("x-surgetank-timeout-ms") {
            (&mut own, BudgetSource::OwnHeader, 1e-3)
        } else if name.eq_ignore_ascii_case("x-stainless-timeout") {
            (&mut sdk, BudgetSource::SdkTimeout, 1.0)
        } else if name.eq_ignore_ascii_case("x-stainless-read-timeout") {
            (&mut sdk, BudgetSource::SdkReadTimeout, 1.0)
        } else {
            continue;
        };
        let Some(limit) = positive(value, unit) else {
            continue;
        };
        if kind.is_none_or(|known| limit < known.limit) {
            *kind = Some(Budget { limit, source });
        }
    }
    own.or(sdk)
}

/// A positive number of units, as leniently as a language's own float parser reads it: the SDKs
/// write whatever theirs printed.
fn positive(value: &str, unit_in_seconds: f64) -> Option<Duration> {
    let seconds = value.trim().parse::<f64>().ok()? * unit_in_seconds;
    let limit = Duration::try_from_secs_f64(seconds.min(LONGEST.as_secs_f64())).ok()?;
    // `min` turns NaN into the longest, and infinity is nobody's deadline.
    (seconds.is_finite() && !limit.is_zero()).then_some(limit)
}

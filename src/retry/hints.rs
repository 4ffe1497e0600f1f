//! Server hints: what the upstream said about when to come back.
//!
//! A server that names a time knows more than any formula of ours, so its hint is the one thing a
//! wait may never fall short of. But hints arrive in half a dozen forms, and not all of them are
//! true: some vendors send `-1` or `0` where they mean "no idea", some send a year. The rules:
//!
//! - What does not parse strictly is absent, and so are zero and negative values: a placeholder
//!   must not become a hammer. (A date in the past is a wait of zero: it was a real answer.)
//! - A well-formed value stays what it is, however large. Whether a wait is too long to be worth
//!   it is decided where it is used ([`super::plan`]), because cutting a hint short would break it.
//! - Of several values of one header the longest counts. Proxies on the way add their own, and
//!   only after the longest has everybody agreed.
//!
//! In order of trust: `retry-after-ms`, `retry-after`, a delay inside the error body, and only then
//! the rate-limit headers: of all limits whose remainder is 0, the longest reset. Those are the
//! weakest, because most vendors name the time until the limit is *full* again, not until one
//! request fits; see [`HintSource::is_binding`].

use std::time::{Duration, SystemTime};

pub mod formats;
#[cfg(test)]
mod tests;

/// Where a [`Hint`] was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HintSource {
    /// `retry-after-ms`, in milliseconds.
    RetryAfterMs,
    /// `retry-after`, in seconds or as a date.
    RetryAfter,
    /// A delay in the error body, such as Google's `RetryInfo`.
    Body,
    /// The reset time of an exhausted rate limit.
    RateLimitReset,
}

impl HintSource {
    /// The name in metrics and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RetryAfterMs => "retry_after_ms",
            Self::RetryAfter => "retry_after",
            Self::Body => "body",
            Self::RateLimitReset => "rate_limit_reset",
        }
    }

    /// Whether the server told us, in so many words, to stay away until then.
    ///
    /// A reset time only says when a limit is full again. A daily limit that regains a request
    /// every nine seconds may name a reset hours away, so such a hint is honoured while it is
    /// short, but a long one does not end the request.
    #[must_use]
    pub const fn is_binding(self) -> bool {
        !matches!(self, Self::RateLimitReset)
    }
}

/// A server's word on when to come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hint {
    /// The time to stay away, counted from the answer; not capped.
    pub wait: Duration,
    /// Where it was found.
    pub source: HintSource,
}

/// Reads the hint of one answer.
///
/// `headers` are the answer's header fields as (name, value), names in any case; values that are
/// not text are left out by the caller. `body` is a delay that the dialect found in the error body.
/// `now` is the wall clock, for the forms that are dates; the answer's own `Date` is the better
/// choice where it is at hand, since it takes the skew between the two clocks out.
#[must_use]
pub fn read<'a>(
    headers: impl IntoIterator<Item = (&'a str, &'a str)>,
    body: Option<Duration>,
    now: SystemTime,
) -> Option<Hint> {
    let headers: Vec<_> = headers.into_iter().collect();
    let longest = |name: &str, parse: &dyn Fn(&str) -> Option<Duration>| {
        let values = headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name));
        values.filter_map(|(_, value)| parse(value)).max()
    };
    let found = |source| move |wait| Hint { wait, source };

    longest("retry-after-ms", &formats::milliseconds)
        .map(found(HintSource::RetryAfterMs))
        .or_else(|| {
            longest("retry-after", &|value| formats::retry_after(value, now))
                .map(found(HintSource::RetryAfter))
        })
        .or_else(|| body.map(found(HintSource::Body)))
        .or_else(|| exhausted_reset(&headers, now).map(found(HintSource::RateLimitReset)))
}

/// The longest reset among the limits of which nothing remains.
fn exhausted_reset(headers: &[(&str, &str)], now: SystemTime) -> Option<Duration> {
    let is_exhausted = |reset: &Limit<'_>| {
        headers.iter().any(|(name, value)| {
            Limit::of(name, "remaining").is_some_and(|limit| limit.is_same_as(reset))
                && formats::is_zero(value)
        })
    };
    headers
        .iter()
        .filter_map(|(name, value)| {
            let limit = Limit::of(name, "reset")?;
            let wait = formats::reset(value, now)?;
            is_exhausted(&limit).then_some(wait)
        })
        .max()
}

/// Which limit a rate-limit header speaks of.
#[derive(Clone, Copy)]
struct Limit<'a> {
    family: &'static str,
    name: &'a str,
}

impl<'a> Limit<'a> {
    /// The limit of a header called `x-ratelimit-{property}-{limit}` (`OpenAI`, Azure, Groq and
    /// compatible vendors) or `anthropic-{ratelimit|priority}-{limit}-{property}`.
    ///
    /// A bare `x-ratelimit-reset` is left alone: vendors put epochs in different units into it.
    fn of(header: &'a str, property: &str) -> Option<Self> {
        const OPENAI: &str = "x-ratelimit-";
        if let Some(rest) = strip_prefix(header, OPENAI) {
            let name = strip_prefix(rest, property)?.strip_prefix('-')?;
            return Some(Self {
                family: OPENAI,
                name,
            });
        }
        ["anthropic-ratelimit-", "anthropic-priority-"]
            .into_iter()
            .find_map(|family| {
                let name = strip_suffix(strip_prefix(header, family)?, property)?;
                Some(Self {
                    family,
                    name: name.strip_suffix('-')?,
                })
            })
    }

    fn is_same_as(&self, other: &Limit<'_>) -> bool {
        self.family == other.family && self.name.eq_ignore_ascii_case(other.name)
    }
}

/// `str::strip_prefix`, whatever the case of the letters.
fn strip_prefix<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let (head, rest) = text.split_at_checked(prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then_some(rest)
}

/// `str::strip_suffix`, whatever the case of the letters.
fn strip_suffix<'a>(text: &'a str, suffix: &str) -> Option<&'a str> {
    let (rest, tail) = text.split_at_checked(text.len().checked_sub(suffix.len())?)?;
    tail.eq_ignore_ascii_case(suffix).then_some(rest)
}

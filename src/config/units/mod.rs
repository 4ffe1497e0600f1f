//! Quantities as people write them: durations, sizes, rates, and numbers with a range.
//!
//! A bare `60` is seconds to one reader and milliseconds to the next, so a unit is demanded wherever one could be meant.
//! Every quantity prints in the form it is read in, and has a ceiling that keeps all arithmetic on it from overflowing.
//!
//! The types named `…Text` stand in `#[serde(with = "…")]`: they give a plain [`Duration`](std::time::Duration)
//! or number of bytes its written form and its JSON Schema, and exist for nothing else.

mod duration;
mod number;
mod rate;
mod size;
mod text_form;

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use serde::de::{Deserializer, Error, Visitor};

pub use self::duration::{DurationError, display_duration, parse_duration};
pub(super) use self::duration::{DurationText, OptionalDurationText, PositiveDurationText};
pub(super) use self::number::{
    MOST_RETRIES, at_least_one, at_least_one_or_none, factor, portion, retries, share,
};
pub use self::rate::{Rate, RateError};
pub(super) use self::size::SizeText;
pub use self::size::{SizeError, display_size, parse_size};
pub(super) use self::text_form::text_form;

/// Reads a value from its text by [`FromStr`]; `expecting` is the noun phrase for messages.
pub(super) fn from_text<'de, D, T>(deserializer: D, expecting: &'static str) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err: fmt::Display>,
{
    struct Text<T>(&'static str, PhantomData<T>);

    impl<T: FromStr<Err: fmt::Display>> Visitor<'_> for Text<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
            text.parse().map_err(E::custom)
        }
    }

    deserializer.deserialize_str(Text(expecting, PhantomData))
}

/// Cuts a leading decimal number off: its digits before and after the point, and the rest.
fn split_number(text: &str) -> Option<(&str, &str, &str)> {
    let digits =
        |text: &str| text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (whole, rest) = text.split_at(digits(text));
    if whole.is_empty() {
        return None;
    }
    let Some(after_point) = rest.strip_prefix('.') else {
        return Some((whole, "", rest));
    };
    let (fraction, rest) = after_point.split_at(digits(after_point));
    (!fraction.is_empty()).then_some((whole, fraction, rest))
}

/// `whole.fraction * scale`, when that is a whole number that fits.
fn scale(whole: &str, fraction: &str, scale: u64) -> Option<u64> {
    let whole: u64 = whole.parse().ok()?;
    let whole = whole.checked_mul(scale)?;
    let fraction = fraction.trim_end_matches('0');
    if fraction.is_empty() {
        return Some(whole);
    }
    let parts = fraction.parse::<u64>().ok()?.checked_mul(scale)?;
    let of = 10_u64.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    (parts % of == 0).then_some(())?;
    whole.checked_add(parts / of)
}

#[cfg(test)]
mod tests;

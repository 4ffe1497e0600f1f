//! Durations: `250ms`, `2s`, `10m`, `1h`, `1m30s`.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error};
use serde::ser::{Serialize, Serializer};

use super::{from_text, scale, split_number};

/// The units, longest first, with their length in milliseconds.
const UNITS: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// A year. Longer waits are mistakes, and instants far beyond it overflow.
const LONGEST: Duration = Duration::from_hours(8760);

const EXPECTING: &str = "a duration such as `250ms`, `2s` or `10m`";

/// Why a text is no duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// Not numbers with units.
    #[error(
        "a duration is a number with its unit (`ms`, `s`, `m`, `h`, `d`), such as `250ms`, `2s`, `10m` or `1m30s`"
    )]
    Form,
    /// A number alone.
    #[error("a duration needs its unit: `ms`, `s`, `m`, `h` or `d`")]
    NoUnit,
    /// Shorter steps than timers have.
    #[error("a duration is made of whole milliseconds")]
    TooFine,
    /// More than a year.
    #[error("a duration is at most `365d`")]
    TooLong,
}

/// Reads a duration: one or more numbers, each with a unit, which add up. `0` needs no unit.
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut total = Duration::ZERO;
    let mut rest = text;
    loop {
        let (whole, fraction, after) = split_number(rest).ok_or(DurationError::Form)?;
        let unit_len = after.len()
            - after
                .trim_start_matches(|c: char| c.is_ascii_alphabetic())
                .len();
        let (unit, after) = after.split_at(unit_len);
        if unit.is_empty() && after.is_empty() {
            return Err(DurationError::NoUnit);
        }
        let unit = UNITS.iter().find(|(name, _)| *name == unit);
        let (_, unit) = unit.ok_or(DurationError::Form)?;
        let millis = match scale(whole, fraction, *unit) {
            Some(millis) => millis,
            None if fraction.is_empty() => return Err(DurationError::TooLong),
            None => return Err(DurationError::TooFine),
        };
        total = total.saturating_add(Duration::from_millis(millis));
        if total > LONGEST {
            return Err(DurationError::TooLong);
        }
        if after.is_empty() {
            return Ok(total);
        }
        rest = after;
    }
}

/// Prints a duration so that [`parse_duration`] reads it back, to the millisecond.
#[must_use]
pub fn display_duration(duration: Duration) -> impl fmt::Display {
    Written(duration)
}

impl fmt::Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        if rest == 0 {
            return f.write_str("0s");
        }
        // Days are read but not printed: `24h` says more to who tunes a timeout.
        for (name, unit) in &UNITS[1..] {
            let count = rest / unit;
            rest %= unit;
            if count > 0 {
                write!(f, "{count}{name}")?;
            }
        }
        Ok(())
    }
}

/// A duration, zero included.
pub(in crate::config) struct DurationText;

impl DurationText {
    pub(in crate::config) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Duration, D::Error> {
        from_text::<D, Written>(deserializer, EXPECTING).map(|written| written.0)
    }

    pub(in crate::config) fn serialize<S: Serializer>(
        duration: &Duration,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&display_duration(*duration))
    }
}

/// A duration above zero.
pub(in crate::config) struct PositiveDurationText;

impl PositiveDurationText {
    pub(in crate::config) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Duration, D::Error> {
        let duration = DurationText::deserialize(deserializer)?;
        if duration.is_zero() {
            return Err(D::Error::custom("it must be longer than zero"));
        }
        Ok(duration)
    }

    pub(in crate::config) fn serialize<S: Serializer>(
        duration: &Duration,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        DurationText::serialize(duration, serializer)
    }
}

/// A duration above zero, or none.
pub(in crate::config) struct OptionalDurationText;

impl OptionalDurationText {
    pub(in crate::config) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        struct Positive(Duration);

        impl<'de> Deserialize<'de> for Positive {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                PositiveDurationText::deserialize(deserializer).map(Self)
            }
        }

        let duration = Option::<Positive>::deserialize(deserializer)?;
        Ok(duration.map(|positive| positive.0))
    }

    #[expect(
        clippy::ref_option,
        reason = "serde's `with` hands the field over in this form"
    )]
    pub(in crate::config) fn serialize<S: Serializer>(
        duration: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let text = duration.map(|duration| display_duration(duration).to_string());
        text.serialize(serializer)
    }
}

/// A duration in its written form.
struct Written(Duration);

impl std::str::FromStr for Written {
    type Err = DurationError;

    fn from_str(text: &str) -> Result<Self, DurationError> {
        parse_duration(text).map(Self)
    }
}

macro_rules! duration_schema {
    ($($text:ident)*) => {$(
        impl JsonSchema for $text {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                "Duration".into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "pattern": r"^(0|([0-9]+(\.[0-9]+)?(ms|s|m|h|d))+|.*\$\{.*)$" })
            }
        }
    )*};
}

duration_schema!(DurationText PositiveDurationText OptionalDurationText);

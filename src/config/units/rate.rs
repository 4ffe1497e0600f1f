//! Rates: `60/min`, `5/s`, `1000/h`, `10/30s`.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer};
use serde::ser::{Serialize, Serializer};

use super::{display_duration, from_text, parse_duration};

const DAY: Duration = Duration::from_hours(24);

/// The periods that have a name; of several for one length, the first is printed.
const PERIODS: [(&str, Duration); 11] = [
    ("s", Duration::from_secs(1)),
    ("sec", Duration::from_secs(1)),
    ("second", Duration::from_secs(1)),
    ("min", Duration::from_mins(1)),
    ("m", Duration::from_mins(1)),
    ("minute", Duration::from_mins(1)),
    ("h", Duration::from_hours(1)),
    ("hour", Duration::from_hours(1)),
    ("day", DAY),
    ("d", DAY),
    ("24h", DAY),
];

/// More than any quota that a vendor grants; keeps sums and products of counts far from overflow.
const LARGEST: u64 = 1_000_000_000_000;

/// So many in so much time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rate {
    /// How many; at least 1.
    pub count: u64,
    /// In which time; longer than zero, at most a day.
    pub per: Duration,
}

/// Why a text is no rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RateError {
    /// Not a number, a slash and a period.
    #[error(
        "a rate is a number per time, such as `5/s`, `60/min`, `1000/h`, `5000/day` or `10/30s`"
    )]
    Form,
    /// Nothing per time.
    #[error("a rate of zero would let nothing through; write at least `1/day`")]
    Zero,
    /// More than a vendor grants.
    #[error("a rate is at most 1000000000000 per time")]
    TooLarge,
    /// A period beyond a day, or none.
    #[error("the time of a rate is longer than zero and at most a day")]
    Period,
}

impl FromStr for Rate {
    type Err = RateError;

    fn from_str(text: &str) -> Result<Self, RateError> {
        let (count, per) = text.split_once('/').ok_or(RateError::Form)?;
        let (count, per) = (count.trim_end(), per.trim_start());
        if count.is_empty() || !count.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(RateError::Form);
        }
        let count: u64 = count.parse().map_err(|_| RateError::TooLarge)?;
        let named = PERIODS.iter().find(|(name, _)| *name == per);
        let per = match named {
            Some((_, per)) => *per,
            None => parse_duration(per).map_err(|_| RateError::Form)?,
        };
        match count {
            0 => Err(RateError::Zero),
            _ if count > LARGEST => Err(RateError::TooLarge),
            _ if per.is_zero() || per > DAY => Err(RateError::Period),
            _ => Ok(Self { count, per }),
        }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match PERIODS.iter().find(|(_, per)| *per == self.per) {
            Some((name, _)) => write!(f, "{}/{name}", self.count),
            None => write!(f, "{}/{}", self.count, display_duration(self.per)),
        }
    }
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_text(deserializer, "a rate such as `60/min`")
    }
}

impl Serialize for Rate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for Rate {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Rate".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": r"^([1-9][0-9]*\s*/\s*(s|sec|second|m|min|minute|h|hour|d|day|([0-9]+(\.[0-9]+)?(ms|s|m|h|d))+)|.*\$\{.*)$",
        })
    }
}

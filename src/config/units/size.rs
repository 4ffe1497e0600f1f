//! Sizes in bytes: `64KiB`, `4MiB`, `1GB`.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Deserializer;
use serde::ser::Serializer;

use super::{from_text, scale, split_number};

/// The units with their length in bytes; the binary ones print, from the largest.
const UNITS: [(&str, u64); 7] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
];

const PRINTED: usize = 4;

/// Sums of a few sizes stay far from overflow on every platform that has 64 bits.
const LARGEST: u64 = 1 << 40;

/// Why a text is no size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SizeError {
    /// Not a number with a unit.
    #[error(
        "a size is a number with its unit (`B`, `KiB`, `MiB`, `GiB`, `KB`, `MB`, `GB`), such as `64KiB` or `4MiB`"
    )]
    Form,
    /// A number alone.
    #[error("a size needs its unit: `B`, `KiB`, `MiB`, `GiB`, `KB`, `MB` or `GB`")]
    NoUnit,
    /// A part of a byte.
    #[error("a size is made of whole bytes")]
    TooFine,
    /// More than a tebibyte, or than this machine can address.
    #[error("a size is at most `1024GiB`, and no more than this machine can address")]
    TooLarge,
}

/// Reads a size in bytes. `0` needs no unit.
pub fn parse_size(text: &str) -> Result<usize, SizeError> {
    if text == "0" {
        return Ok(0);
    }
    let (whole, fraction, unit) = split_number(text).ok_or(SizeError::Form)?;
    if unit.is_empty() {
        return Err(SizeError::NoUnit);
    }
    let unit = UNITS.iter().find(|(name, _)| *name == unit);
    let (_, unit) = unit.ok_or(SizeError::Form)?;
    let bytes = match scale(whole, fraction, *unit) {
        Some(bytes) => bytes,
        None if fraction.is_empty() => return Err(SizeError::TooLarge),
        None => return Err(SizeError::TooFine),
    };
    if bytes > LARGEST {
        return Err(SizeError::TooLarge);
    }
    usize::try_from(bytes).map_err(|_| SizeError::TooLarge)
}

/// Prints a size in the largest unit that holds it exactly, so that [`parse_size`] reads it back.
#[must_use]
pub fn display_size(bytes: usize) -> impl fmt::Display {
    Written(bytes)
}

impl fmt::Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.0 as u64;
        let exact = |(_, unit): &&(&str, u64)| bytes >= *unit && bytes.is_multiple_of(*unit);
        match UNITS[..PRINTED].iter().find(exact) {
            Some((name, unit)) => write!(f, "{}{name}", bytes / unit),
            None => write!(f, "{bytes}B"),
        }
    }
}

/// A size in bytes, zero included.
pub(in crate::config) struct SizeText;

impl SizeText {
    pub(in crate::config) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<usize, D::Error> {
        from_text::<D, Written>(deserializer, "a size such as `64KiB` or `4MiB`")
            .map(|written| written.0)
    }

    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "serde's `with` hands the field over in this form"
    )]
    pub(in crate::config) fn serialize<S: Serializer>(
        bytes: &usize,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&display_size(*bytes))
    }
}

/// A size in its written form.
struct Written(usize);

impl std::str::FromStr for Written {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Self, SizeError> {
        parse_size(text).map(Self)
    }
}

impl JsonSchema for SizeText {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Size".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": r"^(0|[0-9]+(\.[0-9]+)?(B|KiB|MiB|GiB|KB|MB|GB)|.*\$\{.*)$" })
    }
}

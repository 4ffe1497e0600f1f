//! Durations, sizes and rates as scenario files and fault parameters write them: `20ms`, `4MiB`, `60/min`.

use std::time::Duration;

use serde::de::{self, Deserializer, Visitor};

/// Longest duration that the lab accepts (one week), so that adding one to a clock can never overflow.
const LONGEST: f64 = 7.0 * 24.0 * 3600.0;

/// Reads `250us`, `20ms`, `1.5s`, `2m`, `1h` or a bare `0`.
pub(super) fn duration(text: &str) -> Result<Duration, &'static str> {
    const EXPECTED: &str = "a duration such as 20ms, 1.5s, 2m or 1h (at most a week)";
    let (number, unit) = split(text).ok_or(EXPECTED)?;
    let seconds = match unit {
        "us" => number / 1e6,
        "ms" => number / 1e3,
        "s" => number,
        "m" | "min" => number * 60.0,
        "h" => number * 3600.0,
        "" if number == 0.0 => 0.0,
        _ => return Err(EXPECTED),
    };
    if seconds > LONGEST {
        return Err(EXPECTED);
    }
    Duration::try_from_secs_f64(seconds).map_err(|_| EXPECTED)
}

/// Reads `512`, `64KiB`, `4MiB` (bytes); `limit` bounds the result.
pub(super) fn size(text: &str, limit: usize) -> Result<usize, &'static str> {
    const EXPECTED: &str = "a size such as 512, 64KiB or 4MiB (at most 64MiB)";
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: usize = digits.parse().map_err(|_| EXPECTED)?;
    let factor = match &text[digits.len()..] {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        _ => return Err(EXPECTED),
    };
    match number.checked_mul(factor) {
        Some(bytes) if bytes <= limit => Ok(bytes),
        _ => Err(EXPECTED),
    }
}

/// Reads `2.5` (per second), `60/min`, `10/s` or `1000/h`; the result is per second, finite and not negative.
pub(super) fn rate(text: &str) -> Result<f64, &'static str> {
    const EXPECTED: &str = "a rate such as 2.5 (per second), 60/min or 1000/h";
    let (number, per) = text.split_once('/').unwrap_or((text, "s"));
    let number: f64 = number.trim().parse().map_err(|_| EXPECTED)?;
    let seconds = match per.trim() {
        "s" | "sec" => 1.0,
        "m" | "min" => 60.0,
        "h" | "hour" => 3600.0,
        _ => return Err(EXPECTED),
    };
    if number.is_finite() && number >= 0.0 {
        Ok(number / seconds)
    } else {
        Err(EXPECTED)
    }
}

/// Splits `1.5s` into its number and its unit.
fn split(text: &str) -> Option<(f64, &str)> {
    let text = text.trim();
    let unit_at = text
        .find(|c: char| c.is_ascii_alphabetic())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let number: f64 = number.parse().ok()?;
    (number.is_finite() && number >= 0.0).then_some((number, unit))
}

/// For `#[serde(deserialize_with)]`: a duration written as text.
pub(super) fn de_duration<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    from.deserialize_str(Text(duration))
}

/// For `#[serde(deserialize_with)]`: a duration written as text, in an optional field that is present.
pub(super) fn de_some_duration<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<Duration>, D::Error> {
    de_duration(from).map(Some)
}

/// For `#[serde(deserialize_with)]`: a rate written as a number or as text.
pub(super) fn de_rate<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    from.deserialize_any(Text(rate))
}

/// A visitor that hands a scalar's text to one of the readers above.
struct Text<T>(fn(&str) -> Result<T, &'static str>);

impl<T> Visitor<'_> for Text<T> {
    type Value = T;

    fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The reader's own complaint on the empty text is the description of what it wants.
        out.write_str((self.0)("").err().unwrap_or("a value"))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        (self.0)(text).map_err(|expected| E::custom(format!("`{text}` is not {expected}")))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_written() {
        for (text, micros) in [
            ("20ms", 20_000),
            ("1.5s", 1_500_000),
            ("250us", 250),
            ("2m", 120_000_000),
            ("0", 0),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_micros(micros)), "{text}");
        }
        for text in [
            "",
            "20",
            "-1s",
            "1e400s",
            "ms",
            "NaNs",
            "99999h",
            "1 fortnight",
        ] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_and_rates_read_as_written() {
        assert_eq!(size("4MiB", 64 << 20), Ok(4 << 20));
        assert_eq!(size("512", 64 << 20), Ok(512));
        assert!(size("65MiB", 64 << 20).is_err());
        assert!(size("18446744073709551615MiB", usize::MAX).is_err());
        assert_eq!(rate("60/min"), Ok(1.0));
        assert_eq!(rate("2.5"), Ok(2.5));
        assert!(rate("-1").is_err());
        assert!(rate("inf").is_err());
    }
}

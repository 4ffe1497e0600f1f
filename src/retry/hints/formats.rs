//! The forms in which servers write a time to wait.
//!
//! Each function takes the text of one header value and gives the wait, or `None` when the text is
//! not exactly of that form. They are stricter than the number parsers of programming languages,
//! which read `inf`, `1e9` or `0x10` as well: no server means those.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// `retry-after`: seconds, whole (RFC 9110 §10.2.3) or with a fraction, or an HTTP date.
///
/// Also reads what a middle box makes of a repeated header: several numbers, joined by commas, of
/// which the longest counts. A date in the past is [`Duration::ZERO`].
#[must_use]
pub fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    if let Ok(date) = httpdate::parse_http_date(value.trim()) {
        return Some(date.duration_since(now).unwrap_or_default());
    }
    value
        .split(',')
        .map(decimal)
        .collect::<Option<Vec<_>>>()?
        .into_iter()
        .filter_map(|seconds| positive(seconds, 1.0))
        .max()
}

/// `retry-after-ms`: milliseconds, whole or with a fraction.
#[must_use]
pub fn milliseconds(value: &str) -> Option<Duration> {
    positive(decimal(value)?, 1e-3)
}

/// A rate limit's reset: an RFC 3339 date, a Go-style duration, or a bare number of seconds.
///
/// Zero and the past are absent here: an exhausted limit that resets in no time is a placeholder.
#[must_use]
pub fn reset(value: &str, now: SystemTime) -> Option<Duration> {
    rfc3339(value.trim())
        .map(|date| date.duration_since(now).unwrap_or_default())
        .or_else(|| go_duration(value))
        .or_else(|| positive(decimal(value)?, 1.0))
        .filter(|wait| !wait.is_zero())
}

/// Whether a `remaining` header says that nothing is left. `-1` means "unknown" and is not that.
#[must_use]
pub fn is_zero(value: &str) -> bool {
    decimal(value) == Some(0.0)
}

/// A duration as Go and Protocol Buffers write it: `20ms`, `7.66s`, `1h2m3.5s`, `37s`.
///
/// `d` counts as a day, as some vendors write it. More than a `Duration` holds is its maximum.
#[must_use]
pub fn go_duration(value: &str) -> Option<Duration> {
    let mut rest = value.trim();
    if rest.is_empty() {
        return None;
    }
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let unit_at = rest.find(|c: char| c != '.' && !c.is_ascii_digit())?;
        let (number, tail) = rest.split_at(unit_at);
        let number_at = tail.find(|c: char| c.is_ascii_digit());
        let (unit, next) = tail.split_at(number_at.unwrap_or(tail.len()));
        let seconds = match unit {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3_600.0,
            "d" => 86_400.0,
            _ => return None,
        };
        total = total.saturating_add(scaled(decimal(number)?, seconds));
        rest = next;
    }
    Some(total)
}

/// A moment as RFC 3339 writes it: `2025-08-21T12:40:59Z`, with a fraction or an offset if need be.
///
/// A moment before 1970 is given as 1970: it is past in any case.
#[must_use]
pub fn rfc3339(value: &str) -> Option<SystemTime> {
    let (date, time) = value.split_once(['T', 't'])?;
    let mut date = date.split('-');
    let [year, month, day] = [4, 2, 2].map(|width| digits(date.next(), width));
    let (year, month, day) = (year?, month?, day?);
    let valid = date.next().is_none() && (1..=12).contains(&month);
    if !valid || !(1..=days_in_month(year, month)).contains(&day) {
        return None;
    }

    let zone_at = time.find(['Z', 'z', '+', '-'])?;
    let (time, zone) = time.split_at(zone_at);
    let (clock, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let mut clock = clock.split(':');
    let [hour, minute, second] = [2, 2, 2].map(|width| digits(clock.next(), width));
    let (hour, minute, second) = (hour?, minute?, second?);
    // A leap second is written as 60.
    if clock.next().is_some() || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    if fraction.is_empty() || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let fraction = format!("0.{fraction}").parse::<f64>().ok()?;

    let local = days_since_epoch(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second;
    let seconds = u64::try_from(local - zone_offset(zone)?).unwrap_or(0);
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds) + Duration::from_secs_f64(fraction))
}

/// Seconds east of Greenwich: `Z`, `+02:00`, `-09:30`.
fn zone_offset(zone: &str) -> Option<i64> {
    if zone.eq_ignore_ascii_case("z") {
        return Some(0);
    }
    let sign = if zone.starts_with('-') { -1 } else { 1 };
    let (hours, minutes) = zone.strip_prefix(['+', '-'])?.split_once(':')?;
    let (hours, minutes) = (digits(Some(hours), 2)?, digits(Some(minutes), 2)?);
    (hours <= 23 && minutes <= 59).then_some(sign * (hours * 3_600 + minutes * 60))
}

/// Days from 1970-01-01 to a date of the Gregorian calendar.
///
/// Counts years from March, so that the leap day is a year's last and months have a fixed sum.
fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    let year = if month > 2 { year } else { year - 1 };
    let month_from_march = (month + 9) % 12;
    let days_before_month = (153 * month_from_march + 2) / 5;
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    365 * year + leap_days + days_before_month + day - 719_469
}

fn days_in_month(year: i64, month: i64) -> i64 {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// A number of exactly `width` digits.
fn digits(text: Option<&str>, width: usize) -> Option<i64> {
    let text = text.filter(|t| t.len() == width && t.bytes().all(|b| b.is_ascii_digit()))?;
    text.parse().ok()
}

/// A number such as `12` or `12.5`, with nothing but blanks around it. May be infinite: a server
/// that writes four thousand digits means something, and it is not "soon".
fn decimal(text: &str) -> Option<f64> {
    let text = text.trim_matches([' ', '\t']);
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let are_digits = |t: &str| t.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !are_digits(whole) || !are_digits(fraction) {
        return None;
    }
    text.parse().ok()
}

fn positive(number: f64, unit_in_seconds: f64) -> Option<Duration> {
    Some(scaled(number, unit_in_seconds)).filter(|wait| !wait.is_zero())
}

/// `number` units; [`Duration::MAX`] if that is more than a duration holds.
fn scaled(number: f64, unit_in_seconds: f64) -> Duration {
    Duration::try_from_secs_f64(number * unit_in_seconds).unwrap_or(Duration::MAX)
}

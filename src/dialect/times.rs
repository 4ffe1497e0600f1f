//! Times as the vendors write them in headers.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Seconds since 1970, for `created` fields.
pub(crate) fn unix_seconds(now: SystemTime) -> u64 {
    now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// RFC 3339 in UTC with whole seconds, as Anthropic's `…-reset` headers have it.
///
/// The calendar is computed in eras of 400 years (146,097 days) that begin in March, so that the leap day is last.
pub(crate) fn rfc3339(at: SystemTime) -> String {
    let seconds = unix_seconds(at);
    let (days, of_day) = (seconds / 86_400, seconds % 86_400);
    let shifted = days + 719_468; // days from 0000-03-01 to 1970-01-01
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// The way in which Go prints a duration, as OpenAI's `x-ratelimit-reset-*` headers have it: `20ms`, `7.66s`, `6m0s`.
pub(crate) fn go_duration(span: Duration) -> String {
    if span < Duration::from_secs(1) {
        return format!("{}ms", span.as_millis());
    }
    let (minutes, seconds) = (span.as_secs() / 60, span.as_secs() % 60);
    let millis = span.subsec_millis();
    let seconds = if millis == 0 {
        format!("{seconds}s")
    } else {
        format!("{seconds}.{millis:03}")
            .trim_end_matches('0')
            .to_owned()
            + "s"
    };
    match (minutes / 60, minutes % 60) {
        (0, 0) => seconds,
        (0, minutes) => format!("{minutes}m{seconds}"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc3339_knows_the_calendar() {
        for (seconds, written) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_755_780_059, "2025-08-21T12:40:59Z"),
            (1_798_761_599, "2026-12-31T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(rfc3339(UNIX_EPOCH + Duration::from_secs(seconds)), written);
        }
    }

    #[test]
    fn go_durations_look_like_the_recorded_ones() {
        for (millis, written) in [
            (2, "2ms"),
            (1_000, "1s"),
            (7_660, "7.66s"),
            (360_000, "6m0s"),
            (3_723_500, "1h2m3.5s"),
        ] {
            assert_eq!(go_duration(Duration::from_millis(millis)), written);
        }
    }
}

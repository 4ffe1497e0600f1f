use proptest::prelude::*;

use super::*;

const MS: fn(u64) -> Option<Duration> = |ms| Some(Duration::from_millis(ms));
const FOREVER: Option<Duration> = Some(Duration::MAX);

/// 2026-11-23T10:00:00Z.
fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_hours(498_730)
}

fn read_at_now(headers: &[(&str, &str)]) -> Option<Hint> {
    read(headers.iter().copied(), None, now())
}

fn wait(headers: &[(&str, &str)]) -> Option<Duration> {
    read_at_now(headers).map(|hint| hint.wait)
}

#[test]
fn the_test_clock_is_what_its_comment_says() {
    assert_eq!(
        httpdate::fmt_http_date(now()),
        "Mon, 23 Nov 2026 10:00:00 GMT"
    );
}

/// One value of `retry-after` and the wait it asks for.
#[rustfmt::skip]
fn retry_after_table() -> Vec<(String, Option<Duration>)> {
    let nines = "9".repeat(4_000);
    let zeros = format!("{}1", "0".repeat(4_000));
    [
        // What servers mean to send.
        ("1", MS(1_000)), ("60", MS(60_000)), ("61", MS(61_000)), ("3600", MS(3_600_000)),
        ("0.5", MS(500)), ("2.", MS(2_000)), ("007", MS(7_000)), (" 5 ", MS(5_000)), ("\t5", MS(5_000)),
        ("Mon, 23 Nov 2026 10:00:20 GMT", MS(20_000)),
        ("Monday, 23-Nov-26 10:00:20 GMT", MS(20_000)),
        ("Mon Nov 23 10:00:20 2026", MS(20_000)),
        // Dates that are past, now, or far away.
        ("Mon, 23 Nov 2026 10:00:00 GMT", MS(0)), ("Mon, 23 Nov 2026 09:59:59 GMT", MS(0)),
        ("Thu, 01 Jan 1970 00:00:00 GMT", MS(0)), ("Sun, 06 Nov 1994 08:49:37 GMT", MS(0)),
        ("Fri, 31 Dec 9999 23:59:59 GMT", MS(251_606_872_799_000)),
        // Placeholders.
        ("0", None), ("0.0", None), ("-0", None), ("-1", None), ("-1.5", None), ("-60", None),
        ("-99999999999999999999", None), ("00", None), ("0.0000000000001", None),
        // Numbers that are too large stay numbers: they mean "not soon".
        ("2147483647", MS(2_147_483_647_000)), ("2147483648", MS(2_147_483_648_000)),
        ("4294967296", MS(4_294_967_296_000)), ("9007199254740993", MS(9_007_199_254_740_992_000)),
        ("18446744073709551616", FOREVER), ("99999999999999999999999", FOREVER), (nines.as_str(), FOREVER),
        (zeros.as_str(), MS(1_000)),
        // Not numbers of this grammar.
        ("", None), (" ", None), (".", None), (".5", None), ("1.2.3", None), ("1e1", None), ("1E1", None),
        ("1e309", None), ("-1e309", None), ("inf", None), ("Infinity", None), ("-inf", None), ("NaN", None),
        ("nan", None), ("+5", None), ("0x10", None), ("1_000", None), ("10s", None), ("10 s", None),
        ("5 seconds", None), ("1 2", None), ("five", None), ("null", None), ("undefined", None), ("true", None),
        ("PT5S", None), ("\"5\"", None), ("5;", None), ("5\u{0}", None), ("٥", None), ("５", None), ("−5", None),
        ("%35", None), ("5\r\nx: y", None), ("1m", None),
        // Not dates.
        ("Mon, 32 Nov 2026 10:00:20 GMT", None), ("Mon, 23 Nov 2026 25:00:20 GMT", None),
        ("Tue, 23 Nov 2026 10:00:20 GMT", None), ("Mon, 23 Nov 10000 10:00:20 GMT", None),
        ("Mon, 23 Nov 2026", None), ("2026-11-23T10:00:20Z", None), ("Sun, 06", None), ("tomorrow", None),
        // Several, joined on the way.
        ("1, 30", MS(30_000)), ("30,1", MS(30_000)), ("0, 4", MS(4_000)), ("5, x", None), ("5,", None),
    ]
    .into_iter()
    .map(|(value, expected)| (value.to_owned(), expected))
    .collect()
}

#[test]
fn every_retry_after_a_hostile_server_can_think_of() {
    let table = retry_after_table();
    assert!(table.len() >= 78, "{} variants", table.len());
    for (value, expected) in &table {
        let shown: String = value.chars().take(60).collect();
        assert_eq!(wait(&[("retry-after", value)]), *expected, "{shown:?}");
        if let Some(hint) = read_at_now(&[("Retry-After", value)]) {
            assert_eq!(hint.source, HintSource::RetryAfter, "{shown:?}");
        }
    }
}

#[test]
fn retry_after_ms_is_in_milliseconds_and_goes_first() {
    for (value, expected) in [
        ("300", MS(300)),
        ("0.5", Some(Duration::from_micros(500))),
        ("0", None),
        ("-1", None),
        ("1e3", None),
        ("Mon, 23 Nov 2026 10:00:20 GMT", None),
    ] {
        assert_eq!(wait(&[("retry-after-ms", value)]), expected, "{value}");
    }
    assert_eq!(
        read_at_now(&[("retry-after", "5"), ("retry-after-ms", "300")]),
        Some(Hint {
            wait: Duration::from_millis(300),
            source: HintSource::RetryAfterMs
        })
    );
    // An unusable one leaves the word to the next.
    let headers = [("retry-after-ms", "0"), ("retry-after", "5")];
    assert_eq!(wait(&headers), MS(5_000));
}

#[test]
fn of_several_headers_the_longest_valid_one_counts() {
    for values in [["5", "10"], ["10", "5"], ["10", "garbage"], ["-1", "10"]] {
        let headers = values.map(|value| ("retry-after", value));
        assert_eq!(wait(&headers), MS(10_000), "{values:?}");
    }
    let mixed = [
        ("retry-after", "5"),
        ("retry-after", "Mon, 23 Nov 2026 10:00:20 GMT"),
    ];
    assert_eq!(wait(&mixed), MS(20_000));
}

#[test]
fn the_body_speaks_where_retry_after_is_silent() {
    let body = Some(Duration::from_secs(37));
    let none: [(&str, &str); 0] = [];
    let hint = read(none, body, now());
    assert_eq!(hint.map(|h| h.source), Some(HintSource::Body));
    assert_eq!(hint.map(|h| h.wait), body);
    let hint = read([("retry-after", "5")], body, now());
    assert_eq!(hint.map(|h| h.source), Some(HintSource::RetryAfter));
    let limits = [
        ("x-ratelimit-remaining-requests", "0"),
        ("x-ratelimit-reset-requests", "50s"),
    ];
    let hint = read(limits, body, now());
    assert_eq!(hint.map(|h| h.source), Some(HintSource::Body));
}

#[test]
fn an_exhausted_limit_tells_by_its_reset() {
    for (value, expected) in [
        ("20ms", MS(20)),
        ("1s", MS(1_000)),
        ("6m0s", MS(360_000)),
        ("7.66s", MS(7_660)),
        ("12", MS(12_000)),
        ("-1", None),
        ("0", None),
        ("0s", None),
        ("soon", None),
    ] {
        let headers = [
            ("x-ratelimit-limit-requests", "60"),
            ("x-ratelimit-remaining-requests", "0"),
            ("x-ratelimit-reset-requests", value),
        ];
        assert_eq!(wait(&headers), expected, "{value}");
    }
}

#[test]
fn anthropic_resets_are_dates() {
    for family in ["anthropic-ratelimit", "anthropic-priority"] {
        for (reset, expected) in [
            ("2026-11-23T10:00:30Z", MS(30_000)),
            ("2026-11-23T11:00:30+01:00", MS(30_000)),
            ("2026-11-23T09:00:00Z", None),
        ] {
            let names = ["remaining", "reset"].map(|p| format!("{family}-input-tokens-{p}"));
            let headers = [(names[0].as_str(), "0"), (names[1].as_str(), reset)];
            assert_eq!(wait(&headers), expected, "{family} {reset}");
        }
    }
}

/// The wait must outlast every limit that is used up, and no limit that is not.
#[test]
fn the_longest_reset_among_exhausted_limits_counts() {
    let headers = [
        ("X-RateLimit-Remaining-Requests", "0"),
        ("x-ratelimit-reset-requests", "3s"),
        ("x-ratelimit-remaining-tokens", "0"),
        ("X-RATELIMIT-RESET-TOKENS", "8s"),
        ("x-ratelimit-remaining-project-tokens", "149984"),
        ("x-ratelimit-reset-project-tokens", "6m0s"),
    ];
    assert_eq!(
        read_at_now(&headers),
        Some(Hint {
            wait: Duration::from_secs(8),
            source: HintSource::RateLimitReset
        })
    );
}

#[test]
fn a_reset_without_an_exhausted_limit_of_the_same_name_says_nothing() {
    for headers in [
        &[("x-ratelimit-reset-requests", "3s")][..],
        &[
            ("x-ratelimit-remaining-tokens", "0"),
            ("x-ratelimit-reset-requests", "3s"),
        ],
        &[
            ("anthropic-priority-input-tokens-remaining", "0"),
            (
                "anthropic-ratelimit-input-tokens-reset",
                "2026-11-23T10:00:30Z",
            ),
        ],
        &[
            ("x-ratelimit-remaining-requests", "-1"),
            ("x-ratelimit-reset-requests", "3s"),
        ],
        // Epochs, in milliseconds or seconds according to the vendor.
        &[
            ("x-ratelimit-remaining", "0"),
            ("x-ratelimit-reset", "1795428030000"),
        ],
    ] {
        assert_eq!(wait(headers), None, "{headers:?}");
    }
}

#[test]
fn only_a_reset_is_not_binding() {
    for (source, binding) in [
        (HintSource::RetryAfterMs, true),
        (HintSource::RetryAfter, true),
        (HintSource::Body, true),
        (HintSource::RateLimitReset, false),
    ] {
        assert_eq!(source.is_binding(), binding, "{}", source.as_str());
    }
}

#[test]
fn go_durations() {
    for (text, expected) in [
        ("1h2m3.5s", MS(3_723_500)),
        ("1d", MS(86_400_000)),
        ("150us", Some(Duration::from_micros(150))),
        ("150µs", Some(Duration::from_micros(150))),
        ("150μs", Some(Duration::from_micros(150))),
        ("90ns", Some(Duration::from_nanos(90))),
        (" 37s ", MS(37_000)),
        ("0s", MS(0)),
        ("99999999999999999999h", FOREVER),
        ("99999999999999999999h99999999999999999999h", FOREVER),
        ("", None),
        ("s", None),
        ("5", None),
        ("5.s.", None),
        ("5x", None),
        ("5ss", None),
        ("-5s", None),
        ("5s5", None),
        ("1.5.5s", None),
        ("5 s", None),
    ] {
        assert_eq!(formats::go_duration(text), expected, "{text:?}");
    }
}

#[test]
fn rfc3339_reads_what_the_standard_allows_and_nothing_else() {
    let at = |seconds: u64, ms: u64| {
        Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds) + Duration::from_millis(ms))
    };
    for (text, expected) in [
        ("1970-01-01T00:00:00Z", at(0, 0)),
        ("2025-08-21T12:40:59Z", at(1_755_780_059, 0)),
        ("2025-08-21t12:40:59z", at(1_755_780_059, 0)),
        ("2025-08-21T12:40:59.250Z", at(1_755_780_059, 250)),
        ("2025-08-21T14:40:59+02:00", at(1_755_780_059, 0)),
        ("2025-08-21T03:10:59-09:30", at(1_755_780_059, 0)),
        ("2000-02-29T00:00:00Z", at(951_782_400, 0)),
        ("2016-12-31T23:59:60Z", at(1_483_228_800, 0)),
        ("1969-12-31T23:59:59Z", at(0, 0)),
        ("0000-01-01T00:00:00Z", at(0, 0)),
        ("9999-12-31T23:59:59Z", at(253_402_300_799, 0)),
        ("2025-02-29T00:00:00Z", None),
        ("1900-02-29T00:00:00Z", None),
        ("2025-13-01T00:00:00Z", None),
        ("2025-00-01T00:00:00Z", None),
        ("2025-08-00T00:00:00Z", None),
        ("2025-08-32T00:00:00Z", None),
        ("2025-08-21T24:00:00Z", None),
        ("2025-08-21T12:60:00Z", None),
        ("2025-08-21T12:40:61Z", None),
        ("2025-08-21T12:40:59", None),
        ("2025-08-21T12:40:59.Z", None),
        ("2025-08-21T12:40:59.1.2Z", None),
        ("2025-08-21T12:40Z", None),
        ("2025-08-21T12:40:59:00Z", None),
        ("2025-08-21 12:40:59Z", None),
        ("2025-08-21", None),
        ("2025-08-21-01T12:40:59Z", None),
        ("25-08-21T12:40:59Z", None),
        ("2025-8-21T12:40:59Z", None),
        ("2025-08-21T12:40:59Zjunk", None),
        ("2025-08-21T12:40:59+2:00", None),
        ("2025-08-21T12:40:59+0200", None),
        ("2025-08-21T12:40:59+24:00", None),
        ("2025-08-21T12:40:59+00:60", None),
        ("+025-08-21T12:40:59Z", None),
        ("", None),
    ] {
        assert_eq!(formats::rfc3339(text), expected, "{text:?}");
    }
}

/// A header name that may or may not be one of those that are read.
fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        "retry-after(-ms)?",
        "(x-ratelimit-(reset|remaining)|anthropic-ratelimit)-(requests|tokens)(-reset|-remaining)?",
        "\\PC{0,40}",
    ]
}

proptest! {
    /// The calendar arithmetic against that of a crate that only writes dates.
    #[test]
    fn rfc3339_agrees_with_httpdate_on_every_day(seconds in 0..253_402_300_800_u64) {
        let moment = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let written = httpdate::fmt_http_date(moment);
        let parts: Vec<_> = written.split([' ', ',']).filter(|p| !p.is_empty()).collect();
        let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
        let month = months.iter().position(|m| *m == parts[2]).map(|m| m + 1).unwrap_or_default();
        let rfc3339 = format!("{}-{month:02}-{}T{}Z", parts[3], parts[1], parts[4]);
        prop_assert_eq!(formats::rfc3339(&rfc3339), Some(moment));
    }

    #[test]
    fn whatever_a_server_sends_is_read_without_panic(
        headers in prop::collection::vec((name(), "\\PC{0,60}"), 0..12),
        seconds in 0..4_102_444_800_u64,
    ) {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let headers = headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let _ = read(headers, None, now);
    }

    #[test]
    fn numbers_are_read_as_they_are(whole in 1..10_000_000_u64, ms in 0..1_000_u64) {
        let text = format!("{whole}.{ms:03}");
        let expected = Duration::from_millis(whole * 1_000 + ms);
        let found = wait(&[("retry-after", &text)]).unwrap_or_default();
        prop_assert!(found.abs_diff(expected) < Duration::from_micros(1));
    }

    #[test]
    fn dates_are_counted_from_now(ahead in 1..100_000_000_u64) {
        let date = httpdate::fmt_http_date(now() + Duration::from_secs(ahead));
        prop_assert_eq!(wait(&[("retry-after", &date)]), Some(Duration::from_secs(ahead)));
    }

    #[test]
    fn a_longer_second_header_never_shortens_the_wait(a in 1..100_000_u64, b in 1..100_000_u64) {
        let (a, b) = (a.to_string(), b.to_string());
        let both = wait(&[("retry-after", &a), ("retry-after", &b)]);
        prop_assert!(both >= wait(&[("retry-after", &a)]));
        prop_assert!(both >= wait(&[("retry-after", &b)]));
    }
}

use std::time::Duration;

use proptest::prelude::*;

use super::*;

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

#[test]
fn durations_are_read() {
    for (text, expected) in [
        ("0", 0),
        ("0s", 0),
        ("250ms", 250),
        ("2s", 2_000),
        ("10m", 600_000),
        ("1h", 3_600_000),
        ("1d", 86_400_000),
        ("1m30s", 90_000),
        ("1h1m1s1ms", 3_661_001),
        ("1.5s", 1_500),
        ("0.25s", 250),
        ("1.50m", 90_000),
        ("90s", 90_000),
        ("365d", 31_536_000_000),
    ] {
        assert_eq!(parse_duration(text), Ok(ms(expected)), "{text}");
    }
}

#[test]
fn what_is_no_duration_says_why() {
    use DurationError::{Form, NoUnit, TooFine, TooLong};
    for (text, expected) in [
        ("", Form),
        ("s", Form),
        ("soon", Form),
        ("-1s", Form),
        ("+1s", Form),
        ("1 s", Form),
        ("1x", Form),
        ("1S", Form),
        ("1us", Form),
        (".5s", Form),
        ("1.s", Form),
        ("1s ", Form),
        ("١s", Form),
        ("5", NoUnit),
        ("1m30", NoUnit),
        ("1.5", NoUnit),
        ("0.5ms", TooFine),
        ("0.0001s", TooFine),
        ("366d", TooLong),
        ("99999999999999999999s", TooLong),
        ("9999999999d", TooLong),
    ] {
        assert_eq!(parse_duration(text), Err(expected), "{text}");
    }
}

#[test]
fn durations_print_shortly() {
    for (duration, expected) in [
        (0, "0s"),
        (250, "250ms"),
        (1_500, "1s500ms"),
        (60_000, "1m"),
        (90_000, "1m30s"),
        (86_400_000, "24h"),
    ] {
        assert_eq!(display_duration(ms(duration)).to_string(), expected);
    }
}

#[test]
fn sizes_are_read() {
    for (text, expected) in [
        ("0", 0),
        ("1B", 1),
        ("64KiB", 65_536),
        ("4MiB", 4 << 20),
        ("1.5GiB", 3 << 29),
        ("1KB", 1_000),
        ("1MB", 1_000_000),
        ("2GB", 2_000_000_000),
        ("0.5KB", 500),
        ("1024GiB", 1 << 40),
    ] {
        assert_eq!(parse_size(text), Ok(expected), "{text}");
    }
}

#[test]
fn what_is_no_size_says_why() {
    use SizeError::{Form, NoUnit, TooFine, TooLarge};
    for (text, expected) in [
        ("", Form),
        ("MiB", Form),
        ("-1B", Form),
        ("1 KiB", Form),
        ("1kib", Form),
        ("1K", Form),
        ("1TiB", Form),
        ("1B1B", Form),
        ("4096", NoUnit),
        ("0.5B", TooFine),
        ("1025GiB", TooLarge),
        ("99999999999999999999B", TooLarge),
    ] {
        assert_eq!(parse_size(text), Err(expected), "{text}");
    }
}

#[test]
fn rates_are_read() {
    for (text, count, per) in [
        ("5/s", 5, 1),
        ("5/sec", 5, 1),
        ("5/second", 5, 1),
        ("60/min", 60, 60),
        ("60/m", 60, 60),
        ("60/minute", 60, 60),
        ("1000/h", 1_000, 3_600),
        ("1000/hour", 1_000, 3_600),
        ("1/d", 1, 86_400),
        ("1/day", 1, 86_400),
        ("10/30s", 10, 30),
        ("10/1m30s", 10, 90),
        ("60 / min", 60, 60),
        ("200000/min", 200_000, 60),
    ] {
        assert_eq!(
            text.parse(),
            Ok(Rate {
                count,
                per: Duration::from_secs(per)
            }),
            "{text}"
        );
    }
}

#[test]
fn what_is_no_rate_says_why() {
    use RateError::{Form, Period, TooLarge, Zero};
    for (text, expected) in [
        ("", Form),
        ("60", Form),
        ("/min", Form),
        ("60/", Form),
        ("60/month", Form),
        ("-1/s", Form),
        ("1.5/s", Form),
        ("1/s/s", Form),
        ("1e3/s", Form),
        ("0/min", Zero),
        ("1/0s", Period),
        ("1/25h", Period),
        ("1000000000001/s", TooLarge),
        ("99999999999999999999/s", TooLarge),
    ] {
        assert_eq!(text.parse::<Rate>(), Err(expected), "{text}");
    }
}

proptest! {
    #[test]
    fn durations_print_and_are_read_back(millis in prop_oneof![0..=5_000_u64, 0..=31_536_000_000_u64]) {
        let text = display_duration(ms(millis)).to_string();
        prop_assert_eq!(parse_duration(&text), Ok(ms(millis)), "{}", text);
    }

    #[test]
    fn sizes_print_and_are_read_back(bytes in prop_oneof![0..=5_000_usize, 0..=(1_usize << 40)], unit in prop::sample::select(vec![1, 1 << 10, 1 << 20, 1 << 30])) {
        let bytes = bytes / unit * unit;
        let text = display_size(bytes).to_string();
        prop_assert_eq!(parse_size(&text), Ok(bytes), "{}", text);
    }

    #[test]
    fn rates_print_and_are_read_back(count in 1..=1_000_000_000_000_u64, millis in prop_oneof![1..=86_400_000_u64, prop::sample::select(vec![1_000, 60_000, 3_600_000, 86_400_000])]) {
        let rate = Rate { count, per: ms(millis) };
        let text = rate.to_string();
        prop_assert_eq!(text.parse(), Ok(rate), "{}", text);
    }

    #[test]
    fn any_text_is_taken(text in "[0-9.]{0,22}[a-zA-Z/ é]{0,4}[0-9.]{0,3}[a-z]{0,2}") {
        let _ = parse_duration(&text);
        let _ = parse_size(&text);
        let _ = text.parse::<Rate>();
    }
}

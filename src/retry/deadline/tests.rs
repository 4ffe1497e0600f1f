use proptest::prelude::*;

use super::*;

fn budget(headers: &[(&str, &str)]) -> Option<(Duration, BudgetSource)> {
    caller_budget(headers.iter().copied()).map(|found| (found.limit, found.source))
}

#[test]
fn each_header_in_its_unit() {
    let table = [
        (
            "x-surgetank-timeout-ms",
            "1500",
            1_500,
            BudgetSource::OwnHeader,
        ),
        (
            "X-SurgeTank-Timeout-Ms",
            " 1500 ",
            1_500,
            BudgetSource::OwnHeader,
        ),
        (
            "x-stainless-timeout",
            "600",
            600_000,
            BudgetSource::SdkTimeout,
        ),
        (
            "x-stainless-read-timeout",
            "8.0",
            8_000,
            BudgetSource::SdkReadTimeout,
        ),
        (
            "X-Stainless-Read-Timeout",
            "5e-1",
            500,
            BudgetSource::SdkReadTimeout,
        ),
    ];
    for (name, value, ms, source) in table {
        let expected = Some((Duration::from_millis(ms), source));
        assert_eq!(budget(&[(name, value)]), expected, "{name}: {value}");
    }
}

#[test]
fn what_is_no_positive_number_is_absent() {
    let values = [
        "NOT_GIVEN",
        "None",
        "null",
        "",
        " ",
        "0",
        "0.0",
        "-1",
        "-0.0",
        "NaN",
        "inf",
        "-inf",
        "Infinity",
        "1e309",
        "5s",
        "5 s",
        "0x10",
        "1,5",
        "1e-12",
    ];
    for value in values {
        for name in [
            "x-surgetank-timeout-ms",
            "x-stainless-timeout",
            "x-stainless-read-timeout",
        ] {
            assert_eq!(budget(&[(name, value)]), None, "{name}: {value:?}");
        }
    }
}

#[test]
fn an_absurd_limit_is_bounded() {
    for value in ["86401", "1e300", "99999999999999999999"] {
        let found = budget(&[("x-stainless-timeout", value)]);
        assert_eq!(found.map(|(limit, _)| limit), Some(LONGEST), "{value}");
    }
}

#[test]
fn our_own_header_goes_first_and_otherwise_the_shortest() {
    let seconds = Duration::from_secs;
    assert_eq!(
        budget(&[
            ("x-stainless-timeout", "1"),
            ("x-surgetank-timeout-ms", "9000"),
            ("x-surgetank-timeout-ms", "5000"),
        ]),
        Some((seconds(5), BudgetSource::OwnHeader))
    );
    assert_eq!(
        budget(&[
            ("x-stainless-timeout", "600"),
            ("x-stainless-read-timeout", "8"),
            ("x-stainless-timeout", "NOT_GIVEN"),
        ]),
        Some((seconds(8), BudgetSource::SdkReadTimeout))
    );
    // An unusable one of ours does not silence the SDK.
    assert_eq!(
        budget(&[
            ("x-surgetank-timeout-ms", "soon"),
            ("x-stainless-timeout", "7")
        ]),
        Some((seconds(7), BudgetSource::SdkTimeout))
    );
}

#[test]
fn only_our_own_header_bounds_the_whole_answer() {
    assert!(BudgetSource::OwnHeader.bounds_whole_answer());
    assert!(!BudgetSource::SdkTimeout.bounds_whole_answer());
    assert!(!BudgetSource::SdkReadTimeout.bounds_whole_answer());
}

#[test]
fn the_answer_leaves_before_the_limit() {
    for (limit_ms, within_ms) in [
        (600_000, 599_500),
        (10_000, 9_800),
        (500, 490),
        (100, 90),
        (10, 5),
    ] {
        let budget = Budget {
            limit: Duration::from_millis(limit_ms),
            source: BudgetSource::OwnHeader,
        };
        assert_eq!(budget.answer_within(), Duration::from_millis(within_ms));
    }
}

proptest! {
    #[test]
    fn any_value_gives_a_bounded_budget_or_none(value in "\\PC{0,30}", number: f64) {
        for value in [value, number.to_string()] {
            if let Some((limit, _)) = budget(&[("x-stainless-timeout", &value)]) {
                prop_assert!(!limit.is_zero() && limit <= LONGEST);
            }
        }
    }
}

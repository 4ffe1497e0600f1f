use super::*;

/// The columns of [`TABLE`]: no signal, then every signal.
const COLUMNS: [Option<Signal>; 15] = [
    None,
    Some(Signal::RateLimited),
    Some(Signal::Overloaded),
    Some(Signal::ServerError),
    Some(Signal::Timeout),
    Some(Signal::Exhausted),
    Some(Signal::TooLarge),
    Some(Signal::Busy),
    Some(Signal::ContextTooLong),
    Some(Signal::ContentFiltered),
    Some(Signal::Invalid),
    Some(Signal::Authentication),
    Some(Signal::Permission),
    Some(Signal::NotFound),
    Some(Signal::Unknown),
];

/// Statuses, whether there is a readable `Retry-After`, and a letter for each column:
/// `T`hrottled, `O`verloaded, `F`aulty, e`X`hausted, `R`efused, `r`efused but worth a wait, `S`erved.
#[rustfmt::skip]
const TABLE: &[(&[u16], &[bool], &str)] = &[
    //                              none rate over serv time exha larg busy cont filt inva auth perm notf unkn
    (&[101, 200, 201, 204, 206, 301, 304, 308], &[false, true],
                                   "S    T    O    F    F    X    R    r    R    R    R    R    R    R    F"),
    (&[400, 401, 403, 404, 405, 406, 407, 410, 411, 412, 414, 415, 416, 417, 418, 421, 422, 423, 424,
       425, 426, 428, 431, 440, 444, 451, 460, 499], &[false, true],
                                   "R    T    O    R    r    X    R    r    R    R    R    R    R    R    R"),
    (&[402], &[false, true],       "X    X    X    X    X    X    X    X    X    X    X    X    X    X    X"),
    (&[408], &[false, true],       "F    T    O    F    F    X    R    F    R    R    F    F    F    F    F"),
    (&[409], &[false, true],       "r    T    O    r    r    X    R    r    R    R    r    r    r    r    r"),
    (&[413], &[false, true],       "R    R    R    R    R    X    R    R    R    R    R    R    R    R    R"),
    (&[429], &[false, true],       "T    T    T    T    T    X    R    T    R    R    T    T    T    T    T"),
    (&[501, 505, 506, 508, 510, 511], &[false, true],
                                   "R    T    O    R    R    X    R    R    R    R    R    R    R    R    R"),
    (&[503], &[false],             "O    T    O    O    O    X    R    O    R    R    O    O    O    O    O"),
    (&[503], &[true],              "T    T    T    T    T    X    R    T    R    R    T    T    T    T    T"),
    (&[529], &[false, true],       "O    T    O    O    O    X    R    O    R    R    O    O    O    O    O"),
    (&[500, 502, 504, 507, 509, 520, 521, 522, 523, 524, 525, 526, 527, 530, 598, 599, 600, 999],
      &[false, true],              "F    T    O    F    F    X    R    F    R    R    F    F    F    F    F"),
];

fn expectation(letter: &str) -> (Class, bool) {
    match letter {
        "T" => (Class::Throttled, true),
        "O" => (Class::Overloaded, true),
        "F" => (Class::Faulty, true),
        "X" => (Class::Exhausted, false),
        "R" => (Class::Refused, false),
        "r" => (Class::Refused, true),
        "S" => (Class::Served, false),
        other => panic!("The table has no meaning for the letter {other:?}."),
    }
}

fn answered(status: u16, has_retry_after: bool, signal: Option<Signal>) -> Outcome {
    Outcome::Answered {
        status,
        has_retry_after,
        should_retry: None,
        signal,
    }
}

fn with_should_retry(status: u16, signal: Option<Signal>, should_retry: bool) -> Verdict {
    triage(&Outcome::Answered {
        status,
        has_retry_after: false,
        should_retry: Some(should_retry),
        signal,
    })
}

#[test]
fn every_status_with_every_signal() {
    for (statuses, hints, letters) in TABLE {
        let letters: Vec<_> = letters.split_whitespace().collect();
        assert_eq!(letters.len(), COLUMNS.len(), "{statuses:?}");
        for &status in *statuses {
            for &hint in *hints {
                for (&signal, letter) in COLUMNS.iter().zip(&letters) {
                    let verdict = triage(&answered(status, hint, signal));
                    let (class, retryable) = expectation(letter);
                    let cell = format!("status {status}, hint {hint}, signal {signal:?}");
                    assert_eq!(verdict.class, class, "{cell}");
                    assert_eq!(verdict.retryable, retryable, "{cell}");
                    assert_eq!(verdict.delivery, Delivery::Answered, "{cell}");
                    assert!(!verdict.immediate, "{cell}");
                }
            }
        }
    }
}

/// Statuses that nobody has registered behave like their hundred, as RFC 9110 §15 asks.
#[test]
fn an_unlisted_status_behaves_like_its_hundred() {
    let listed = |status| {
        TABLE
            .iter()
            .any(|(statuses, ..)| statuses.contains(&status))
    };
    for status in (100..=999).filter(|&status| !listed(status)) {
        let like = match status {
            ..400 => 200,
            400..500 => 400,
            _ => 500,
        };
        for signal in COLUMNS {
            assert_eq!(
                triage(&answered(status, false, signal)),
                triage(&answered(like, false, signal)),
                "status {status}, signal {signal:?}"
            );
        }
    }
}

#[test]
fn an_error_event_in_a_stream_is_triaged_like_an_error_in_a_success() {
    for signal in COLUMNS.into_iter().flatten() {
        assert_eq!(
            triage(&Outcome::StreamError { signal }),
            triage(&answered(200, false, Some(signal))),
            "{signal:?}"
        );
    }
}

#[test]
fn should_retry_true_makes_any_error_status_retryable_and_keeps_its_class() {
    for status in 400..=999 {
        for signal in COLUMNS {
            let plain = triage(&answered(status, false, signal));
            let told = with_should_retry(status, signal, true);
            assert_eq!(told.class, plain.class, "{status} {signal:?}");
            assert_eq!(
                told.retryable,
                plain.class != Class::Exhausted,
                "{status} {signal:?}"
            );
        }
    }
}

#[test]
fn should_retry_true_means_nothing_below_400() {
    for signal in COLUMNS {
        assert_eq!(
            with_should_retry(200, signal, true),
            triage(&answered(200, false, signal)),
            "{signal:?}"
        );
    }
}

#[test]
fn should_retry_false_stops_retries_of_anything() {
    for status in 100..=999 {
        for signal in COLUMNS {
            let told = with_should_retry(status, signal, false);
            assert!(!told.retryable, "{status} {signal:?}");
            assert_eq!(told.class, triage(&answered(status, false, signal)).class);
        }
    }
}

#[test]
fn should_retry_is_read_to_the_letter() {
    for (value, expected) in [
        ("true", Some(true)),
        ("false", Some(false)),
        ("TRUE", None),
        ("1", None),
        (" true", None),
        ("", None),
    ] {
        assert_eq!(should_retry(value), expected, "{value:?}");
    }
}

#[test]
fn every_transport_failure() {
    use Delivery::{Never, Unknown};
    let table = [
        (Transport::Dns, Class::Unsent, Never, true),
        (Transport::Connect, Class::Unsent, Never, true),
        (Transport::Tls, Class::Unsent, Never, true),
        (Transport::ClosedBeforeWrite, Class::Unsent, Never, true),
        (Transport::RefusedByProtocol, Class::Unsent, Never, true),
        (
            Transport::ReusedConnectionClosed,
            Class::Unsent,
            Unknown,
            true,
        ),
        (Transport::Reset, Class::Faulty, Unknown, false),
        (Transport::FirstByteTimeout, Class::Faulty, Unknown, false),
        (Transport::Malformed, Class::Faulty, Unknown, false),
        (Transport::BodyCut, Class::Faulty, Unknown, false),
        (Transport::BodyStalled, Class::Faulty, Unknown, false),
    ];
    for (transport, class, delivery, immediate) in table {
        let expected = Verdict {
            class,
            retryable: true,
            delivery,
            immediate,
            signal: None,
        };
        assert_eq!(
            triage(&Outcome::Transport(transport)),
            expected,
            "{transport:?}"
        );
    }
}

#[test]
fn what_the_caller_has_begun_to_read_or_has_left_is_never_retried() {
    for (outcome, class) in [
        (Outcome::BrokenOff, Class::Broken),
        (Outcome::CallerLeft, Class::Abandoned),
    ] {
        let verdict = triage(&outcome);
        assert_eq!(verdict.class, class);
        assert!(!verdict.retryable);
    }
}

#[test]
fn names_are_distinct_and_fit_a_metric_label() {
    let names: std::collections::BTreeSet<_> = Class::ALL.iter().map(|c| c.as_str()).collect();
    assert_eq!(names.len(), Class::ALL.len());
    for name in names {
        assert!(name.bytes().all(|b| b.is_ascii_lowercase()), "{name}");
    }
}

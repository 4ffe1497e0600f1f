use proptest::prelude::*;
use rand::{SeedableRng as _, rngs::StdRng};

use super::*;
use crate::retry::triage::{Outcome, Signal, Transport, triage};
use crate::retry::tries::MAX_RETRIES;

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn answered(status: u16) -> Verdict {
    triage(&Outcome::Answered {
        status,
        has_retry_after: false,
        should_retry: None,
        signal: None,
    })
}

fn failed(transport: Transport) -> Verdict {
    triage(&Outcome::Transport(transport))
}

fn hint(wait: Duration) -> Hint {
    Hint {
        wait,
        source: HintSource::RetryAfter,
    }
}

/// A POST that met a 500, with everything in its favour.
fn situation() -> Situation {
    Situation {
        verdict: answered(500),
        hint: None,
        tries: Tries::new(3),
        attempts_left: 8,
        replayable: true,
        idempotent: false,
        patience_left: secs(60),
        deadline_left: None,
    }
}

fn plan(policy: &Policy, situation: &Situation) -> Plan {
    policy.plan(situation, &mut StdRng::seed_from_u64(1))
}

fn stops(situation: &Situation) -> Option<StopReason> {
    stops_under(&Policy::default(), situation)
}

fn stops_under(policy: &Policy, situation: &Situation) -> Option<StopReason> {
    match plan(policy, situation) {
        Plan::Stop(reason) => Some(reason),
        Plan::RetryAfter { .. } => None,
    }
}

fn waits(situation: &Situation) -> Option<(Duration, WaitCause)> {
    match plan(&Policy::default(), situation) {
        Plan::RetryAfter { wait, cause } => Some((wait, cause)),
        Plan::Stop(_) => None,
    }
}

/// The promise of the documentation, from the first try to the last.
#[test]
fn three_retries_after_two_four_and_eight_seconds_and_then_the_end() {
    let mut rng = StdRng::seed_from_u64(3);
    let mut now = situation();
    for floor in [2, 4, 8] {
        let plan = Policy::default().plan(&now, &mut rng);
        let Plan::RetryAfter { wait, cause } = plan else {
            panic!("{plan:?} instead of a wait of {floor} s");
        };
        assert_eq!(cause, WaitCause::Backoff);
        assert!((secs(floor)..=secs(floor + 2)).contains(&wait), "{wait:?}");
        now.tries.note(&plan);
        now.patience_left -= wait;
    }
    assert_eq!(stops(&now), Some(StopReason::Attempts));
    assert_eq!(now.tries.attempts(), 4);
    assert_eq!(now.tries.counted(), 3);
}

#[test]
fn without_jitter_the_waits_are_exact() {
    let mut policy = Policy::default();
    policy.backoff.jitter = Duration::ZERO;
    for (told, expected) in [
        (None, 2),
        (Some(hint(secs(1))), 2),
        (Some(hint(secs(9))), 9),
    ] {
        let now = Situation {
            hint: told,
            ..situation()
        };
        let Plan::RetryAfter { wait, .. } = plan(&policy, &now) else {
            panic!("no retry with {told:?}");
        };
        assert_eq!(wait, secs(expected));
    }
}

#[test]
fn what_cannot_succeed_is_not_tried() {
    let exhausted = triage(&Outcome::StreamError {
        signal: Signal::Exhausted,
    });
    for (verdict, reason) in [
        (answered(400), StopReason::NotRetryable),
        (answered(402), StopReason::NotRetryable),
        (answered(200), StopReason::NotRetryable),
        (exhausted, StopReason::NotRetryable),
        (triage(&Outcome::CallerLeft), StopReason::NotRetryable),
        (triage(&Outcome::BrokenOff), StopReason::Committed),
    ] {
        let now = Situation {
            verdict,
            ..situation()
        };
        assert_eq!(stops(&now), Some(reason), "{verdict:?}");
    }
}

#[test]
fn a_verdict_may_be_retryable_although_its_class_is_not() {
    let now = Situation {
        verdict: answered(409),
        ..situation()
    };
    assert!(!now.verdict.class.is_retryable());
    assert_eq!(stops(&now), None);
}

#[test]
fn a_body_that_is_gone_is_not_sent_again() {
    let now = Situation {
        replayable: false,
        ..situation()
    };
    assert_eq!(stops(&now), Some(StopReason::BodyNotReplayable));
}

#[test]
fn the_post_policy_over_what_is_known_of_delivery() {
    let table = [
        (PostPolicy::Always, [true, true, true, true]),
        (PostPolicy::Answered, [true, true, false, false]),
        (PostPolicy::Unsent, [true, false, false, false]),
    ];
    let verdicts = [
        failed(Transport::Connect),
        answered(503),
        failed(Transport::ReusedConnectionClosed),
        failed(Transport::FirstByteTimeout),
    ];
    for (post, allowed) in table {
        let policy = Policy {
            post,
            ..Policy::default()
        };
        for (verdict, allowed) in verdicts.into_iter().zip(allowed) {
            let mut now = Situation {
                verdict,
                ..situation()
            };
            let expected = (!allowed).then_some(StopReason::PostPolicy);
            assert_eq!(stops_under(&policy, &now), expected, "{post:?} {verdict:?}");
            now.idempotent = true;
            assert_eq!(stops_under(&policy, &now), None, "{post:?} {verdict:?}");
        }
    }
}

#[test]
fn methods_that_are_idempotent() {
    for method in ["GET", "HEAD", "OPTIONS", "PUT", "DELETE"] {
        assert!(is_idempotent(method), "{method}");
    }
    for method in ["POST", "PATCH", "get", "QUERY?", ""] {
        assert!(!is_idempotent(method), "{method}");
    }
}

#[test]
fn the_first_failure_that_a_new_connection_cures_is_retried_at_once_and_free() {
    for transport in [Transport::Connect, Transport::ReusedConnectionClosed] {
        let mut now = Situation {
            verdict: failed(transport),
            ..situation()
        };
        let first = plan(&Policy::default(), &now);
        let at_once = Plan::RetryAfter {
            wait: Duration::ZERO,
            cause: WaitCause::Immediate,
        };
        assert_eq!(first, at_once, "{transport:?}");
        now.tries.note(&first);
        assert_eq!(now.tries.counted(), 0);
        assert_eq!(now.tries.attempts(), 2);

        let (wait, cause) = waits(&now).expect("the counted retries are left");
        assert_eq!(cause, WaitCause::Backoff);
        assert!(wait >= secs(2), "{wait:?}");
    }
}

#[test]
fn who_allows_no_retries_gets_the_free_one_only_if_nobody_saw_the_request() {
    let mut now = Situation {
        verdict: failed(Transport::Connect),
        tries: Tries::new(0),
        ..situation()
    };
    assert_eq!(waits(&now), Some((Duration::ZERO, WaitCause::Immediate)));
    now.verdict = failed(Transport::ReusedConnectionClosed);
    assert_eq!(stops(&now), Some(StopReason::Attempts));
}

#[test]
fn the_free_retry_needs_no_patience_but_a_deadline_that_is_not_over() {
    let mut now = Situation {
        verdict: failed(Transport::Connect),
        patience_left: Duration::ZERO,
        deadline_left: Some(SHORTEST_TRY),
        ..situation()
    };
    assert_eq!(waits(&now), Some((Duration::ZERO, WaitCause::Immediate)));
    now.deadline_left = Some(Duration::from_millis(9));
    assert_eq!(stops(&now), Some(StopReason::Deadline));
}

#[test]
fn a_hint_later_than_the_backoff_decides() {
    let now = Situation {
        hint: Some(hint(secs(20))),
        ..situation()
    };
    let (wait, cause) = waits(&now).expect("20 s is within the patience");
    assert_eq!(cause, WaitCause::Hint(HintSource::RetryAfter));
    assert_eq!(cause.as_str(), "retry_after");
    assert!((secs(20)..=secs(30)).contains(&wait), "{wait:?}");
}

#[test]
fn a_hint_earlier_than_the_backoff_does_not_shorten_it() {
    for told in [Duration::ZERO, secs(1)] {
        let now = Situation {
            hint: Some(hint(told)),
            ..situation()
        };
        let (wait, cause) = waits(&now).expect("a short hint stops nothing");
        assert_eq!(cause, WaitCause::Backoff);
        assert!((secs(2)..=secs(4)).contains(&wait), "{wait:?}");
    }
}

#[test]
fn a_binding_hint_over_the_cap_stops_and_a_reset_over_it_is_ignored() {
    for (source, expected) in [
        (HintSource::RetryAfterMs, Some(StopReason::HintTooLong)),
        (HintSource::RetryAfter, Some(StopReason::HintTooLong)),
        (HintSource::Body, Some(StopReason::HintTooLong)),
        (HintSource::RateLimitReset, None),
    ] {
        for wait in [secs(60) + Duration::from_nanos(1), Duration::MAX] {
            let now = Situation {
                hint: Some(Hint { wait, source }),
                patience_left: Duration::MAX,
                ..situation()
            };
            assert_eq!(stops(&now), expected, "{source:?} {wait:?}");
        }
    }
    let at_cap = Situation {
        hint: Some(hint(secs(60))),
        patience_left: secs(90),
        ..situation()
    };
    assert_eq!(stops(&at_cap), None);
}

#[test]
fn a_wait_that_does_not_fit_stops_now_and_names_the_tighter_bound() {
    use StopReason::{Deadline, Patience};
    for (patience, deadline, expected) in [
        (60, None, None),
        (1, None, Some(Patience)),
        (60, Some(1), Some(Deadline)),
        (1, Some(60), Some(Patience)),
        (0, Some(1), Some(Patience)),
        (1, Some(0), Some(Deadline)),
        (3, Some(3), None),
    ] {
        let now = Situation {
            patience_left: secs(patience),
            deadline_left: deadline.map(secs),
            ..situation()
        };
        assert_eq!(stops(&now), expected, "{patience} {deadline:?}");
    }
}

#[test]
fn stop_reasons_have_distinct_names() {
    let reasons = [
        StopReason::NotRetryable,
        StopReason::Committed,
        StopReason::BodyNotReplayable,
        StopReason::PostPolicy,
        StopReason::Attempts,
        StopReason::HintTooLong,
        StopReason::Patience,
        StopReason::Deadline,
    ];
    let names: std::collections::BTreeSet<_> = reasons.iter().map(|r| r.as_str()).collect();
    assert_eq!(names.len(), reasons.len());
}

fn tries_used(allowed: u32, counted: u32, free_used: bool) -> Tries {
    let mut tries = Tries::new(allowed);
    let retry = |cause| Plan::RetryAfter {
        wait: Duration::ZERO,
        cause,
    };
    if free_used {
        tries.note(&retry(WaitCause::Immediate));
    }
    for _ in 0..counted {
        tries.note(&retry(WaitCause::Backoff));
    }
    tries
}

fn any_outcome() -> impl Strategy<Value = Outcome> {
    let signals = prop::sample::select(vec![
        None,
        Some(Signal::RateLimited),
        Some(Signal::Overloaded),
        Some(Signal::Exhausted),
        Some(Signal::Busy),
        Some(Signal::Invalid),
    ]);
    let transports = prop::sample::select(vec![
        Transport::Connect,
        Transport::ReusedConnectionClosed,
        Transport::Reset,
        Transport::BodyCut,
    ]);
    prop_oneof![
        (400..600_u16, any::<bool>(), any::<Option<bool>>(), signals).prop_map(
            |(status, has_retry_after, should_retry, signal)| Outcome::Answered {
                status,
                has_retry_after,
                should_retry,
                signal
            }
        ),
        transports.prop_map(Outcome::Transport),
        Just(Outcome::BrokenOff),
    ]
}

fn any_hint() -> impl Strategy<Value = Option<Hint>> {
    let sources = prop::sample::select(vec![
        HintSource::RetryAfterMs,
        HintSource::RetryAfter,
        HintSource::Body,
        HintSource::RateLimitReset,
    ]);
    let wait = prop_oneof![
        (0..90_000_u64).prop_map(Duration::from_millis),
        any::<Duration>()
    ];
    prop::option::of((wait, sources).prop_map(|(wait, source)| Hint { wait, source }))
}

fn any_situation() -> impl Strategy<Value = Situation> {
    let ms = |range: std::ops::Range<u64>| range.prop_map(Duration::from_millis);
    (
        any_outcome(),
        any_hint(),
        (0..12_u32, 0..12_u32, any::<bool>()),
        any::<(bool, bool)>(),
        ms(0..120_000),
        prop::option::of(ms(0..120_000)),
    )
        .prop_map(
            |(
                outcome,
                hint,
                (allowed, counted, free_used),
                (replayable, idempotent),
                patience_left,
                deadline_left,
            )| {
                Situation {
                    verdict: triage(&outcome),
                    hint,
                    tries: tries_used(allowed, counted, free_used),
                    attempts_left: 8,
                    replayable,
                    idempotent,
                    patience_left,
                    deadline_left,
                }
            },
        )
}

fn any_policy() -> impl Strategy<Value = Policy> {
    let post = prop::sample::select(vec![
        PostPolicy::Always,
        PostPolicy::Answered,
        PostPolicy::Unsent,
    ]);
    (post, 0..90_u64, 0..5_000_u64).prop_map(|(post, cap, jitter)| Policy {
        post,
        hint_cap: secs(cap),
        backoff: Backoff {
            jitter: Duration::from_millis(jitter),
            ..Backoff::default()
        },
        ..Policy::default()
    })
}

proptest! {
    #[test]
    fn no_wait_ends_before_the_servers_hint_or_after_the_callers_time(
        policy in any_policy(), now in any_situation(), seed: u64,
    ) {
        let plan = policy.plan(&now, &mut StdRng::seed_from_u64(seed));
        if let Plan::RetryAfter { wait, cause } = plan {
            prop_assert!(wait <= now.patience_left);
            if let Some(left) = now.deadline_left {
                prop_assert!(wait + SHORTEST_TRY <= left);
            }
            if cause != WaitCause::Immediate {
                prop_assert!(wait >= policy.backoff.window(now.tries.counted()).floor);
                if let Some(hint) = now.hint
                    && (hint.source.is_binding() || hint.wait <= policy.hint_cap)
                {
                    prop_assert!(wait >= hint.wait);
                }
            }
        }
    }

    #[test]
    fn nothing_is_retried_against_an_objection(
        policy in any_policy(), now in any_situation(), seed: u64,
    ) {
        let plan = policy.plan(&now, &mut StdRng::seed_from_u64(seed));
        if let Plan::RetryAfter { cause, .. } = plan {
            prop_assert!(now.verdict.retryable && now.replayable);
            prop_assert!(now.idempotent || policy.post.allows(now.verdict.delivery));
            if cause == WaitCause::Immediate {
                prop_assert!(!now.tries.is_free_used());
            } else {
                prop_assert!(now.tries.counted() < now.tries.allowed());
            }
        }
    }

    /// Whatever happens, the tries of one request are bounded: the first, the free and the allowed.
    #[test]
    fn every_request_comes_to_an_end(
        outcomes in prop::collection::vec((any_outcome(), any_hint()), 20),
        allowed in 0..=MAX_RETRIES, seed: u64,
    ) {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut tries = Tries::new(allowed);
        for (outcome, hint) in outcomes {
            let now = Situation {
                verdict: triage(&outcome),
                hint,
                tries,
                attempts_left: 8,
                replayable: true,
                idempotent: true,
                patience_left: Duration::MAX,
                deadline_left: None,
            };
            let plan = Policy::default().plan(&now, &mut rng);
            if matches!(plan, Plan::Stop(_)) {
                break;
            }
            tries.note(&plan);
        }
        prop_assert!(tries.attempts() <= 2 + allowed);
    }
}

#[test]
fn the_cap_on_all_attempts_ends_a_request_that_has_retries_left() {
    let spent = Situation {
        attempts_left: 0,
        ..situation()
    };
    assert_eq!(stops(&spent), Some(StopReason::Attempts));
    // The free retry is an attempt as well.
    let unsent = Situation {
        verdict: failed(Transport::Connect),
        ..spent
    };
    assert_eq!(stops(&unsent), Some(StopReason::Attempts));
    let last = Situation {
        attempts_left: 1,
        ..situation()
    };
    assert_eq!(stops(&last), None);
}

use std::time::Duration;

use proptest::prelude::*;

use super::*;

#[test]
fn a_full_quota_allows_a_burst_of_ten_retries_of_failures() {
    let (now, mut quota) = (Instant::now(), RetryQuota::new(140));
    let burst = std::iter::from_fn(|| quota.withdraw(now, RetryClass::Failure)).count();
    assert_eq!(burst, 10);
    assert!(quota.withdraw(now, RetryClass::Throttle).is_none());
    assert!(
        quota
            .withdraw(now + Duration::from_secs(5), RetryClass::Throttle)
            .is_some(),
        "five seconds, five tokens"
    );
}

#[test]
fn a_served_retry_returns_its_cost_and_a_first_try_earns_one() {
    let (now, mut quota) = (Instant::now(), RetryQuota::new(140));
    let token = quota.withdraw(now, RetryClass::Failure);
    assert!((quota.tokens() - 126.0).abs() < 1e-9);
    quota.on_served(None);
    assert!((quota.tokens() - 127.0).abs() < 1e-9);
    quota.on_served(token);
    assert!(
        (quota.tokens() - 140.0).abs() < 1e-9,
        "never above the capacity"
    );
}

#[test]
fn time_that_runs_backwards_earns_nothing() {
    let (now, mut quota) = (Instant::now() + Duration::from_mins(1), RetryQuota::new(5));
    assert!(quota.withdraw(now, RetryClass::Throttle).is_some());
    assert!(
        quota
            .withdraw(now - Duration::from_secs(30), RetryClass::Throttle)
            .is_none()
    );
    assert!(
        quota
            .withdraw(now + Duration::from_secs(4), RetryClass::Throttle)
            .is_none()
    );
    assert!(
        quota
            .withdraw(now + Duration::from_secs(5), RetryClass::Throttle)
            .is_some()
    );
}

#[derive(Debug, Clone)]
enum Step {
    Retry(RetryClass),
    ServedFirst,
    ServedRetry,
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => prop_oneof![Just(RetryClass::Failure), Just(RetryClass::Overload), Just(RetryClass::Throttle), Just(RetryClass::Unsent)]
            .prop_map(Step::Retry),
        1 => Just(Step::ServedFirst),
        1 => Just(Step::ServedRetry),
        1 => (0u64..3_000).prop_map(Step::Pass),
    ]
}

proptest! {
    #[test]
    fn what_is_spent_never_exceeds_what_was_given(steps in prop::collection::vec(step(), 0..400)) {
        let (mut now, mut quota) = (Instant::now(), RetryQuota::new(140));
        let (mut spent, mut given) = (0.0, 140.0);
        let mut out = Vec::new();
        for step in steps {
            match step {
                Step::Retry(class) => if let Some(token) = quota.withdraw(now, class) {
                    spent += f64::from(token.class.cost());
                    out.push(token);
                },
                Step::ServedFirst => { quota.on_served(None); given += 1.0; }
                Step::ServedRetry => if let Some(token) = out.pop() {
                    quota.on_served(Some(token));
                    given += f64::from(token.class.cost());
                },
                Step::Pass(ms) => {
                    now += Duration::from_millis(ms);
                    given += Duration::from_millis(ms).as_secs_f64();
                }
            }
            prop_assert!(spent <= given + 1e-6, "spent {spent} of {given}");
            prop_assert!((0.0..=140.0).contains(&quota.tokens()));
        }
    }
}

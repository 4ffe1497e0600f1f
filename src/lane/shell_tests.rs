use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::FutureExt;
use futures_util::future::join_all;
use rand::RngExt;
use tokio::time::{advance, sleep, timeout};

use super::super::outcome::RefuseReason;
use super::*;

const PATIENCE: Duration = Duration::from_mins(1);
const THROTTLED: Outcome = Outcome::Throttled {
    hint: Some(Duration::from_secs(5)),
};

fn lane(window_max: u32) -> Arc<Lane> {
    let window_initial = window_max;
    let settings = LaneSettings {
        window_initial,
        window_max,
        ..LaneSettings::default()
    };
    Arc::new(Lane::new(settings, Label::shared()))
}

fn request(user: u64) -> Request {
    Request {
        user: UserKey(user),
        retry: None,
        patience_until: Instant::now() + PATIENCE,
        deadline: None,
        cost: 1,
        priority: Priority::Live,
    }
}

fn is_empty(lane: &Lane) -> bool {
    let inner = lane.lock();
    inner.core.is_idle() && inner.is_empty()
}

#[tokio::test(start_paused = true)]
async fn a_healthy_lane_never_waits_and_sets_no_alarm() {
    let lane = lane(8);
    let permit = lane
        .admit(request(1))
        .now_or_never()
        .expect("at once")
        .expect("admitted");
    assert_eq!(
        (permit.waited(), permit.is_probe()),
        (Duration::ZERO, false)
    );
    permit.report(Outcome::Served, &[]);
    assert_eq!(lane.snapshot().live, 1, "until the body ends");
    drop(permit);
    assert!(is_empty(&lane));
}

#[tokio::test(start_paused = true)]
async fn one_refusal_holds_all_and_one_probe_lets_them_go() {
    let lane = lane(8);
    let permit = lane.admit(request(0)).await.expect("admitted");
    permit.report(THROTTLED, &[]);
    drop(permit);
    let began = Instant::now();
    let out = AtomicUsize::new(0);
    let calls = (1..6).map(|user| {
        let (lane, out) = (Arc::clone(&lane), &out);
        async move {
            let permit = lane.admit(request(user)).await.expect("admitted");
            assert!(
                began.elapsed() >= Duration::from_secs(5),
                "no earlier than told"
            );
            let before = out.fetch_add(1, Ordering::SeqCst);
            assert_eq!(
                permit.is_probe(),
                before == 0,
                "the first is the probe, the others are not"
            );
            // While the probe is out nobody else leaves.
            sleep(Duration::from_millis(500)).await;
            assert!(before > 0 || out.load(Ordering::SeqCst) == 1);
            permit.report(Outcome::Served, &[]);
            drop(permit);
        }
    });
    join_all(calls).await;
    assert!(is_empty(&lane));
}

#[tokio::test(start_paused = true)]
async fn patience_ends_at_its_moment() {
    let lane = lane(1);
    let _held = lane.admit(request(1)).await.expect("admitted");
    let began = Instant::now();
    let refused = lane
        .admit(request(2))
        .await
        .expect_err("the window never opens");
    assert_eq!(refused.reason, RefuseReason::Patience);
    let waited = began.elapsed();
    assert!(
        waited >= PATIENCE && waited < PATIENCE + Duration::from_millis(5),
        "{waited:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn the_one_who_sleeps_for_all_may_leave() {
    let lane = lane(8);
    let permit = lane.admit(request(0)).await.expect("admitted");
    permit.report(THROTTLED, &[]);
    drop(permit);
    let mut driver = Box::pin(lane.admit(request(1)));
    assert!((&mut driver).now_or_never().is_none());
    let others = tokio::spawn({
        let lane = Arc::clone(&lane);
        async move { lane.admit(request(2)).await.map(|permit| permit.waited()) }
    });
    tokio::task::yield_now().await;
    drop(driver);
    let waited = timeout(Duration::from_secs(20), others)
        .await
        .expect("the other is woken")
        .expect("no panic");
    assert!(waited.expect("admitted") >= Duration::from_secs(5));
    assert!(is_empty(&lane));
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_is_not_taken_goes_to_the_next() {
    let lane = lane(1);
    let held = lane.admit(request(1)).await.expect("admitted");
    held.report(Outcome::Served, &[]);
    let mut first = Box::pin(lane.admit(request(2)));
    let mut second = Box::pin(lane.admit(request(3)));
    assert!((&mut first).now_or_never().is_none());
    assert!((&mut second).now_or_never().is_none());
    drop(held);
    assert_eq!(
        lane.snapshot().waiting,
        1,
        "the first was released, and does not know yet"
    );
    drop(first);
    let permit = second.now_or_never().expect("its turn").expect("admitted");
    assert_eq!(
        lane.snapshot().counters.sent_first,
        2,
        "what was not sent does not count"
    );
    drop(permit);
    assert!(is_empty(&lane));
}

#[tokio::test(start_paused = true)]
async fn a_right_to_retry_returns_when_it_is_not_used() {
    let lane = lane(1);
    let full = lane.snapshot().retry_tokens;
    drop(lane.may_retry(RetryClass::Failure).expect("plenty"));
    assert!((lane.snapshot().retry_tokens - full).abs() < 1e-9);
    let _held = lane.admit(request(1)).await.expect("admitted");
    let retry = lane.may_retry(RetryClass::Failure);
    let mut waiting = Box::pin(lane.admit(Request {
        retry,
        ..request(2)
    }));
    assert!((&mut waiting).now_or_never().is_none());
    assert!(lane.snapshot().retry_tokens < full);
    drop(waiting);
    assert!((lane.snapshot().retry_tokens - full).abs() < 1e-9);
}

#[tokio::test(start_paused = true)]
async fn a_panic_gives_the_permit_back() {
    let lane = lane(1);
    let task = tokio::spawn({
        let lane = Arc::clone(&lane);
        async move {
            let _permit = lane.admit(request(1)).await.expect("admitted");
            panic!("on purpose");
        }
    });
    assert!(task.await.is_err());
    assert!(is_empty(&lane));
}

#[tokio::test(start_paused = true)]
async fn draining_wakes_everybody() {
    let lane = lane(1);
    let _held = lane.admit(request(1)).await.expect("admitted");
    let mut waiting = Box::pin(lane.admit(request(2)));
    assert!((&mut waiting).now_or_never().is_none());
    lane.drain();
    let refused = waiting
        .now_or_never()
        .expect("at once")
        .expect_err("the lane is closing");
    assert_eq!(refused.reason, RefuseReason::Draining);
}

/// Three hundred callers, of whom many leave or panic at any moment, against an upstream that refuses and fails.
#[tokio::test(start_paused = true)]
async fn permits_equal_live_bodies_however_callers_leave() {
    let lane = lane(4);
    let bodies = AtomicUsize::new(0);
    let calls = (0..300u64).map(|caller| {
        let (lane, bodies) = (Arc::clone(&lane), &bodies);
        async move {
            sleep(Duration::from_millis(rand::rng().random_range(0..60_000))).await;
            let call = async {
                let Ok(permit) = lane.admit(request(caller % 7)).await else {
                    return;
                };
                bodies.fetch_add(1, Ordering::SeqCst);
                let _body = End(bodies);
                assert!(bodies.load(Ordering::SeqCst) <= 5, "four, and a probe");
                sleep(Duration::from_millis(200)).await;
                let outcome = match caller % 10 {
                    0 => Outcome::Throttled { hint: None },
                    1 => Outcome::Faulty { timed_out: false },
                    _ => Outcome::Served,
                };
                permit.report(outcome, &[]);
                assert!(caller % 10 != 2, "a panic on purpose, beside its permit");
                sleep(Duration::from_secs(2)).await;
                drop(permit);
            };
            let patience = Duration::from_millis(rand::rng().random_range(0..20_000));
            let _ = AssertUnwindSafe(timeout(patience, call))
                .catch_unwind()
                .await;
        }
    });
    let mut looks = 0;
    // Everybody moves at whole milliseconds; between them all is at rest.
    sleep(Duration::from_micros(500)).await;
    let look = async {
        loop {
            assert_eq!(lane.snapshot().live, bodies.load(Ordering::SeqCst));
            looks += 1;
            sleep(Duration::from_millis(7)).await;
        }
    };
    tokio::select! {
        _ = join_all(calls) => {}
        () = look => {}
    }
    assert!(looks > 1_000);
    assert_eq!(bodies.load(Ordering::SeqCst), 0);
    assert!(is_empty(&lane));
}

/// The lane lets somebody go in time, and its task is woken too late.
#[tokio::test(start_paused = true)]
async fn who_is_woken_too_late_is_not_sent() {
    let lane = lane(1);
    let full = lane.snapshot().retry_tokens;
    let held = lane.admit(request(1)).await.expect("admitted");
    let hasty = Request {
        deadline: Some(Instant::now() + Duration::from_secs(3)),
        retry: lane.may_retry(RetryClass::Failure),
        ..request(2)
    };
    let mut hasty = Box::pin(lane.admit(hasty));
    let mut patient = Box::pin(lane.admit(request(3)));
    assert!((&mut hasty).now_or_never().is_none());
    assert!((&mut patient).now_or_never().is_none());
    drop(held);
    assert_eq!(lane.snapshot().waiting, 1, "the hasty one may go");
    advance(Duration::from_secs(3)).await;
    let refused = hasty
        .now_or_never()
        .expect("decided")
        .expect_err("its time is over");
    assert_eq!(refused.reason, RefuseReason::Deadline);
    let patient = patient.now_or_never().expect("at once").expect("its turn");
    drop(patient);
    let snapshot = lane.snapshot();
    assert_eq!(snapshot.counters.sent_retry, 0);
    assert!(
        (snapshot.retry_tokens - full).abs() < 1e-9,
        "the right to retry is back"
    );
    assert!(is_empty(&lane));
}

struct End<'a>(&'a AtomicUsize);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Waiters on four current-thread runtimes share two places: whoever frees one wakes the next, on whatever runtime.
#[test]
fn callers_on_different_runtimes_wake_each_other() {
    let lane = lane(2);
    let served = Arc::new(AtomicUsize::new(0));
    let threads: Vec<_> = (0..4u64)
        .map(|user| {
            let (lane, served) = (Arc::clone(&lane), Arc::clone(&served));
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_time()
                    .build()
                    .expect("a runtime");
                runtime.block_on(join_all((0..50).map(|_| async {
                    let permit = lane.admit(request(user)).await.expect("patience is long");
                    permit.report(Outcome::Served, &[]);
                    tokio::task::yield_now().await;
                    drop(permit);
                    served.fetch_add(1, Ordering::SeqCst);
                })));
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("no panic");
    }
    assert_eq!(served.load(Ordering::SeqCst), 200);
    assert!(is_empty(&lane));
}

#[tokio::test(start_paused = true)]
async fn an_alarm_set_for_later_is_moved_forward_by_a_newcomer() {
    let lane = lane(1);
    let held = lane.admit(request(1)).await.expect("admitted");
    // Its fate is known, so that the only alarm is the end of somebody's patience.
    held.report(Outcome::Served, &[]);
    let patient = tokio::spawn({
        let lane = Arc::clone(&lane);
        async move { lane.admit(request(2)).await.map(|_| ()) }
    });
    tokio::task::yield_now().await;
    advance(Duration::from_millis(10)).await;
    let hasty = Request {
        patience_until: Instant::now() + Duration::from_secs(1),
        ..request(3)
    };
    let began = Instant::now();
    let refused = lane
        .admit(hasty)
        .await
        .map(|_| ())
        .expect_err("the window never opens");
    assert_eq!(refused.reason, RefuseReason::Patience);
    assert!(
        began.elapsed() < Duration::from_secs(2),
        "{:?}",
        began.elapsed()
    );
    assert!(!patient.is_finished());
}

//! The shell under the runtime it may meet: many threads, callers who leave at any poll, panics beside permits.

use std::sync::atomic::{AtomicUsize, Ordering};

use rand::RngExt;
use tokio::time::{sleep, timeout};

use super::super::{priority::Priority, snapshot::Counters};
use super::*;

/// Far beyond what it takes: only a wake-up that is lost ends here.
const STUCK: Duration = Duration::from_secs(120);
/// Lanes, one after the other: each is met while it knows nothing, and slows down for good at what it is told. As many
/// as it takes until enough was seen, which is luck, but never more than these.
const LANES: usize = 100;
const CALLERS: u64 = 48;
const CALLS: usize = 8;

/// Bodies that are alive, counted from outside.
struct Body(Arc<AtomicUsize>);

impl Body {
    fn begin(live: &Arc<AtomicUsize>) -> Self {
        live.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(live))
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A roll of `sides`.
fn roll(sides: u32) -> u32 {
    rand::rng().random_range(0..sides)
}

fn outcome() -> Outcome {
    let hint = (roll(2) == 0).then(|| Duration::from_millis(u64::from(roll(5))));
    match roll(12) {
        0 => Outcome::Throttled { hint },
        1 => Outcome::Overloaded { hint },
        2 => Outcome::Faulty {
            timed_out: roll(2) == 0,
        },
        3 => Outcome::ConnectFailed,
        4 => Outcome::Abandoned,
        _ => Outcome::Served,
    }
}

/// One call; what it does is drawn. A panic on purpose is the caller's affair.
async fn call(lane: Arc<Lane>, user: u64, live: Arc<AtomicUsize>) {
    let until = Instant::now() + Duration::from_millis(u64::from(roll(400)));
    let request = Request {
        user: UserKey(user % 7),
        retry: lane
            .may_retry(RetryClass::Throttle)
            .filter(|_| roll(4) == 0),
        patience_until: until,
        deadline: (roll(3) == 0).then_some(until),
        cost: 1,
        priority: if roll(5) == 0 {
            Priority::Background
        } else {
            Priority::Live
        },
    };
    let Ok(permit) = lane.admit(request).await else {
        return;
    };
    let _body = Body::begin(&live);
    if roll(3) == 0 {
        tokio::task::yield_now().await;
    }
    if roll(8) > 0 {
        permit.report(outcome(), &[]);
    }
    assert!(roll(20) > 0, "a panic on purpose, beside a permit");
    if roll(2) == 0 {
        sleep(Duration::from_millis(u64::from(roll(4)))).await;
    }
}

async fn caller(lane: Arc<Lane>, user: u64, live: Arc<AtomicUsize>) {
    for _ in 0..CALLS {
        let task = tokio::spawn(call(Arc::clone(&lane), user, Arc::clone(&live)));
        match roll(4) {
            // It leaves in whatever phase it is: before its first poll, in the queue, released and not yet woken.
            0 => task.abort(),
            1 => {
                sleep(Duration::from_micros(u64::from(roll(3_000)))).await;
                task.abort();
            }
            _ => drop(task.await),
        }
    }
}

/// Puts one lane under stress; what it has counted.
fn stress(runtime: &tokio::runtime::Runtime) -> Counters {
    let settings = LaneSettings {
        window_initial: 3,
        window_max: 4,
        // Pauses of milliseconds, so that thousands of them happen.
        tempo: 0.005,
        ..LaneSettings::default()
    };
    let lane = Arc::new(Lane::new(settings, Label::shared()));
    let live = Arc::new(AtomicUsize::new(0));
    // Panics are meant, and their backtraces are noise; they are counted by what they leave behind.
    runtime.block_on(async {
        let callers =
            (0..CALLERS).map(|user| tokio::spawn(caller(Arc::clone(&lane), user, live.clone())));
        let callers: Vec<_> = callers.collect();
        let all = futures_util::future::join_all(callers);
        let ended = timeout(STUCK, all).await;
        let ended =
            ended.unwrap_or_else(|_| panic!("somebody waits for ever: {:?}", lane.snapshot()));
        assert!(ended.iter().all(Result::is_ok));
        // Those who were told to leave do so at their next poll.
        let at_rest = async {
            while live.load(Ordering::SeqCst) > 0 || !lane.is_idle() {
                sleep(Duration::from_millis(1)).await;
            }
        };
        let rests = timeout(STUCK, at_rest).await;
        assert!(
            rests.is_ok(),
            "something is left behind: {:?}",
            lane.snapshot()
        );
    });
    let snapshot = lane.snapshot();
    assert!(lane.lock().is_empty(), "a seat is left behind");
    assert_eq!((snapshot.live, snapshot.waiting), (0, 0));
    snapshot.counters
}

#[test]
fn nobody_is_forgotten_and_nothing_is_left_behind_on_many_threads() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .enable_time()
        .build()
        .expect("a runtime");
    let mut seen = Counters::default();
    for _ in 0..LANES {
        let counters = stress(&runtime);
        seen.sent_first += counters.sent_first;
        seen.gate_closings += counters.gate_closings;
        seen.cancelled += counters.cancelled;
        if seen.sent_first > 100 && seen.gate_closings > 10 && seen.cancelled > 100 {
            return;
        }
    }
    panic!("nothing was shown: {seen:?}");
}

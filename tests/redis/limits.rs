//! Limits that several instances share: places come back, nothing is settled twice, and instances count each other.

use std::{sync::Arc, time::Duration};

use surgetank::{
    config::Store,
    limit::{
        identity::UserKey,
        plan::{Limit, Plan, Scope, Unit},
    },
    store::{
        limits::{Answer, Asked, Ending, Entry, PlanPrint, SharedLimits as _},
        redis::{Redis, limits::RedisLimits},
    },
    telemetry::Metrics,
};
use tokio::time::Instant;

use super::server::{PATIENCE, Server};

pub(crate) use surgetank::store::redis::limits::Times;

/// What one instance has of a shared store.
pub(crate) struct Instance {
    pub(crate) limits: RedisLimits,
    pub(crate) metrics: Arc<Metrics>,
}

impl Instance {
    pub(crate) fn start(store: &Store, times: Times) -> Self {
        let metrics = Arc::new(Metrics::new().expect("no name twice"));
        let redis = Redis::start(store, metrics.clone()).expect("a sound address");
        Self {
            limits: RedisLimits::start(redis, &metrics, times, store.replicas),
            metrics,
        }
    }

    async fn admit(&self, asked: &Asked) -> Answer {
        self.limits
            .admit(asked.clone())
            .await
            .expect("the server answers")
    }
}

/// Leases that lapse within a test.
const SHORT: Times = Times {
    lease: Duration::from_millis(1_000),
    renew: Duration::from_millis(200),
};

fn asked(limits: &[Limit], concurrent: Option<u32>, tokens: u64) -> Asked {
    let plan = Plan::new(Scope::User, limits, concurrent).expect("sound rates");
    Asked {
        entries: vec![Entry {
            user: Some(UserKey::from_source("test", b"ann")),
            print: PlanPrint::of("", &plan, None),
            plan: Arc::new(plan),
        }],
        tokens,
    }
}

/// Tokens that are hardly regained within a test.
fn tokens(count: u64) -> Limit {
    Limit {
        unit: Unit::Tokens,
        count,
        per: Duration::from_secs(86_400),
        burst: count,
    }
}

fn left(asked: &Asked, answer: &Answer) -> u64 {
    let rule = &asked.entries[0].plan.rules()[0].rule;
    rule.quota(answer.states[0].tats[0], answer.now).remaining
}

async fn until(what: &str, met: impl AsyncFn() -> bool) {
    let began = Instant::now();
    while !met().await {
        assert!(began.elapsed() < PATIENCE, "{what}: not yet");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn places_are_one_number_for_all_instances_and_come_back_when_requests_end() {
    let server = Server::start().await;
    let (one, two) = (
        Instance::start(&server.store(), SHORT),
        Instance::start(&server.store(), SHORT),
    );
    let asked = asked(&[], Some(2), 0);
    let first = one.admit(&asked).await;
    let second = two.admit(&asked).await;
    assert_eq!((first.states[0].live, second.states[0].live), (1, 2));
    for instance in [&one, &two] {
        let third = instance.admit(&asked).await;
        assert!(!third.is_admitted && third.lease.is_none());
    }
    // Longer than a lease: what runs is renewed.
    tokio::time::sleep(SHORT.lease + SHORT.renew * 2).await;
    assert!(!one.admit(&asked).await.is_admitted);
    one.limits
        .settle(first.lease.expect("it is to be settled"), Ending::Used(0));
    one.limits.settled().await;
    let third = two.admit(&asked).await;
    assert!(third.is_admitted);
    assert!(!two.admit(&asked).await.is_admitted);
}

#[tokio::test]
async fn the_places_of_an_instance_that_died_come_back() {
    let server = Server::start().await;
    let (dying, living) = (
        Instance::start(&server.store(), SHORT),
        Instance::start(&server.store(), SHORT),
    );
    let asked = asked(&[], Some(1), 0);
    let held = dying.admit(&asked).await;
    assert!(held.is_admitted);
    // Nothing is told on the way out, as by a process that was killed.
    drop(dying);
    assert!(
        !living.admit(&asked).await.is_admitted,
        "the lease has not lapsed"
    );
    until("the place is free", async || {
        living.admit(&asked).await.is_admitted
    })
    .await;
    drop(held);
}

#[tokio::test]
async fn a_server_that_has_forgotten_everything_learns_again_what_runs() {
    let mut server = Server::start().await;
    let one = Instance::start(&server.store(), SHORT);
    let asked = asked(&[], Some(1), 0);
    let held = one.admit(&asked).await;
    assert!(held.is_admitted);
    server.kill();
    server.back().await;
    let key = &format!("{}:c", rates_key(&asked));
    until("the place is held again", async || {
        server.cli(&["ZCARD", key]) == "1"
    })
    .await;
    until("the store is used again", async || {
        one.limits.admit(asked.clone()).await.is_ok()
    })
    .await;
    assert!(!one.admit(&asked).await.is_admitted);
}

fn rates_key(asked: &Asked) -> String {
    let entry = &asked.entries[0];
    let user = entry.user.expect("a user's").hex();
    format!("surgetank:{{{user}}}:{}", entry.print)
}

#[tokio::test]
async fn tokens_are_settled_once_however_often_it_is_tried() {
    let server = Server::start().await;
    let one = Instance::start(&server.store(), Times::default());
    let asked = asked(&[tokens(1_000)], None, 100);
    let (first, second) = (one.admit(&asked).await, one.admit(&asked).await);
    assert_eq!(left(&asked, &second), 800);
    one.limits
        .settle(first.lease.expect("tokens are settled"), Ending::Used(30));
    one.limits
        .settle(second.lease.expect("tokens are settled"), Ending::Used(500));
    one.limits.settled().await;
    let third = one.admit(&asked).await;
    assert_eq!(left(&asked, &third), 370, "1000 - 30 - 500 - 100");
    // A lease that is settled again, as after an answer that came late, changes nothing.
    let lease = third.lease.expect("tokens are settled");
    let again = surgetank::store::limits::Lease(lease.0);
    one.limits.settle(lease, Ending::Undone);
    one.limits.settle(again, Ending::Undone);
    one.limits.settled().await;
    assert_eq!(
        left(&asked, &one.admit(&asked).await),
        370,
        "100 back, 100 taken"
    );
    assert_eq!(one.metrics.limiter_unsettled.get(), 0);
}

#[tokio::test]
async fn what_ended_during_an_outage_is_settled_behind_it() {
    let server = Server::start().await;
    let one = Instance::start(&server.store(), Times::default());
    let asked = asked(&[tokens(1_000)], None, 100);
    let first = one.admit(&asked).await;
    server.freeze();
    one.limits
        .settle(first.lease.expect("tokens are settled"), Ending::Used(40));
    // A request whose answer comes too late gives everything back, though the server may still decide on it.
    assert!(one.limits.admit(asked.clone()).await.is_err());
    tokio::time::sleep(Duration::from_millis(500)).await;
    server.thaw();
    tokio::time::timeout(PATIENCE, one.limits.settled())
        .await
        .expect("all is told");
    until("the store is used again", async || {
        one.limits.admit(asked.clone()).await.is_ok()
    })
    .await;
    let told = server.cli(&["ZCARD", &format!("{}:c", rates_key(&asked))]);
    assert_eq!(told, "1", "only the last one runs");
    let answer = one.admit(&asked).await;
    assert_eq!(left(&asked, &answer), 1_000 - 40 - 2 * 100);
}

#[tokio::test]
async fn a_caller_that_leaves_while_it_is_decided_on_holds_nothing() {
    let server = Server::start().await;
    let slow = super::slow::Slow::before(server.address()).await;
    let one = Instance::start(&Store::at(slow.url()), Times::default());
    let asked = asked(&[tokens(1_000)], Some(1), 100);
    let settled = one.admit(&asked).await.lease.expect("a place");
    one.limits.settle(settled, Ending::Undone);
    one.limits.settled().await;
    slow.delay(Duration::from_millis(30));
    let leaving = tokio::time::timeout(Duration::from_millis(5), one.limits.admit(asked.clone()));
    assert!(leaving.await.is_err(), "the answer was on its way");
    one.limits.settled().await;
    let answer = one.admit(&asked).await;
    assert!(answer.is_admitted, "the place is free");
    assert_eq!(left(&asked, &answer), 900);
}

#[tokio::test]
async fn nothing_is_kept_for_longer_than_it_says_something() {
    let server = Server::start().await;
    let one = Instance::start(&server.store(), SHORT);
    let rate = Limit {
        unit: Unit::Requests,
        count: 100,
        per: Duration::from_secs(1),
        burst: 10,
    };
    let asked = asked(&[rate], Some(4), 0);
    let lease = one.admit(&asked).await.lease.expect("a place");
    let key = rates_key(&asked);
    let ttl = |key: &str| server.cli(&["PTTL", key]).parse::<i64>().expect("a number");
    assert!((1..=1_010).contains(&ttl(&key)), "{}", ttl(&key));
    assert!(ttl(&format!("{key}:c")) > 0);
    one.limits.settle(lease, Ending::Used(0));
    one.limits.settled().await;
    until("only the instance is left", async || {
        server.cli(&["DBSIZE"]) == "1"
    })
    .await;
    drop(one);
    until("nothing is left", async || server.cli(&["DBSIZE"]) == "0").await;
}

#[tokio::test]
async fn instances_count_each_other() {
    let server = Server::start().await;
    let all: Vec<_> = (0..4)
        .map(|_| Instance::start(&server.store(), SHORT))
        .collect();
    until("four are seen", async || {
        all.iter().all(|one| one.limits.instances() == 4)
    })
    .await;
    let mut all = all.into_iter();
    let (first, second) = (all.next().expect("four"), all.next().expect("four"));
    drop(all);
    until("two are seen", async || first.limits.instances() == 2).await;
    server.freeze();
    tokio::time::sleep(SHORT.lease).await;
    assert_eq!(second.limits.instances(), 2, "the last that was known");
    server.thaw();
    let told = Store {
        replicas: Some(9),
        ..server.store()
    };
    assert_eq!(Instance::start(&told, SHORT).limits.instances(), 9);
}

#[tokio::test]
async fn what_a_queued_request_has_used_is_charged_once_and_counts_as_nothing_running() {
    let server = Server::start().await;
    let (here, there) = (
        Instance::start(&server.store(), SHORT),
        Instance::start(&server.store(), SHORT),
    );
    let asked = asked(&[tokens(1_000)], Some(1), 0);
    let used = |tokens| Asked {
        tokens,
        ..asked.clone()
    };
    here.limits.charge(used(300));
    there.limits.charge(used(50));
    here.limits.settled().await;
    there.limits.settled().await;
    let answer = there.admit(&asked).await;
    assert!(answer.is_admitted, "a charge is no running request");
    assert_eq!((left(&asked, &answer), answer.states[0].live), (650, 1));
    there
        .limits
        .settle(answer.lease.expect("it is running"), Ending::Used(0));
    // More than there is: a debt, and the next that costs anything waits for it.
    here.limits.charge(used(900));
    here.limits.settled().await;
    assert!(!there.admit(&used(1)).await.is_admitted);
    assert_eq!(here.metrics.limiter_unsettled.get(), 0);
}

#[tokio::test]
async fn marks_of_charges_that_are_over_are_cleared_away() {
    let server = Server::start().await;
    let here = Instance::start(&server.store(), SHORT);
    // Nothing counts what runs, so no admission looks at the marks.
    let asked = asked(&[tokens(1_000)], None, 0);
    let charge = async || {
        here.limits.charge(Asked {
            tokens: 1,
            ..asked.clone()
        });
        here.limits.settled().await;
    };
    charge().await;
    let keys = server.cli(&["--scan"]);
    let mut keys = keys.lines();
    let marks = keys.find(|key| server.cli(&["type", key]).trim() == "zset");
    let marks = marks.expect("the charge has left a mark");
    server.cli(&["zadd", marks, "1", "long-over"]);
    charge().await;
    assert_eq!(server.cli(&["zcard", marks]).trim(), "2");
    assert_eq!(server.cli(&["zscore", marks, "long-over"]).trim(), "");
}

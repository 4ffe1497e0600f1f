//! Four instances admit what one would, however hard one user tries.
//!
//! `SHARED_LIMIT_SECONDS=30 tests/run redis` makes them try for longer.

use std::{sync::Arc, time::Duration};

use surgetank::{
    limit::{
        identity::UserKey,
        plan::{Limit, Plan, Scope, Unit},
    },
    store::limits::{Asked, Entry, PlanPrint, SharedLimits as _},
};
use tokio::{task::JoinSet, time::Instant};

use super::{
    harness::{Caller, Request, Tongue, soon},
    limits::{Instance, Times},
    replicas::{Replicas, left, of},
    server::Server,
};

/// How long it is tried.
fn seconds() -> u64 {
    let told = std::env::var("SHARED_LIMIT_SECONDS");
    told.map_or(4, |told| {
        told.parse()
            .expect("SHARED_LIMIT_SECONDS is a number of seconds")
    })
}

fn asked(user: &str, limit: Limit) -> Asked {
    let plan = Plan::new(Scope::User, &[limit], None).expect("a sound rate");
    Asked {
        entries: vec![Entry {
            user: Some(UserKey::from_source("test", user.as_bytes())),
            print: PlanPrint::of("", &plan, None),
            plan: Arc::new(plan),
        }],
        tokens: 0,
    }
}

/// The moments of the server at which a user was admitted who asks every `pause` on each of ten tasks, and how often it
/// was refused.
async fn ask(
    instance: Arc<Instance>,
    asked: Asked,
    tasks: u32,
    pause: Duration,
    until: Instant,
) -> (Vec<u64>, u64) {
    let mut asking = JoinSet::new();
    for task in 0..tasks {
        let (instance, asked) = (instance.clone(), asked.clone());
        asking.spawn(async move {
            let (mut admitted, mut refused) = (Vec::new(), 0);
            tokio::time::sleep(pause * task / tasks).await;
            let mut next = Instant::now();
            while Instant::now() < until {
                let answer = instance
                    .limits
                    .admit(asked.clone())
                    .await
                    .expect("the server answers");
                if answer.is_admitted {
                    admitted.push(answer.now);
                } else {
                    refused += 1;
                }
                next += pause;
                tokio::time::sleep_until(next).await;
            }
            (admitted, refused)
        });
    }
    asking
        .join_all()
        .await
        .into_iter()
        .fold((Vec::new(), 0), |mut all, (admitted, refused)| {
            all.0.extend(admitted);
            (all.0, all.1 + refused)
        })
}

/// By the moments at which the server decided: exact, whatever the machine does meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_window_has_more_than_the_limit_and_the_whole_has_all_of_it() {
    let store = Server::start().await;
    let settings = surgetank::config::Store {
        timeout: Duration::from_secs(10),
        ..store.store()
    };
    let (count, burst) = (100, 50);
    let limit = Limit {
        unit: Unit::Requests,
        count,
        per: Duration::from_secs(1),
        burst,
    };
    let instances: Vec<_> = (0..4)
        .map(|_| Arc::new(Instance::start(&settings, Times::default())))
        .collect();
    let until = Instant::now() + Duration::from_secs(seconds());
    let mut asking = JoinSet::new();
    for instance in &instances {
        // 250 a second on each of four: ten times the limit. And a user who keeps to its own, half of it.
        let greedy = ask(
            instance.clone(),
            asked("greedy", limit),
            10,
            Duration::from_millis(40),
            until,
        );
        let modest = ask(
            instance.clone(),
            asked("modest", limit),
            1,
            Duration::from_millis(80),
            until,
        );
        asking.spawn(async move { tokio::join!(greedy, modest) });
    }
    let (mut admitted, mut refused, mut modest_admitted) = (Vec::new(), 0, 0);
    for (greedy, modest) in asking.join_all().await {
        admitted.extend(greedy.0);
        refused += greedy.1;
        modest_admitted += modest.0.len();
        assert_eq!(
            modest.1, 0,
            "who keeps to the limit is refused nothing on account of another"
        );
    }
    admitted.sort_unstable();
    let interval = 1_000_000 / count;
    for (first, &start) in admitted.iter().enumerate() {
        for (more, &end) in (1_u64..).zip(&admitted[first..]) {
            assert!(
                more <= burst + (end - start) / interval,
                "{more} requests from {start} to {end} µs"
            );
        }
    }
    let (first, last) = (admitted[0], admitted[admitted.len() - 1]);
    let allowed = burst + (last - first) / interval;
    let got = admitted.len() as u64;
    println!(
        "{got} of {allowed} admitted, {refused} refused; the modest user had {modest_admitted}"
    );
    assert!(refused > got, "it was tried much harder than is allowed");
    assert!(got * 100 >= allowed * 99, "{got} of {allowed}");
}

/// What callers of one tank got: served, refused.
async fn call_on(
    tank: std::net::SocketAddr,
    request: Request,
    pause: Duration,
    until: Instant,
) -> (u64, u64) {
    let mut caller = Caller::connect(tank).await;
    let (mut served, mut refused) = (0, 0);
    let mut next = Instant::now();
    while Instant::now() < until {
        let answer = soon("an answer", caller.call(&request)).await;
        match answer.status {
            200 => served += 1,
            429 => refused += 1,
            other => panic!("{other}: {}", answer.text()),
        }
        next += pause;
        tokio::time::sleep_until(next).await;
    }
    (served, refused)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_proxies_serve_what_one_would() {
    let store = Server::start().await;
    let replicas = Replicas::patient(4, &store, "per_user: { requests: 25/1s, burst: 25 }");
    let began = Instant::now();
    let until = began + Duration::from_secs(seconds());
    let mut calling = JoinSet::new();
    for tank in &replicas.tanks {
        for _ in 0..5 {
            // 250 a second together.
            calling.spawn(call_on(
                tank.addr,
                of("greedy"),
                Duration::from_millis(80),
                until,
            ));
        }
    }
    let statuses = calling.join_all().await;
    let served: u64 = statuses.iter().map(|(served, _)| served).sum();
    let refused: u64 = statuses.iter().map(|(_, refused)| refused).sum();
    let elapsed = began.elapsed();
    let most = 25 + u64::try_from(elapsed.as_millis()).expect("short") * 25 / 1_000 + 1;
    println!("{served} served of at most {most} in {elapsed:?}, {refused} refused");
    assert!(served <= most, "{served} of {most}");
    let tried = 25 + 25 * seconds();
    assert!(served * 100 >= tried * 95, "{served} of {tried}");
    assert!(
        refused > served,
        "it was tried much harder than is allowed: {refused}"
    );
    assert_eq!(
        replicas.lab.stats().requests,
        served,
        "who is refused reaches nobody"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn never_more_run_at_once_than_may() {
    let store = Server::start().await;
    let replicas = Replicas::patient(
        4,
        &store,
        "per_user: { concurrent: 3, when_exceeded: wait, max_wait: 20s }, total: { concurrent: 4 }",
    );
    let until = Instant::now() + Duration::from_secs(seconds());
    let mut calling = JoinSet::new();
    for (index, tank) in replicas.tanks.iter().enumerate() {
        for caller in 0..4 {
            let user = ["ann", "bob"][(index + caller) % 2];
            let request = Tongue::Chat
                .stream()
                .header("x-surgetank-user", user)
                .header("x-lab-fault", "ok;words=5;interval=20ms");
            calling.spawn(call_on(tank.addr, request, Duration::from_millis(1), until));
        }
    }
    let answers = calling.join_all().await;
    let served: u64 = answers.iter().map(|(served, _)| served).sum();
    let records = replicas.lab.requests();
    assert!(served >= 20 && records.len() >= 20, "{served}");
    let times: Vec<_> = records
        .iter()
        .map(|record| (record.arrived, record.ended.expect("it has ended")))
        .collect();
    let most = most_at_once(&times);
    println!("{served} served, at most {most} at once");
    assert!(most <= 4, "{most} at once");
    assert!(most >= 3, "the places were used: {most}");
}

/// The most intervals that have a moment in common.
fn most_at_once(intervals: &[(Duration, Duration)]) -> usize {
    let at = |moment: Duration| {
        let over = intervals.iter();
        over.filter(|(from, to)| *from <= moment && moment < *to)
            .count()
    };
    intervals
        .iter()
        .map(|(from, _)| at(*from))
        .max()
        .unwrap_or(0)
}

#[tokio::test]
async fn what_is_left_is_told_of_all_instances_together() {
    let store = Server::start().await;
    let replicas = Replicas::patient(2, &store, "per_user: { requests: 10/day }");
    let [one, two] = &replicas.tanks[..] else {
        panic!("two")
    };
    assert_eq!(left(&one.call(&of("ann")).await), 9);
    assert_eq!(left(&two.call(&of("ann")).await), 8);
    assert_eq!(left(&one.call(&of("ann")).await), 7);
    assert_eq!(left(&two.call(&of("bob")).await), 9, "another user");
    let (admin, _serving) = one.admin();
    let state = Caller::connect(admin)
        .await
        .call(&Request::get("/api/state"))
        .await
        .json();
    let users = state["users"].as_array().expect("those who have used most");
    assert_eq!(users.len(), 1, "whom this instance has seen: {state}");
    assert_eq!(users[0]["limits"][0]["remaining"], 7, "{state}");
    assert_eq!(users[0]["limits"][0]["name"], "user");
    let user = users[0]["user"].as_str().expect("a fingerprint");
    assert!(
        user.len() == 8 && user.bytes().all(|digit| digit.is_ascii_hexdigit()),
        "{user}"
    );
    assert!(!state.to_string().contains("ann"), "{state}");
    for tank in &replicas.tanks {
        tank.at_rest().await;
    }
}

#[tokio::test]
async fn what_all_may_use_together_is_one_thing_and_charged_with_the_users_own() {
    let store = Server::start().await;
    let limits = "per_user: { requests: 10/day }, total: { requests: 3/day }";
    let replicas = Replicas::patient(2, &store, limits);
    let [one, two] = &replicas.tanks[..] else {
        panic!("two")
    };
    assert_eq!(left(&one.call(&of("ann")).await), 9);
    assert_eq!(left(&two.call(&of("bob")).await), 9);
    assert_eq!(left(&two.call(&of("ann")).await), 8);
    for tank in [one, two] {
        let refused = tank.call(&of("ann")).await;
        assert_eq!(refused.status, 429);
        assert!(
            refused.text().contains("all users together"),
            "{}",
            refused.text()
        );
        assert_eq!(
            tank.count("surgetank_limited_total", &[("rule", "total_rate")]),
            1
        );
    }
    // What was refused was charged to nobody: the account of the user is as it was.
    let user = store.cli(&["--scan", "--pattern", "*"]);
    assert_eq!(
        user.lines()
            .filter(|key| !key.ends_with("instances"))
            .count(),
        3,
        "{user}"
    );
}

#[tokio::test]
async fn tokens_are_settled_for_all_instances() {
    let store = Server::start().await;
    let replicas = Replicas::patient(2, &store, "per_user: { tokens: 86400/day }");
    let [one, two] = &replicas.tanks[..] else {
        panic!("two")
    };
    let of_tokens = |words: u32| {
        Tongue::Messages
            .stream()
            .header("x-surgetank-user", "ann")
            .header("x-lab-fault", &format!("ok;words={words}"))
    };
    assert_eq!(one.call(&of_tokens(300)).await.status, 200);
    one.at_rest().await;
    let tell = Request::get("/v1/models").header("x-surgetank-user", "ann");
    let charged = async || {
        let answer = two.call(&tell).await;
        let state = answer
            .head
            .one("ratelimit")
            .expect("what is left")
            .to_owned();
        let rest = state
            .strip_prefix("\"user-tokens\";r=")
            .expect("the user's tokens");
        86_400
            - rest
                .split(';')
                .next()
                .expect("a number")
                .parse::<u64>()
                .expect("a number")
    };
    // It is settled in the background.
    let began = Instant::now();
    while !(310..=370).contains(&charged().await) {
        assert!(
            began.elapsed() < super::server::PATIENCE,
            "{} charged",
            charged().await
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn who_may_wait_is_served_at_the_time_that_the_store_told() {
    let store = Server::start().await;
    let limits = "per_user: { requests: 5/1s, burst: 1, when_exceeded: wait, max_wait: 20s }";
    let replicas = Replicas::patient(2, &store, limits);
    let began = Instant::now();
    let mut calling = JoinSet::new();
    for tank in &replicas.tanks {
        for _ in 0..8 {
            let addr = tank.addr;
            calling.spawn(async move { Caller::connect(addr).await.call(&of("ann")).await.status });
        }
    }
    let statuses = soon("all answers", calling.join_all()).await;
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    let took = began.elapsed();
    println!("16 requests at 5 a second took {took:?}");
    assert!(took >= Duration::from_millis(2_990), "{took:?}");
    // Who cannot be served in time is refused at once, and not behind the wait.
    let hurried = Replicas::patient(
        1,
        &store,
        "per_user: { requests: 1/hour, when_exceeded: wait, max_wait: 1h }",
    );
    assert_eq!(hurried.tanks[0].call(&of("eve")).await.status, 200);
    let in_a_hurry = of("eve").header("x-surgetank-timeout-ms", "2000");
    assert_eq!(
        soon("a refusal", hurried.tanks[0].call(&in_a_hurry))
            .await
            .status,
        429
    );
}

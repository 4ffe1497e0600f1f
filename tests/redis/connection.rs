//! The connection: bounded in time whatever the server does, and back by itself.

use std::{fs, path::Path, process::Command, sync::Arc, time::Duration};

use surgetank::{
    config::Store,
    store::{
        jobs::{Bounds, OnCrash},
        redis::{Operation, Redis, StoreError, jobs},
    },
    telemetry::Metrics,
};
use tokio::time::Instant;

use super::{
    server::{PATIENCE, Server},
    slow::Slow,
};

/// What a busy machine may add to a bound in time.
const SLACK: Duration = Duration::from_millis(400);

fn start(store: &Store) -> (Redis, Arc<Metrics>) {
    let metrics = Arc::new(Metrics::new().expect("no name twice"));
    (
        Redis::start(store, metrics.clone()).expect("a sound address"),
        metrics,
    )
}

async fn get(redis: &Redis) -> Result<Option<String>, StoreError> {
    let get = |mut connection| async move {
        redis::cmd("GET")
            .arg("key")
            .query_async(&mut connection)
            .await
    };
    redis.call(Operation::Admit, get).await
}

/// The result of a call, which may take no longer than the timeout.
async fn in_time(redis: &Redis) -> Result<Option<String>, StoreError> {
    let began = Instant::now();
    let result = get(redis).await;
    let took = began.elapsed();
    assert!(took <= redis.timeout() + SLACK, "{took:?} {result:?}");
    result
}

async fn until_up(redis: &Redis) {
    let began = Instant::now();
    while get(redis).await.is_err() {
        assert!(began.elapsed() < PATIENCE, "the store is used again");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(redis.is_up());
}

/// Calls until the store is known to be away; from then on calls fail without a wait.
async fn until_down(redis: &Redis) {
    for _ in 0..10 {
        if matches!(in_time(redis).await, Err(StoreError::Down)) {
            assert!(!redis.is_up());
            return;
        }
    }
    panic!("a store that never answers is not known to be away");
}

#[tokio::test]
async fn the_first_call_waits_for_the_first_connection() {
    let server = Server::start().await;
    server.cli(&["SET", "key", "value"]);
    let (redis, metrics) = start(&server.store());
    assert_eq!(
        in_time(&redis).await.expect("it answers").as_deref(),
        Some("value")
    );
    assert_eq!(metrics.store_up.get(), 1);
    let seconds = metrics.store_seconds.with_label_values(&["admit"]);
    assert_eq!(seconds.get_sample_count(), 1);
}

#[tokio::test]
async fn without_a_server_calls_fail_at_once() {
    let store = Store::at("redis://127.0.0.1:1");
    let (redis, metrics) = start(&store);
    assert!(matches!(in_time(&redis).await, Err(StoreError::Down)));
    let errors = |reason| {
        metrics
            .store_errors
            .with_label_values(&["admit", reason])
            .get()
    };
    assert_eq!((errors("down"), metrics.store_up.get()), (1, 0));
}

#[tokio::test]
async fn a_killed_server_is_noticed_and_found_again() {
    let mut server = Server::start().await;
    let (redis, metrics) = start(&server.store());
    until_up(&redis).await;
    for _ in 0..2 {
        server.kill();
        until_down(&redis).await;
        assert_eq!(metrics.store_up.get(), 0);
        server.back().await;
        until_up(&redis).await;
    }
}

#[tokio::test]
async fn a_frozen_server_costs_a_few_timeouts_and_no_more() {
    let server = Server::start().await;
    let (redis, metrics) = start(&server.store());
    until_up(&redis).await;
    server.freeze();
    until_down(&redis).await;
    let timeouts = metrics
        .store_errors
        .with_label_values(&["admit", "timeout"])
        .get();
    assert_eq!(timeouts, 3, "the fourth call knew better");
    let began = Instant::now();
    for _ in 0..100 {
        assert!(matches!(get(&redis).await, Err(StoreError::Down)));
    }
    assert!(began.elapsed() < SLACK, "a known outage costs nothing");
    server.thaw();
    until_up(&redis).await;
}

#[tokio::test]
async fn a_slow_server_is_not_used_until_it_is_fast_again() {
    let server = Server::start().await;
    let slow = Slow::before(server.address()).await;
    let (redis, _) = start(&Store::at(slow.url()));
    until_up(&redis).await;
    slow.delay(Duration::from_millis(200));
    until_down(&redis).await;
    // Every try of the keeper meets the same delay, and none of them is taken for a recovery.
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(2) {
        assert!(matches!(get(&redis).await, Err(StoreError::Down)));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    slow.delay(Duration::ZERO);
    until_up(&redis).await;
}

#[tokio::test]
async fn one_slow_answer_is_no_outage() {
    let server = Server::start().await;
    let slow = Slow::before(server.address()).await;
    let (redis, metrics) = start(&Store::at(slow.url()));
    until_up(&redis).await;
    slow.delay(Duration::from_millis(200));
    assert!(matches!(in_time(&redis).await, Err(StoreError::Timeout(_))));
    slow.delay(Duration::ZERO);
    tokio::time::sleep(Duration::from_millis(250)).await;
    assert!(in_time(&redis).await.is_ok());
    let connects = metrics.store_seconds.with_label_values(&["connect"]);
    assert_eq!(connects.get_sample_count(), 1, "the connection is the same");
}

#[tokio::test]
async fn a_password_is_used_and_a_wrong_one_is_not_shown() {
    let server = Server::with(&["--requirepass", "s3cr3t"]).await;
    let at = |password: &str| Store::at(format!("redis://:{password}@127.0.0.1:{}", server.port()));
    let (redis, _) = start(&at("s3cr3t"));
    until_up(&redis).await;
    let (redis, _) = start(&at("hunter2"));
    until_down(&redis).await;
    let error = redis
        .dedicated()
        .await
        .expect_err("a wrong password")
        .to_string();
    assert!(
        !error.contains("hunter2") && !format!("{redis:?}").contains("hunter2"),
        "{error}"
    );
}

/// A certificate for 127.0.0.1 that its own key has signed.
fn certificate(directory: &Path) {
    let made = Command::new("openssl")
        .current_dir(directory)
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
        ])
        .args([
            "-nodes", "-keyout", "key.pem", "-out", "cert.pem", "-days", "2",
        ])
        .args([
            "-subj",
            "/CN=test",
            "-addext",
            "subjectAltName=IP:127.0.0.1",
        ])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .output()
        .expect("openssl is installed; tests/run redis does it");
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
    let copied = fs::copy(directory.join("cert.pem"), ca_of(directory));
    copied.expect("it was just made");
}

fn ca_of(directory: &Path) -> std::path::PathBuf {
    directory.with_extension("ca.pem")
}

#[tokio::test]
async fn tls_is_verified() {
    let mut ca = None;
    let server = Server::prepared(
        &[
            "--tls-cert-file",
            "DIR/cert.pem",
            "--tls-key-file",
            "DIR/key.pem",
            "--tls-auth-clients",
            "no",
        ],
        |directory| {
            certificate(directory);
            ca = Some(ca_of(directory));
        },
    )
    .await;
    let url = format!("rediss://127.0.0.1:{}", server.port());
    let (redis, _) = start(&Store {
        ca: ca.clone(),
        ..Store::at(url.as_str())
    });
    until_up(&redis).await;
    let (redis, _) = start(&Store::at(url));
    until_down(&redis).await;
    let _ = fs::remove_file(ca.expect("it was made"));
}

#[tokio::test]
async fn a_cluster_is_one_store() {
    let arguments = ["--cluster-enabled", "yes", "--cluster-node-timeout", "2000"];
    let (one, two) = tokio::join!(Server::with(&arguments), Server::with(&arguments));
    one.cli(&["CLUSTER", "ADDSLOTSRANGE", "0", "8191"]);
    two.cli(&["CLUSTER", "ADDSLOTSRANGE", "8192", "16383"]);
    one.cli(&["CLUSTER", "MEET", "127.0.0.1", &two.port().to_string()]);
    let began = Instant::now();
    while ![&one, &two].iter().all(|node| {
        let info = node.cli(&["CLUSTER", "INFO"]);
        info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:2")
    }) {
        assert!(began.elapsed() < PATIENCE, "the nodes find each other");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let (redis, _) = start(&Store {
        cluster: true,
        ..Store::at(one.url())
    });
    until_up(&redis).await;
    for number in 0..20 {
        let key = format!("key{number}");
        let set = |mut connection| async move {
            redis::cmd("SET")
                .arg(key)
                .arg(number)
                .exec_async(&mut connection)
                .await
        };
        redis
            .call(Operation::Settle, set)
            .await
            .expect("either node takes it");
    }
    let size = |node: &Server| node.cli(&["DBSIZE"]).parse::<u32>().expect("a number");
    assert_eq!(size(&one) + size(&two), 20);
    assert!(size(&one) > 0 && size(&two) > 0);
}

/// What a cluster of a single node, as some that are rented are, makes of the queue.
#[tokio::test]
async fn a_queue_in_a_cluster_of_one_node_meets_no_error() {
    let node = Server::with(&["--cluster-enabled", "yes"]).await;
    node.cli(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
    let began = Instant::now();
    while !node.cli(&["CLUSTER", "INFO"]).contains("cluster_state:ok") {
        assert!(began.elapsed() < PATIENCE, "it is a cluster");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let store = Store {
        cluster: true,
        ..Store::at(node.url())
    };
    let metrics = Arc::new(Metrics::new().expect("no name twice"));
    let settings = jobs::Settings {
        bounds: Bounds {
            requests: 10,
            bytes: 1_000,
        },
        on_crash: OnCrash::Retry,
        keep: Duration::from_secs(60),
        lease: jobs::LEASE,
    };
    let _queue = jobs::RedisJobs::serve(&store, settings, &metrics).expect("a sound address");
    // Its first renewal, and the question whether the server keeps what it is told.
    let answered = || {
        let seconds = metrics.store_seconds.with_label_values(&["queue"]);
        seconds.get_sample_count()
    };
    let failed = || {
        let reasons = ["down", "timeout", "failed"].iter();
        let errors = reasons.map(|reason| {
            let errors = &metrics.store_errors;
            errors.with_label_values(&["queue", reason]).get()
        });
        errors.sum::<u64>()
    };
    while answered() + failed() < 2 {
        assert!(began.elapsed() < PATIENCE, "it is asked");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!((answered(), failed()), (2, 0));
}

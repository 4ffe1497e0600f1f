//! While the store is away: no request waits for it longer than it may, and what `store.fail` says holds exactly.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    harness::{Answer, Tank, Tongue, soon},
    replicas::{Replicas, of},
    server::{PATIENCE, Server},
    slow::Slow,
};

/// As the configuration has it unless it is told.
const TIMEOUT: Duration = Duration::from_millis(100);

/// What a busy machine may add.
const SLACK: Duration = Duration::from_millis(1_500);

/// How the store is away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outage {
    Killed,
    Frozen,
    Slow,
}

const OUTAGES: [Outage; 3] = [Outage::Killed, Outage::Frozen, Outage::Slow];

/// A server, its outage, and tanks behind it.
struct Scene {
    server: Server,
    slow: Slow,
    replicas: Replicas,
}

impl Scene {
    async fn start(fail: &str, limits: &str) -> Self {
        let server = Server::start().await;
        let slow = Slow::before(server.address()).await;
        let store = format!("fail: {fail}, replicas: 2");
        let replicas = Replicas::start(2, &slow.url(), &store, limits);
        let scene = Self {
            server,
            slow,
            replicas,
        };
        scene.until_shared().await;
        scene
    }

    fn begin(&mut self, outage: Outage) {
        match outage {
            Outage::Killed => self.server.kill(),
            Outage::Frozen => self.server.freeze(),
            Outage::Slow => self.slow.delay(Duration::from_millis(200)),
        }
    }

    async fn end(&mut self, outage: Outage) {
        match outage {
            Outage::Killed => self.server.back().await,
            Outage::Frozen => self.server.thaw(),
            Outage::Slow => self.slow.delay(Duration::ZERO),
        }
    }

    /// Waits until both tanks decide by the store again.
    async fn until_shared(&self) {
        for tank in &self.replicas.tanks {
            let began = Instant::now();
            loop {
                let before = degraded(tank);
                let answer = in_time(tank, "the one who looks").await;
                if answer.status != 503 && degraded(tank) == before {
                    break;
                }
                assert!(began.elapsed() < PATIENCE, "the store is used again");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

fn degraded(tank: &Tank) -> u64 {
    tank.count("surgetank_limiter_degraded_total", &[])
}

/// An answer that has not waited for the store for longer than it may.
async fn in_time(tank: &Tank, user: &str) -> Answer {
    let began = Instant::now();
    let answer = soon("an answer", tank.call(&of(user))).await;
    let took = began.elapsed();
    assert!(took <= TIMEOUT + SLACK, "{took:?}");
    answer
}

/// The statuses of so many requests of one user, one after the other, and how many of the decisions were without the
/// store.
async fn statuses(tank: &Tank, user: &str, count: usize) -> (Vec<u16>, u64) {
    let before = degraded(tank);
    let mut statuses = Vec::new();
    for _ in 0..count {
        statuses.push(in_time(tank, user).await.status);
    }
    (statuses, degraded(tank) - before)
}

const PER_USER: &str = "per_user: { requests: 10/day }, max_users: 1000";

#[tokio::test]
async fn open_limits_nobody() {
    let mut scene = Scene::start("open", PER_USER).await;
    for outage in OUTAGES {
        scene.begin(outage);
        let user = format!("{outage:?}");
        let (got, without_store) = statuses(&scene.replicas.tanks[0], &user, 25).await;
        assert_eq!((got, without_store), (vec![200; 25], 25), "{outage:?}");
        scene.end(outage).await;
        scene.until_shared().await;
        // The limit is back, with what the store knows: nothing of the outage.
        let again = format!("{outage:?} again");
        let (got, without_store) = statuses(&scene.replicas.tanks[0], &again, 11).await;
        assert_eq!((got.last(), without_store), (Some(&429), 0), "{outage:?}");
    }
}

#[tokio::test]
async fn local_divides_the_limit_among_the_instances() {
    let mut scene = Scene::start("local", PER_USER).await;
    for outage in OUTAGES {
        scene.begin(outage);
        let user = format!("{outage:?}");
        let mut served = 0;
        for tank in &scene.replicas.tanks {
            let (got, without_store) = statuses(tank, &user, 8).await;
            assert_eq!(got, [200, 200, 200, 200, 200, 429, 429, 429], "{outage:?}");
            assert_eq!(without_store, 8);
            served += got.iter().filter(|status| **status == 200).count();
        }
        assert_eq!(served, 10, "what the limit is, in all");
        scene.end(outage).await;
        scene.until_shared().await;
    }
}

#[tokio::test]
async fn local_goes_on_from_what_the_store_has_told() {
    let mut scene = Scene::start("local", PER_USER).await;
    let (got, without_store) = statuses(&scene.replicas.tanks[0], "ann", 6).await;
    assert_eq!((got, without_store), (vec![200; 6], 0));
    scene.begin(Outage::Killed);
    let (got, _) = statuses(&scene.replicas.tanks[0], "ann", 4).await;
    assert_eq!(
        got,
        [200, 200, 429, 429],
        "four were left, and half of them are this instance's"
    );
}

#[tokio::test]
async fn closed_refuses_in_the_callers_dialect() {
    let mut scene = Scene::start("closed", PER_USER).await;
    for outage in OUTAGES {
        scene.begin(outage);
        let tank = &scene.replicas.tanks[0];
        let (got, without_store) = statuses(tank, "ann", 6).await;
        assert_eq!((got, without_store), (vec![503; 6], 6), "{outage:?}");
        for tongue in Tongue::ALL {
            let answer = soon(
                "an answer",
                tank.call(&tongue.plain().header("x-surgetank-user", "ann")),
            )
            .await;
            assert_eq!(
                (answer.status, answer.head.one("retry-after")),
                (503, Some("2"))
            );
            let error = answer.json();
            assert!(
                error["error"]["message"]
                    .as_str()
                    .is_some_and(|text| text.contains("store")),
                "{error}"
            );
            if tongue == Tongue::Messages {
                // As the vendor calls a 503.
                assert_eq!(error["error"]["type"], "api_error", "{error}");
            }
        }
        let reached = scene.replicas.lab.stats().requests;
        scene.end(outage).await;
        scene.until_shared().await;
        assert!(
            reached < scene.replicas.lab.stats().requests,
            "requests are served again"
        );
    }
    for tank in &scene.replicas.tanks {
        tank.at_rest().await;
    }
}

#[tokio::test]
async fn a_dead_store_costs_nothing_and_few_connections() {
    let mut scene = Scene::start("local", "per_user: { requests: 100000/min }").await;
    let clients = |server: &Server| server.cli(&["CLIENT", "LIST"]).lines().count();
    for _ in 0..3 {
        scene.begin(Outage::Frozen);
        let tank = &scene.replicas.tanks[0];
        // Three of them find out, and the rest know.
        let (got, _) = statuses(tank, "ann", 6).await;
        assert_eq!(got, vec![200; 6]);
        let timeouts = tank.count(
            "surgetank_store_errors_total",
            &[("reason", "timeout"), ("operation", "admit")],
        );
        let (got, without_store) = statuses(tank, "ann", 50).await;
        assert_eq!((got.len(), without_store), (50, 50));
        assert_eq!(
            tank.count(
                "surgetank_store_errors_total",
                &[("reason", "timeout"), ("operation", "admit")]
            ),
            timeouts,
            "nobody waits for what is known to be away"
        );
        assert_eq!(tank.count("surgetank_store_up", &[]), 0);
        scene.end(Outage::Frozen).await;
        scene.until_shared().await;
        assert_eq!(scene.replicas.tanks[0].count("surgetank_store_up", &[]), 1);
        let clients = clients(&scene.server);
        assert!(clients <= 10, "{clients} connections of two instances");
    }
    for tank in &scene.replicas.tanks {
        assert_eq!(tank.count("surgetank_limiter_unsettled_total", &[]), 0);
        tank.at_rest().await;
    }
}

#[tokio::test]
async fn without_a_store_from_the_start_the_process_starts_and_serves() {
    let replicas = Replicas::start(1, "redis://127.0.0.1:1", "", PER_USER);
    let (got, without_store) = statuses(&replicas.tanks[0], "ann", 12).await;
    assert_eq!(
        got.iter().filter(|status| **status == 200).count(),
        10,
        "{got:?}"
    );
    assert_eq!(without_store, 12);
}

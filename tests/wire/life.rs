//! The process's life: it begins, holds against those who hold it up, and ends without breaking what it promised.

use std::{collections::HashSet, net::SocketAddr, sync::Arc, time::Duration};

use surgetank::{
    app,
    budget::Budget,
    config::{Config, Listen},
    lane::layer::Lanes,
    rules::{Rules, RulesInForce},
    server::{self, Fleet, Lifecycle, Limits, Listener, Stage},
    telemetry::{Metrics, Traces},
    upstream::{self, Names, Pool},
};

use super::harness::{
    Caller, End, Filled, Folder, Origin, Recipe, Request, Rig, Tongue, Wire, find, soon, text,
    until,
};

const EVENT: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"x\"}}]}\n\n";

#[tokio::test]
async fn draining_lets_what_runs_finish_and_takes_nothing_new() {
    let origin = Origin::start().await;
    let tank = Recipe::over(&origin.url()).start();
    let mut idle = tank.caller().await;
    idle.send(Request::get("/x").bytes()).await;
    let mut upstream = origin.accept().await;
    upstream.request().await;
    upstream.send_json("{}").await;
    assert_eq!(idle.answer_to("GET").await.status, 200);

    let mut caller = tank.caller().await;
    caller.send(Tongue::Chat.stream().bytes()).await;
    upstream.request().await;
    upstream.begin_stream().await;
    upstream.send_chunk(EVENT).await;
    caller.wire.through(EVENT.as_bytes()).await;

    tank.proxy.lifecycle().advance(Stage::Draining);
    assert_eq!(
        soon("the idle connection ends", idle.wire.closed()).await,
        End::Fin
    );
    until("nothing listens", || {
        std::net::TcpStream::connect(tank.addr).is_err()
    })
    .await;
    for _ in 0..3 {
        upstream.send_chunk(EVENT).await;
        caller.wire.through(EVENT.as_bytes()).await;
    }
    upstream.send_chunk("data: [DONE]\n\n").await;
    upstream.end_chunks().await;
    let (rest, end) = caller.wire.rest().await;
    assert!(
        text(&rest).ends_with("data: [DONE]\n\n\r\n0\r\n\r\n"),
        "{}",
        text(&rest)
    );
    assert_eq!(end, End::Fin, "and its connection is the last");
    soon("everything has ended", tank.proxy.fleet().drained()).await;
}

#[tokio::test]
async fn settling_still_accepts_and_is_not_ready_any_more() {
    let rig = Rig::start();
    let (admin, _serving) = rig.tank.admin();
    let ready = || async {
        Caller::connect(admin)
            .await
            .call(&Request::get("/readyz"))
            .await
    };
    assert_eq!(ready().await.status, 200);
    rig.tank.proxy.lifecycle().advance(Stage::Settling);
    let answer = ready().await;
    assert_eq!((answer.status, answer.text().as_str()), (503, "settling\n"));
    assert_eq!(
        rig.tank.call(&Tongue::Chat.plain()).await.status,
        200,
        "whoever still comes is served"
    );
    rig.tank.proxy.lifecycle().advance(Stage::Running);
    assert_eq!(ready().await.status, 503, "a life does not go back");
    let alive = Caller::connect(admin)
        .await
        .call(&Request::get("/healthz"))
        .await;
    assert_eq!(alive.status, 200);
}

#[tokio::test]
async fn the_second_stage_ends_streams_honestly() {
    for tongue in Tongue::ALL {
        for script in ["ok;interval=20ms;words=10000", "hang-body;after=2"] {
            let rig = Rig::start();
            let mut caller = rig.tank.caller().await;
            caller
                .send(tongue.stream().script("long", script).bytes())
                .await;
            let head = caller.head().await;
            caller.wire.through(b"\n\n").await;
            rig.tank.proxy.lifecycle().advance(Stage::Draining);
            until("nothing listens", || {
                std::net::TcpStream::connect(rig.tank.addr).is_err()
            })
            .await;
            rig.tank.proxy.lifecycle().advance(Stage::Ending);
            assert_eq!(head.status(), 200);
            // The process waits a second for these last words; a loaded machine may take a little longer to read them.
            let last_words = tokio::time::timeout(Duration::from_secs(3), caller.wire.rest()).await;
            let (rest, _) =
                last_words.unwrap_or_else(|_| panic!("{tongue:?} {script}: no end in time"));
            let rest = text(&rest);
            assert!(
                rest.contains(tongue.error_mark()),
                "{tongue:?} {script}: an error event: {rest}"
            );
            assert!(
                !rest.ends_with("0\r\n\r\n"),
                "{tongue:?} {script}: no clean end: {rest}"
            );
            soon("everything has ended", rig.tank.proxy.fleet().drained()).await;
        }
    }
}

#[tokio::test]
async fn four_hundred_slow_heads_are_closed_in_time_and_hold_nobody_up() {
    let rig = Rig::with(|recipe| recipe.server("head_timeout: 500ms"));
    let mut slow = Vec::new();
    for number in 0..400 {
        let mut wire = Wire::connect(rig.tank.addr).await;
        // Some say nothing at all, the others begin a head and never end it.
        let begun = [
            "",
            "G",
            "POST /v1/messages HTTP/1.1\r\n",
            "GET / HTTP/1.1\r\nhost: a\r\nx-a: ",
        ][number % 4];
        wire.send(begun).await;
        slow.push(wire);
    }
    assert_eq!(
        rig.tank.call(&Tongue::Chat.plain()).await.status,
        200,
        "others are served meanwhile"
    );
    let closing = async {
        for wire in &mut slow {
            wire.closed().await;
        }
    };
    soon("all are closed", closing).await;
    until("none is left", || rig.tank.proxy.fleet().live() == 0).await;
    assert_eq!(rig.lab.stats().requests, 1);
}

#[tokio::test]
async fn a_trickling_head_is_not_kept_alive_by_its_trickle() {
    let rig = Rig::with(|recipe| recipe.server("head_timeout: 300ms"));
    let mut wire = Wire::connect(rig.tank.addr).await;
    wire.send("GET / HTTP/1.1\r\nhost: app\r\nx-a: ").await;
    let trickling = async {
        while wire.try_send("a").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    soon("the trickle is cut off", trickling).await;
}

#[tokio::test]
async fn idle_connections_are_retired_and_used_ones_are_not() {
    let rig = Rig::with(|recipe| recipe.server("keepalive_idle: 600ms, head_timeout: 300ms"));
    let mut caller = rig.tank.caller().await;
    let began = tokio::time::Instant::now();
    // Longer in all than the idle time, each pause shorter; a pause is no slow head.
    for _ in 0..4 {
        assert_eq!(caller.call(&Request::get("/v1/models")).await.status, 200);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(caller.call(&Request::get("/v1/models")).await.status, 200);
    assert!(began.elapsed() >= Duration::from_millis(800));
    let (rest, end) = soon("it is retired", caller.wire.rest()).await;
    assert_eq!((rest.len(), end), (0, End::Fin), "politely, without a word");
}

/// A proxy with limits that no configuration offers.
fn with_limits(base_url: &str, change: impl FnOnce(&mut Limits)) -> (SocketAddr, app::Shared) {
    let yaml = Recipe::over(base_url).yaml("");
    let config =
        Config::parse("test", &yaml, &|_| None).unwrap_or_else(|problems| panic!("{problems}"));
    let rules = Rules::new(&config, &|_| None, None, None).expect("countable");
    let rules = RulesInForce::new(rules);
    let shared = app::Shared {
        rules: rules.clone(),
        lanes: Lanes::default(),
        budget: Budget::new(1 << 20),
        lifecycle: Lifecycle::default(),
        metrics: Arc::new(Metrics::new().expect("no name twice")),
        traces: Traces::default(),
        queue: None,
    };
    let mut limits = Limits {
        head_timeout: Duration::from_secs(10),
        keepalive_idle: Duration::from_secs(75),
        write_idle: Duration::from_secs(60),
        max_head: 64 << 10,
        max_headers: 100,
        max_connections: 100,
    };
    change(&mut limits);
    let (limits, tls) = (Arc::new(limits), upstream::trust().expect("TLS"));
    let stacked = shared.clone();
    let edge = move || app::stack(&stacked, Pool::new(&rules, &tls, &Names::new()));
    let fleet = Fleet::start(1, edge, &limits, &shared.lifecycle).expect("it starts");
    let listener =
        Listener::bind(&Listen::Tcp(SocketAddr::from(([127, 0, 0, 1], 0)))).expect("it binds");
    let addr = listener.tcp_addr().expect("TCP");
    let (fleet, lifecycle) = (Arc::new(fleet), shared.lifecycle.clone());
    let serving = fleet.clone();
    tokio::spawn(async move { server::serve(vec![listener], &serving, &limits, &lifecycle).await });
    (addr, shared)
}

#[tokio::test]
async fn a_reader_that_stalls_is_dropped_and_its_upstream_let_go() {
    let lab =
        surgetank::lab::Lab::start(surgetank::lab::LabConfig::default()).expect("a free port");
    let (addr, shared) = with_limits(&lab.url(), |limits| {
        limits.write_idle = Duration::from_millis(400);
    });
    let mut caller = Caller::connect(addr).await;
    // Far more than all the buffers between them hold.
    caller
        .send(
            Tongue::Chat
                .stream()
                .script("flood", "giant-event;size=60MiB")
                .bytes(),
        )
        .await;
    assert_eq!(caller.wire.fill().await, Filled::Bytes);
    lab.wait_for(|stats| stats.cancelled == 1, super::harness::PATIENCE)
        .await
        .expect("the upstream is let go");
    until("nothing runs", || shared.metrics.in_flight.get() == 0).await;
}

#[tokio::test]
async fn above_the_connection_limit_callers_are_told_and_the_others_live_on() {
    let rig = Rig::with(|recipe| recipe.server("max_connections: 2"));
    let mut first = rig.tank.caller().await;
    let mut second = rig.tank.caller().await;
    for caller in [&mut first, &mut second] {
        assert_eq!(caller.call(&Request::get("/v1/models")).await.status, 200);
    }
    let mut third = rig.tank.caller().await;
    let answer = third.answer_to("GET").await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.head.one("retry-after"), Some("1"));
    assert!(answer.text().contains("connection limit"));
    third.wire.closed().await;
    assert_eq!(first.call(&Request::get("/v1/models")).await.status, 200);
    drop(second);
    until("a place is free", || rig.tank.proxy.fleet().live() < 2).await;
    assert_eq!(rig.tank.call(&Request::get("/v1/models")).await.status, 200);
}

#[tokio::test]
async fn the_operators_port_answers_what_it_offers_and_changes_nothing() {
    let rig = Rig::start();
    let (admin, _serving) = rig.tank.admin();
    let table = [
        ("GET", "/", 200),
        ("GET", "/metrics", 200),
        ("GET", "/healthz", 200),
        ("GET", "/readyz", 200),
        ("GET", "/api/state", 200),
        ("GET", "/v1/models", 404),
        ("GET", "/nothing", 404),
        ("POST", "/metrics", 405),
        ("DELETE", "/api/state", 405),
        ("PUT", "/readyz", 405),
    ];
    for (method, path, status) in table {
        let answer = Caller::connect(admin)
            .await
            .call(&Request::new(method, path))
            .await;
        assert_eq!(answer.status, status, "{method} {path}");
    }
    let state = Caller::connect(admin)
        .await
        .call(&Request::get("/api/state"))
        .await
        .json();
    assert_eq!(
        (&state["stage"], &state["in_flight_requests"]),
        (&"running".into(), &0.into()),
        "{state}"
    );
    assert_eq!(
        rig.lab.stats().requests,
        0,
        "none of it went to the upstream"
    );
    // The data port has no such pages: all its paths are the upstream's.
    let answer = rig.tank.call(&Request::get("/metrics")).await;
    assert!(answer.head.has("x-surgetank-upstream"), "{:?}", answer.head);
}

/// Checks the text format and gives the names of the series.
fn parsed(exposition: &str) -> HashSet<String> {
    let mut series = HashSet::new();
    let mut families = HashSet::new();
    for line in exposition.lines() {
        if let Some(rest) = line.strip_prefix("# ") {
            let mut words = rest.splitn(3, ' ');
            let (kind, family) = (
                words.next().expect("a word"),
                words.next().expect("a family"),
            );
            assert!(matches!(kind, "HELP" | "TYPE"), "{line}");
            if kind == "TYPE" {
                assert!(families.insert(family.to_owned()), "{family} stands twice");
            }
            continue;
        }
        let (name, value) = line
            .rsplit_once(' ')
            .unwrap_or_else(|| panic!("no value: {line}"));
        assert!(value.parse::<f64>().is_ok(), "{line}");
        let (family, labels) = name.split_once('{').unwrap_or((name, "}"));
        assert!(
            family
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'),
            "{line}"
        );
        assert!(
            labels.ends_with('}') && labels.matches('"').count() % 2 == 0,
            "{line}"
        );
        assert!(series.insert(name.to_owned()), "{name} stands twice");
    }
    series
}

#[tokio::test]
async fn the_metrics_parse_stay_bounded_and_name_no_secret() {
    let rig = Rig::start();
    let (admin, _serving) = rig.tank.admin();
    let scrape = || async {
        let answer = Caller::connect(admin)
            .await
            .call(&Request::get("/metrics"))
            .await;
        assert!(
            answer
                .head
                .one("content-type")
                .is_some_and(|kind| kind.starts_with("text/plain; version=0.0.4"))
        );
        answer.text()
    };
    for fault in [
        "ok",
        "500",
        "429;retry-after-ms=5",
        "cut",
        "hang-body;for=1ms",
    ] {
        for tongue in Tongue::ALL {
            rig.tank
                .call(&tongue.stream().script("warm", &format!("{fault}*")))
                .await;
        }
    }
    let before = parsed(&scrape().await);
    for number in 0..60 {
        let hostile = format!("secret-{number}\\\"{{}}");
        let request = Tongue::Chat
            .with(false, &serde_json::json!({ "model": format!("model-{hostile}"), "user": format!("user-{hostile}") }))
            .header("x-surgetank-user", &format!("who-{number}"))
            .header("x-api-key", &format!("secret-key-{number}"));
        rig.tank.call(&request).await;
    }
    let exposition = scrape().await;
    let new: Vec<_> = parsed(&exposition).difference(&before).cloned().collect();
    assert!(new.len() <= 40, "series by caller: {new:?}");
    for secret in ["secret", "who-", "user-", "model-"] {
        assert!(
            find(exposition.as_bytes(), secret.as_bytes()).is_none(),
            "{secret} is in the metrics"
        );
    }
    for family in [
        "surgetank_requests_total",
        "surgetank_upstream_attempts_total",
        "surgetank_in_flight_requests",
        "surgetank_held_bytes",
        "surgetank_connections",
        "surgetank_panics_total",
        "surgetank_build_info",
    ] {
        assert!(
            exposition.contains(&format!("# HELP {family} ")),
            "{family}"
        );
    }
}

#[tokio::test]
async fn a_unix_socket_serves_as_well() {
    let folder = Folder::new();
    let path = folder.path("tank.sock");
    let rig = Rig::start();
    let yaml = Recipe::over(&rig.lab.url()).yaml("").replace(
        "listen: 127.0.0.1:0",
        &format!("listen: unix:{}", path.display()),
    );
    let tank = super::harness::Tank::from_yaml(&yaml);
    let mut caller = Caller {
        wire: Wire::connect_unix(&path).await,
    };
    assert_eq!(caller.call(&Tongue::Chat.plain()).await.status, 200);
    let answer = caller.call(&Tongue::Messages.stream()).await;
    assert!(answer.text().contains(Tongue::Messages.terminator()));
    tank.proxy.lifecycle().advance(Stage::Draining);
    until("the socket's file is gone", || !path.exists()).await;
}

#[tokio::test]
async fn one_port_cannot_be_taken_twice() {
    let rig = Rig::start();
    let error = Listener::bind(&Listen::Tcp(rig.tank.addr)).expect_err("it is taken");
    assert!(error.to_string().contains("already in use"), "{error}");
}

#[tokio::test]
async fn a_taken_port_is_told_with_the_setting_that_chose_it() {
    let rig = Rig::start();
    let (taken, free) = (rig.tank.addr.to_string(), "127.0.0.1:0".to_owned());
    for (listen, admin, setting) in [
        (&taken, &free, "SURGETANK_LISTEN"),
        (&free, &taken, "SURGETANK_ADMIN"),
    ] {
        let mut program = tokio::process::Command::new(env!("CARGO_BIN_EXE_surgetank"));
        program.args(["run", "--listen", listen, "--admin", admin]);
        let ended = soon("it ends", program.kill_on_drop(true).output())
            .await
            .expect("it is built");
        let said = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(69), "{said}");
        assert!(said.contains(&taken) && said.contains(setting), "{said}");
    }
}

#[tokio::test]
async fn a_broken_listener_ends_the_process_after_what_runs() {
    let rig = Rig::start();
    let bind =
        || Listener::bind(&Listen::Tcp(SocketAddr::from(([127, 0, 0, 1], 0)))).expect("it binds");
    let (one, other) = (bind(), bind());
    let handle = socket2::SockRef::from(&one).try_clone().expect("a copy");
    let (broken, whole) = (one.tcp_addr().expect("TCP"), other.tcp_addr().expect("TCP"));
    let proxy = rig.tank.proxy.clone();
    let serving = tokio::spawn(async move { proxy.serve(vec![one, other]).await });
    let mut caller = Caller::connect(whole).await;
    let running = Tongue::Chat
        .stream()
        .script("runs", "ok;interval=50ms;words=20");
    caller.send(running.bytes()).await;
    assert_eq!(caller.head().await.status(), 200);

    handle
        .shutdown(std::net::Shutdown::Both)
        .expect("it listens");
    let served = soon("accepting ends", serving).await.expect("no panic");
    let error = served.expect_err("it is broken").to_string();
    assert!(error.contains(&broken.to_string()), "{error}");
    assert_eq!(rig.tank.proxy.lifecycle().stage(), Stage::Draining);
    let (rest, end) = caller.wire.rest().await;
    assert!(text(&rest).contains(Tongue::Chat.terminator()));
    assert_eq!(end, End::Fin);
    soon("everything has ended", rig.tank.proxy.fleet().drained()).await;
}

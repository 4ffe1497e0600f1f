//! The end of the process as its callers see it: finished, refused or told, and never cut.

use std::{io::ErrorKind, net::SocketAddr, time::Duration};

use surgetank::server::Stage;
use tokio::{net::TcpStream, task::JoinSet, time::Instant};

use super::harness::{
    Caller, End, Folder, Origin, Process, Recipe, Request, Rig, Tongue, Wire, soon, text, until,
};

const STREAMS: usize = 200;

fn yaml(url: &str, blocks: &str) -> String {
    Recipe::over(url)
        .workers(2)
        .yaml(&format!("telemetry: {{ log: json }}\n{blocks}"))
        .replace("admin: none", "admin: 127.0.0.1:0")
}

fn lab() -> surgetank::lab::LabHandle {
    surgetank::lab::Lab::start(surgetank::lab::LabConfig::default()).expect("a free port")
}

/// Connects anew for each request until it is refused; whatever has connected must be served. Returns how
/// many were.
async fn knock(addr: SocketAddr) -> usize {
    let mut served = 0;
    loop {
        match soon("connecting", TcpStream::connect(addr)).await {
            Ok(stream) => {
                let mut caller = Caller {
                    wire: Wire::new(stream),
                };
                let request = Request::get("/v1/models");
                let answer = caller.try_call(&request).await;
                let answer = answer.unwrap_or_else(|end| panic!("cut after {served}: {end:?}"));
                let told = answer.text();
                assert_eq!((answer.status, answer.end), (200, End::Whole), "{told}");
                served += 1;
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}");
                return served;
            }
        }
    }
}

#[tokio::test]
async fn two_hundred_streams_finish_and_whoever_knocks_is_served_or_refused() {
    let lab = lab();
    let mut process =
        Process::start(&yaml(&lab.url(), "shutdown: { settle: 200ms, drain: 30s }")).await;
    assert_eq!(process.ask("/readyz").await.status, 200);
    let addr = process.addr;
    let mut streams = JoinSet::new();
    for _ in 0..STREAMS {
        streams.spawn(async move {
            let request = Tongue::Chat
                .stream()
                .header("x-lab-fault", "ok;interval=50ms;words=60");
            Caller::connect(addr).await.call(&request).await
        });
    }
    lab.wait_for(
        |stats| stats.requests >= STREAMS as u64,
        super::harness::PATIENCE,
    )
    .await
    .expect("all streams run");
    let mut knocking = JoinSet::new();
    for _ in 0..4 {
        knocking.spawn(knock(addr));
    }
    process.signal("TERM").await;
    let not_ready = async {
        while process.ask("/readyz").await.status != 503 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    soon("it is not ready any more", not_ready).await;
    while let Some(served) = soon("the door is shut", knocking.join_next()).await {
        assert!(served.expect("nobody was cut") > 0);
    }
    let mut whole = 0;
    while let Some(answer) = soon("every stream ends", streams.join_next()).await {
        let answer = answer.expect("no caller failed");
        assert_eq!(
            (answer.status, answer.end),
            (200, End::Whole),
            "{}",
            answer.text()
        );
        assert!(answer.text().contains(Tongue::Chat.terminator()));
        whole += 1;
    }
    assert_eq!(whole, STREAMS);
    assert_eq!(process.ended().await.code(), Some(0));
    assert!(
        process.said("ending what is left").is_none(),
        "{:#?}",
        process.log()
    );
}

#[tokio::test]
async fn what_is_left_at_the_end_is_told_so() {
    for second_signal in [false, true] {
        let lab = lab();
        let drain = if second_signal { "10m" } else { "300ms" };
        let mut process = Process::start(&yaml(
            &lab.url(),
            &format!("shutdown: {{ drain: {drain} }}"),
        ))
        .await;
        let (mut streaming, mut hanging) = (
            Caller::connect(process.addr).await,
            Caller::connect(process.addr).await,
        );
        let endless = Tongue::Messages
            .stream()
            .header("x-lab-fault", "ok;interval=20ms;words=100000");
        streaming.send(endless.bytes()).await;
        streaming.wire.through(b"content_block_delta").await;
        // Nothing of an answer is there yet when the end comes.
        hanging
            .send(
                Tongue::Messages
                    .plain()
                    .header("x-lab-fault", "hang")
                    .bytes(),
            )
            .await;
        lab.wait_for(|stats| stats.requests == 2, super::harness::PATIENCE)
            .await
            .expect("both run");
        process.signal("TERM").await;
        if second_signal {
            until("it has heard the first", || {
                process.said("stopping").is_some()
            })
            .await;
            process.signal("INT").await;
        }
        let began = Instant::now();
        let (rest, _) = streaming.wire.rest().await;
        assert!(
            text(&rest).contains(Tongue::Messages.error_mark()),
            "{}",
            text(&rest)
        );
        assert!(!text(&rest).ends_with("0\r\n\r\n"), "no clean end");
        let told = hanging.answer().await;
        assert_eq!(
            (told.status, told.head.one("retry-after")),
            (503, Some("1")),
            "{}",
            told.text()
        );
        assert_eq!(told.json()["type"], "error");
        assert_eq!(process.ended().await.code(), Some(0));
        assert!(
            began.elapsed() < Duration::from_secs(10),
            "{:?}",
            began.elapsed()
        );
        assert!(process.said("ending what is left").is_some());
    }
}

#[tokio::test]
async fn nobody_who_comes_after_the_stop_is_made_to_wait() {
    let rig = Rig::with(|recipe| {
        let slow = recipe.waiting("base: 20s, cap: 20s, jitter: 0s");
        slow.fallback("[ { reply: 'Please come back.' } ]")
    });
    let before = tokio::spawn({
        let (addr, request) = (
            rig.tank.addr,
            Tongue::Chat.plain().script("before", "500*2,ok"),
        );
        async move { Caller::connect(addr).await.call(&request).await }
    });
    until("its wait has begun", || {
        rig.tank.count("surgetank_upstream_attempts_total", &[]) == 1
    })
    .await;
    let now = Instant::now();
    rig.tank
        .proxy
        .lifecycle()
        .stop(now, now + Duration::from_secs(2));
    for script in ["500*", "429;retry-after=5*", "503;retry-after=5*"] {
        let began = Instant::now();
        let mut caller = rig.tank.caller().await;
        let answer = caller
            .call(&Tongue::Chat.plain().script(script, script))
            .await;
        assert_eq!(
            answer.head.one("x-surgetank-fallback"),
            Some("reply"),
            "{script}"
        );
        assert!(
            began.elapsed() < Duration::from_secs(2),
            "{script}: {:?}",
            began.elapsed()
        );
        assert_eq!(
            answer.head.one("connection"),
            Some("close"),
            "its next one goes elsewhere"
        );
        caller.wire.closed().await;
    }
    // Its wait had begun, and outlasts the process: it is told at the end, and not cut.
    rig.tank.proxy.lifecycle().advance(Stage::Draining);
    rig.tank.proxy.lifecycle().advance(Stage::Ending);
    let told = soon("the one who waited", before).await.expect("no panic");
    assert_eq!(told.status, 503);
    rig.tank.at_rest().await;
}

#[tokio::test]
async fn who_has_connected_but_not_spoken_is_heard() {
    let rig = Rig::start();
    let mut quiet = rig.tank.caller().await;
    until("it is accepted", || rig.tank.proxy.fleet().live() == 1).await;
    rig.tank.proxy.lifecycle().advance(Stage::Draining);
    tokio::time::sleep(Duration::from_millis(100)).await;
    let answer = quiet.call(&Tongue::Chat.plain()).await;
    assert_eq!(
        (answer.status, answer.head.one("connection")),
        (200, Some("close"))
    );
    soon("everything has ended", rig.tank.proxy.fleet().drained()).await;

    let rig = Rig::start();
    let mut silent = rig.tank.caller().await;
    until("it is accepted", || rig.tank.proxy.fleet().live() == 1).await;
    rig.tank.proxy.lifecycle().advance(Stage::Draining);
    silent.wire.closed().await;
    soon(
        "who says nothing is not waited for",
        rig.tank.proxy.fleet().drained(),
    )
    .await;
}

#[tokio::test]
async fn it_starts_whatever_is_unreachable() {
    // Nobody listens on port 1, and a full backlog answers nobody.
    let origin = Origin::start().await;
    let url = origin.url();
    drop(origin);
    let began = Instant::now();
    let mut process = Process::start(&yaml(&url, "store: { url: 'redis://127.0.0.1:1' }")).await;
    assert_eq!(process.ask("/readyz").await.status, 200);
    eprintln!(
        "ready after {:?}, the test's own looks included",
        began.elapsed()
    );
    assert_eq!(process.ask("/healthz").await.status, 200);
    process.signal("TERM").await;
    assert_eq!(process.ended().await.code(), Some(0));
}

#[tokio::test]
async fn a_hangup_reads_the_configuration_again() {
    let lab = lab();
    let folder = Folder::new();
    let reply = |text: &str| {
        yaml("http://127.0.0.1:1", "")
            .replace(
                "fallback: []",
                &format!("fallback: [ {{ reply: '{text}' }} ]"),
            )
            .replace("retry: {", "retry: { max_retries: 0,")
    };
    let mut process = Process::start_in(folder, &reply("one"), &[]).await;
    let said = async |process: &Process| {
        let answer = Caller::connect(process.addr)
            .await
            .call(&Tongue::Chat.plain())
            .await;
        Tongue::Chat.text_of_answer(&answer.json())
    };
    assert_eq!(said(&process).await, "one");
    process.folder.write("surgetank.yaml", &reply("two"));
    process.signal("HUP").await;
    until("it is in force", || {
        process.said("read again and is in force").is_some()
    })
    .await;
    assert_eq!(said(&process).await, "two");
    process.folder.write("surgetank.yaml", "retri: {}\n");
    process.signal("HUP").await;
    until("it says what is wrong", || {
        process.said("cannot be used").is_some()
    })
    .await;
    let told = process
        .said("cannot be used")
        .expect("it has just been there");
    let reason = told["reason"].as_str().unwrap_or_default();
    assert!(reason.contains(":1:1: unknown key `retri`"), "{told}");
    assert_eq!(said(&process).await, "two");
    let failures = process
        .metric("surgetank_config_reloads_total{result=\"failure\"}")
        .await;
    assert!(failures.is_some_and(|count| count >= 1.0), "{failures:?}");
    process.signal("TERM").await;
    assert_eq!(process.ended().await.code(), Some(0));
    assert_eq!(lab.stats().requests, 0);
}

#[tokio::test]
async fn a_broken_file_costs_one_line_one_count_and_nobody_anything() {
    let lab = lab();
    let good = yaml(&lab.url(), "");
    let mut process = Process::start(&good).await;
    let mut streaming = Caller::connect(process.addr).await;
    let long = Tongue::Chat
        .stream()
        .header("x-lab-fault", "ok;interval=50ms;words=60");
    streaming.send(long.bytes()).await;
    streaming.wire.through(b"\"content\"").await;
    process.folder.write("surgetank.yaml", "routes: [ {");
    until("it says what is wrong", || {
        process.said("cannot be used").is_some()
    })
    .await;
    // Under the old rules: who streams, and who comes now.
    let whole = streaming.wire.through(Tongue::Chat.terminator().as_bytes());
    assert!(!text(&whole.await).contains(Tongue::Chat.error_mark()));
    let mut caller = Caller::connect(process.addr).await;
    assert_eq!(caller.call(&Tongue::Chat.plain()).await.status, 200);
    let failures = "surgetank_config_reloads_total{result=\"failure\"}";
    assert_eq!(process.metric(failures).await, Some(1.0));
    let lines = process.log();
    let told = lines.iter().filter(|line| line.contains("cannot be used"));
    assert_eq!(told.count(), 1, "{lines:#?}");
    process.folder.write("surgetank.yaml", &good);
    until("it is in force", || {
        process.said("read again and is in force").is_some()
    })
    .await;
    process.signal("TERM").await;
    assert_eq!(process.ended().await.code(), Some(0));
}

//! A caller that leaves takes everything with it, in every phase and at once: the upstream call, the wait for the next
//! one, the memory, the turn.

use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::harness::{Caller, Origin, PATIENCE, Recipe, Request, Rig, Tank, Tongue, soon, until};

/// How soon the upstream has to see that its caller has gone. A busy machine may take longer once, not three times.
const AT_ONCE: Duration = Duration::from_millis(100);

/// How a caller leaves.
#[derive(Debug, Clone, Copy)]
enum Leaving {
    Fin,
    Reset,
}

impl Leaving {
    fn leave(self, caller: Caller) {
        match self {
            Self::Fin => drop(caller),
            Self::Reset => caller.wire.reset(),
        }
    }
}

/// Where a caller is when it leaves.
struct Phase {
    name: &'static str,
    script: &'static str,
    stream: bool,
    /// How much the caller has read by then.
    read: &'static [u8],
}

const PHASES: &[Phase] = &[
    Phase {
        name: "before the head",
        script: "ok;headers-after=60s",
        stream: true,
        read: b"",
    },
    Phase {
        name: "before an answer in one piece",
        script: "ok;interval=10s",
        stream: false,
        read: b"",
    },
    Phase {
        name: "at a silent upstream",
        script: "hang",
        stream: false,
        read: b"",
    },
    Phase {
        name: "before the first event",
        script: "ok;first-token=60s;headers-after=1ms",
        stream: true,
        read: b"",
    },
    Phase {
        name: "in a stream",
        script: "ok;interval=20ms;words=10000",
        stream: true,
        read: b"\n\n",
    },
    Phase {
        name: "in a stream that stalls",
        script: "hang-body",
        stream: true,
        read: b"\n\n",
    },
    Phase {
        name: "in a half event",
        script: "hang-body;split",
        stream: true,
        read: b"\n\n",
    },
    Phase {
        name: "in a dripping answer",
        script: "drip;every=30ms",
        stream: false,
        read: b"",
    },
    Phase {
        name: "in a second attempt",
        script: "500,hang",
        stream: false,
        read: b"",
    },
];

/// Leaves once; gives how long it took until the upstream saw it.
async fn leave(rig: &Rig, phase: &Phase, leaving: Leaving, round: u64) -> Duration {
    let attempts = phase.script.split(',').count() as u64;
    let key = format!("{}-{leaving:?}-{round}", phase.name.replace(' ', "-"));
    let request = if phase.stream {
        Tongue::Messages.stream()
    } else {
        Tongue::Messages.plain()
    };
    let before = rig.lab.stats();
    let mut caller = rig.tank.caller().await;
    caller
        .send(request.script(&key, phase.script).bytes())
        .await;
    rig.lab_has(phase.name, |stats| {
        stats.requests == before.requests + attempts && stats.live_requests == 1
    })
    .await;
    if !phase.read.is_empty() {
        caller.wire.through(phase.read).await;
    }
    let left = Instant::now();
    leaving.leave(caller);
    rig.lab_has(phase.name, |stats| stats.cancelled == before.cancelled + 1)
        .await;
    left.elapsed()
}

#[tokio::test]
async fn the_upstream_sees_at_once_that_its_caller_has_gone() {
    let rig = Rig::start();
    let mut rounds = 0;
    for phase in PHASES {
        for leaving in [Leaving::Fin, Leaving::Reset] {
            let mut quickest = Duration::MAX;
            for round in 0..3 {
                quickest = quickest.min(leave(&rig, phase, leaving, round).await);
                rounds += 1;
                rig.tank.at_rest().await;
            }
            assert!(
                quickest <= AT_ONCE,
                "{} by {leaving:?}: {quickest:?} at best",
                phase.name
            );
        }
    }
    assert_eq!(rig.tank.outcomes("abandoned"), rounds);
    assert_eq!(rig.tank.count("surgetank_requests_total", &[]), rounds);
    // Nobody holds a turn: the next caller is served.
    assert_eq!(rig.tank.call(&Tongue::Messages.plain()).await.status, 200);
}

#[tokio::test]
async fn no_attempt_follows_a_caller_who_left_while_it_waited() {
    let rig = Rig::start();
    let wait = Duration::from_millis(400);
    for (number, leaving) in [(1, Leaving::Fin), (2, Leaving::Reset)] {
        let key = format!("wait-{number}");
        let mut caller = rig.tank.caller().await;
        caller
            .send(
                Tongue::Chat
                    .plain()
                    .script(&key, "429;retry-after-ms=400,ok")
                    .bytes(),
            )
            .await;
        rig.lab_has("the first attempt", |stats| stats.answered == number)
            .await;
        until("the wait has begun", || {
            rig.tank.count("surgetank_upstream_attempts_total", &[]) == number
        })
        .await;
        leaving.leave(caller);
        rig.tank.at_rest().await;
        // Time enough for the attempt that must not come.
        tokio::time::sleep(wait + Duration::from_millis(400)).await;
        assert_eq!(rig.attempts(&key).len(), 1, "{leaving:?}");
    }
    assert_eq!(rig.tank.outcomes("abandoned"), 2);
}

#[tokio::test]
async fn a_half_closed_connection_counts_as_left() {
    let rig = Rig::start();
    let stream = tokio::net::TcpStream::connect(rig.tank.addr)
        .await
        .expect("it listens");
    let mut stream = stream;
    let request = Tongue::Chat.plain().script("half", "hang").bytes();
    tokio::io::AsyncWriteExt::write_all(&mut stream, &request)
        .await
        .expect("sent");
    rig.lab_has("the request", |stats| stats.live_requests == 1)
        .await;
    tokio::io::AsyncWriteExt::shutdown(&mut stream)
        .await
        .expect("half closed");
    rig.lab_has("the caller left", |stats| stats.cancelled == 1)
        .await;
}

#[tokio::test]
async fn an_upload_that_is_left_reaches_nobody_while_it_is_held() {
    let rig = Rig::start();
    for leaving in [Leaving::Fin, Leaving::Reset] {
        let mut caller = rig.tank.caller().await;
        caller
            .send("POST /v1/messages HTTP/1.1\r\nhost: app\r\ncontent-length: 1000000\r\n\r\n")
            .await;
        caller.send(vec![b'x'; 500_000]).await;
        until("half of the body is held", || {
            rig.tank.proxy.budget().used() >= 400_000
        })
        .await;
        leaving.leave(caller);
        rig.tank.at_rest().await;
    }
    assert_eq!(rig.lab.stats().requests, 0);
    assert_eq!(rig.tank.count("surgetank_requests_total", &[]), 2);
    assert_eq!(rig.tank.outcomes("abandoned"), 2);
}

#[tokio::test]
async fn an_upload_that_is_left_while_it_passes_breaks_off_upstream() {
    let origin = Origin::start().await;
    let tank =
        Recipe::over(&origin.url()).start_with("replay: { per_request: 64KiB, total: 1MiB }");
    for leaving in [Leaving::Fin, Leaving::Reset] {
        let mut caller = tank.caller().await;
        caller
            .send("POST /v1/files HTTP/1.1\r\nhost: app\r\ntransfer-encoding: chunked\r\n\r\n")
            .await;
        caller
            .send(format!("30000\r\n{}\r\n", "x".repeat(0x30000)))
            .await;
        let mut upstream = origin.accept().await;
        upstream.wire.through(b"\r\n\r\n").await;
        leaving.leave(caller);
        let (bytes, _) = soon("the upstream's connection ends", upstream.wire.rest()).await;
        assert!(
            !bytes.ends_with(b"0\r\n\r\n"),
            "an upload that broke off must not look whole"
        );
        tank.at_rest().await;
    }
    assert_eq!(tank.outcomes("abandoned"), 2);
}

/// Sends an upload until nobody takes more of it.
async fn stuck_upload(tank: &Tank) -> Caller {
    const LENGTH: usize = 1 << 30;
    let mut caller = tank.caller().await;
    caller
        .send(format!(
            "POST /v1/files HTTP/1.1\r\nhost: app\r\ncontent-length: {LENGTH}\r\n\r\n"
        ))
        .await;
    let piece = vec![b'x'; 256 << 10];
    let silence = Duration::from_millis(200);
    while let Ok(sent) = timeout(silence, caller.wire.try_send(&piece)).await {
        sent.expect("it is connected");
    }
    caller
}

#[tokio::test]
async fn a_reset_ends_an_upload_also_while_the_upstream_takes_nothing() {
    let origin = Origin::start().await;
    let tank =
        Recipe::over(&origin.url()).start_with("replay: { per_request: 64KiB, total: 1MiB }");
    let mut quickest = Duration::MAX;
    for _ in 0..3 {
        let caller = stuck_upload(&tank).await;
        let mut upstream = origin.accept().await;
        let left = Instant::now();
        caller.wire.reset();
        tank.at_rest().await;
        quickest = quickest.min(left.elapsed());
        soon("the upstream's connection ends", upstream.wire.rest()).await;
    }
    assert!(quickest <= AT_ONCE, "{quickest:?} at best");
    assert_eq!(tank.outcomes("abandoned"), 3);
}

#[tokio::test]
async fn a_caller_who_left_does_not_hold_its_place_among_the_running() {
    let lab =
        surgetank::lab::Lab::start(surgetank::lab::LabConfig::default()).expect("a free port");
    let tank = Recipe::over(&lab.url()).start_with("limits: { per_user: { concurrent: 1 } }");
    for script in ["hang", "hang-body"] {
        let mut caller = tank.caller().await;
        let before = lab.stats();
        caller
            .send(
                Tongue::Chat
                    .stream()
                    .script(script, script)
                    .header("x-surgetank-user", "ann")
                    .bytes(),
            )
            .await;
        lab.wait_for(|stats| stats.requests > before.requests, PATIENCE)
            .await
            .expect("it is asked");
        let second = tank
            .call(&Tongue::Chat.plain().header("x-surgetank-user", "ann"))
            .await;
        assert_eq!(second.status, 429, "{script}: the only place is taken");
        drop(caller);
        lab.wait_for(|stats| stats.cancelled > before.cancelled, PATIENCE)
            .await
            .expect("it is let go");
        tank.at_rest().await;
        let third = tank
            .call(&Tongue::Chat.plain().header("x-surgetank-user", "ann"))
            .await;
        assert_eq!(third.status, 200, "{script}: the place is free again");
    }
}

#[tokio::test]
async fn a_caller_who_leaves_between_two_requests_disturbs_nobody() {
    let rig = Rig::start();
    let mut caller = rig.tank.caller().await;
    assert_eq!(caller.call(&Request::get("/v1/models")).await.status, 200);
    drop(caller);
    until("the connection is gone", || {
        rig.tank.proxy.fleet().live() == 0
    })
    .await;
    assert_eq!(rig.tank.outcomes("served"), 1);
}

/// Leaves in the phase that `reach` brings a caller to; the best time of three until `seen`.
async fn quickest<Reached, Seen>(
    reach: impl AsyncFn() -> (Caller, Reached),
    seen: impl AsyncFn(Reached) -> Seen,
) -> Duration {
    let mut quickest = Duration::MAX;
    for leaving in [Leaving::Fin, Leaving::Reset, Leaving::Fin] {
        let (caller, reached) = reach().await;
        let left = Instant::now();
        leaving.leave(caller);
        seen(reached).await;
        quickest = quickest.min(left.elapsed());
    }
    quickest
}

#[tokio::test]
async fn who_leaves_while_it_waits_for_its_turn_is_gone_at_once() {
    // For the user's own limit, and in the lane behind a closed gate.
    for (blocks, first) in [
        (
            "limits: { per_user: { concurrent: 1, when_exceeded: wait, max_wait: 30s } }",
            "hang",
        ),
        ("", "429;retry-after-ms=20000"),
    ] {
        let lab =
            surgetank::lab::Lab::start(surgetank::lab::LabConfig::default()).expect("a free port");
        let tank = Recipe::over(&lab.url())
            .retry_anew("base: 1s, max_retries: 0")
            .start_with(blocks);
        // One key, so that both are of one lane.
        let request = Tongue::Chat
            .plain()
            .header("x-surgetank-user", "ann")
            .script("k", &format!("{first},ok"));
        let mut holder = tank.caller().await;
        holder.send(request.bytes()).await;
        lab.wait_for(|stats| stats.requests == 1, PATIENCE)
            .await
            .expect("it is asked");
        let running = if first == "hang" {
            1
        } else {
            assert_eq!(holder.answer().await.status, 429);
            0
        };
        let in_flight = || tank.count("surgetank_in_flight_requests", &[]);
        let took = quickest(
            async || {
                let mut caller = tank.caller().await;
                caller.send(request.bytes()).await;
                until("it waits", || in_flight() == running + 1).await;
                (caller, ())
            },
            async |()| until("it is gone", || in_flight() == running).await,
        )
        .await;
        assert!(took <= AT_ONCE, "{first}: {took:?}");
        assert_eq!(lab.stats().requests, 1, "{first}: nobody was asked for it");
        drop(holder);
        tank.at_rest().await;
    }
}

#[tokio::test]
async fn who_leaves_while_a_retry_is_awaited_is_gone_at_once() {
    let rig = Rig::with(|recipe| recipe.retry_anew("base: 20s, cap: 20s"));
    let in_flight = || rig.tank.count("surgetank_in_flight_requests", &[]);
    let took = quickest(
        async || {
            let before = rig.lab.stats().answered;
            let mut caller = rig.tank.caller().await;
            caller
                .send(Tongue::Chat.plain().script("k", "500*").bytes())
                .await;
            rig.lab_has("the first attempt", |stats| stats.answered > before)
                .await;
            until("it waits", || in_flight() == 1).await;
            (caller, ())
        },
        async |()| until("it is gone", || in_flight() == 0).await,
    )
    .await;
    assert!(took <= AT_ONCE, "{took:?}");
}

#[tokio::test]
async fn who_leaves_while_its_upstream_is_connected_to_ends_the_connecting() {
    // A listener that accepts and never shakes hands: TLS is a part of connecting.
    let origin = Origin::start().await;
    let url = origin.url().replace("http://", "https://");
    let tank = Recipe::over(&url).timeouts("connect: 30s").start();
    let took = quickest(
        async || {
            let mut caller = tank.caller().await;
            caller.send(Tongue::Chat.plain().bytes()).await;
            let mut upstream = origin.accept().await;
            upstream.wire.fill().await; // its first words
            (caller, upstream)
        },
        async |mut upstream| upstream.wire.closed().await,
    )
    .await;
    assert!(took <= AT_ONCE, "{took:?}");
    tank.at_rest().await;
}

#[tokio::test]
async fn who_leaves_in_an_upload_that_passes_ends_it_at_once() {
    let origin = Origin::start().await;
    let tank =
        Recipe::over(&origin.url()).start_with("replay: { per_request: 64KiB, total: 1MiB }");
    let took = quickest(
        async || {
            let mut caller = tank.caller().await;
            caller
                .send("POST /v1/files HTTP/1.1\r\nhost: app\r\ncontent-length: 10000000\r\n\r\n")
                .await;
            caller.send(vec![b'x'; 500_000]).await;
            let mut upstream = origin.accept().await;
            upstream.wire.through(b"\r\n\r\n").await;
            (caller, upstream)
        },
        async |mut upstream| upstream.wire.closed().await,
    )
    .await;
    assert!(took <= AT_ONCE, "{took:?}");
    tank.at_rest().await;
}

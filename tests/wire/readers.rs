//! Callers who take their time, or take nothing: what outlives its end is ended, each in the way in which its caller
//! can tell, and what had been said before is read to the end by whoever reads.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use surgetank::server::Stage;
use tokio::{
    task::{JoinHandle, JoinSet},
    time::Instant,
};

use super::harness::{
    Caller, End, H2Caller, Origin, OriginConnection, Play, Recipe, Request, Rig, Tank, Tongue,
    Wire, chunked, read_h2, soon, text, until,
};

const HEAD: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
const EVENT: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"x\"}}]}\n\n";

/// An upstream that floods some callers, for as long as they take it, and is quiet with others.
struct Source {
    url: String,
    /// Floods that somebody has turned off.
    let_go: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Source {
    async fn start() -> Self {
        let origin = Origin::start().await;
        let (url, let_go) = (origin.url(), Arc::new(AtomicUsize::new(0)));
        let counter = let_go.clone();
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                connections.spawn(play(origin.accept_at_last().await, counter.clone()));
            }
        });
        Self { url, let_go, task }
    }

    async fn is_let_go(&self) {
        until("the upstream is let go", || {
            self.let_go.load(Ordering::Relaxed) == 1
        })
        .await;
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn play(mut connection: OriginConnection, let_go: Arc<AtomicUsize>) {
    let flood = chunked(EVENT.repeat(16 * 1024 / EVENT.len()));
    while let Some(seen) = connection.next_request().await {
        let wire = &mut connection.wire;
        let Some(kind) = seen.head.one("x-play") else {
            connection.send_json("{}").await;
            continue;
        };
        wire.send([HEAD.as_bytes(), &chunked(EVENT)].concat()).await;
        if kind == "flood" {
            while wire.try_send(&flood).await.is_ok() {}
            let_go.fetch_add(1, Ordering::Relaxed);
            return;
        }
        for _ in 0..60 {
            tokio::time::sleep(Duration::from_millis(30)).await;
            wire.send(chunked(EVENT)).await;
        }
        wire.send([&chunked("data: [DONE]\n\n"), b"0\r\n\r\n".as_slice()].concat())
            .await;
    }
}

/// Far more than all the buffers on its way hold.
fn flood() -> Request {
    Tongue::Chat.stream().header("x-play", "flood")
}

#[tokio::test]
async fn a_reader_that_pauses_does_not_outlive_the_time_of_its_request() {
    let source = Source::start().await;
    // It may pause for a minute, which is longer than this test waits for anything.
    let tank = Recipe::over(&source.url)
        .total("1s")
        .server("head_timeout: 200ms, write_idle: 60s")
        .start();
    let mut caller = tank.caller().await;
    let began = Instant::now();
    caller.send(flood().bytes()).await;
    assert_eq!(caller.head().await.status(), 200);
    source.is_let_go().await;
    tank.at_rest().await;
    assert!(began.elapsed() >= Duration::from_secs(1));
    let (rest, _) = soon("the connection ends", caller.wire.rest()).await;
    assert!(!rest.ends_with(b"0\r\n\r\n"), "it does not look whole");
}

/// A caller of HTTP/2 that takes nothing of its first answer and all of its second.
async fn stalls_beside_another(tank: &Tank, source: &Source) {
    let mut caller = H2Caller::connect(tank.addr, 100).await;
    // One event fits into its window; of the rest it takes nothing.
    let mut stalled = caller.call(&flood()).await.into_body();
    let other = Tongue::Chat.stream().header("x-play", "slow");
    let mut other = caller.call(&other).await.into_body();
    let whole = read_h2(&mut other).await;
    assert_eq!(whole.reset, None, "the neighbour is not touched");
    assert!(text(&whole.data).contains(Tongue::Chat.terminator()));
    source.is_let_go().await;
    tank.at_rest().await;
    let rest = read_h2(&mut stalled).await;
    assert_eq!(rest.reset, Some(h2::Reason::CANCEL), "{}", text(&rest.data));
    let again = caller.call(&Request::get("/again")).await;
    assert_eq!(again.status(), 200, "the connection lives on");
}

#[tokio::test]
async fn a_stream_without_a_window_is_reset_alone_when_its_reader_has_stalled() {
    let source = Source::start().await;
    let recipe = Recipe::over(&source.url).server("write_idle: 400ms");
    stalls_beside_another(&recipe.start(), &source).await;
}

#[tokio::test]
async fn a_stream_without_a_window_is_reset_alone_when_its_time_is_up() {
    let source = Source::start().await;
    let recipe = Recipe::over(&source.url).server("head_timeout: 200ms");
    let tank = recipe.start();
    let own_time = flood().header("x-surgetank-timeout-ms", "700");
    let mut caller = H2Caller::connect(tank.addr, 100).await;
    let began = Instant::now();
    let mut stalled = caller.call(&own_time).await.into_body();
    source.is_let_go().await;
    assert!(began.elapsed() >= Duration::from_millis(700));
    assert_eq!(read_h2(&mut stalled).await.reset, Some(h2::Reason::CANCEL));
    let again = caller.call(&Request::get("/again")).await;
    assert_eq!(again.status(), 200, "the connection lives on");
}

#[tokio::test]
async fn a_silent_stream_of_http2_is_told_when_the_process_ends() {
    for tongue in Tongue::ALL {
        let rig = Rig::start();
        let mut caller = H2Caller::connect(rig.tank.addr, 1 << 20).await;
        let answer = caller
            .call(&tongue.stream().script("silent", "hang-body;after=2"))
            .await;
        let mut body = answer.into_body();
        let first = soon("the first event", body.data())
            .await
            .expect("not the end");
        first.expect("no reset yet");
        rig.tank.proxy.lifecycle().advance(Stage::Draining);
        rig.tank.proxy.lifecycle().advance(Stage::Ending);
        let rest = tokio::time::timeout(Duration::from_secs(3), read_h2(&mut body)).await;
        let rest = rest.unwrap_or_else(|_| panic!("{tongue:?}: no end in time"));
        let said = text(&rest.data);
        assert!(said.contains(tongue.error_mark()), "{tongue:?}: {said}");
        assert_eq!(
            rest.reset,
            Some(h2::Reason::INTERNAL_ERROR),
            "and no clean end"
        );
    }
}

#[tokio::test]
async fn an_idle_connection_of_http2_may_ping_and_is_told_to_end() {
    let rig = Rig::with(|recipe| recipe.server("head_timeout: 200ms, keepalive_idle: 1s"));
    let mut caller = H2Caller::connect(rig.tank.addr, 1 << 20).await;
    let began = Instant::now();
    for _ in 0..12 {
        caller.ping().await.expect("it lives");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(caller.call(&Tongue::Chat.plain()).await.status(), 200);
    // From the first request on: idle for longer than a head may take, and pinging all the time.
    let pinging = async {
        while caller.ping().await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    soon("it is ended", pinging).await;
    assert!(
        began.elapsed() >= Duration::from_millis(1500),
        "not before its idle time: {:?}",
        began.elapsed()
    );
    let end = soon("the connection ends", caller.driving)
        .await
        .expect("no panic");
    assert!(end.is_ok(), "by GOAWAY: {end:?}");
}

#[tokio::test]
async fn half_a_head_behind_a_request_has_no_more_time_than_any_head() {
    let rig = Rig::with(|recipe| recipe.server("head_timeout: 300ms, keepalive_idle: 10m"));
    let mut caller = rig.tank.caller().await;
    let mut both = Request::get("/v1/models").bytes();
    both.extend_from_slice(b"GET /v1/models HTTP/1.1\r\nhost: a");
    caller.send(both).await;
    assert_eq!(caller.answer_to("GET").await.status, 200);
    soon("it is closed", caller.wire.closed()).await;
    // One that ends in time is a request like any other.
    let mut caller = rig.tank.caller().await;
    let mut both = Request::get("/v1/models").bytes();
    both.extend_from_slice(b"GET /v1/models HTTP/1.1\r\nho");
    caller.send(both).await;
    assert_eq!(caller.answer_to("GET").await.status, 200);
    caller.send("st: app\r\n\r\n").await;
    assert_eq!(caller.answer_to("GET").await.status, 200);
}

/// The same request from a caller of HTTP/1.0, whose answer lasts until the connection closes.
fn old(request: &Request) -> Vec<u8> {
    let bytes = request.bytes();
    let at = super::harness::find(&bytes, b"HTTP/1.1").expect("a request line");
    let mut bytes = bytes;
    bytes[at..at + 8].copy_from_slice(b"HTTP/1.0");
    bytes
}

/// How the connection of such a caller ends, and what it read.
async fn read_until_closed(tank: &Tank, request: &Request) -> (String, End) {
    let mut caller = tank.caller().await;
    caller.send(old(request)).await;
    let head = caller.head().await;
    assert_eq!(head.status(), 200);
    assert!(
        !head.has("content-length") && !head.has("transfer-encoding"),
        "{head:?}"
    );
    let (rest, end) = caller.wire.rest().await;
    (text(&rest), end)
}

#[tokio::test]
async fn an_old_caller_can_tell_a_broken_answer_from_a_whole_one() {
    let rig = Rig::with(|recipe| recipe.timeouts("idle: 300ms"));
    for tongue in Tongue::ALL {
        let (whole, end) = read_until_closed(&rig.tank, &tongue.stream()).await;
        assert!(whole.contains(tongue.terminator()), "{tongue:?}: {whole}");
        assert_eq!(end, End::Fin, "{tongue:?}");
        for script in ["cut", "cut;split", "cut-clean", "hang-body"] {
            let key = format!("{tongue:?}-{script}");
            let request = tongue.stream().script(&key, script);
            let (_, end) = read_until_closed(&rig.tank, &request).await;
            assert_eq!(end, End::Reset, "{tongue:?} {script}");
        }
    }
    rig.tank.at_rest().await;
}

#[tokio::test]
async fn an_old_caller_is_not_deceived_by_the_end_of_its_time_or_of_the_process() {
    let slow = Tongue::Chat
        .stream()
        .script("slow", "ok;interval=20ms;words=2000");
    let rig = Rig::with(|recipe| recipe.total("500ms"));
    assert_eq!(read_until_closed(&rig.tank, &slow).await.1, End::Reset);

    // It reads nothing at all, so that nobody looks at the time but the connection.
    let source = Source::start().await;
    let tank = Recipe::over(&source.url)
        .server("write_idle: 300ms")
        .start();
    let mut caller = tank.caller().await;
    caller.send(old(&flood())).await;
    caller.head().await;
    tank.at_rest().await;
    assert_eq!(caller.wire.closed().await, End::Reset);

    let rig = Rig::start();
    let mut caller = rig.tank.caller().await;
    caller.send(old(&slow)).await;
    caller.head().await;
    rig.tank.proxy.lifecycle().advance(Stage::Ending);
    assert_eq!(
        soon("the end", caller.wire.closed()).await,
        End::Reset,
        "the process ends"
    );
}

#[tokio::test]
async fn a_slow_reader_still_reads_why_its_stream_broke() {
    // Over a Unix socket, because the buffers of its kernel side are small and do not grow.
    let folder = std::env::temp_dir().join(format!("surgetank-readers-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a directory");
    let path = folder.join("tank.sock");
    let filler = EVENT.repeat(16 * 1024 / EVENT.len());
    let piece = chunked(&filler);
    let origin = Origin::start().await.play(move |seen| {
        let pieces: usize = seen
            .head
            .one("x-pieces")
            .and_then(|pieces| pieces.parse().ok())
            .expect("how many");
        Play::Last([HEAD.as_bytes(), &piece.repeat(pieces)].concat())
    });
    let yaml = Recipe::over(&origin.url())
        .retry("max_retries: 0")
        .yaml("")
        .replace(
            "listen: 127.0.0.1:0",
            &format!("listen: unix:{}", path.display()),
        );
    let tank = Tank::from_yaml(&yaml);
    for pieces in 4..40 {
        let mut caller = Caller {
            wire: Wire::connect_unix(&path).await,
        };
        let request = Tongue::Chat
            .stream()
            .header("x-pieces", &pieces.to_string());
        caller.send(request.bytes()).await;
        // Where there is room for all of it, the break is noticed while nobody reads; where there is
        // none, when somebody does. In between, what tells of it is still on its way then.
        let broken = || tank.count("surgetank_stream_broken_total", &[]);
        let before = broken();
        let noticing = until("the break is noticed", || broken() > before);
        let at_most = if pieces == 4 { 30_000 } else { 150 };
        let _ = tokio::time::timeout(Duration::from_millis(at_most), noticing).await;
        let answer = caller.answer().await;
        let said = answer.text();
        assert_eq!(answer.end, End::Fin, "{pieces} pieces");
        assert_eq!(
            said.matches(EVENT).count(),
            filler.matches(EVENT).count() * pieces
        );
        assert!(
            said.contains(Tongue::Chat.error_mark()),
            "{pieces} pieces: the error event is lost"
        );
    }
    tank.at_rest().await;
    let _ = std::fs::remove_dir_all(folder);
}

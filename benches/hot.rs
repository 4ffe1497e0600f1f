//! What the parts of the way of a request cost, each alone: `cargo bench --profile ci --bench hot`.
//!
//! The limiter has a bench of its own (`limit`). Before the table it tells what the lane takes of a whole request: its
//! passage is timed alone, and set against the processor time that a worker spends on a request of 2 KB through the whole
//! stack, over loopback, in the same run. Fails where that is more than a twentieth.

use std::{
    fs,
    hint::black_box,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    process::ExitCode,
    sync::Arc,
    thread,
    time::Duration,
};

use bytes::Bytes;
use divan::{Bencher, counter::BytesCount};
use http::{HeaderMap, HeaderValue};
use surgetank::{
    config::{self, Config},
    dialect::{AnswerReader, Ask, Dialect},
    identity::Identities,
    lane::{
        Label, Lane, LaneKey, LaneSettings, LaneTable, Outcome, Priority, Request, UserKey,
        headers::quota_reports,
    },
    proxy::Proxy,
    retry::triage::{self, triage},
    server::Listener,
    stream::{coding::Coding, sse::Framer, watch::Watch},
    telemetry::{Metrics, ModelNames},
};
use tokio::time::Instant;

const CHAT: Dialect = Dialect::CHAT_COMPLETIONS;

/// The largest share of a request's processor time that the lane may take.
const LANE_SHARE: f64 = 0.05;

fn main() -> ExitCode {
    let within = lane_share();
    divan::main();
    if within {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// A chat request of about this many bytes.
fn body(len: usize) -> Bytes {
    let open = r#"{"model":"m","user":"user-1","messages":[{"role":"user","content":""#;
    let close = r#""}]}"#;
    let text = "a".repeat(len.saturating_sub(open.len() + close.len()));
    [open, &text, close].concat().into()
}

/// What an official SDK sends.
fn headers() -> HeaderMap {
    let fields = [
        ("host", "127.0.0.1:4290"),
        ("accept", "application/json"),
        ("content-type", "application/json"),
        ("user-agent", "OpenAI/Python 2.8.0"),
        (
            "authorization",
            "Bearer sk-0123456789abcdef0123456789abcdef",
        ),
        ("x-stainless-lang", "python"),
        ("x-stainless-retry-count", "0"),
        ("x-stainless-read-timeout", "600"),
    ];
    let fields = fields.map(|(name, value)| (name, HeaderValue::from_static(value)));
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.insert(name, value);
    }
    headers
}

/// What a request asks for.
#[divan::bench(args = [2 << 10, 100 << 10, 10 << 20])]
fn read_a_body(bencher: Bencher<'_, '_>, len: usize) {
    let body = body(len);
    bencher
        .counter(BytesCount::new(len))
        .bench(|| Ask::read(CHAT, black_box(&body)));
}

/// Who asks, once that is known: by the body's field, and by the credential where there is none.
#[divan::bench(args = ["body", "credential"])]
fn identify(bencher: Bencher<'_, '_>, by: &str) {
    let identities =
        Identities::new(&config::Limits::default(), &|_| None).expect("nothing is read");
    let body = if by == "body" {
        body(2048)
    } else {
        Bytes::from_static(b"{}")
    };
    let (headers, ask) = (headers(), Ask::read(CHAT, &body));
    bencher.bench(|| identities.of(black_box(&headers), black_box(&ask), None));
}

fn lane() -> Arc<Lane> {
    Arc::new(Lane::new(
        LaneSettings::default(),
        Label::new(ModelNames::default(), Some("m")),
    ))
}

fn asked(now: Instant) -> Request {
    Request {
        user: UserKey(7),
        retry: None,
        patience_until: now + Duration::from_secs(60),
        deadline: None,
        cost: 1,
        priority: Priority::default(),
    }
}

/// A served request's passage through a healthy lane: admission, report, end.
async fn pass(lane: &Arc<Lane>) {
    let permit = lane
        .admit(asked(Instant::now()))
        .await
        .expect("nobody else is there");
    permit.report(Outcome::Served, &[]);
}

#[divan::bench]
fn pass_a_lane(bencher: Bencher<'_, '_>) {
    let (runtime, lane) = (runtime(), lane());
    bencher.bench_local(|| runtime.block_on(pass(&lane)));
}

/// Finding a lane among as many as there can be.
#[divan::bench]
fn find_a_lane(bencher: Bencher<'_, '_>) {
    let table = LaneTable::default();
    let find = |credential: u128| {
        let key = LaneKey {
            upstream: 0,
            credential,
            model: 1,
        };
        table.lane(key, || (LaneSettings::default(), Label::shared()))
    };
    let _lanes: Vec<_> = (0..1_000).map(find).collect();
    let mut credential = 0;
    bencher.bench_local(|| {
        credential = (credential + 379) % 1_000;
        find(black_box(credential))
    });
}

#[divan::bench]
fn judge_a_status(bencher: Bencher<'_, '_>) {
    bencher.bench(|| {
        triage(black_box(&triage::Outcome::Answered {
            status: 429,
            has_retry_after: true,
            should_retry: None,
            signal: None,
        }))
    });
}

/// The vendor's word on its quotas.
#[divan::bench]
fn read_quotas(bencher: Bencher<'_, '_>) {
    let mut headers = headers();
    for (name, value) in [
        ("x-ratelimit-limit-requests", "500"),
        ("x-ratelimit-remaining-requests", "499"),
        ("x-ratelimit-reset-requests", "120ms"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    bencher.bench(|| quota_reports(black_box(&headers), 512.0));
}

fn event() -> Bytes {
    let event = r#"{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1764115200,"model":"m","choices":[{"index":0,"delta":{"content":" token"},"finish_reason":null}]}"#;
    format!("data: {event}\n\n").into()
}

/// An event on its way, told apart from the next.
#[divan::bench]
fn frame_an_event(bencher: Bencher<'_, '_>) {
    let (event, mut framer) = (event(), Framer::new(1 << 20));
    bencher
        .counter(BytesCount::new(event.len()))
        .bench_local(|| {
            framer.push(black_box(event.clone()));
            framer.next_frame()
        });
}

/// The same and read for its meaning, as every event of a stream is.
#[divan::bench]
fn watch_an_event(bencher: Bencher<'_, '_>) {
    let (event, mut watch) = (event(), Watch::new(CHAT, Coding::Identity));
    bencher
        .counter(BytesCount::new(event.len()))
        .bench_local(|| watch.see(black_box(&event)));
}

/// A plain answer of 1 KB, read for what it tells of itself.
#[divan::bench]
fn skim_an_answer(bencher: Bencher<'_, '_>) {
    let answer = answer();
    bencher.counter(BytesCount::new(answer.len())).bench(|| {
        let mut reader = AnswerReader::new(CHAT);
        reader.see(black_box(answer.as_bytes()));
        reader.reading()
    });
}

/// What a served request counts, each by its labels.
#[divan::bench]
fn count_a_request(bencher: Bencher<'_, '_>) {
    let metrics = Metrics::new().expect("no name twice");
    bencher.bench(|| {
        let labels = [black_box("default"), "openai_chat", "served"];
        metrics.requests.with_label_values(&labels).inc();
        let labels = [black_box("default"), "served"];
        metrics
            .request_seconds
            .with_label_values(&labels)
            .observe(0.25);
        let labels = [black_box("openai"), "m", "served", "first"];
        metrics.attempts.with_label_values(&labels).inc();
    });
}

fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().expect("a runtime")
}

fn answer() -> String {
    let text = "a".repeat(800);
    format!(
        r#"{{"id":"chatcmpl-1","object":"chat.completion","model":"m","choices":[{{"index":0,"message":{{"role":"assistant","content":"{text}"}},"finish_reason":"stop"}}],"usage":{{"prompt_tokens":500,"completion_tokens":200,"total_tokens":700}}}}"#
    )
}

/// Tells how the lane's cost compares with a whole request's; whether that is little enough.
fn lane_share() -> bool {
    const PASSES: u32 = 200_000;
    let (runtime, lane) = (runtime(), lane());
    let began = Instant::now();
    runtime.block_on(async {
        for _ in 0..PASSES {
            pass(&lane).await;
        }
    });
    let passage = began.elapsed() / PASSES;
    let Some(whole) = whole_request() else {
        println!(
            "the processor time of a thread is not to be had here: the lane's share is not measured"
        );
        return true;
    };
    let share = passage.as_secs_f64() / whole.as_secs_f64();
    println!(
        "the lane takes {passage:.1?} of the {whole:.1?} of a request: {:.1} %",
        share * 100.0
    );
    share <= LANE_SHARE
}

/// Processor time of the worker for a request through the whole stack; `None` where the system does not tell it.
fn whole_request() -> Option<Duration> {
    const REQUESTS: u32 = 20_000;
    let upstream = fake_api();
    let yaml = format!(
        "listen: 127.0.0.1:0\nadmin: none\nupstreams: {{ up: {{ base_url: 'http://{upstream}' }} }}\nroutes: [ {{ upstream: up }} ]\nserver: {{ workers: 1 }}\n"
    );
    let config = Config::parse("bench", &yaml, &|_| None).expect("a valid configuration");
    let runtime = runtime();
    let _entered = runtime.enter();
    let proxy = Proxy::start(&config, &|_| None).expect("it starts");
    let listener = Listener::bind(&config.listen[0]).expect("a free port");
    let addr = listener.tcp_addr().expect("TCP");
    thread::spawn(move || runtime.block_on(proxy.serve(vec![listener])));
    let mut stream = TcpStream::connect(addr).expect("somebody listens");
    stream.set_nodelay(true).expect("a socket");
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: app\r\nauthorization: Bearer k\r\ncontent-type: application/json\r\ncontent-length: 2048\r\n\r\n{}",
        String::from_utf8_lossy(&body(2048))
    );
    let mut call = |times: u32| {
        for _ in 0..times {
            stream.write_all(request.as_bytes()).expect("it takes it");
            read_message(&mut stream);
        }
    };
    call(1_000);
    let before = worker_time()?;
    call(REQUESTS);
    Some(worker_time()?.saturating_sub(before) / REQUESTS)
}

/// Answers every request of 2 KB on every connection.
fn fake_api() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = listener.local_addr().expect("bound");
    let answer = answer();
    let answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{answer}",
        answer.len()
    );
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, answer) = (stream.expect("a connection"), answer.clone());
            thread::spawn(move || {
                while read_message(&mut stream) {
                    stream.write_all(answer.as_bytes()).expect("it takes it");
                }
            });
        }
    });
    addr
}

/// Reads a message with a length; `false` at the connection's end.
fn read_message(stream: &mut TcpStream) -> bool {
    let (mut seen, mut piece) = (Vec::new(), [0; 8192]);
    loop {
        let Ok(read @ 1..) = stream.read(&mut piece) else {
            return false;
        };
        seen.extend_from_slice(&piece[..read]);
        let Some(head) = memchr::memmem::find(&seen, b"\r\n\r\n") else {
            continue;
        };
        let text = String::from_utf8_lossy(&seen[..head]).to_ascii_lowercase();
        let (_, length) = text.split_once("content-length: ").expect("a length");
        let length: usize = length
            .lines()
            .next()
            .and_then(|it| it.parse().ok())
            .expect("a number");
        if seen.len() >= head + 4 + length {
            return true;
        }
    }
}

/// User and system time of the worker's thread so far.
fn worker_time() -> Option<Duration> {
    const TICK: Duration = Duration::from_millis(10);
    for task in fs::read_dir("/proc/self/task").ok()?.flatten() {
        let stat = fs::read_to_string(task.path().join("stat")).ok()?;
        let (name, fields) = stat.rsplit_once(") ")?;
        if name.ends_with("(surgetank-0") {
            let mut fields = fields.split_whitespace().skip(11);
            let mut ticks = || fields.next()?.parse::<u32>().ok();
            return Some(TICK * (ticks()? + ticks()?));
        }
    }
    None
}

//! What surgetank adds to the time between an upstream's first event and its caller having it.
//!
//! Both ends live in this process and share its clock: the upstream notes the moment before it writes the event, the
//! caller the moment after it has read it. Direct and proxied calls take turns, so that both meet the same machine.
//! Fails where the proxied median is 2 ms or more.

use std::{net::SocketAddr, process::ExitCode, time::Duration};

use surgetank::{config::Config, proxy::Proxy, server::Listener};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::Instant,
};

const ROUNDS: usize = 500;
const WARM_UP: usize = 50;
const LIMIT: Duration = Duration::from_millis(2);

const HEAD: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
const EVENT: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"x\"},\"finish_reason\":\"stop\"}]}\n\n";
const BODY: &str = r#"{"model":"m","stream":true,"messages":[{"role":"user","content":"hello"}]}"#;

/// Serves requests on one connection; tells when each first event was about to leave.
async fn upstream(mut stream: TcpStream, sent: mpsc::Sender<Instant>) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut seen = Vec::new();
    loop {
        while !seen.ends_with(BODY.as_bytes()) {
            if stream.read_buf(&mut seen).await? == 0 {
                return Ok(());
            }
        }
        seen.clear();
        stream.write_all(HEAD.as_bytes()).await?;
        let event = format!("{:x}\r\n{EVENT}\r\n", EVENT.len());
        // Nobody waits for this moment before the event is out, so noting it costs the measurement nothing.
        let now = Instant::now();
        stream.write_all(event.as_bytes()).await?;
        if sent.send(now).await.is_err() {
            return Ok(());
        }
        stream.write_all(b"0\r\n\r\n").await?;
    }
}

/// One call on a kept connection; the moment in which its first event was there.
async fn call(stream: &mut TcpStream) -> std::io::Result<Instant> {
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: app\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{BODY}",
        BODY.len()
    );
    stream.write_all(head.as_bytes()).await?;
    let (mut seen, mut got) = (Vec::new(), None);
    loop {
        if stream.read_buf(&mut seen).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let now = Instant::now();
        if got.is_none() && memchr::memmem::find(&seen, EVENT.as_bytes()).is_some() {
            got = Some(now);
        }
        if let (Some(got), true) = (got, seen.ends_with(b"0\r\n\r\n")) {
            return Ok(got);
        }
    }
}

struct Times(Vec<Duration>);

impl Times {
    fn at(&mut self, part: f64) -> Duration {
        self.0.sort_unstable();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a part of a short list's length"
        )]
        let index = (part * (self.0.len() - 1) as f64) as usize;
        self.0[index]
    }

    fn show(&mut self, name: &str) {
        println!(
            "{name:<10} median {:>10.1?}   p90 {:>10.1?}   p99 {:>10.1?}",
            self.at(0.5),
            self.at(0.9),
            self.at(0.99)
        );
    }
}

fn start_proxy(upstream: SocketAddr) -> (Proxy, Listener, SocketAddr) {
    let yaml = format!(
        "listen: 127.0.0.1:0\nadmin: none\nupstreams: {{ up: {{ base_url: 'http://{upstream}' }} }}\nroutes: [ {{ upstream: up }} ]\n"
    );
    let config = Config::parse("bench", &yaml, &|_| None).expect("a valid configuration");
    let proxy = Proxy::start(&config, &|_| None).expect("it starts");
    let listener = Listener::bind(&config.listen[0]).expect("a free port");
    let addr = listener.tcp_addr().expect("TCP");
    (proxy, listener, addr)
}

#[tokio::main]
async fn main() -> ExitCode {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let origin = listener.local_addr().expect("bound");
    let (sent, mut sending) = mpsc::channel(1);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(upstream(stream, sent.clone()));
        }
    });
    let (proxy, proxy_listener, proxied) = start_proxy(origin);
    tokio::spawn(async move { proxy.serve(vec![proxy_listener]).await });

    let mut connections = [origin, proxied].map(|addr| {
        let stream = std::net::TcpStream::connect(addr).expect("somebody listens");
        stream.set_nonblocking(true).expect("a socket");
        stream.set_nodelay(true).expect("a socket");
        TcpStream::from_std(stream).expect("a runtime")
    });
    let mut times = [Times(Vec::new()), Times(Vec::new())];
    for round in 0..WARM_UP + ROUNDS {
        for (stream, times) in connections.iter_mut().zip(&mut times) {
            let (got, sent) = tokio::join!(call(stream), sending.recv());
            let took = got
                .expect("a whole answer")
                .saturating_duration_since(sent.expect("an event"));
            if round >= WARM_UP {
                times.0.push(took);
            }
        }
    }
    let [direct, through] = &mut times;
    direct.show("direct");
    through.show("proxied");
    let added = through.at(0.5).saturating_sub(direct.at(0.5));
    println!("added      median {added:>10.1?}   over {ROUNDS} streams each");
    if through.at(0.5) < LIMIT {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

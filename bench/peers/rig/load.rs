//! Plain requests on kept connections.

use std::{cell::RefCell, net::SocketAddr, rc::Rc, time::Duration};

use serde_json::json;
use tokio::{
    io::AsyncWriteExt as _,
    net::TcpStream,
    task::JoinSet,
    time::{Instant, sleep_until},
};

use crate::{stats, wire::Inbox};

#[derive(clap::Args)]
pub(crate) struct Settings {
    /// Whom it calls.
    #[arg(long)]
    to: SocketAddr,
    /// Connections at once.
    #[arg(long, default_value_t = 32)]
    connections: u32,
    /// How long, in seconds.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Requests a second over all connections, by the clock whatever the answers do; without it, as fast as they come.
    #[arg(long)]
    rate: Option<f64>,
    /// Distinct users that take turns, also on one connection; at most ten million.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    users: u32,
    /// A header line that every request carries besides.
    #[arg(long)]
    header: Vec<String>,
}

/// A prompt of the size that a support chat sends.
const BODY_BYTES: usize = 2048;

#[derive(Default)]
struct Tally {
    times: Vec<u64>,
    errors: u64,
}

pub(crate) async fn run(settings: Settings) -> anyhow::Result<()> {
    let tally = Rc::new(RefCell::new(Tally::default()));
    let started = Instant::now();
    let until = started + Duration::from_secs_f64(settings.seconds);
    let pause = settings
        .rate
        .map(|rate| Duration::from_secs_f64(f64::from(settings.connections) / rate));
    let callers = tokio::task::LocalSet::new();
    let mut running = JoinSet::new();
    for number in 0..settings.connections {
        let caller = Caller {
            to: settings.to,
            // The connections' turns are spread over the pause, so that calls come evenly.
            first: started + pause.unwrap_or_default() * number / settings.connections,
            pause,
            until,
            request: Request::new(&settings),
            user: number,
            step: settings.connections,
            users: settings.users,
            tally: tally.clone(),
        };
        running.spawn_local_on(caller.call(), &callers);
    }
    callers
        .run_until(async {
            while let Some(done) = running.join_next().await {
                if !matches!(done, Ok(Ok(()))) {
                    tally.borrow_mut().errors += 1;
                }
            }
        })
        .await;
    let seconds = started.elapsed().as_secs_f64();
    let mut tally = tally.borrow_mut();
    let requests = tally.times.len();
    println!(
        "{}",
        json!({
            "requests": requests,
            "errors": tally.errors,
            "seconds": seconds,
            "rps": requests as f64 / seconds,
            "latency_us": stats::percentiles(&mut tally.times),
        })
    );
    Ok(())
}

struct Caller {
    to: SocketAddr,
    first: Instant,
    pause: Option<Duration>,
    until: Instant,
    request: Request,
    /// Whose request is next, and how far it is to the one after.
    user: u32,
    step: u32,
    users: u32,
    tally: Rc<RefCell<Tally>>,
}

impl Caller {
    async fn call(mut self) -> std::io::Result<()> {
        let mut stream = TcpStream::connect(self.to).await?;
        stream.set_nodelay(true)?;
        let mut inbox = Inbox::default();
        let mut due = self.first;
        loop {
            if self.pause.is_some() {
                sleep_until(due).await;
            }
            let began = Instant::now();
            if began >= self.until {
                return Ok(());
            }
            self.request.name(self.user % self.users);
            self.user = self.user.wrapping_add(self.step);
            stream.write_all(&self.request.bytes).await?;
            let answer = inbox.message(&mut stream).await?;
            // From the moment it was sent: the timer's own lateness is not the proxy's.
            let took = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
            match answer {
                Some(answer) if answer.status() == 200 => self.tally.borrow_mut().times.push(took),
                Some(_) => self.tally.borrow_mut().errors += 1,
                None => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            }
            due += self.pause.unwrap_or_default();
        }
    }
}

/// The bytes of a request, in which only the user changes.
struct Request {
    bytes: Vec<u8>,
    /// Where the digits of its user stand.
    users: Vec<usize>,
}

const USER_DIGITS: usize = 7;

impl Request {
    fn new(settings: &Settings) -> Self {
        let bytes = request(settings, 0);
        let mark = format!("user-{:0USER_DIGITS$}", 0);
        let places = memchr::memmem::find_iter(&bytes, mark.as_bytes());
        let users = places.map(|at| at + "user-".len()).collect();
        Self { bytes, users }
    }

    fn name(&mut self, user: u32) {
        for place in &self.users {
            let mut rest = user;
            for digit in self.bytes[*place..place + USER_DIGITS].iter_mut().rev() {
                *digit = b"0123456789"[rest as usize % 10];
                rest /= 10;
            }
        }
    }
}

fn request(settings: &Settings, user: u32) -> Vec<u8> {
    let open = format!(
        r#"{{"model":"m","user":"user-{user:0USER_DIGITS$}","messages":[{{"role":"user","content":""#
    );
    let close = r#""}]}"#;
    let text = "a".repeat(BODY_BYTES - open.len() - close.len());
    let head = head(settings.to, user, BODY_BYTES);
    let (line, fields) = head.split_at(head.find('\n').map_or(0, |at| at + 1));
    let mut whole = line.to_owned();
    for header in &settings.header {
        whole += header;
        whole += "\r\n";
    }
    [whole.as_str(), fields, &open, &text, close]
        .concat()
        .into_bytes()
}

/// What an official SDK sends, in number and size.
pub(crate) fn head(to: SocketAddr, user: u32, length: usize) -> String {
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: {to}\r\naccept: application/json\r\ncontent-type: application/json\r\nuser-agent: OpenAI/Python 2.8.0\r\nauthorization: Bearer sk-0123456789abcdef0123456789abcdef\r\nx-surgetank-user: user-{user:07}\r\nx-stainless-lang: python\r\nx-stainless-package-version: 2.8.0\r\nx-stainless-retry-count: 0\r\nx-stainless-read-timeout: 600\r\naccept-encoding: gzip, deflate\r\ncontent-length: {length}\r\n\r\n"
    )
}

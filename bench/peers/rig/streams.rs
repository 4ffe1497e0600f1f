//! Streams, and the delay of every event between the upstream's hand and the caller's.

use std::{cell::RefCell, net::SocketAddr, rc::Rc};

use memchr::memmem;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
    time::{Duration, Instant, sleep},
};

use crate::{load, stats, wire::Inbox};

#[derive(clap::Args)]
pub(crate) struct Settings {
    /// Whom it calls.
    #[arg(long)]
    to: SocketAddr,
    /// Streams at once; they begin spread over one pause of the upstream.
    #[arg(long, default_value_t = 200)]
    streams: u32,
    /// Milliseconds over which they begin.
    #[arg(long, default_value_t = 20)]
    spread: u64,
}

pub(crate) const BODY: &str =
    r#"{"model":"m","stream":true,"messages":[{"role":"user","content":"hello"}]}"#;

const MARK: &[u8] = b"chatcmpl-";
const DONE: &[u8] = b"data: [DONE]\n\n";
const DIGITS: usize = 20;

#[derive(Default)]
struct Tally {
    delays: Vec<u64>,
    /// From the request to the first event.
    firsts: Vec<u64>,
    /// How far the time between two events differs from that at the upstream.
    bunching: Vec<u64>,
    errors: u64,
}

pub(crate) async fn run(settings: Settings) -> anyhow::Result<()> {
    let tally = Rc::new(RefCell::new(Tally::default()));
    let started = Instant::now();
    let callers = tokio::task::LocalSet::new();
    let mut running = JoinSet::new();
    for number in 0..settings.streams {
        let after = Duration::from_millis(settings.spread) * number / settings.streams;
        running.spawn_local_on(read(settings.to, number, after, tally.clone()), &callers);
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
    let mut tally = tally.borrow_mut();
    let events = tally.delays.len();
    println!(
        "{}",
        json!({
            "events": events,
            "errors": tally.errors,
            "seconds": started.elapsed().as_secs_f64(),
            "delay_us": stats::percentiles(&mut tally.delays),
            "first_us": stats::percentiles(&mut tally.firsts),
            "bunching_us": stats::percentiles(&mut tally.bunching),
        })
    );
    Ok(())
}

async fn read(
    to: SocketAddr,
    number: u32,
    after: Duration,
    tally: Rc<RefCell<Tally>>,
) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(to).await?;
    stream.set_nodelay(true)?;
    sleep(after).await;
    let asked = stats::now();
    ask(&mut stream, to, number).await?;
    let mut inbox = Inbox::default();
    inbox.head(&mut stream).await?;
    let mut last: Option<(u64, u64)> = None;
    loop {
        let now = stats::now();
        let (sent, done) = events(inbox.bytes());
        for sent in sent {
            let mut tally = tally.borrow_mut();
            tally.delays.push(now.saturating_sub(sent));
            match last {
                None => tally.firsts.push(now.saturating_sub(asked)),
                Some((sent_before, got_before)) => {
                    let (out, back) = (
                        sent.saturating_sub(sent_before),
                        now.saturating_sub(got_before),
                    );
                    tally.bunching.push(out.abs_diff(back));
                }
            }
            last = Some((sent, now));
        }
        if done {
            return Ok(());
        }
        if stream.read_buf(inbox.bytes()).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
}

pub(crate) async fn ask(stream: &mut TcpStream, to: SocketAddr, user: u32) -> std::io::Result<()> {
    let request = format!("{}{BODY}", load::head(to, user % 100, BODY.len()));
    stream.write_all(request.as_bytes()).await
}

/// Takes the events out of `bytes` as far as they are there: when each was sent, and whether the stream has ended.
fn events(bytes: &mut Vec<u8>) -> (Vec<u64>, bool) {
    let (mut sent, mut used) = (Vec::new(), 0);
    while let Some(at) = memmem::find(&bytes[used..], MARK) {
        let from = used + at + MARK.len();
        let Some(digits) = bytes.get(from..from + DIGITS) else {
            break;
        };
        sent.push(digits.iter().fold(0, |sum, digit| {
            sum * 10 + u64::from(digit.wrapping_sub(b'0'))
        }));
        used = from + DIGITS;
    }
    let done = memmem::find(&bytes[used..], DONE).is_some();
    bytes.drain(..used);
    (sent, done)
}

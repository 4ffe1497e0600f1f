//! A store that answers what no store should: nothing panics, nothing grows, nobody waits.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use surgetank::{
    config::Store,
    limit::{
        identity::UserKey,
        plan::{Limit, Plan, Scope, Unit},
    },
    store::limits::{Asked, Entry, PlanPrint, SharedLimits as _},
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::Instant,
};

use super::{
    limits::{Instance, Times},
    replicas::{Replicas, of},
};

const TIMEOUT: Duration = Duration::from_millis(300);
const SLACK: Duration = Duration::from_millis(1_500);

/// Speaks properly until it is asked to run a script; then it says `reply`, again and again if `endless`.
struct Fake {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Fake {
    async fn saying(reply: &'static [u8], endless: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(speak(stream, reply, endless));
            }
        });
        Self { address, task }
    }

    fn url(&self) -> String {
        format!("redis://{}", self.address)
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn speak(stream: TcpStream, reply: &'static [u8], endless: bool) {
    let mut stream = BufReader::new(stream);
    while let Some(command) = command(&mut stream).await {
        let answer: &[u8] = match command.as_str() {
            "PING" => b"+PONG\r\n",
            "EVAL" | "EVALSHA" => reply,
            _ => b"+OK\r\n",
        };
        let is_hostile = command.starts_with("EVAL");
        loop {
            if stream.write_all(answer).await.is_err() {
                return;
            }
            if !(endless && is_hostile) {
                break;
            }
        }
    }
}

/// The first word of the next command.
async fn command(stream: &mut BufReader<TcpStream>) -> Option<String> {
    let count = number(stream, '*').await?;
    let mut first = None;
    for _ in 0..count {
        let length = number(stream, '$').await?;
        let mut word = vec![0; length + 2];
        stream.read_exact(&mut word).await.ok()?;
        word.truncate(length);
        first.get_or_insert(String::from_utf8_lossy(&word).to_ascii_uppercase());
    }
    first
}

async fn number(stream: &mut BufReader<TcpStream>, mark: char) -> Option<usize> {
    let mut line = String::new();
    stream.read_line(&mut line).await.ok()?;
    line.trim().strip_prefix(mark)?.parse().ok()
}

fn asked() -> Asked {
    let limit = Limit {
        unit: Unit::Requests,
        count: 7,
        per: Duration::from_secs(60),
        burst: 7,
    };
    let plan = Plan::new(Scope::User, &[limit], Some(2)).expect("a sound rate");
    Asked {
        entries: vec![Entry {
            user: Some(UserKey::from_source("test", b"ann")),
            print: PlanPrint::of("", &plan, None),
            plan: Arc::new(plan),
        }],
        tokens: 0,
    }
}

const REPLIES: &[(&str, &[u8])] = &[
    ("a word", b"+OK\r\n"),
    ("a text", b"$5\r\nhello\r\n"),
    ("nothing", b"$-1\r\n"),
    ("no array", b"*-1\r\n"),
    ("an empty array", b"*0\r\n"),
    ("too few numbers", b"*2\r\n:1\r\n:2\r\n"),
    (
        "negative numbers",
        b"*5\r\n:1\r\n:-5\r\n:-1\r\n:-9223372036854775808\r\n:-1\r\n",
    ),
    (
        "too large numbers",
        b"*5\r\n:1\r\n:9223372036854775807\r\n:9223372036854775807\r\n:1\r\n:0\r\n",
    ),
    (
        "parts beyond the rule",
        b"*5\r\n:1\r\n:1000\r\n:0\r\n:1000\r\n:4294967295\r\n",
    ),
    ("a number that is none", b":ninety\r\n"),
    (
        "a refusal for no reason",
        b"*5\r\n:0\r\n:1000\r\n:0\r\n:0\r\n:0\r\n",
    ),
    (
        "out of memory",
        b"-OOM command not allowed when used memory > 'maxmemory'.\r\n",
    ),
    (
        "loading",
        b"-LOADING Redis is loading the dataset in memory\r\n",
    ),
    ("moved to nowhere", b"-MOVED 1 127.0.0.1:1\r\n"),
    ("moved to nonsense", b"-MOVED x\r\n"),
    ("always unknown", b"-NOSCRIPT No matching script.\r\n"),
    (
        "wrong type",
        b"-WRONGTYPE Operation against a key holding the wrong kind of value\r\n",
    ),
    ("no permission", b"-NOPERM this user has no permissions\r\n"),
    ("an error without words", b"-\r\n"),
    ("a cut array", b"*5\r\n:1\r\n:10"),
    ("a gibibyte to come", b"$1073741824\r\nabc"),
    ("a billion numbers to come", b"*1073741824\r\n:1\r\n"),
    ("more than there is to come", b"*9223372036854775807\r\n"),
    ("a text without an end", b"$99999999999999999999\r\n"),
    (
        "a message nobody asked for",
        b">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1\r\nm\r\n",
    ),
    ("a map", b"%1\r\n+a\r\n:1\r\n"),
    ("another protocol", b"HTTP/1.1 400 Bad Request\r\n\r\n"),
    ("noise", b"\x00\xff\xfe\r\n\x01\r\n"),
];

/// The memory of this process that is in RAM, in MiB.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux tells");
    let pages: u64 = statm
        .split_whitespace()
        .nth(1)
        .expect("it tells")
        .parse()
        .expect("a number");
    pages * 4 / 1024
}

async fn fails_in_time(instance: &Instance, what: &str) {
    for _ in 0..2 {
        let began = Instant::now();
        let answer = instance.limits.admit(asked()).await;
        let took = began.elapsed();
        assert!(took <= TIMEOUT + SLACK, "{what}: {took:?}");
        // What is said in good form is taken for an answer; the limiter looks whether it makes sense.
        if what != "a refusal for no reason" && what != "too large numbers" {
            assert!(answer.is_err(), "{what}: {answer:?}");
        }
    }
}

#[tokio::test]
async fn whatever_is_answered_a_call_fails_and_that_in_time() {
    let before = resident();
    for (what, reply) in REPLIES {
        let fake = Fake::saying(reply, false).await;
        let store = Store {
            timeout: TIMEOUT,
            ..Store::at(fake.url())
        };
        fails_in_time(&Instance::start(&store, Times::default()), what).await;
    }
    let grown = resident().saturating_sub(before);
    assert!(grown < 100, "{grown} MiB more than before");
}

#[tokio::test]
async fn what_never_ends_is_not_kept() {
    let before = resident();
    for reply in [
        &b"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"[..],
        b"*1\r\n",
        b"+OK\r\n",
        b"$10\r\n0123456789\r\n",
    ] {
        let fake = Fake::saying(reply, true).await;
        let store = Store {
            timeout: TIMEOUT,
            ..Store::at(fake.url())
        };
        fails_in_time(
            &Instance::start(&store, Times::default()),
            "what never ends",
        )
        .await;
    }
    let grown = resident().saturating_sub(before);
    assert!(grown < 400, "{grown} MiB more than before");
}

#[tokio::test]
async fn no_caller_notices() {
    for (what, reply) in REPLIES {
        let fake = Fake::saying(reply, false).await;
        let limits = "per_user: { requests: 7/min, concurrent: 2 }";
        for (fail, expected) in [("open", 200), ("local", 200), ("closed", 503)] {
            let replicas = Replicas::start(1, &fake.url(), &format!("fail: {fail}"), limits);
            let answer = replicas.tanks[0].call(&of("ann")).await;
            if *what == "too large numbers" {
                continue;
            }
            assert_eq!(answer.status, expected, "{what}, {fail}: {}", answer.text());
            replicas.tanks[0].has_only_bounded_labels();
        }
    }
}

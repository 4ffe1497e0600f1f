//! Every fault of the lab, once through the proxy, in every dialect, plain and streaming: what may come of it is a
//! closed list, and nothing may hang, panic or get lost from the books.

use std::collections::BTreeSet;

use futures_util::StreamExt as _;
use surgetank::lab::{CATALOGUE, Lab, LabConfig};

use super::harness::{Answer, End, Recipe, Rig, Tongue, soon, until};

/// What the caller sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    /// A whole answer that parses.
    Answer,
    /// A 200 that is whole as HTTP; what it says is the upstream's business.
    Odd,
    /// This status, as the upstream sent it.
    Passed(u16),
    /// surgetank's own error.
    Ours(u16),
    /// A 200 that visibly broke off.
    Broken,
}

use Seen::{Answer as Whole, Broken, Odd, Ours, Passed};

/// Fault by its name in the catalogue; what is played; what comes of it plain and streaming.
type Row = (&'static str, &'static str, &'static [Seen], &'static [Seen]);

const fn status(name: &'static str, seen: &'static [Seen]) -> Row {
    (name, name, seen, seen)
}

const TABLE: &[Row] = &[
    status("ok", &[Whole]),
    status("400", &[Passed(400)]),
    status("401", &[Passed(401)]),
    status("402", &[Passed(402)]),
    status("403", &[Passed(403)]),
    status("404", &[Passed(404)]),
    status("408", &[Passed(408)]),
    status("409", &[Passed(409)]),
    status("413", &[Passed(413)]),
    status("422", &[Passed(422)]),
    (
        "429",
        "429;retry-after-ms=10",
        &[Passed(429)],
        &[Passed(429)],
    ),
    status("500", &[Passed(500)]),
    status("502", &[Passed(502)]),
    status("503", &[Passed(503)]),
    status("504", &[Passed(504)]),
    status("529", &[Passed(529)]),
    status("204", &[Passed(204)]),
    status("304", &[Passed(304)]),
    status("301", &[Passed(301)]),
    status("302", &[Passed(302)]),
    status("303", &[Passed(303)]),
    status("307", &[Passed(307)]),
    status("308", &[Passed(308)]),
    status("insufficient-quota", &[Passed(429)]),
    status("credit-balance-exhausted", &[Passed(429)]),
    status("spend-limit", &[Passed(429)]),
    status("usage-limit", &[Passed(400), Passed(429)]),
    status("request-too-large", &[Passed(400), Passed(429)]),
    (
        "slow-down",
        "slow-down;retry-after-ms=10",
        &[Passed(429)],
        &[Passed(429)],
    ),
    status("refuse", &[Ours(502)]),
    ("closed", "closed;for=20ms", &[Ours(502)], &[Ours(502)]),
    status("hang", &[Ours(504)]),
    status("reset", &[Ours(502)]),
    status("fin", &[Ours(502)]),
    status("fin-head", &[Ours(502)]),
    ("hang-body", "hang-body", &[Broken], &[Broken]),
    // A reset may overtake what was sent before it.
    (
        "reset-body",
        "reset-body",
        &[Ours(502)],
        &[Broken, Ours(502)],
    ),
    ("cut", "cut", &[Ours(502)], &[Broken]),
    ("cut-clean", "cut-clean", &[Odd], &[Broken]),
    ("drip", "drip;every=0ms;words=3", &[Whole], &[Whole]),
    ("short-length", "short-length", &[Odd], &[Broken]),
    ("long-length", "long-length", &[Ours(502)], &[Whole]),
    ("error-first", "error-first", &[Odd, Whole], &[Odd, Broken]),
    (
        "error-preamble",
        "error-preamble",
        &[Odd, Whole],
        &[Odd, Broken],
    ),
    ("error-mid", "error-mid", &[Odd, Whole], &[Odd, Broken]),
    ("giant-event", "giant-event;size=2MiB", &[Whole], &[Whole]),
    status("giant-headers", &[Ours(502)]),
    ("invalid-utf8", "invalid-utf8", &[Odd], &[Whole]),
    ("interim", "interim;count=20", &[Whole], &[Whole]),
    ("gzip", "gzip", &[Odd], &[Odd, Whole]),
    status("length-and-chunked", &[Whole]),
    status("trailers", &[Whole]),
    status("bad-head", &[Ours(502)]),
    status("close-idle", &[Whole]),
    ("empty", "empty", &[Odd], &[Ours(502)]),
    status("json", &[Whole]),
    status("raw", &[Ours(502)]),
];

fn seen(tongue: Tongue, answer: &Answer) -> Seen {
    let streamed = answer
        .head
        .one("content-type")
        .is_some_and(|kind| kind.starts_with("text/event-stream"));
    let parses = if streamed {
        answer.text().contains(tongue.terminator()) && !answer.text().contains(tongue.error_mark())
    } else {
        serde_json::from_slice::<serde_json::Value>(&answer.body).is_ok()
    };
    match (answer.status, answer.end) {
        (200, End::Whole) if parses => Whole,
        (200, End::Whole) => Odd,
        (200, _) => Broken,
        (status, End::Whole) if answer.head.has("x-lab-fault") => Passed(status),
        (status, End::Whole) => Ours(status),
        (_, end) => panic!("an error that ended by {end:?}: {}", answer.text()),
    }
}

#[test]
fn the_table_knows_every_fault_of_the_lab() {
    let catalogue: BTreeSet<_> = CATALOGUE.iter().map(|entry| entry.name).collect();
    let table: BTreeSet<_> = TABLE.iter().map(|(name, ..)| *name).collect();
    assert_eq!(
        catalogue.difference(&table).collect::<Vec<_>>(),
        Vec::<&&str>::new(),
        "faults without a row"
    );
    assert_eq!(
        table.difference(&catalogue).collect::<Vec<_>>(),
        Vec::<&&str>::new(),
        "rows without a fault"
    );
    assert_eq!(table.len(), TABLE.len(), "a fault has two rows");
    for (name, script, ..) in TABLE {
        assert_eq!(script.split(';').next(), Some(*name));
    }
}

/// Plays one row in one dialect; what was wrong with it.
async fn play(rig: &Rig, row: &Row, tongue: Tongue, stream: bool) -> Result<(), String> {
    let (name, script, plain, streaming) = row;
    let (request, expected) = if stream {
        (tongue.stream(), streaming)
    } else {
        (tongue.plain(), plain)
    };
    let key = format!("{name}-{tongue:?}-{stream}");
    let request = request
        .header("x-lab-fault", script)
        .header("x-lab-key", &key)
        .header("x-goog-api-key", &key);
    let called = soon(&key, rig.tank.caller().await.try_call(&request)).await;
    let answer = called.map_err(|end| format!("{key}: {end:?} instead of an answer"))?;
    let got = seen(tongue, &answer);
    let attempts = rig.attempts(&key).len();
    if expected.contains(&got) && (1..=3).contains(&attempts) {
        return Ok(());
    }
    let text: String = answer.text().chars().take(120).collect();
    Err(format!(
        "{key}: {got:?} after {attempts} attempts, expected {expected:?}: {text}"
    ))
}

#[tokio::test]
async fn every_fault_has_one_of_its_expected_ends() {
    let lab = Lab::start(LabConfig::default()).expect("a free port");
    let tank = Recipe::over(&lab.url())
        .retry("max_retries: 1")
        .timeouts("first_byte: 2s, idle: 2s")
        // What a status would have been is seen in it alone.
        .start_with("stream: { notice_after: never }");
    let rig = Rig { lab, tank };
    let asked = |row: &'static Row| {
        Tongue::ALL
            .into_iter()
            .flat_map(move |tongue| [(row, tongue, false), (row, tongue, true)])
    };
    // A closed listener would meet the others too, so its row goes alone.
    let (closed, open): (Vec<_>, Vec<_>) = TABLE
        .iter()
        .flat_map(asked)
        .partition(|(row, ..)| row.0 == "closed");
    let playing = open
        .iter()
        .map(|(row, tongue, stream)| play(&rig, row, *tongue, *stream));
    let mut played: Vec<_> = futures_util::stream::iter(playing)
        .buffer_unordered(16)
        .collect()
        .await;
    for (row, tongue, stream) in &closed {
        played.push(play(&rig, row, *tongue, *stream).await);
        until("the lab listens again", || {
            std::net::TcpStream::connect(rig.lab.addr()).is_ok()
        })
        .await;
    }
    let requests = played.len() as u64;
    let wrong: Vec<_> = played.into_iter().filter_map(Result::err).collect();
    assert!(
        wrong.is_empty(),
        "{} of {requests}:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    rig.tank.at_rest().await;
    // The books: each request has one outcome, and the lab saw no attempt that was not counted.
    assert_eq!(rig.tank.count("surgetank_requests_total", &[]), requests);
    let counted = rig.tank.count("surgetank_upstream_attempts_total", &[]);
    let stats = rig.lab.stats();
    assert!(
        counted >= stats.requests,
        "{counted} attempts counted, {} seen",
        stats.requests
    );
    assert_eq!(
        stats.trapped + stats.misused + stats.malformed,
        0,
        "{stats:?}"
    );
}

//! `/_lab/…`: what the lab saw, for tests that cannot look inside.

use serde::Serialize;

use super::echo::{sha256, to_json};
use super::fault::CATALOGUE;
use super::head::Head;
use super::record::{Outcome, RequestRecord, latin1, shown};
use super::reply::{Finish, Reply};
use super::shared::Shared;

/// Where redirects point that a proxy must not follow.
pub(super) const TRAP: &str = "/_lab/trap";

const JSON: &str = "application/json";

/// A record as JSON shows it.
#[derive(Debug, Serialize)]
struct View<'a> {
    id: u64,
    connection: u64,
    key: Option<&'a str>,
    attempt: Option<u32>,
    method: &'a str,
    target: &'a str,
    headers: Vec<(String, String)>,
    body_length: usize,
    /// Only of bodies that are remembered whole.
    body_sha256: Option<String>,
    trailers: Vec<String>,
    played: &'a str,
    status: Option<u16>,
    arrived_ms: f64,
    ended_ms: Option<f64>,
    #[serde(flatten)]
    outcome: Outcome,
}

#[derive(Debug, Serialize)]
struct Requests<'a> {
    requests: Vec<View<'a>>,
}

/// One line of the list of faults.
#[derive(Debug, Serialize)]
struct FaultView {
    name: &'static str,
    takes: &'static [&'static str],
    about: &'static str,
}

/// Answers a request to `/_lab/…`; `None` for all others.
pub(super) fn answer(lab: &Shared, head: &Head) -> Option<Reply> {
    let action = head.path().strip_prefix("/_lab/")?;
    let mut reply = match (head.method.as_str(), action) {
        ("GET", "stats") => Reply::with_body(200, JSON, to_json(&lab.stats())),
        ("GET", "requests") => {
            Reply::with_body(200, JSON, requests(lab, key(&head.target).as_deref()))
        }
        ("GET", "faults") => Reply::with_body(200, JSON, faults()),
        ("POST", "reset") => {
            lab.reset();
            Reply::with_body(200, JSON, "{}")
        }
        (_, "trap") => {
            lab.count(|stats| stats.trapped += 1);
            Reply::with_body(200, JSON, r#"{"trap":true}"#)
        }
        _ => Reply::with_body(
            404,
            JSON,
            r#"{"error":"the lab has stats, requests, faults (GET) and reset (POST) here"}"#,
        ),
    };
    reply.head_only = head.method == "HEAD";
    if !head.keeps_alive() {
        reply.finish = Finish::Close;
    }
    Some(reply)
}

fn requests(lab: &Shared, key: Option<&str>) -> String {
    let records = lab.requests(key);
    to_json(&Requests {
        requests: records.iter().map(view).collect(),
    })
}

fn view(record: &RequestRecord) -> View<'_> {
    let whole = record.body.len() == record.body_len;
    View {
        id: record.id,
        connection: record.connection,
        key: record.key.as_deref(),
        attempt: record.attempt,
        method: &record.method,
        target: &record.target,
        headers: record
            .headers
            .iter()
            .map(|(name, value)| (latin1(name), shown(name, value)))
            .collect(),
        body_length: record.body_len,
        body_sha256: whole.then(|| sha256(&record.body)),
        trailers: record.trailers.iter().map(|line| latin1(line)).collect(),
        played: &record.played,
        status: record.status,
        arrived_ms: record.arrived.as_secs_f64() * 1e3,
        ended_ms: record.ended.map(|ended| ended.as_secs_f64() * 1e3),
        outcome: record.outcome,
    }
}

fn faults() -> String {
    let list = CATALOGUE.iter().map(|entry| FaultView {
        name: entry.name,
        takes: entry.takes,
        about: entry.about,
    });
    to_json(&list.collect::<Vec<_>>())
}

/// The value of `key` in the query, taken as it stands: keys of tests need no encoding.
fn key(target: &str) -> Option<String> {
    let (_, query) = target.split_once('?')?;
    query
        .split('&')
        .find_map(|pair| pair.strip_prefix("key="))
        .map(str::to_owned)
}

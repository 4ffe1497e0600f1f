//! What the lab remembers: counters, and the last requests with how they ended.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;

use super::config::RecordConfig;
use super::fault::Fault;
use super::head::{CREDENTIALS, Head};

/// Counters since the start or the last reset.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Connections that were accepted.
    pub connections: u64,
    /// Connections that are open now.
    pub live_connections: u64,
    /// Connections that the listener reset on arrival.
    pub refused_connections: u64,
    /// Requests whose head arrived, without those to `/_lab/`.
    pub requests: u64,
    /// Requests that are not ended yet.
    pub live_requests: u64,
    /// Answers that were sent to their last byte, whatever their status.
    pub answered: u64,
    /// Answers that were broken on purpose, silence included.
    pub broken: u64,
    /// Requests whose caller left before the end.
    pub cancelled: u64,
    /// Requests that the quota rejected.
    pub throttled: u64,
    /// Requests rejected because too many ran at once.
    pub overloaded: u64,
    /// Answers for which a vendor's model would have worked, and billed; whole, broken or abandoned.
    pub executions: u64,
    /// Requests that were refused because they break the rules of HTTP or the lab's bounds.
    pub malformed: u64,
    /// Requests with an `x-lab-…` header that the lab does not understand.
    pub misused: u64,
    /// Requests that followed a redirect into the trap.
    pub trapped: u64,
    /// Answers by status, as far as a status was sent.
    pub by_status: BTreeMap<u16, u64>,
    /// Requests by the fault that was played; `ok` among them.
    pub by_fault: BTreeMap<String, u64>,
}

/// How far a request had come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase", tag = "in")]
pub enum Phase {
    /// Its body was still arriving.
    Request,
    /// The response head was not sent yet.
    Headers,
    /// The response body was being sent.
    Body {
        /// Bytes of the body that were handed to the system.
        bytes: u64,
    },
}

impl Stats {
    /// Counts the fault that a request meets.
    pub(super) fn met(&mut self, fault: Fault) {
        *self.by_fault.entry(fault.name().into_owned()).or_default() += 1;
    }

    /// Counts the end of a request.
    pub(super) fn ended(&mut self, outcome: Outcome, status: Option<u16>) {
        self.live_requests = self.live_requests.saturating_sub(1);
        match outcome {
            Outcome::Completed => self.answered += 1,
            Outcome::Broken => self.broken += 1,
            Outcome::CallerLeft(_) => self.cancelled += 1,
            Outcome::Open => {}
        }
        if let Some(status) = status {
            *self.by_status.entry(status).or_default() += 1;
        }
    }
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "outcome")]
pub enum Outcome {
    /// It has not.
    Open,
    /// With a whole answer.
    Completed,
    /// Broken on purpose.
    Broken,
    /// The caller left.
    CallerLeft(Phase),
}

/// One request as the lab received it.
#[derive(Clone)]
pub struct RequestRecord {
    /// Number of the request, from 1.
    pub id: u64,
    /// Number of the connection, from 1.
    pub connection: u64,
    /// The value of `x-lab-key`.
    pub key: Option<String>,
    /// Which request with this key it is, from 1.
    pub attempt: Option<u32>,
    /// The method.
    pub method: String,
    /// The request target, byte for byte.
    pub target: String,
    /// The whole request head, byte for byte.
    pub head: Bytes,
    /// Names and values in the order of arrival.
    pub headers: Vec<(Bytes, Bytes)>,
    /// The body, up to the configured length.
    pub body: Bytes,
    /// The length of the whole body.
    pub body_len: usize,
    /// Trailer lines.
    pub trailers: Vec<Bytes>,
    /// What was played: a fault's name, `quota` or `concurrency`; empty while the request is still arriving.
    pub played: String,
    /// The status that was sent, if one was.
    pub status: Option<u16>,
    /// When the head had arrived, since the start or the last reset.
    pub arrived: Duration,
    /// When it ended.
    pub ended: Option<Duration>,
    /// How it ended.
    pub outcome: Outcome,
}

impl RequestRecord {
    /// The first value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        let named = |(field, _): &&(Bytes, Bytes)| field.eq_ignore_ascii_case(name.as_bytes());
        self.headers
            .iter()
            .find(named)
            .map(|(_, value)| value.as_ref())
    }

    /// All values of a header, in the order of arrival.
    pub fn headers_named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.headers
            .iter()
            .filter(move |(field, _)| field.eq_ignore_ascii_case(name.as_bytes()))
            .map(|(_, value)| value.as_ref())
    }

    pub(super) fn new(id: u64, connection: u64, head: &Head, arrived: Duration) -> Self {
        Self {
            id,
            connection,
            key: None,
            attempt: None,
            method: head.method.clone(),
            target: head.target.clone(),
            head: head.raw.clone(),
            headers: head.fields.clone(),
            body: Bytes::new(),
            body_len: 0,
            trailers: Vec::new(),
            played: String::new(),
            status: None,
            arrived,
            ended: None,
            outcome: Outcome::Open,
        }
    }
}

impl fmt::Debug for RequestRecord {
    /// Leaves out credentials and content: a failed assertion prints this.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("RequestRecord")
            .field("id", &self.id)
            .field("key", &self.key)
            .field("attempt", &self.attempt)
            .field("method", &self.method)
            .field("path", &self.target.split('?').next())
            .field("body_len", &self.body_len)
            .field("played", &self.played)
            .field("status", &self.status)
            .field("outcome", &self.outcome)
            .finish_non_exhaustive()
    }
}

/// A header value as it may be shown: secrets only as a fingerprint.
pub(super) fn shown(name: &[u8], value: &[u8]) -> String {
    let secret = CREDENTIALS
        .iter()
        .any(|field| name.eq_ignore_ascii_case(field.as_bytes()));
    if secret {
        format!("sha256:{}", &super::echo::sha256(value)[..16])
    } else {
        latin1(value)
    }
}

/// Bytes as text, one character a byte, so that nothing is lost.
pub(super) fn latin1(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

/// Counters and records.
#[derive(Debug)]
pub(super) struct Ledger {
    config: RecordConfig,
    pub(super) stats: Stats,
    records: VecDeque<RequestRecord>,
    /// Number of resets. What began before the last one is no longer counted.
    epoch: u64,
}

impl Ledger {
    pub(super) fn new(config: RecordConfig) -> Self {
        Self {
            config,
            stats: Stats::default(),
            records: VecDeque::new(),
            epoch: 0,
        }
    }

    /// Forgets everything but the open connections. Requests that are still alive belong to the past.
    pub(super) fn reset(&mut self) {
        let live_connections = self.stats.live_connections;
        self.stats = Stats {
            live_connections,
            ..Stats::default()
        };
        self.records.clear();
        self.epoch += 1;
    }

    /// Notes a request that has begun; returns the epoch that it belongs to.
    pub(super) fn begin(&mut self, record: RequestRecord) -> u64 {
        self.stats.requests += 1;
        self.stats.live_requests += 1;
        if self.records.len() >= self.config.requests {
            self.records.pop_front();
        }
        if self.config.requests > 0 {
            // Ids are given under another lock, so that two requests may come in the wrong order.
            let later = self.records.iter().rev();
            let later = later.take_while(|other| other.id > record.id).count();
            self.records.insert(self.records.len() - later, record);
        }
        self.epoch
    }

    /// The counters, unless the request belongs to an epoch that was forgotten.
    pub(super) fn stats_of(&mut self, epoch: u64) -> Option<&mut Stats> {
        (epoch == self.epoch).then_some(&mut self.stats)
    }

    /// Notes what a request brought; `keep` copies the part of the body that is remembered.
    pub(super) fn body(&mut self, id: u64, body: &Bytes, trailers: &[Bytes]) {
        let cap = self.config.body_bytes;
        if let Some(record) = self.record(id) {
            // A slice would hold on to the whole body.
            record.body = if body.len() <= cap {
                body.clone()
            } else {
                Bytes::copy_from_slice(&body[..cap])
            };
            record.body_len = body.len();
            record.trailers = trailers.to_vec();
        }
    }

    /// Notes what is played.
    pub(super) fn played(&mut self, id: u64, played: &str) {
        if let Some(record) = self.record(id) {
            played.clone_into(&mut record.played);
        }
    }

    /// Notes the end of a request.
    pub(super) fn end(&mut self, id: u64, outcome: Outcome, status: Option<u16>, at: Duration) {
        if let Some(record) = self.record(id) {
            record.outcome = outcome;
            record.status = status;
            record.ended = Some(at);
        }
    }

    /// The remembered requests, oldest first; only those with a key where one is given.
    pub(super) fn records(&self, key: Option<&str>) -> Vec<RequestRecord> {
        let wanted =
            |record: &&RequestRecord| key.is_none_or(|key| record.key.as_deref() == Some(key));
        self.records.iter().filter(wanted).cloned().collect()
    }

    fn record(&mut self, id: u64) -> Option<&mut RequestRecord> {
        // In the order of ids; a reset may have emptied the front.
        let index = self
            .records
            .binary_search_by_key(&id, |record| record.id)
            .ok()?;
        self.records.get_mut(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(id: u64) -> RequestRecord {
        let head = Head {
            method: "GET".to_owned(),
            target: "/".to_owned(),
            minor_version: 1,
            fields: Vec::new(),
            raw: Bytes::new(),
        };
        RequestRecord::new(id, 1, &head, Duration::ZERO)
    }

    #[test]
    fn requests_that_begin_in_the_wrong_order_are_found() {
        let mut ledger = Ledger::new(RecordConfig::default());
        for id in [1, 4, 2, 3, 5] {
            ledger.begin(record(id));
        }
        for id in 1..=5 {
            ledger.played(id, &id.to_string());
        }
        let played: Vec<String> = ledger.records(None).into_iter().map(|r| r.played).collect();
        assert_eq!(played, ["1", "2", "3", "4", "5"]);
    }
}

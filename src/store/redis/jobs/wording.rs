//! What is said to the script, and how its answers are read.

use std::fmt::Display;

use redis::{FromRedisValue, ParsingError, Value};

use super::Settings;
use crate::store::jobs::{
    Bounds, Depth, End, JobId, Millis, NewJob, OnCrash, Owed, Record, State, Taken,
};

/// An operation and what it takes.
#[derive(Debug)]
pub(super) struct Words {
    operation: &'static str,
    arguments: Vec<Vec<u8>>,
}

impl Words {
    fn new(operation: &'static str) -> Self {
        Self {
            operation,
            arguments: Vec::new(),
        }
    }

    fn text(mut self, text: impl Into<Vec<u8>>) -> Self {
        self.arguments.push(text.into());
        self
    }

    fn number(self, number: impl Display + Copy) -> Self {
        self.text(number.to_string())
    }

    fn id(self, id: JobId) -> Self {
        self.text(id.to_string())
    }

    fn at(self, moment: Millis) -> Self {
        self.number(moment.0)
    }

    pub(super) fn put(job: &NewJob, bounds: Bounds) -> Self {
        Self::new("put")
            .at(job.now)
            .id(job.id)
            .text(hex(&job.owner))
            .text(hex(&job.user))
            .text(job.key.map(|key| hex(&key)).unwrap_or_default())
            .text(hex(&job.print))
            .text(job.route.as_str())
            .text(job.head.as_slice())
            .text(job.body.as_slice())
            .text(job.webhook.as_deref().unwrap_or_default())
            .at(job.expires)
            .number(bounds.requests)
            .number(bounds.bytes)
    }

    pub(super) fn take(route: &str, most: usize, now: Millis) -> Self {
        Self::new("take").at(now).text(route).number(most)
    }

    pub(super) fn give_back(id: JobId, due: Millis) -> Self {
        Self::new("give_back").id(id).at(due)
    }

    pub(super) fn begin(id: JobId, now: Millis) -> Self {
        Self::new("begin").id(id).at(now)
    }

    pub(super) fn end(id: JobId, end: &End, now: Millis) -> Self {
        let words = Self::new("end").id(id).at(now);
        match end {
            End::Done {
                head,
                body,
                expires,
            } => words
                .text("done")
                .text(head.as_slice())
                .text(body.as_slice())
                .at(*expires),
            End::Again { due, uncertain } => {
                words.text("again").at(*due).number(u8::from(*uncertain))
            }
            End::Failed { note, expires } => words.text("failed").text(note.as_str()).at(*expires),
            End::Uncertain { note, expires } => {
                words.text("uncertain").text(note.as_str()).at(*expires)
            }
        }
    }

    /// `held` are entries with the numbers of their taking, of which the store knows nothing.
    pub(super) fn renew(held: &[(JobId, u64)]) -> Self {
        let ids = held.iter().map(|(id, _)| id);
        ids.fold(Self::new("renew"), |words, id| words.id(*id))
    }

    pub(super) fn routes() -> Self {
        Self::new("routes")
    }

    pub(super) fn look(id: JobId) -> Self {
        Self::new("look").id(id)
    }

    pub(super) fn look_up(key: &[u8; 32]) -> Self {
        Self::new("look_up").text(hex(key))
    }

    pub(super) fn answer(id: JobId) -> Self {
        Self::new("answer").id(id)
    }

    pub(super) fn remove(id: JobId, now: Millis, forget: Millis) -> Self {
        Self::new("remove").id(id).at(now).at(forget)
    }

    pub(super) fn retry(id: JobId, now: Millis, expires: Millis) -> Self {
        Self::new("retry").id(id).at(now).at(expires)
    }

    pub(super) fn list(state: Option<State>, most: usize) -> Self {
        let words = Self::new("list").number(most);
        let codes = state.map_or(&[][..], codes_of);
        codes.iter().fold(words, |words, code| words.number(*code))
    }

    pub(super) fn sweep(now: Millis, keep: Millis, expired: &str) -> Self {
        Self::new("sweep").at(now).at(keep).text(expired)
    }

    pub(super) fn owed(most: usize, now: Millis, again: Millis) -> Self {
        Self::new("owed").number(most).at(now).at(again)
    }

    pub(super) fn told(id: JobId, next: Option<Millis>) -> Self {
        let next = next.map(|next| next.0.to_string());
        Self::new("told").id(id).text(next.unwrap_or_default())
    }

    /// The script's arguments, with who speaks and how it wants to be treated.
    pub(super) fn said_by(self, name: &str, settings: &Settings) -> Vec<Vec<u8>> {
        let on_crash = match settings.on_crash {
            OnCrash::Retry => "retry",
            OnCrash::Uncertain => "uncertain",
        };
        let head = Self::new(self.operation)
            .text(self.operation)
            .text(name)
            .number(settings.lease.as_millis())
            .text(on_crash)
            .at(Millis::now().after(settings.keep));
        let mut arguments = head.arguments;
        arguments.extend(self.arguments);
        arguments
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn bytes<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    if text.len() != 2 * N || !text.is_ascii() {
        return None;
    }
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * index..2 * index + 2)?, 16).ok()?;
    }
    Some(bytes)
}

/// How full the queue is, as every answer tells: entries by the script's states, bytes, and the oldest.
pub(super) fn depth_of(told: &[i64]) -> Depth {
    let count = |indices: &[usize]| {
        let counts = indices.iter().filter_map(|index| told.get(*index));
        u64::try_from(counts.sum::<i64>()).unwrap_or(0)
    };
    Depth {
        by_state: [
            count(&[0, 1, 3]),
            count(&[2]),
            count(&[4]),
            count(&[5]),
            count(&[6]),
            0,
        ],
        bytes: count(&[7]),
        oldest: told
            .get(8)
            .filter(|moment| **moment >= 0)
            .map(|moment| Millis(*moment)),
    }
}

/// The states as they are numbered in the script.
pub(super) fn state_of(code: i64) -> Option<State> {
    Some(match code {
        0 | 1 | 3 => State::Pending,
        2 => State::Running,
        4 => State::Done,
        5 => State::Failed,
        6 => State::Uncertain,
        7 => State::Gone,
        _ => return None,
    })
}

const fn codes_of(state: State) -> &'static [u8] {
    match state {
        State::Pending => &[0, 1, 3],
        State::Running => &[2],
        State::Done => &[4],
        State::Failed => &[5],
        State::Uncertain => &[6],
        State::Gone => &[7],
    }
}

/// Entries; one that is not there is left out.
#[derive(Debug)]
pub(super) struct Entries(pub(super) Vec<Record>);

impl FromRedisValue for Entries {
    fn from_redis_value(value: Value) -> Result<Self, ParsingError> {
        // One entry stands alone, several in a list.
        let items = match value {
            Value::Array(items) if is_one(&items) => vec![Value::Array(items)],
            Value::Array(items) => items,
            Value::Nil => Vec::new(),
            _ => return Err(nonsense()),
        };
        let found = items.into_iter().filter(|item| *item != Value::Nil);
        found.map(record).collect::<Result<_, _>>().map(Self)
    }
}

fn is_one(items: &[Value]) -> bool {
    matches!(items.first(), Some(Value::BulkString(_)))
}

/// Entries that were taken.
#[derive(Debug)]
pub(super) struct TakenList(pub(super) Vec<Taken>);

impl FromRedisValue for TakenList {
    fn from_redis_value(value: Value) -> Result<Self, ParsingError> {
        type Row = (String, String, String, Vec<u8>, Vec<u8>, i64, u32);
        let rows = Vec::<Row>::from_redis_value(value)?;
        let taken = |(id, user, route, head, body, queued, attempts): Row| {
            Some(Taken {
                id: id.parse().ok()?,
                user: bytes(&user)?,
                route,
                head,
                body,
                queued: Millis(queued),
                attempts,
            })
        };
        let taken = rows.into_iter().map(taken).collect::<Option<_>>();
        taken.map(Self).ok_or_else(nonsense)
    }
}

/// Entries whose webhooks are to be told.
#[derive(Debug)]
pub(super) struct OwedList(pub(super) Vec<Owed>);

impl FromRedisValue for OwedList {
    fn from_redis_value(value: Value) -> Result<Self, ParsingError> {
        let rows = Vec::<(Value, String, u32)>::from_redis_value(value)?;
        let owed = |(told, webhook, tries)| {
            Ok(Owed {
                record: record(told)?,
                webhook,
                tries,
            })
        };
        rows.into_iter()
            .map(owed)
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

fn record(value: Value) -> Result<Record, ParsingError> {
    let fields = Vec::<String>::from_redis_value(value)?;
    read(&fields).ok_or_else(nonsense)
}

fn read(fields: &[String]) -> Option<Record> {
    let [
        id,
        state,
        unsure,
        owner,
        user,
        print,
        route,
        queued,
        changed,
        expires,
        attempts,
        size,
        note,
    ] = fields
    else {
        return None;
    };
    let moment = |text: &String| text.parse().ok().map(Millis);
    Some(Record {
        id: id.parse().ok()?,
        state: state_of(state.parse().ok()?)?,
        uncertain: unsure == "1",
        owner: bytes(owner)?,
        user: bytes(user)?,
        print: bytes(print)?,
        route: route.clone(),
        queued: moment(queued)?,
        changed: moment(changed)?,
        expires: moment(expires)?,
        attempts: attempts.parse().ok()?,
        bytes: size.parse().ok()?,
        note: Some(note.clone()).filter(|note| !note.is_empty()),
    })
}

fn nonsense() -> ParsingError {
    ParsingError::from("the store answered something else than was asked")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_are_read_as_they_are_written() {
        let print = [0x00, 0x7f, 0xff, 0x10];
        assert_eq!(bytes(&hex(&print)), Some(print));
        for text in ["", "00", "0000000g", "é00000", "000000000"] {
            assert_eq!(bytes::<4>(text), None, "{text}");
        }
    }

    #[test]
    fn states_are_told_apart_as_they_are_listed() {
        for state in State::ALL {
            for code in codes_of(state) {
                assert_eq!(state_of(i64::from(*code)), Some(state));
            }
        }
        assert_eq!((state_of(-1), state_of(8)), (None, None));
    }

    #[test]
    fn what_is_no_entry_is_an_error() {
        let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        for value in [
            Value::Int(1),
            Value::Array(vec![Value::Int(1)]),
            Value::Array(vec![text("id"), text("0")]),
            Value::Array(vec![Value::Array(vec![text("x"); 13])]),
        ] {
            assert!(
                Entries::from_redis_value(value.clone()).is_err(),
                "{value:?}"
            );
        }
        let none = Entries::from_redis_value(Value::Array(vec![Value::Nil])).expect("nobody");
        assert!(none.0.is_empty());
    }
}

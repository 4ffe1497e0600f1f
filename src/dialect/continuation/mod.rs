//! Going on with an answer that stopped in the middle, as far as a vendor documents how.
//!
//! * Messages and Chat: the conversation is sent again with what has come of the answer, and the model is
//!   asked to go on ([`Thread::next_request`]). The new stream is joined to the old one as if it were its
//!   rest: no second beginning, the first one's ids and block, the usage of both. It is not the rest: another
//!   run of the model wrote it, and it may repeat or rephrase.
//! * Responses with `background`: the run goes on at the vendor without a listener, and the same stream is
//!   taken up behind the last event that came ([`Thread::next_target`]). That one is exact.
//! * Plain answers of Messages and Chat that their token limit has cut: as their streams ([`next_plain_request`],
//!   [`joined_plain`]).
//!
//! Only text is continued: what a tool was to be called with, or a thought with its signature, cannot be
//! completed by anybody else. Nothing here does I/O; what is held back is a handful of last events.

mod chat;
mod messages;
mod plain;
mod run;
#[cfg(test)]
mod tests;

use std::{collections::VecDeque, fmt::Write as _};

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, value::RawValue};

pub use plain::{joined_plain, next_plain_request};

use super::{Dialect, Endpoint, Finish, Meaning, json};
use crate::stream::sse::Event;

/// The longest text that is sent back to be continued.
const MAX_TEXT: usize = 256 * 1024;

/// How much of the end of the text the model is reminded of.
const TAIL: usize = 120;

/// Events that are held back at most: a few of them end an answer.
const MAX_HELD: usize = 16;

/// Why a stream cannot be continued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unfit {
    /// There is something else than text in it, or more than one text.
    Content,
    /// There is nothing in it yet.
    Empty,
    /// It is too long to be sent back.
    TooLong,
    /// The caller's own request ends with the beginning of an answer.
    Prefilled,
    /// The request, or an event, is not as its API documents it.
    Unreadable,
}

impl Unfit {
    /// A name from a closed set, fit for a metric label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Content => "content",
            Self::Empty => "empty",
            Self::TooLong => "too_long",
            Self::Prefilled => "prefilled",
            Self::Unreadable => "unreadable",
        }
    }
}

/// How a model is asked to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// A message of the user says so.
    Message,
    /// The answer so far is put into its mouth, where that is possible.
    Prefill,
}

/// What an event came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// The answer goes on.
    Going,
    /// Its token limit has cut it; the events that say so are held back.
    Cut,
}

/// An answer in several streams, as its caller sees it: as one.
#[derive(Debug)]
pub struct Thread {
    kind: Kind,
    text: Text,
    usage: Usage,
    /// Which stream this is; 0 is the first.
    part: usize,
    /// Whether a cut by the token limit is to be continued.
    continues_cuts: bool,
    is_cut: bool,
    held: VecDeque<Held>,
}

#[derive(Debug)]
enum Kind {
    Messages(messages::Blocks),
    Chat(chat::Chunks),
    Run(run::Run),
}

/// An event that leaves or not, depending on what follows.
#[derive(Debug)]
struct Held {
    raw: Bytes,
    /// What leaves in its place if the answer is continued.
    instead: Option<Bytes>,
}

/// What an event's dialect makes of it.
enum Fate {
    /// It leaves as it came.
    Pass,
    /// This leaves in its place.
    Change(Bytes),
    /// It has been said before.
    Drop,
    /// It leaves when the next one shows that the answer ends here.
    Hold(Held),
}

/// The text that the caller has.
#[derive(Debug, Default)]
struct Text {
    said: String,
    unfit: Option<Unfit>,
}

impl Text {
    fn push(&mut self, text: &str) {
        if self.unfit.is_some() {
            return;
        }
        if self.said.len() + text.len() > MAX_TEXT {
            self.refuse(Unfit::TooLong);
        } else {
            self.said.push_str(text);
        }
    }

    /// The first reason is kept.
    fn refuse(&mut self, unfit: Unfit) {
        self.unfit.get_or_insert(unfit);
        self.said = String::new();
    }
}

/// What all streams have told of their cost.
#[derive(Debug, Default)]
struct Usage {
    /// Of the streams before this one.
    before: Option<Value>,
    /// Of this one so far.
    now: Option<Value>,
}

impl Usage {
    /// Takes what this stream tells; a later figure replaces an earlier one.
    fn note(&mut self, told: &RawValue) {
        let Ok(Value::Object(told)) = serde_json::from_str(told.get()) else {
            return;
        };
        let now = self
            .now
            .get_or_insert_with(|| Value::Object(serde_json::Map::new()));
        for (key, value) in told {
            if !value.is_null() {
                now[key] = value;
            }
        }
    }

    fn total(&self) -> Option<Value> {
        let mut total = self.before.clone();
        match (&mut total, &self.now) {
            (Some(total), Some(now)) => add(total, now),
            (none, Some(now)) => *none = Some(now.clone()),
            (_, None) => {}
        }
        total
    }

    fn next_stream(&mut self) {
        self.before = self.total();
        self.now = None;
    }
}

/// Adds the numbers of one usage object to those of another, key by key.
fn add(sum: &mut Value, more: &Value) {
    match (sum, more) {
        (Value::Object(sum), Value::Object(more)) => {
            for (key, value) in more {
                match sum.get_mut(key) {
                    Some(own) => add(own, value),
                    None => drop(sum.insert(key.clone(), value.clone())),
                }
            }
        }
        (Value::Number(sum), Value::Number(more)) => {
            if let (Some(a), Some(b)) = (sum.as_u64(), more.as_u64()) {
                *sum = a.saturating_add(b).into();
            }
        }
        (sum @ Value::Null, more) => *sum = more.clone(),
        _ => {}
    }
}

impl Thread {
    /// At an answer's beginning; `None` where no vendor documents how to go on with it. `in_background` says
    /// that the request leaves a run at the vendor.
    #[must_use]
    pub fn new(dialect: Dialect, in_background: bool, continues_cuts: bool) -> Option<Self> {
        let kind = match dialect.endpoint() {
            Endpoint::Messages => Kind::Messages(messages::Blocks::default()),
            Endpoint::ChatCompletions => Kind::Chat(chat::Chunks::default()),
            Endpoint::Responses if in_background => Kind::Run(run::Run::default()),
            _ => return None,
        };
        Some(Self {
            kind,
            text: Text::default(),
            usage: Usage::default(),
            part: 0,
            continues_cuts,
            is_cut: false,
            held: VecDeque::new(),
        })
    }

    /// Takes the next event, with what it means and its bytes; what leaves is put into `out`.
    pub fn see(
        &mut self,
        event: &Event,
        meaning: &Meaning,
        raw: Bytes,
        out: &mut VecDeque<Bytes>,
    ) -> Seen {
        let cut = Meaning::Finish(Finish::Length);
        self.is_cut |= self.continues_cuts && *meaning == cut && !matches!(self.kind, Kind::Run(_));
        let is_later = self.part > 0;
        let (text, usage) = (&mut self.text, &mut self.usage);
        let fate = match &mut self.kind {
            Kind::Messages(blocks) => blocks.see(event, is_later, text, usage),
            Kind::Chat(chunks) => chunks.see(event, is_later, text, usage),
            Kind::Run(run) => run.see(event),
        };
        self.settle(fate, raw, out);
        if self.is_cut { Seen::Cut } else { Seen::Going }
    }

    fn settle(&mut self, fate: Fate, raw: Bytes, out: &mut VecDeque<Bytes>) {
        let held = match fate {
            Fate::Drop => return,
            Fate::Hold(held) => Held {
                // An empty one stands for the event as it came.
                raw: if held.raw.is_empty() { raw } else { held.raw },
                ..held
            },
            Fate::Pass | Fate::Change(_) if self.is_cut => Held {
                raw: match fate {
                    Fate::Change(changed) => changed,
                    _ => raw,
                },
                instead: None,
            },
            Fate::Pass => {
                self.release(out);
                return out.push_back(raw);
            }
            Fate::Change(changed) => {
                self.release(out);
                return out.push_back(changed);
            }
        };
        self.held.push_back(held);
        if self.held.len() > MAX_HELD {
            // More than ever ends an answer: it is none that is understood here.
            self.text.refuse(Unfit::Unreadable);
            self.continues_cuts = false;
            self.is_cut = false;
            self.release(out);
        }
    }

    /// The answer ends with what was held back.
    pub fn release(&mut self, out: &mut VecDeque<Bytes>) {
        out.extend(self.held.drain(..).map(|held| held.raw));
    }

    /// The next stream is the rest of this one, and what was held back is no end any more.
    pub fn go_on(&mut self, out: &mut VecDeque<Bytes>) {
        out.extend(self.held.drain(..).filter_map(|held| held.instead));
        self.usage.next_stream();
        self.part += 1;
        self.is_cut = false;
    }

    /// Whether the caller was told that the answer is over, so that nothing can follow.
    #[must_use]
    pub const fn is_cut(&self) -> bool {
        self.is_cut
    }

    /// The request that goes on with the answer, made of the caller's own.
    ///
    /// # Errors
    /// When nothing can go on with it.
    pub fn next_request(&self, body: &[u8], by: By) -> Result<Vec<u8>, Unfit> {
        if let Some(unfit) = self.text.unfit {
            return Err(unfit);
        }
        let takes_prefill = matches!(self.kind, Kind::Messages(_));
        request_for(&self.text.said, body, by, takes_prefill)
    }

    /// Where the run goes on, below the target of the caller's request; `None` for what is no run, or one
    /// whose id has not come.
    #[must_use]
    pub fn next_target(&self) -> Option<String> {
        match &self.kind {
            Kind::Run(run) => run.next_target(),
            Kind::Messages(_) | Kind::Chat(_) => None,
        }
    }

    /// Whether it is a run that goes on by itself.
    #[must_use]
    pub const fn is_run(&self) -> bool {
        matches!(self.kind, Kind::Run(_))
    }
}

/// The request `body` with what was said so far, and the word to go on.
fn request_for(said: &str, body: &[u8], by: By, takes_prefill: bool) -> Result<Vec<u8>, Unfit> {
    if said.trim().is_empty() {
        return Err(Unfit::Empty);
    }
    if said.len() > MAX_TEXT {
        return Err(Unfit::TooLong);
    }
    // White space at its end makes a prefill invalid.
    let is_prefill = takes_prefill && by == By::Prefill && !said.ends_with(char::is_whitespace);
    let mut more = format!(
        ",{{\"role\":\"assistant\",\"content\":{}}}",
        Value::from(said)
    );
    if !is_prefill {
        let please = Value::from(instruction(said));
        let _ = write!(more, ",{{\"role\":\"user\",\"content\":{please}}}");
    }
    appended(body, &more)
}

/// What Anthropic's documentation recommends for models that take no prefill; there is no form of its own for it.
fn instruction(said: &str) -> String {
    let from = said.len().saturating_sub(TAIL);
    let from = (from..said.len()).find(|at| said.is_char_boundary(*at));
    let tail = from.map_or("", |from| &said[from..]);
    format!(
        "Your previous response was interrupted and ended with: {}\n\
         Continue exactly from where you left off, without repeating anything and without a remark.",
        Value::from(tail)
    )
}

#[derive(Deserialize)]
struct Conversation<'a> {
    #[serde(borrow)]
    messages: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
struct Turn<'a> {
    #[serde(borrow)]
    role: Option<&'a RawValue>,
}

/// `body` with `more` behind the last of its messages, and every other byte as it was.
fn appended(body: &[u8], more: &str) -> Result<Vec<u8>, Unfit> {
    let conversation: Conversation<'_> = json::object(body).ok_or(Unfit::Unreadable)?;
    let messages = conversation.messages.ok_or(Unfit::Unreadable)?;
    let turns = json::elements(messages.get().as_bytes());
    let last: Turn<'_> = json::object_in(turns.last().copied());
    match json::text(last.role, 16).as_deref() {
        None => return Err(Unfit::Unreadable),
        Some("assistant") => return Err(Unfit::Prefilled),
        Some(_) => {}
    }
    let span = json::span(body, Some(messages)).ok_or(Unfit::Unreadable)?;
    let end = span.end - 1; // before the bracket
    json::spliced(body, &[(end..end, more.as_bytes())]).ok_or(Unfit::Unreadable)
}

/// An event with this data, under the name that it had.
fn event_of(event: &Event, data: &[u8]) -> Bytes {
    let mut raw = Vec::with_capacity(data.len() + 64);
    if let Some(name) = event.name() {
        raw.extend_from_slice(b"event: ");
        raw.extend_from_slice(name);
        raw.push(b'\n');
    }
    raw.extend_from_slice(b"data: ");
    raw.extend_from_slice(data);
    raw.extend_from_slice(b"\n\n");
    raw.into()
}

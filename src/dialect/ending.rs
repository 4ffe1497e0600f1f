//! Whether a stream has said all that it had to say, and what it has told of itself on the way.
//!
//! The official SDKs take a clean end of the connection for the end of the
//! answer, whatever came before: an answer cut by a dying upstream looks like a
//! short one. Only the stream's own events tell the difference, so a proxy that
//! must never end a cut stream cleanly has to follow them.
//!
//! * Messages ends with `message_stop`, Responses with `response.completed`,
//!   `response.incomplete` or `response.failed`.
//! * Chat ends with `[DONE]`; but some compatible servers never send it, and
//!   some send no finish reason, so either is accepted: `[DONE]`, or a finish
//!   reason for every choice seen.
//! * Of an endpoint that is not known, nothing can be said: whatever arrived is
//!   taken for complete, because a false alarm would break what works.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    Dialect, End, Endpoint, Finish, Meaning, Reading, json, meaning::finished_choices, usage::Tally,
};
use crate::stream::sse::Event;

/// Follows one stream: knows whether it may end now, why its model stopped and what it cost.
#[derive(Debug, Clone)]
pub struct Ending {
    dialect: Dialect,
    has_ended: bool,
    has_failed: bool,
    has_told_failure: bool,
    finish: Option<Finish>,
    tally: Tally,
    /// Events with content.
    content_events: u64,
    /// The choices of a chat that have been seen, as bits.
    choices: u128,
    /// Those of them that have given their finish reason.
    finished: u128,
}

impl Ending {
    /// At the start of a stream of this dialect.
    #[must_use]
    pub fn new(dialect: Dialect) -> Self {
        Self {
            dialect,
            has_ended: false,
            has_failed: false,
            has_told_failure: false,
            finish: None,
            tally: Tally::default(),
            content_events: 0,
            choices: 0,
            finished: 0,
        }
    }

    /// Takes note of the next event, given what it means in the same dialect.
    pub fn observe(&mut self, event: &Event, meaning: &Meaning) {
        self.tally.observe(event);
        match meaning {
            Meaning::Finish(finish) => {
                self.finish = Finish::of_several(self.finish, Some(*finish));
                self.observe_choices(event);
            }
            // Each choice of a chat begins with a role alone, so all are seen
            // without reading the chunks of content.
            Meaning::Preamble => self.observe_choices(event),
            Meaning::End(end) => {
                self.has_ended = true;
                match end {
                    End::Terminator => {}
                    End::Finished(finish) => self.finish = Some(*finish),
                    End::Failed(_) => self.has_failed = true,
                }
            }
            Meaning::Error(_) => {
                self.has_failed = true;
                self.has_told_failure |= is_raised(self.dialect, event);
            }
            Meaning::Content => self.content_events += 1,
            Meaning::Other => {}
        }
    }

    /// Whether the stream may end here without anything being lost.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        match self.dialect.endpoint() {
            Endpoint::Messages | Endpoint::Responses => self.has_ended,
            Endpoint::ChatCompletions | Endpoint::Completions => {
                self.has_ended || (self.finished != 0 && self.choices & !self.finished == 0)
            }
            Endpoint::Embeddings | Endpoint::Other => true,
        }
    }

    /// Whether the stream's own words say that it is over. Of an endpoint that is not known they never do: there, only a
    /// proper end of the message tells.
    #[must_use]
    pub const fn has_said_its_end(&self) -> bool {
        match self.dialect.endpoint() {
            Endpoint::Embeddings | Endpoint::Other => self.has_ended,
            _ => self.is_complete(),
        }
    }

    /// Whether the event that ends such a stream may be longer than anybody reads: in Responses it repeats the whole
    /// answer. That of Messages is a few bytes.
    #[must_use]
    pub const fn may_be_long(&self) -> bool {
        !matches!(self.dialect.endpoint(), Endpoint::Messages)
    }

    /// Whether the upstream itself has reported a failure within the stream.
    #[must_use]
    pub const fn has_failed(&self) -> bool {
        self.has_failed
    }

    /// Whether it has done so in a form that every SDK raises: the caller has been told, in the upstream's words.
    #[must_use]
    pub const fn has_told_failure(&self) -> bool {
        self.has_told_failure
    }

    /// Why the model stopped, if it has said so; of several choices, a cut one counts first, then the last.
    #[must_use]
    pub const fn finish(&self) -> Option<Finish> {
        self.finish
    }

    /// What the stream has told of itself so far.
    #[must_use]
    pub fn reading(&self) -> Reading {
        Reading {
            usage: self.tally.usage(self.dialect),
            finish: self.finish,
            content_events: self.content_events,
        }
    }

    fn observe_choices(&mut self, event: &Event) {
        if matches!(
            self.dialect.endpoint(),
            Endpoint::ChatCompletions | Endpoint::Completions
        ) {
            let (seen, finished) = finished_choices(event);
            self.choices |= seen;
            self.finished |= finished;
        }
    }
}

/// Whether every official SDK of the dialect, and Vercel's, makes an exception of this error event.
///
/// Found by running them. Those of Anthropic look at the event's name alone, and pass over an error in `OpenAI`'s shape;
/// those of `OpenAI` look for `error` in the data, and give the flat event that Responses documents to the application
/// as if it were any other.
fn is_raised(dialect: Dialect, event: &Event) -> bool {
    #[derive(Default, Deserialize)]
    struct Data<'a> {
        #[serde(borrow)]
        error: Option<&'a RawValue>,
    }

    match dialect.endpoint() {
        Endpoint::Messages => event.name() == Some(b"error"),
        Endpoint::ChatCompletions | Endpoint::Completions | Endpoint::Responses => {
            let data: Data<'_> = json::object(event.data()).unwrap_or_default();
            json::is_truthy(data.error)
        }
        Endpoint::Embeddings | Endpoint::Other => true,
    }
}

//! Reads a stream beside its way to the caller, without changing or delaying a byte.

use bytes::Bytes;

use super::sse::{FrameKind, Framer};
use crate::dialect::{self, Dialect, Ending, Endpoint, Meaning, Reading};

/// The longest event that is looked at. Longer ones pass unread; the watch then no longer knows
/// whether the answer is complete until the next event tells it.
const MAX_EVENT: usize = 1024 * 1024;

/// What is known of a stream so far.
#[derive(Debug)]
pub struct Watch {
    dialect: Dialect,
    framer: Framer,
    ending: Ending,
    events: u64,
    /// The latest event was too long to be looked at; it may have been the last one.
    unread: bool,
}

impl Watch {
    /// At a stream's beginning.
    #[must_use]
    pub fn new(dialect: Dialect) -> Self {
        Self {
            dialect,
            framer: Framer::new(MAX_EVENT),
            ending: Ending::new(dialect),
            events: 0,
            unread: false,
        }
    }

    /// Notes a piece.
    pub fn see(&mut self, piece: &Bytes) {
        self.framer.push(piece.clone());
        self.rest();
    }

    /// Notes a piece up to the first event with a wanted meaning, and gives that meaning. What follows
    /// in the piece must then be noted by [`Watch::rest`].
    pub fn find(&mut self, piece: Bytes, is_wanted: impl Fn(&Meaning) -> bool) -> Option<Meaning> {
        self.framer.push(piece);
        while let Some(frame) = self.framer.next_frame() {
            if let Some(meaning) = self.note(&frame.kind).filter(&is_wanted) {
                return Some(meaning);
            }
        }
        None
    }

    /// Notes everything that has arrived and was not looked at.
    pub fn rest(&mut self) {
        while let Some(frame) = self.framer.next_frame() {
            self.note(&frame.kind);
        }
    }

    /// Gives the meaning of an event; comments and the like have none.
    fn note(&mut self, kind: &FrameKind) -> Option<Meaning> {
        self.unread = matches!(kind, FrameKind::Oversize)
            || (self.unread && !matches!(kind, FrameKind::Event(_)));
        let meaning = match kind {
            FrameKind::Event(event) => {
                let meaning = dialect::meaning(self.dialect, event);
                self.ending.observe(event, &meaning);
                meaning
            }
            // Too long to be looked at, and so certainly not an error.
            FrameKind::Oversize => Meaning::Other,
            FrameKind::Comment | FrameKind::Fields | FrameKind::Blank | FrameKind::Skipped => {
                return None;
            }
        };
        self.events += 1;
        Some(meaning)
    }

    /// Whether the answer is whole, as far as can be known: an event too long to be read may have been
    /// its end; or the vendor itself has said that it failed, which is an end too.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.unread || self.has_told_failure() || self.ending.is_complete()
    }

    /// Whether the stream's own words say that it is over, so that a broken connection takes nothing away.
    #[must_use]
    pub fn has_said_its_end(&self) -> bool {
        self.has_told_failure() || self.ending.has_said_its_end()
    }

    /// Whether the vendor has reported a failure in a form that every SDK raises. Some swallow the documented error
    /// event of Responses, so there only the stream's own end counts.
    fn has_told_failure(&self) -> bool {
        self.dialect.endpoint() != Endpoint::Responses && self.ending.has_failed()
    }

    /// What the answer has told of itself so far.
    #[must_use]
    pub fn reading(&self) -> Reading {
        self.ending.reading()
    }

    /// Whether an event of ours can stand here: not inside an event of the vendor's.
    #[must_use]
    pub fn can_take_an_event(&self) -> bool {
        self.framer.at_boundary()
    }

    /// The number that the next event would carry where events are numbered.
    #[must_use]
    pub fn next_sequence(&self) -> Option<u64> {
        Some(self.events)
    }
}

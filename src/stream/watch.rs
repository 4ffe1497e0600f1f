//! Reads a stream beside its way to the caller, without changing or delaying a byte.

use bytes::Bytes;

use super::sse::{Framer, Kind};
use crate::dialect::{self, Dialect, Ending, Meaning};

/// The longest event that is looked at. Longer ones pass unread; the watch then no longer knows
/// whether the answer is complete until the next event tells it.
const MAX_EVENT: usize = 1024 * 1024;

/// What is known of a stream so far.
#[derive(Debug)]
pub struct Watch {
    dialect: Dialect,
    framer: Framer,
    ending: Ending,
    failed: bool,
    events: u64,
}

impl Watch {
    /// At a stream's beginning.
    #[must_use]
    pub fn new(dialect: Dialect) -> Self {
        Self { dialect, framer: Framer::new(MAX_EVENT), ending: Ending::new(dialect), failed: false, events: 0 }
    }

    /// Notes a piece.
    pub fn see(&mut self, piece: &Bytes) {
        self.framer.push(piece.clone());
        while self.next().is_some() {}
    }

    /// Notes a piece and gives the meaning of the first real event in it, if one is complete.
    /// The rest of the piece must then be noted by [`Watch::rest`].
    pub fn first_event(&mut self, piece: &Bytes) -> Option<Meaning> {
        self.framer.push(piece.clone());
        loop {
            match self.next()? {
                Meaning::Other if self.events == 0 => {} // a comment: not yet an event
                meaning => return Some(meaning),
            }
        }
    }

    /// Notes what [`Watch::first_event`] left unread.
    pub fn rest(&mut self) {
        while self.next().is_some() {}
    }

    fn next(&mut self) -> Option<Meaning> {
        let frame = self.framer.next()?;
        let Kind::Event(event) = frame.kind else { return Some(Meaning::Other) };
        self.events += 1;
        let meaning = dialect::meaning(self.dialect, &event);
        self.ending.note(&meaning);
        self.failed |= matches!(meaning, Meaning::Error(_));
        Some(meaning)
    }

    /// Whether the answer is whole; or the vendor itself has said that it failed, which is an end too.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.failed || self.ending.is_complete()
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

//! Reads a stream beside its way to the caller, without changing or delaying a byte.

use bytes::Bytes;

use super::{
    coding::{Coding, Decoder},
    sse::{Frame, FrameKind, Framer},
};
use crate::dialect::{self, Dialect, Ending, Meaning, Reading};

/// The longest event that is looked at. Longer ones pass unread; the watch then no longer knows
/// whether the answer is complete until the next event tells it.
const MAX_EVENT: usize = 1024 * 1024;

/// What is known of a stream so far.
#[derive(Debug)]
pub struct Watch {
    dialect: Dialect,
    decoder: Decoder,
    framer: Framer,
    ending: Ending,
    events: u64,
    /// Bytes of the frames that were looked at.
    position: u64,
    cut: Option<CutAt>,
    /// An `id` was among its fields.
    has_ids: bool,
    /// The latest event was too long to be looked at; it may have been the last one.
    unread: bool,
}

/// Where the event stands by which a stream says that its token limit has cut it, in bytes from the
/// stream's beginning.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct CutAt {
    /// The last place before the stream's end at which something may be said about it.
    pub before: u64,
    /// The place behind that event, for when that one has passed.
    pub behind: u64,
}

impl Watch {
    /// At a stream's beginning.
    #[must_use]
    pub fn new(dialect: Dialect, coding: Coding) -> Self {
        Self {
            dialect,
            decoder: Decoder::new(coding),
            framer: Framer::new(MAX_EVENT),
            ending: Ending::new(dialect),
            events: 0,
            position: 0,
            cut: None,
            has_ids: false,
            unread: false,
        }
    }

    /// Notes a piece.
    pub fn see(&mut self, piece: &Bytes) {
        self.take(piece);
        self.rest();
    }

    /// Notes a piece up to the first event with a wanted meaning, and gives that meaning. What follows
    /// in the piece must then be noted by [`Watch::rest`].
    pub fn find(&mut self, piece: &Bytes, is_wanted: impl Fn(&Meaning) -> bool) -> Option<Meaning> {
        self.take(piece);
        while let Some(frame) = self.framer.next_frame() {
            if let Some(meaning) = self.note(&frame).filter(&is_wanted) {
                return Some(meaning);
            }
        }
        None
    }

    /// Notes everything that has arrived and was not looked at.
    pub fn rest(&mut self) {
        while let Some(frame) = self.framer.next_frame() {
            self.note(&frame);
        }
    }

    fn take(&mut self, piece: &Bytes) {
        if let Some(clear) = self.decoder.decode(piece) {
            self.framer.push(clear);
        }
    }

    /// Gives the meaning of an event; comments and the like have none.
    fn note(&mut self, frame: &Frame) -> Option<Meaning> {
        let (start, kind) = (self.position, &frame.kind);
        self.position += frame.raw_len as u64;
        self.unread = matches!(kind, FrameKind::Oversize)
            || (self.unread && !matches!(kind, FrameKind::Event(_)));
        let meaning = match kind {
            FrameKind::Event(event) => {
                self.has_ids |= event.has_id();
                let meaning = dialect::meaning(self.dialect, event);
                self.ending.observe(event, &meaning);
                self.note_cut(start, &meaning);
                meaning
            }
            // Too long to be looked at, and so certainly not an error.
            FrameKind::Oversize => Meaning::Other,
            // One of them may be an `id`.
            FrameKind::Fields => {
                self.has_ids = true;
                return None;
            }
            FrameKind::Comment | FrameKind::Blank | FrameKind::Skipped => return None,
        };
        self.events += 1;
        Some(meaning)
    }

    /// Remembers where the stream said that it was cut. Mostly the end comes after that; in Responses it
    /// is said by the end itself.
    fn note_cut(&mut self, start: u64, meaning: &Meaning) {
        if self.cut.is_none() && self.ending.reading().is_truncated() {
            let behind = self.position;
            let before = match meaning {
                Meaning::End(_) => start,
                _ => behind,
            };
            self.cut = Some(CutAt { before, behind });
        }
    }

    /// Where the stream has said that its token limit has cut it, if it has. Of one that is compressed no
    /// place is known.
    #[must_use]
    pub fn cut_at(&self) -> Option<CutAt> {
        self.cut.filter(|_| self.decoder.is_identity())
    }

    /// Whether nothing more can be known: the stream is damaged, or packed beyond all measure.
    #[must_use]
    pub fn is_blind(&self) -> bool {
        self.decoder.has_given_up()
    }

    /// Whether the answer is whole, as far as can be known: an event too long to be read may have been
    /// its end, if it has ended itself; or the vendor itself has said that it failed, which is an end too.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        (self.unread && self.framer.at_boundary() && self.ending.may_be_long())
            || self.is_blind()
            || self.ending.has_told_failure()
            || self.ending.is_complete()
    }

    /// Whether the stream's own words say that it is over, so that a broken connection takes nothing away.
    #[must_use]
    pub fn has_said_its_end(&self) -> bool {
        self.ending.has_told_failure() || self.ending.has_said_its_end()
    }

    /// What the answer has told of itself so far.
    #[must_use]
    pub fn reading(&self) -> Reading {
        self.ending.reading()
    }

    /// Whether an event of ours can stand here: not inside an event of the vendor's, nor among compressed bytes.
    #[must_use]
    pub fn can_take_an_event(&self) -> bool {
        self.decoder.is_identity() && self.framer.at_boundary()
    }

    /// Whether it comes in clear text.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.decoder.is_identity()
    }

    /// Whether an `id` may have been among the stream's fields.
    #[must_use]
    pub fn has_ids(&self) -> bool {
        self.has_ids
    }

    /// The number that the next event would carry where events are numbered.
    #[must_use]
    pub fn next_sequence(&self) -> Option<u64> {
        Some(self.events)
    }
}

//! A framer for server-sent events that leaves every byte where it is.
//!
//! A proxy that parses a stream and prints it again is a second author of it:
//! it drops the fields it does not know, moves line ends, and turns its own
//! bugs into the caller's broken answers. So this framer only *measures*. It is
//! shown the chunks as they arrive and says, frame by frame, how many raw bytes
//! each spanned and what a browser would have understood; the caller forwards
//! the chunks themselves. Every byte pushed belongs to exactly one frame, so
//! held bytes can be released exactly.
//!
//! What counts as an event is the interpretation of the [WHATWG HTML standard,
//! section 9.2.6][whatwg]: lines end in LF, CR or CRLF, a blank line ends a
//! block, a block with a `data` field is an event. The events found do not
//! depend on how the stream was cut into chunks.
//!
//! An event inside one chunk is a slice of that chunk; only an event that
//! straddles chunks is copied, once, into a buffer that never holds more than
//! the limit given to [`Framer::new`]. Each byte is searched for its line end
//! once, whatever the chunking, so the work is linear in the length.
//!
//! ```
//! use bytes::Bytes;
//! use surgetank::stream::sse::{FrameKind, Framer};
//!
//! let mut framer = Framer::new(64 * 1024);
//! framer.push(Bytes::from_static(b"event: ping\ndata: {}\n\n: waiting"));
//!
//! let frame = framer.next_frame().expect("one whole event has arrived");
//! assert_eq!(frame.raw_len, 22);
//! let FrameKind::Event(event) = frame.kind else { panic!("not an event") };
//! assert_eq!(event.name(), Some(&b"ping"[..]));
//! assert_eq!(&event.data()[..], b"{}");
//!
//! assert!(framer.next_frame().is_none());
//! assert_eq!(framer.pending(), 9); // the unfinished comment
//! ```
//!
//! [whatwg]: https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation

mod event;
mod scan;
#[cfg(test)]
mod tests;

use bytes::{Bytes, BytesMut};

pub use event::Event;
use scan::Scanner;

/// One piece of the stream: usually a block of lines up to and with its blank line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// How many bytes of the stream this frame spans, never 0.
    ///
    /// The lengths of all frames and [`Framer::pending`] add up to what was pushed.
    pub raw_len: usize,
    /// What stands in it.
    pub kind: FrameKind,
}

/// What a frame holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FrameKind {
    /// A block with at least one `data` field: what a client acts on.
    Event(Event),
    /// A block of comment lines and nothing else: a keep-alive.
    Comment,
    /// A block of fields without `data` (`id`, `retry`, `event`, unknown ones).
    /// The standard dispatches nothing for it; some SDKs raise on it.
    Fields,
    /// A blank line of its own, or the LF of a CRLF whose CR ended the frame before.
    Blank,
    /// A block that has grown over the limit. Reported once, as soon as that is
    /// known; the bytes seen of it so far are no longer kept.
    Oversize,
    /// Bytes of a block already reported as [`FrameKind::Oversize`].
    Skipped,
}

/// Finds the frames in a stream that arrives in chunks. See the [module documentation](self).
#[derive(Debug)]
pub struct Framer {
    limit: usize,
    /// The part of the last chunk that no frame has taken yet.
    chunk: Bytes,
    /// The beginning of a block whose end has not arrived; at most `limit` bytes.
    carry: BytesMut,
    scanner: Scanner,
    /// Inside a block that was reported as oversize.
    skipping: bool,
}

impl Framer {
    /// A framer at the start of a stream.
    ///
    /// `limit` is the longest block, in raw bytes, that becomes an event. It
    /// bounds the memory held between chunks. A longer block is reported as
    /// [`FrameKind::Oversize`] and its bytes are counted without being kept.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            chunk: Bytes::new(),
            carry: BytesMut::new(),
            scanner: Scanner::new(),
            skipping: false,
        }
    }

    /// Takes the next chunk of the stream.
    ///
    /// Call [`next_frame`](Self::next_frame) until it gives `None` before the
    /// next push. If frames were left, nothing is lost, but the rest of the old
    /// chunk is copied in front of the new one.
    pub fn push(&mut self, chunk: Bytes) {
        if self.chunk.is_empty() {
            self.chunk = chunk;
        } else {
            self.chunk = [self.chunk.as_ref(), chunk.as_ref()].concat().into();
        }
    }

    /// The next frame in what has been pushed, or `None` when more bytes are needed.
    pub fn next_frame(&mut self) -> Option<Frame> {
        if self.chunk.is_empty() {
            return None;
        }
        let within_block = self.skipping || !self.carry.is_empty();
        if !within_block && self.scanner.takes_stray_lf(&self.chunk) {
            return Some(self.release(1, FrameKind::Blank));
        }
        match self.scanner.block_end(&self.chunk) {
            Some(end) => Some(self.finish_block(end)),
            None => self.keep_unfinished(),
        }
    }

    /// Bytes of an unfinished block: pushed, but in no frame yet.
    ///
    /// Bytes of a skipped block are not pending; see [`at_boundary`](Self::at_boundary).
    /// Meaningful once `next_frame` has given `None`.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.carry.len() + self.chunk.len()
    }

    /// Whether something may be said between events here without becoming part
    /// of one. If not, a frame of one's own must begin with a blank line.
    #[must_use]
    pub fn at_boundary(&self) -> bool {
        self.pending() == 0 && !self.skipping
    }

    /// The block ends after `end` bytes of the chunk, not counting the LF of a final CRLF.
    fn finish_block(&mut self, end: usize) -> Frame {
        // Measured before that LF, which may or may not be in this chunk: the
        // verdict must not depend on the chunking.
        let oversize = self.carry.len() + end > self.limit;
        let end = if self.scanner.takes_stray_lf(&self.chunk[end..]) {
            end + 1
        } else {
            end
        };
        let has_bom = self.scanner.take_bom();

        if self.skipping {
            self.skipping = false;
            return self.release(end, FrameKind::Skipped);
        }
        if oversize {
            return self.release(end, FrameKind::Oversize);
        }
        let piece = self.chunk.split_to(end);
        let block = if self.carry.is_empty() {
            piece
        } else {
            self.carry.extend_from_slice(&piece);
            self.carry.split().freeze()
        };
        let raw_len = block.len();
        let text = if has_bom {
            block.slice(scan::BOM.len()..)
        } else {
            block
        };
        Frame {
            raw_len,
            kind: event::read_block(&text),
        }
    }

    /// No end of the block in sight: keep the rest of the chunk, within the limit.
    fn keep_unfinished(&mut self) -> Option<Frame> {
        let len = self.chunk.len();
        if self.skipping {
            return Some(self.release(len, FrameKind::Skipped));
        }
        if self.carry.len() + len > self.limit {
            self.skipping = true;
            return Some(self.release(len, FrameKind::Oversize));
        }
        self.carry.extend_from_slice(&self.chunk);
        self.chunk = Bytes::new();
        None
    }

    /// Gives up what is carried and the first `end` bytes of the chunk without looking into them.
    fn release(&mut self, end: usize, kind: FrameKind) -> Frame {
        let raw_len = self.carry.len() + end;
        self.carry.clear();
        // Advancing would keep the chunk's memory alive for an empty rest.
        self.chunk = if end == self.chunk.len() {
            Bytes::new()
        } else {
            self.chunk.slice(end..)
        };
        Frame { raw_len, kind }
    }
}

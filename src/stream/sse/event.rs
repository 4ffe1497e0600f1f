//! Reads one whole block of lines as the standard's client would.

use std::{fmt, ops::Range};

use bytes::Bytes;
use memchr::{memchr, memchr2};

use super::FrameKind;

/// An event as a client would have understood it.
///
/// Its parts are slices of the chunk it came in, so holding one holds that
/// chunk's memory. They are bytes: text is not checked to be UTF-8.
#[derive(Clone, PartialEq, Eq)]
pub struct Event {
    name: Option<Bytes>,
    data: Bytes,
    has_id: bool,
}

impl Event {
    /// An event as it would have been read from a stream; for callers that have one by other means.
    #[must_use]
    pub fn new(name: Option<Bytes>, data: Bytes) -> Self {
        Self {
            name: name.filter(|name| !name.is_empty()),
            data,
            has_id: false,
        }
    }

    /// The value of the last `event` field; `None` if there was none or it was empty.
    #[must_use]
    pub fn name(&self) -> Option<&[u8]> {
        self.name.as_deref()
    }

    /// Whether an `id` field stands in its block.
    #[must_use]
    pub fn has_id(&self) -> bool {
        self.has_id
    }

    /// The values of all `data` fields, joined by LF.
    #[must_use]
    pub fn data(&self) -> &Bytes {
        &self.data
    }
}

/// Tells the size, not the text: events carry answers, which belong in no log.
impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event")
            .field("name_len", &self.name.as_ref().map_or(0, Bytes::len))
            .field("data_len", &self.data.len())
            .field("has_id", &self.has_id)
            .finish()
    }
}

/// The values of the `data` fields met so far.
enum Data {
    Absent,
    /// One field: the value can stay where it is.
    Single(Range<usize>),
    Joined(Vec<u8>),
}

/// What `block`, a run of lines that ends in a blank one, means.
pub(super) fn read_block(block: &Bytes) -> FrameKind {
    let mut name = None;
    let mut data = Data::Absent;
    let mut has_id = false;
    let mut without_data = FrameKind::Blank;

    for line in (Lines { block, at: 0 }) {
        if block.get(line.start) == Some(&b':') {
            if without_data == FrameKind::Blank {
                without_data = FrameKind::Comment;
            }
            continue;
        }
        without_data = FrameKind::Fields;
        let (field, value) = split_field(block, line);
        match field {
            b"data" => data = data.and(block, value),
            b"event" => name = Some(value),
            b"id" => has_id = true,
            _ => {}
        }
    }
    match data.into_bytes(block) {
        Some(data) => FrameKind::Event(Event {
            has_id,
            ..Event::new(name.map(|range| block.slice(range)), data)
        }),
        None => without_data,
    }
}

/// The field's name, and where its value stands: after the first colon, less one space.
fn split_field(block: &[u8], line: Range<usize>) -> (&[u8], Range<usize>) {
    let text = &block[line.clone()];
    let Some(colon) = memchr(b':', text) else {
        return (text, line.end..line.end);
    };
    let space = usize::from(text.get(colon + 1) == Some(&b' '));
    (&text[..colon], line.start + colon + 1 + space..line.end)
}

// === impl Data ===

impl Data {
    fn and(self, block: &[u8], value: Range<usize>) -> Self {
        let mut joined = match self {
            Self::Absent => return Self::Single(value),
            Self::Single(first) => block[first].to_vec(),
            Self::Joined(joined) => joined,
        };
        joined.push(b'\n');
        joined.extend_from_slice(&block[value]);
        Self::Joined(joined)
    }

    fn into_bytes(self, block: &Bytes) -> Option<Bytes> {
        match self {
            Self::Absent => None,
            Self::Single(range) => Some(block.slice(range)),
            Self::Joined(joined) => Some(joined.into()),
        }
    }
}

/// The lines of a block that are not blank, without their ends.
struct Lines<'a> {
    block: &'a [u8],
    at: usize,
}

impl Iterator for Lines<'_> {
    type Item = Range<usize>;

    fn next(&mut self) -> Option<Range<usize>> {
        loop {
            let start = self.at;
            let len = memchr2(b'\n', b'\r', self.block.get(start..)?)?;
            self.at = start + len + 1;
            // The LF of a CRLF is met here as a blank line, which is as good as skipping it.
            if len > 0 {
                return Some(start..start + len);
            }
        }
    }
}

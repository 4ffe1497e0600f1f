//! What must hold of the framer of event streams, whatever comes.

use bytes::Bytes;

use super::sse::{FrameKind, Framer};

/// The longest events of the framers under test: short, so that they are met.
const LIMITS: [usize; 2] = [24, 4 * 1024];

/// Every byte is in one frame, no more is held than the limit, and what is found is what stands there, however it is cut.
pub(crate) fn holds(pieces: &[&[u8]]) {
    let stream = pieces.concat();
    for limit in LIMITS {
        let expected = reference(&stream, limit);
        assert_eq!(blocks(&[&stream], limit), expected, "at once");
        assert_eq!(blocks(pieces, limit), expected, "in pieces");
    }
}

/// A block, and where it begins.
#[derive(Debug, PartialEq, Eq)]
struct Block(usize, Kind);

#[derive(Debug, PartialEq, Eq)]
enum Kind {
    Event {
        name: Option<Vec<u8>>,
        data: Vec<u8>,
        has_id: bool,
    },
    Comment,
    Fields,
    Oversize,
}

/// The blocks that a framer finds; that its frames add up to what it was given is seen on the way.
fn blocks(pieces: &[&[u8]], limit: usize) -> Vec<Block> {
    let (mut framer, mut blocks) = (Framer::new(limit), Vec::new());
    let (mut given, mut in_frames) = (0, 0);
    for piece in pieces {
        framer.push(Bytes::copy_from_slice(piece));
        given += piece.len();
        while let Some(frame) = framer.next_frame() {
            assert!(frame.raw_len > 0, "a frame of nothing");
            let kind = kind(&frame.kind);
            blocks.extend(kind.map(|kind| Block(in_frames, kind)));
            in_frames += frame.raw_len;
        }
        let told = in_frames + framer.pending();
        assert_eq!(told, given, "bytes lost or from nowhere");
        assert!(framer.pending() <= limit, "more is held than the limit");
    }
    blocks
}

/// Not all frames are blocks: the line feed of a CRLF is a frame or not as it comes, and so is what follows of a block that is
/// known to be too long.
fn kind(frame: &FrameKind) -> Option<Kind> {
    match frame {
        FrameKind::Event(event) => Some(Kind::Event {
            name: event.name().map(<[u8]>::to_vec),
            data: event.data().to_vec(),
            has_id: event.has_id(),
        }),
        FrameKind::Comment => Some(Kind::Comment),
        FrameKind::Fields => Some(Kind::Fields),
        FrameKind::Oversize => Some(Kind::Oversize),
        FrameKind::Blank | FrameKind::Skipped => None,
    }
}

/// The same by the letter of the standard: line by line, and with all of the stream at hand.
fn reference(stream: &[u8], limit: usize) -> Vec<Block> {
    let mark = b"\xEF\xBB\xBF";
    let mut at = if stream.starts_with(mark) {
        mark.len()
    } else {
        0
    };
    let (mut blocks, mut start, mut lines) = (Vec::new(), 0, Vec::new());
    while let Some(len) = stream[at..].iter().position(|byte| b"\r\n".contains(byte)) {
        let line = &stream[at..at + len];
        at += len + 1;
        // The line feed of a CRLF does not count: it may still be on its way.
        let is_oversize = at - start > limit;
        at += usize::from(stream[at - 1..].starts_with(b"\r\n"));
        if !line.is_empty() {
            lines.push(line);
            continue;
        }
        if is_oversize {
            blocks.push(Block(start, Kind::Oversize));
        } else if !lines.is_empty() {
            blocks.push(Block(start, meaning(&lines)));
        }
        (start, lines) = (at, Vec::new());
    }
    // The beginning of a block can be too long by itself.
    if stream.len() - start > limit {
        blocks.push(Block(start, Kind::Oversize));
    }
    blocks
}

/// What the lines of a block mean.
fn meaning(lines: &[&[u8]]) -> Kind {
    let fields = lines.iter().filter(|line| line[0] != b':');
    let fields: Vec<(&[u8], &[u8])> = fields
        .map(|line| {
            let mut halves = line.splitn(2, |byte| *byte == b':');
            let name = halves.next().unwrap_or_default();
            let value = halves.next().unwrap_or_default();
            (name, value.strip_prefix(b" ").unwrap_or(value))
        })
        .collect();
    let values = |wanted: &[u8]| -> Vec<&[u8]> {
        let values = fields.iter().filter(|(name, _)| *name == wanted);
        values.map(|(_, value)| *value).collect()
    };
    match values(b"data") {
        _ if fields.is_empty() => Kind::Comment,
        data if data.is_empty() => Kind::Fields,
        data => Kind::Event {
            name: values(b"event")
                .last()
                .filter(|name| !name.is_empty())
                .map(|name| name.to_vec()),
            data: data.join(&b'\n'),
            has_id: !values(b"id").is_empty(),
        },
    }
}

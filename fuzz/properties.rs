//! What must hold of every input, however hostile: shared by the fuzz targets and by `tests/fuzz`, which runs on stable.

use std::collections::VecDeque;

use bytes::Bytes;
use surgetank::{
    dialect::{
        self, AnswerReader, Ask, Dialect, Ending,
        continuation::{By, Thread},
        errors,
    },
    stream::sse::{Event, FrameKind, Framer},
    tunnel::frames::Frames,
};

/// The longest event of the framers under test: short, so that it is met.
const LIMIT: usize = 4 * 1024;

/// What a framer finds in a stream that comes in pieces of these sizes: its events, and how long its frames are.
fn framed(stream: &[u8], pieces: impl Iterator<Item = usize>) -> (Vec<Event>, usize) {
    let (mut framer, mut events, mut length) = (Framer::new(LIMIT), Vec::new(), 0);
    let mut rest = stream;
    for size in pieces {
        let (piece, behind) = rest.split_at(size.clamp(1, rest.len().max(1)).min(rest.len()));
        rest = behind;
        framer.push(Bytes::copy_from_slice(piece));
        while let Some(frame) = framer.next_frame() {
            assert!(frame.raw_len > 0, "a frame of nothing");
            length += frame.raw_len;
            if let FrameKind::Event(event) = frame.kind {
                events.push(event);
            }
        }
        assert!(framer.pending() <= LIMIT, "more is held than the limit");
        assert!(
            length + framer.pending() <= stream.len(),
            "bytes from nowhere"
        );
        if rest.is_empty() {
            break;
        }
    }
    (events, length)
}

/// The frames of a stream are the same whatever its pieces, and add up to it.
pub(crate) fn framer(stream: &[u8], sizes: &[u8]) {
    let sizes = sizes.iter().map(|size| usize::from(*size) + 1);
    let (in_pieces, of_pieces) = framed(stream, sizes.chain(std::iter::repeat(7)));
    let (at_once, whole) = framed(stream, std::iter::repeat(stream.len().max(1)));
    assert_eq!(of_pieces, whole, "frames of other lengths");
    let data = |events: &[Event]| -> Vec<(Option<Vec<u8>>, Bytes)> {
        let of = |event: &Event| (event.name().map(<[u8]>::to_vec), event.data().clone());
        events.iter().map(of).collect()
    };
    assert_eq!(data(&in_pieces), data(&at_once), "other events");
}

/// Nothing that an upstream or a caller sends makes a reader of any dialect fail.
pub(crate) fn dialects(input: &[u8]) {
    let _ = errors::read(input);
    let event = Event::new(None, Bytes::copy_from_slice(input));
    for dialect in Dialect::ALL {
        let _ = Ask::read(dialect, input);
        let _ = Ask::read_beginning(dialect, input);
        let mut reader = AnswerReader::new(dialect);
        input.chunks(3).for_each(|piece| reader.see(piece));
        let _ = reader.reading();
        let _ = dialect::meaning(dialect, &event);
        stream(dialect, input);
    }
    let mut frames = Frames::default();
    input.chunks(3).for_each(|piece| frames.see(piece));
    let _ = frames.can_take_a_frame();
}

/// Follows a stream as a caller's answer is followed, and goes on with it once.
fn stream(dialect: Dialect, input: &[u8]) {
    let (events, _) = framed(input, std::iter::repeat(input.len().max(1)));
    let mut ending = Ending::new(dialect);
    let mut thread = Thread::new(dialect, true, true);
    let mut out = VecDeque::new();
    for round in 0..2 {
        for event in &events {
            let meaning = dialect::meaning(dialect, event);
            ending.observe(event, &meaning);
            if let Some(thread) = &mut thread {
                thread.see(event, &meaning, event.data().clone(), &mut out);
            }
        }
        let Some(thread) = &mut thread else { return };
        if round == 0 {
            thread.go_on(&mut out);
        }
        let _ = thread.next_target();
        if let Ok(request) = thread.next_request(input, By::Prefill) {
            serde_json::from_slice::<serde::de::IgnoredAny>(&request)
                .expect("a request that was JSON stays JSON");
        }
        thread.release(&mut out);
    }
}

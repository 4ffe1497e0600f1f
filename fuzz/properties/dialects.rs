//! What must hold of everything that reads what came over the wire, whatever comes.

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

/// Nothing that an upstream or a caller sends makes a reader of any dialect fail.
pub(crate) fn hold(input: &[u8]) {
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
    let events = events(input);
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

fn events(stream: &[u8]) -> Vec<Event> {
    let mut framer = Framer::new(4 * 1024);
    framer.push(Bytes::copy_from_slice(stream));
    let event = |kind| match kind {
        FrameKind::Event(event) => Some(event),
        _ => None,
    };
    std::iter::from_fn(|| framer.next_frame())
        .filter_map(|frame| event(frame.kind))
        .collect()
}

//! What must hold of the search for the end of an answer's head, whatever comes.

use super::{Heads, MOST_INTERIM};

/// Where a head ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    At(usize),
    NotYet,
    TooManyInterim,
}

/// A head ends where its lines say and, if it is a valid one, where hyper's parser ends it; however it is cut.
pub(crate) fn holds(pieces: &[&[u8]]) {
    let message = pieces.concat();
    let expected = reference(&message);
    assert_eq!(end(&[&message]), expected, "at once");
    assert_eq!(end(pieces), expected, "in pieces");
    if let Some(parsed) = parsed(&message) {
        assert_eq!(expected, parsed, "the parser's end");
    }
}

fn end(pieces: &[&[u8]]) -> End {
    let (mut heads, mut before) = (Heads::default(), 0);
    for piece in pieces {
        match heads.read(piece) {
            Ok(None) => before += piece.len(),
            Ok(Some(end)) => return End::At(before + end),
            Err(_) => return End::TooManyInterim,
        }
    }
    End::NotYet
}

/// The same line by line, and with all of the message at hand.
fn reference(message: &[u8]) -> End {
    let (mut at, mut interim) = (0, 0);
    let mut status: Option<&[u8]> = None;
    for line in message.split_inclusive(|byte| *byte == b'\n') {
        at += line.len();
        match (status, line) {
            (_, [.., last]) if *last != b'\n' => {}
            (None, b"\n" | b"\r\n") => {}
            (None, first) => status = Some(first),
            (Some(first), b"\n" | b"\r\n") => {
                if !first.get(8..12).is_some_and(is_interim) {
                    return End::At(at);
                }
                interim += 1;
                status = None;
            }
            (Some(_), _) => {}
        }
        if interim > MOST_INTERIM {
            return End::TooManyInterim;
        }
    }
    End::NotYet
}

/// Of ` 103`: whether another head follows.
fn is_interim(code: &[u8]) -> bool {
    code.starts_with(b" 1") && code[1..].iter().all(u8::is_ascii_digit) && code != b" 101"
}

/// What hyper's parser says, unless it says that this is no head.
fn parsed(message: &[u8]) -> Option<End> {
    let mut at = 0;
    for _ in 0..=MOST_INTERIM {
        let mut slots = [httparse::EMPTY_HEADER; 64];
        let mut head = httparse::Response::new(&mut slots);
        let httparse::Status::Complete(len) = head.parse(&message[at..]).ok()? else {
            return Some(End::NotYet);
        };
        at += len;
        if !matches!(head.code, Some(100 | 102..200)) {
            return Some(End::At(at));
        }
    }
    Some(End::TooManyInterim)
}

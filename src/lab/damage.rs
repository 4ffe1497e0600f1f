//! Breaking a healthy answer, each fault in its own way.

use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::fault::{After, Fault, FaultSpec, Params, Part, Split, Spoil};
use super::gzip;
use super::reply::{Body, Finish, Framing, Piece, Pieces, Reply, Role};
use super::speech::Speech;

/// How long a silence lasts that was not told how long.
pub(super) const LONG_SILENCE: Duration = Duration::from_mins(10);
/// Size of a giant event, and of giant headers with their number.
const GIANT_EVENT: usize = 4 << 20;
const GIANT_HEADERS: (usize, u32) = (256 << 10, 100);
const DRIP: Duration = Duration::from_millis(5);

/// Bytes that are not UTF-8, as many as the replacement character has, whose place they take.
const INVALID: &[u8; 3] = b"\xff\xfe\x80";
const MARKER: &str = "\u{FFFD}";

/// Changes what is said.
pub(super) fn speech(speech: &mut Speech, spec: &FaultSpec) {
    let index = match spec.params.after {
        Some(After::Count(index)) => index,
        Some(After::End) => usize::MAX,
        None => 0,
    };
    match spec.fault {
        Fault::GiantEvent => {
            speech.replace_token(index, "x".repeat(spec.params.size.unwrap_or(GIANT_EVENT)));
        }
        Fault::InvalidUtf8 => speech.replace_token(index, format!(" {MARKER} ")),
        _ => {}
    }
}

/// Changes how the answer is sent; `content` is the number of its content events.
pub(super) fn reply(reply: &mut Reply, spec: &FaultSpec, content: usize) {
    let params = &spec.params;
    match spec.fault {
        Fault::FinHead => reply.half_head = true,
        Fault::HangBody => broken(
            reply,
            params,
            content,
            Finish::Hang(params.lasting.unwrap_or(LONG_SILENCE)),
        ),
        Fault::ResetBody => broken(reply, params, content, Finish::Reset),
        Fault::Cut => broken(reply, params, content, Finish::Fin),
        Fault::CutClean => reply.body = cut(reply.body.take(), params, content),
        Fault::Drip => {
            reply.drip = Some((
                params.every.unwrap_or(DRIP),
                params.part.unwrap_or(Part::Body),
            ));
        }
        Fault::ShortLength => wrong_length(reply, |length| length / 2),
        Fault::LongLength => wrong_length(reply, |length| length * 2 + 1),
        Fault::GiantHeaders => giant_headers(reply, params),
        Fault::InvalidUtf8 => reply.body = mapped(reply.body.take(), invalid),
        Fault::Interim => {
            reply.interims = Some((params.status.unwrap_or(103), params.count.unwrap_or(1)));
        }
        Fault::Gzip => compressed(reply),
        Fault::LengthAndChunked => {
            let length = collected(reply);
            reply.framing = Framing::LengthAndChunked(length);
        }
        Fault::Trailers => {
            let trailers = vec![
                ("x-lab-trailer", "one".to_owned()),
                ("server-timing", "lab;dur=1".to_owned()),
            ];
            reply.framing = Framing::Trailers(trailers);
        }
        Fault::BadHead => {
            reply.spoil = Some(params.spoil.unwrap_or(Spoil::StatusLine));
            reply.finish = Finish::Fin;
        }
        Fault::CloseIdle => reply.finish = Finish::CloseIdle(params.lasting.unwrap_or_default()),
        Fault::Empty => reply.body = emptied(&reply.body),
        _ => {}
    }
}

/// The number of content events after which something happens; by default half of them.
pub(super) fn place(after: Option<After>, content: usize) -> usize {
    match after {
        None => content / 2,
        Some(After::Count(count)) => count.min(content),
        Some(After::End) => content,
    }
}

/// The events up to the given number of content events, or none at all, followed by others.
pub(super) fn then_events(body: Body, after: Option<usize>, end: Vec<String>) -> Body {
    let before: Pieces = match after {
        None => Box::new(std::iter::empty()),
        Some(after) => until(body.into_pieces(), after, Split::No),
    };
    let end = end.into_iter().map(|event| Piece {
        wait: Duration::ZERO,
        bytes: Bytes::from(event),
        role: Role::Closing,
    });
    Body::Pieces(Box::new(before.chain(end)))
}

fn broken(reply: &mut Reply, params: &Params, content: usize, finish: Finish) {
    if let (Body::Whole(bytes), false) = (&reply.body, reply.is_chunked()) {
        // The head goes on promising the whole.
        reply.framing = Framing::Length(bytes.len() as u64);
    }
    reply.body = cut(reply.body.take(), params, content);
    reply.finish = finish;
}

/// The body up to the break.
fn cut(body: Body, params: &Params, content: usize) -> Body {
    match (body, params.after) {
        (Body::None, _) => Body::None,
        (Body::Whole(bytes), after) => {
            let end = match after {
                Some(After::End) => bytes.len().saturating_sub(1),
                after => place(after, bytes.len()),
            };
            Body::Pieces(Body::Whole(bytes.slice(..end)).into_pieces())
        }
        (Body::Pieces(pieces), Some(After::End)) => {
            Body::Pieces(all_but_last(pieces, params.split))
        }
        (Body::Pieces(pieces), after) => {
            Body::Pieces(until(pieces, place(after, content), params.split))
        }
    }
}

/// The pieces before the content piece that would exceed `count`, or before the closing; with `split`, half of it too.
fn until(mut pieces: Pieces, count: usize, split: Split) -> Pieces {
    let mut seen = 0;
    let mut over = false;
    Box::new(std::iter::from_fn(move || {
        let piece = pieces.next().filter(|_| !over)?;
        over = match piece.role {
            Role::Preamble => false,
            Role::Content => seen == count,
            Role::Closing => true,
        };
        seen += usize::from(piece.role == Role::Content);
        if over {
            beginning(&piece, split)
        } else {
            Some(piece)
        }
    }))
}

fn all_but_last(pieces: Pieces, split: Split) -> Pieces {
    let mut pieces = pieces.peekable();
    Box::new(std::iter::from_fn(move || {
        let piece = pieces.next()?;
        if pieces.peek().is_some() {
            Some(piece)
        } else {
            beginning(&piece, split)
        }
    }))
}

fn beginning(piece: &Piece, split: Split) -> Option<Piece> {
    let half = piece.bytes.len() / 2;
    let end = match split {
        Split::No => 0,
        Split::Half => half,
        Split::Character => {
            let first = piece.bytes.iter().position(|byte| !byte.is_ascii());
            first.map_or(half, |first| first + 1)
        }
    };
    (end > 0).then(|| Piece {
        bytes: piece.bytes.slice(..end),
        ..piece.clone()
    })
}

/// Makes the body's length known and gives it.
fn collected(reply: &mut Reply) -> u64 {
    let length = |bytes: &Bytes| bytes.len() as u64;
    match reply.body.take() {
        Body::None => 0,
        Body::Whole(bytes) => {
            let known = length(&bytes);
            reply.body = Body::Whole(bytes);
            known
        }
        Body::Pieces(pieces) => {
            let pieces: Vec<Piece> = pieces.collect();
            let known = pieces.iter().map(|piece| length(&piece.bytes)).sum();
            reply.body = Body::Pieces(Box::new(pieces.into_iter()));
            known
        }
    }
}

fn wrong_length(reply: &mut Reply, wrong: impl Fn(u64) -> u64) {
    let length = collected(reply);
    reply.framing = Framing::Length(wrong(length));
    reply.finish = Finish::Fin;
}

fn giant_headers(reply: &mut Reply, params: &Params) {
    let count = params.count.unwrap_or(GIANT_HEADERS.1).max(1);
    let each =
        params.size.unwrap_or(GIANT_HEADERS.0) / usize::try_from(count).unwrap_or(usize::MAX);
    for number in 0..count {
        reply.header(format!("x-lab-giant-{number:06}"), "g".repeat(each));
    }
}

fn compressed(reply: &mut Reply) {
    reply.header("content-encoding", "gzip");
    reply.body = match reply.body.take() {
        Body::None => Body::None,
        Body::Whole(bytes) => Body::Whole(gzip::encoded(&bytes)),
        Body::Pieces(pieces) => Body::Pieces(gzip::pieces(pieces)),
    };
}

fn emptied(body: &Body) -> Body {
    match body {
        Body::Pieces(_) => Body::Pieces(Box::new(std::iter::empty())),
        _ => Body::Whole(Bytes::new()),
    }
}

fn mapped(body: Body, change: fn(&Bytes) -> Bytes) -> Body {
    match body {
        Body::None => Body::None,
        Body::Whole(bytes) => Body::Whole(change(&bytes)),
        Body::Pieces(pieces) => Body::Pieces(Box::new(pieces.map(move |piece| Piece {
            bytes: change(&piece.bytes),
            ..piece
        }))),
    }
}

/// Puts bytes that are not UTF-8 where the marker is; where nothing speaks, behind the first byte of the body.
fn invalid(bytes: &Bytes) -> Bytes {
    let mut out = BytesMut::from(&bytes[..]);
    let mut found = false;
    for at in memchr::memmem::find_iter(bytes, MARKER) {
        out[at..at + INVALID.len()].copy_from_slice(INVALID);
        found = true;
    }
    if !found && bytes.first() == Some(&b'{') {
        let mut out = BytesMut::from(&b"{\""[..]);
        out.extend_from_slice(INVALID);
        out.extend_from_slice(b"\":0,");
        out.extend_from_slice(&bytes[1..]);
        return out.freeze();
    }
    out.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream() -> Pieces {
        let piece = |text: &'static str, role| Piece {
            wait: Duration::ZERO,
            bytes: Bytes::from(text),
            role,
        };
        let pieces = [
            piece("preamble ", Role::Preamble),
            piece("one ", Role::Content),
            piece("two ", Role::Content),
            piece("stop ", Role::Closing),
            piece("done", Role::Closing),
        ];
        Box::new(pieces.into_iter())
    }

    fn cut_text(body: Body, params: &str) -> String {
        let spec: FaultSpec = format!("cut;{params}").parse().unwrap();
        let pieces = cut(body, &spec.params, 2).into_pieces();
        String::from_utf8(pieces.flat_map(|piece| piece.bytes.to_vec()).collect()).unwrap()
    }

    #[test]
    fn a_stream_is_cut_where_it_was_told() {
        for (params, left) in [
            ("", "preamble one "),
            ("after=0", "preamble "),
            ("after=1", "preamble one "),
            ("after=2", "preamble one two "),
            ("after=99", "preamble one two "),
            ("after=end", "preamble one two stop "),
            ("after=1;split", "preamble one tw"),
            ("after=2;split", "preamble one two st"),
            ("after=end;split", "preamble one two stop do"),
            ("after=1;split=no", "preamble one "),
            ("after=1;split=char", "preamble one tw"),
        ] {
            assert_eq!(cut_text(Body::Pieces(stream()), params), left, "{params}");
        }
    }

    #[test]
    fn a_character_is_cut_behind_its_first_byte() {
        let piece = |text| Piece {
            wait: Duration::ZERO,
            bytes: Bytes::from_static(text),
            role: Role::Content,
        };
        for (text, left) in [
            ("gr\u{f6}\u{df}e", &b"gr\xc3"[..]),
            ("\u{1f30a}", b"\xf0"),
            ("plain", b"pl"),
        ] {
            let begun = beginning(&piece(text.as_bytes()), Split::Character).unwrap();
            assert_eq!(begun.bytes, left, "{text}");
        }
    }

    #[test]
    fn a_whole_body_is_cut_by_bytes() {
        for (params, left) in [
            ("", "abc"),
            ("after=2", "ab"),
            ("after=9", "abcdef"),
            ("after=end", "abcde"),
        ] {
            assert_eq!(
                cut_text(Body::Whole(Bytes::from_static(b"abcdef")), params),
                left,
                "{params}"
            );
        }
    }

    #[test]
    fn an_error_comes_after_what_was_told() {
        for (after, text) in [
            (None, "error"),
            (Some(0), "preamble error"),
            (Some(2), "preamble one two error"),
        ] {
            let body = then_events(Body::Pieces(stream()), after, vec!["error".to_owned()]);
            let all: Vec<u8> = body
                .into_pieces()
                .flat_map(|piece| piece.bytes.to_vec())
                .collect();
            assert_eq!(String::from_utf8(all).unwrap(), text);
        }
    }

    #[test]
    fn invalid_bytes_keep_the_length_where_something_speaks() {
        let marked = Bytes::from(format!("{{\"a\":\"{MARKER}\"}}"));
        let spoiled = invalid(&marked);
        assert_eq!(spoiled.len(), marked.len());
        assert!(str::from_utf8(&spoiled).is_err());
        assert!(str::from_utf8(&invalid(&Bytes::from_static(b"{\"a\":1}"))).is_err());
    }
}

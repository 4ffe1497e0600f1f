use proptest::prelude::*;
use tokio::time::Instant;

use super::*;

const NO_LIMIT: usize = usize::MAX;

/// What a frame is, in a form that failing tests can print.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    Event(Option<String>, String),
    Comment,
    Fields,
    Blank,
    Oversize,
    Skipped,
}

fn event(name: &str, data: &str) -> Seen {
    Seen::Event((!name.is_empty()).then(|| name.to_owned()), data.to_owned())
}

fn seen(kind: &FrameKind) -> Seen {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match kind {
        FrameKind::Event(event) => Seen::Event(event.name().map(text), text(event.data())),
        FrameKind::Comment => Seen::Comment,
        FrameKind::Fields => Seen::Fields,
        FrameKind::Blank => Seen::Blank,
        FrameKind::Oversize => Seen::Oversize,
        FrameKind::Skipped => Seen::Skipped,
    }
}

/// All frames of a stream that arrives in these chunks, each with its raw length.
///
/// Checks on the way that no byte is lost or counted twice and that the buffer keeps its bound.
fn frames<'a>(limit: usize, chunks: impl IntoIterator<Item = &'a [u8]>) -> Vec<(usize, Seen)> {
    let mut framer = Framer::new(limit);
    let mut all = Vec::new();
    let (mut total, mut in_frames) = (0, 0);
    for chunk in chunks {
        total += chunk.len();
        framer.push(Bytes::copy_from_slice(chunk));
        while let Some(frame) = framer.next_frame() {
            assert!(frame.raw_len > 0, "a frame without bytes");
            in_frames += frame.raw_len;
            all.push((frame.raw_len, seen(&frame.kind)));
        }
        assert_eq!(
            in_frames + framer.pending(),
            total,
            "bytes lost or counted twice"
        );
        assert!(framer.pending() <= limit, "more kept than the limit allows");
    }
    all
}

fn events(frames: Vec<(usize, Seen)>) -> Vec<Seen> {
    frames
        .into_iter()
        .map(|(_, seen)| seen)
        .filter(|seen| matches!(seen, Seen::Event(..)))
        .collect()
}

/// Checks the frames of a stream in one piece, and its events byte by byte.
fn check<const N: usize>(what: &str, stream: &[u8], expected: [Seen; N]) {
    let whole: Vec<Seen> = frames(NO_LIMIT, [stream])
        .into_iter()
        .map(|(_, seen)| seen)
        .collect();
    assert_eq!(whole, expected, "{what}");
    let bytewise = events(frames(NO_LIMIT, stream.chunks(1)));
    assert_eq!(
        bytewise,
        events(expected.map(|seen| (1, seen)).to_vec()),
        "{what}, byte by byte"
    );
}

#[test]
fn values_as_the_standard_reads_them() {
    check("one data line", b"data: x\n\n", [event("", "x")]);
    check("no space after the colon", b"data:x\n\n", [event("", "x")]);
    check(
        "only one space is taken",
        b"data:  x\n\n",
        [event("", " x")],
    );
    check("a tab is text", b"data:\tx\n\n", [event("", "\tx")]);
    check(
        "later colons are text",
        b"data: a: b:c\n\n",
        [event("", "a: b:c")],
    );
    check(
        "joined by LF",
        b"data: a\ndata: b\ndata:\ndata: c\n\n",
        [event("", "a\nb\n\nc")],
    );
    check("a field without a colon", b"data\n\n", [event("", "")]);
    check("two of them", b"data\ndata\n\n", [event("", "\n")]);
    check("NUL is text", b"data: a\0b\n\n", [event("", "a\0b")]);
    check("an unfinished event is none", b"data: x\n", []);
    check(
        "nor without a line end",
        b"data: x\n\ndata: y",
        [event("", "x")],
    );
    check("the empty stream", b"", []);
}

#[test]
fn names_and_other_fields_as_the_standard_reads_them() {
    check(
        "a name",
        b"event: ping\ndata: {}\n\n",
        [event("ping", "{}")],
    );
    check(
        "after the data",
        b"data: {}\nevent: ping\n\n",
        [event("ping", "{}")],
    );
    check(
        "the last name counts",
        b"event: a\nevent: b\ndata: x\n\n",
        [event("b", "x")],
    );
    check(
        "also when empty",
        b"event: a\nevent\ndata: x\n\n",
        [event("", "x")],
    );
    check(
        "names end with the block",
        b"event: a\n\ndata: x\n\n",
        [Seen::Fields, event("", "x")],
    );
    check(
        "id and retry without data",
        b"id: 1\nretry: 3\n\n",
        [Seen::Fields],
    );
    check(
        "unknown ones",
        b"foo: 1\ndata: x\nDATA: y\n data: z\n\n",
        [event("", "x")],
    );
    check("a comment", b": hello\n\n", [Seen::Comment]);
    check("an empty comment", b":\n\n", [Seen::Comment]);
    check(
        "a comment inside",
        b"event: a\n: hush\ndata: x\n\n",
        [event("a", "x")],
    );
    check(
        "comments beside a field",
        b": hush\nid: 1\n: hush\n\n",
        [Seen::Fields],
    );
}

#[test]
fn line_ends_and_marks_as_the_standard_reads_them() {
    use Seen::{Blank, Fields};
    check(
        "blank lines",
        b"\n\ndata: x\n\n\n",
        [Blank, Blank, event("", "x"), Blank],
    );
    check("CRLF", b"event: a\r\ndata: x\r\n\r\n", [event("a", "x")]);
    check("CR", b"event: a\rdata: x\r\r", [event("a", "x")]);
    check(
        "LF, then CR",
        b"data: x\n\rdata: y\r\n\n",
        [event("", "x"), event("", "y")],
    );
    check(
        "CR, then CRLF",
        b"data: x\r\r\ndata: y\r\r\n",
        [event("", "x"), event("", "y")],
    );
    check("a mark", b"\xEF\xBB\xBFdata: x\n\n", [event("", "x")]);
    check(
        "a mark, then a blank line",
        b"\xEF\xBB\xBF\ndata: x\n\n",
        [Blank, event("", "x")],
    );
    check(
        "only one mark",
        b"\xEF\xBB\xBF\xEF\xBB\xBFdata: x\n\n",
        [Fields],
    );
    check(
        "no mark later",
        b"data: x\n\n\xEF\xBB\xBFdata: y\n\n",
        [event("", "x"), Fields],
    );
    check(
        "half a mark is a line",
        b"\xEF\xBB\ndata: x\n\n",
        [event("", "x")],
    );
    check(
        "half a mark is text",
        b"\xEF\xBBdata: x\n\ndata: y\n\n",
        [Fields, event("", "y")],
    );
}

#[test]
fn raw_lengths_cover_comments_and_line_ends() {
    let stream = b"\xEF\xBB\xBF: a\r\n\r\nevent: b\r\n: c\r\ndata: d\r\n\r\n\r\ndata: e\r\n\r\n";
    let expected = vec![
        (10, Seen::Comment),
        (26, event("b", "d")),
        (2, Seen::Blank),
        (11, event("", "e")),
    ];
    assert_eq!(frames(NO_LIMIT, [&stream[..]]), expected);
}

#[test]
fn an_event_is_given_at_its_cr_and_the_late_lf_is_a_frame_of_its_own() {
    let mut framer = Framer::new(NO_LIMIT);
    framer.push(Bytes::from_static(b"data: x\r\n\r"));
    let frame = framer.next_frame().expect("the CR ends the event");
    assert_eq!((frame.raw_len, seen(&frame.kind)), (10, event("", "x")));
    assert!(framer.next_frame().is_none());
    assert!(framer.at_boundary());

    framer.push(Bytes::from_static(b"\ndata: y\r\r"));
    let frame = framer.next_frame().expect("the LF of the CRLF before");
    assert_eq!((frame.raw_len, seen(&frame.kind)), (1, Seen::Blank));
    let frame = framer.next_frame().expect("the next event");
    assert_eq!((frame.raw_len, seen(&frame.kind)), (9, event("", "y")));
}

#[test]
fn an_event_within_one_chunk_is_not_copied() {
    let chunk =
        Bytes::from_static(b"event: ping\ndata: one\n\nevent: pong\ndata: two\n\ndata: thr");
    let inside = chunk.as_ptr_range();
    let mut framer = Framer::new(NO_LIMIT);
    framer.push(chunk.clone());
    for expected in ["ping", "pong"] {
        let FrameKind::Event(event) = framer.next_frame().expect("an event").kind else {
            panic!("not an event")
        };
        let name = event.name().expect("a name");
        assert_eq!(name, expected.as_bytes());
        assert!(inside.contains(&name.as_ptr()));
        assert!(inside.contains(&event.data().as_ptr()));
    }
    assert!(framer.next_frame().is_none());
    assert_eq!(framer.pending(), "data: thr".len());
}

#[test]
fn an_event_over_the_limit_is_reported_once_and_the_next_is_whole() {
    let stream = b"data: 12345\n\ndata: 123456\n\ndata: x\n\n";
    let whole = frames(13, [&stream[..]]);
    assert_eq!(
        whole,
        vec![
            (13, event("", "12345")),
            (14, Seen::Oversize),
            (9, event("", "x"))
        ]
    );

    let bytewise = frames(13, stream.chunks(1));
    assert_eq!(
        bytewise[..2],
        [(13, event("", "12345")), (14, Seen::Oversize)]
    );
    assert_eq!(bytewise[2..], [(9, event("", "x"))]);

    // Known to be too long before its end: what follows is counted, not kept.
    let longer = b"data: 1234567890\n\ndata: x\n\n";
    let in_fives = frames(13, longer.chunks(5));
    let expected = vec![
        (15, Seen::Oversize),
        (3, Seen::Skipped),
        (9, event("", "x")),
    ];
    assert_eq!(in_fives, expected);
}

#[test]
fn the_verdict_on_size_does_not_depend_on_where_a_crlf_is_cut() {
    let stream = b"data: 1\r\n\r\ndata: 2\r\n\r\n";
    for limit in [9, 10, 11] {
        let is_event = limit >= 10;
        for cut in 0..stream.len() {
            let (head, tail) = stream.split_at(cut);
            let found = events(frames(limit, [head, tail]));
            assert_eq!(
                found.len(),
                if is_event { 2 } else { 0 },
                "limit {limit}, cut at {cut}"
            );
        }
    }
}

#[test]
fn boundaries_are_told() {
    let mut framer = Framer::new(12);
    assert!(framer.at_boundary());
    for (chunk, expected) in [
        (&b"data: x\n"[..], false),
        (b"\n", true),
        (b": keep-alive", false),
        (b" which is long", false), // oversize now
        (b" and longer", false),
        (b"\n", false),
        (b"\n", true),
        (b"\xEF", false),
    ] {
        framer.push(Bytes::copy_from_slice(chunk));
        while framer.next_frame().is_some() {}
        assert_eq!(
            framer.at_boundary(),
            expected,
            "after {:?}",
            String::from_utf8_lossy(chunk)
        );
    }
}

#[test]
fn a_push_before_the_frames_were_taken_loses_nothing() {
    let mut framer = Framer::new(NO_LIMIT);
    framer.push(Bytes::from_static(b"data: a\n\ndata:"));
    framer.push(Bytes::from_static(b" b\n\n"));
    assert_eq!(framer.pending(), 18);
    let mut found = Vec::new();
    while let Some(frame) = framer.next_frame() {
        found.push(seen(&frame.kind));
    }
    assert_eq!(found, vec![event("", "a"), event("", "b")]);
}

/// Searching the buffer anew at every byte would take minutes here, not a fraction of a second.
#[test]
fn a_mebibyte_byte_by_byte_stays_linear() {
    let mut stream = b"data: ".to_vec();
    stream.resize(1 << 20, b'x');
    stream.extend_from_slice(b"\n\n");
    let started = Instant::now();
    let found = frames(2 << 20, stream.chunks(1));
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].0, stream.len());
    assert!(
        started.elapsed().as_secs() < 20,
        "took {:?}",
        started.elapsed()
    );
}

#[test]
fn debug_output_holds_no_text() {
    let mut framer = Framer::new(NO_LIMIT);
    framer.push(Bytes::from_static(
        b"event: secret-name\ndata: secret-text\n\n",
    ));
    let frame = framer.next_frame().expect("an event");
    assert!(!format!("{frame:?}").contains("secret"));
}

// === properties ===

/// Streams made of the pieces that matter, in any order.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        8 => prop::sample::select(vec![
            "\n", "\r", "\r\n", "\n\n", "\r\r", "\r\n\r\n", ":", ": ", " ", "data", "data:", "data: ",
            "event:", "event: ", "id: 1", "retry: 1", "x", "héllo", "日本", "[DONE]", "\0",
        ]).prop_map(|piece| piece.as_bytes().to_vec()),
        1 => Just(vec![0xEF, 0xBB, 0xBF]),
        1 => prop::collection::vec(any::<u8>(), 0..4),
        3 => "[a-z{}\": ]{0,20}".prop_map(|text| format!("data: {text}\n").into_bytes()),
    ];
    prop::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

/// Cuts `stream` at the given places, each taken modulo the length.
fn cut<'a>(stream: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let mut places: Vec<usize> = cuts.iter().map(|cut| cut % (stream.len() + 1)).collect();
    places.sort_unstable();
    let mut chunks = Vec::new();
    let mut start = 0;
    for place in places.into_iter().chain([stream.len()]) {
        chunks.push(&stream[start..place]);
        start = place;
    }
    chunks
}

proptest! {
    #[test]
    fn any_split_gives_the_same_events(
        stream in stream(),
        cuts in prop::collection::vec(any::<usize>(), 0..20),
        limit in prop_oneof![Just(NO_LIMIT), 1_usize..60],
    ) {
        let whole = events(frames(limit, [&stream[..]]));
        prop_assert_eq!(&events(frames(limit, cut(&stream, &cuts))), &whole);
        prop_assert_eq!(&events(frames(limit, stream.chunks(1))), &whole);
    }

    #[test]
    fn an_independent_parser_finds_the_same_events(
        stream in stream(),
        cuts in prop::collection::vec(any::<usize>(), 0..20),
    ) {
        let mut oracle = sse_parse::SseParser::new();
        let mut expected = Vec::new();
        for chunk in cut(&stream, &cuts) {
            oracle.feed(chunk);
        }
        while let Some(found) = oracle.next_event() {
            // The oracle fills in the default type; a stream may also name it.
            expected.push((found.event, found.data));
        }
        let ours: Vec<(String, String)> = events(frames(NO_LIMIT, cut(&stream, &cuts)))
            .into_iter()
            .map(|seen| match seen {
                Seen::Event(name, data) => (name.unwrap_or_else(|| "message".to_owned()), data),
                other => unreachable!("filtered before: {other:?}"),
            })
            .collect();
        prop_assert_eq!(ours, expected);
    }

    #[test]
    fn random_bytes_are_all_accounted_for(
        stream in prop::collection::vec(any::<u8>(), 0..400),
        cuts in prop::collection::vec(any::<usize>(), 0..20),
        limit in 0_usize..50,
    ) {
        // The helper asserts the sums and the bound.
        frames(limit, cut(&stream, &cuts));
    }

    #[test]
    fn oversize_is_reported_once_for_each_long_block(
        lengths in prop::collection::vec(1_usize..40, 1..20),
        cuts in prop::collection::vec(any::<usize>(), 0..20),
    ) {
        let limit = 20;
        let stream: Vec<u8> =
            lengths.iter().flat_map(|len| [vec![b'x'; *len], b"\n\n".to_vec()].concat()).collect();
        let too_long = lengths.iter().filter(|len| *len + 2 > limit).count();
        let found = frames(limit, cut(&stream, &cuts));
        prop_assert_eq!(found.iter().filter(|(_, seen)| *seen == Seen::Oversize).count(), too_long);
    }
}

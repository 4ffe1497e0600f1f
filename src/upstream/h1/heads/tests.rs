use proptest::prelude::*;

use super::*;

#[path = "../../../../fuzz/properties/heads.rs"]
mod properties;

/// The end as found when `bytes` come in pieces of `size`.
fn end(bytes: &[u8], size: usize) -> Option<usize> {
    let mut heads = Heads::default();
    let mut before = 0;
    for piece in bytes.chunks(size) {
        if let Some(end) = heads.read(piece).expect("few of them") {
            return Some(before + end);
        }
        before += piece.len();
    }
    None
}

#[test]
fn a_head_ends_at_its_blank_line_however_lines_end() {
    for head in [
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n",
        "HTTP/1.1 200 OK\ncontent-length: 2\n\n",
        "HTTP/1.1 200 OK\r\na: 1\n\r\n",
        "HTTP/1.1 204 No Content\r\n\r\n",
        "\r\n\nHTTP/1.1 200\r\na:\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\na: 1\r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n\r\n",
        "nothing of HTTP\r\n\r\n",
        "HTTP/1.1 1\n\n",
        "HTTP/1.1 1 0 OK\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\nnothing\r\n\r\n",
    ] {
        let message = format!("{head}{{}}\r\n\r\n");
        for size in [1, 2, 3, 7, 4096] {
            assert_eq!(end(message.as_bytes(), size), Some(head.len()), "{head:?}");
        }
    }
    for open in [
        "HTTP/1.1 200 OK\r\na: 1\r\n",
        "HTTP/1.1 200 OK\r\na\r\rb\r\n\r",
        "",
    ] {
        assert_eq!(end(open.as_bytes(), 1), None, "{open:?}");
    }
}

#[test]
fn a_hundred_are_borne() {
    let mut heads = Heads::default();
    for _ in 0..MOST_INTERIM {
        assert_eq!(
            heads.read(b"HTTP/1.1 102 Processing\r\n\r\n").unwrap(),
            None
        );
    }
    let one_more = heads.read(b"HTTP/1.1 102 Processing\r\n\r\n");
    assert!(one_more.is_err());
}

#[test]
fn each_answer_counts_anew() {
    let mut heads = Heads::default();
    for _ in 0..3 * MOST_INTERIM {
        let message = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n";
        assert_eq!(heads.read(message).unwrap(), Some(message.len()));
    }
}

proptest! {
    /// Also where it says that hyper's parser ends it.
    #[test]
    fn it_ends_where_the_parser_ends_it(
        fields in proptest::collection::vec(("[a-z]{1,9}", "[ -~]{0,12}"), 0..6),
        ends in proptest::collection::vec(any::<bool>(), 8),
        body in "[\r\na-z]{0,20}",
        size in 1_usize..60,
    ) {
        let mut ends = ends.iter().cycle().map(|crlf| if *crlf { "\r\n" } else { "\n" });
        let mut message = format!("HTTP/1.1 200 OK{}", ends.next().unwrap_or("\n"));
        for (name, value) in &fields {
            message += name;
            message += ": ";
            message += value;
            message += ends.next().unwrap_or("\n");
        }
        message += ends.next().unwrap_or("\n");
        message += &body;
        properties::holds(&message.as_bytes().chunks(size).collect::<Vec<_>>());
    }
}

//! Finds where the head of an answer ends in what a peer sends, and counts the heads before it.
//!
//! It reads no more of a head than that: whether the head is a valid one is for hyper to say, which gets every
//! byte of it. Lines end as hyper's parser ends them, with or without a carriage return.

use memchr::memchr_iter;

/// The most answers before the answer (1xx, RFC 9110 §15.2) that are passed over.
pub(super) const MOST_INTERIM: u32 = 100;

/// `HTTP/1.1 200`
const STATUS: usize = 12;

/// More heads of 1xx than anybody has a use for.
#[derive(Debug, thiserror::Error)]
#[error("the upstream sent more than {MOST_INTERIM} answers before its answer")]
pub(in crate::upstream) struct TooManyInterim;

/// What is known of the heads of one answer.
#[derive(Debug, Default)]
pub(super) struct Heads {
    /// The beginning of the line of the status.
    status: [u8; STATUS],
    /// Bytes of the current line that have come, without its end.
    line: usize,
    /// All of the current line, as long as it is a lone carriage return.
    is_return: bool,
    /// The line of the status is over.
    in_fields: bool,
    interim: u32,
}

impl Heads {
    /// Reads on. The end of the answer's own head, counted from the start of `bytes`, once it is there;
    /// from then on this is as new.
    pub(super) fn read(&mut self, bytes: &[u8]) -> Result<Option<usize>, TooManyInterim> {
        let mut start = 0;
        for end in memchr_iter(b'\n', bytes) {
            self.see(&bytes[start..end]);
            start = end + 1;
            if self.end_line()? {
                *self = Self::default();
                return Ok(Some(start));
            }
        }
        self.see(&bytes[start..]);
        Ok(None)
    }

    fn see(&mut self, part: &[u8]) {
        if !self.in_fields && self.line < STATUS {
            let part = &part[..part.len().min(STATUS - self.line)];
            self.status[self.line..self.line + part.len()].copy_from_slice(part);
        }
        self.is_return = (self.line == 0 && part == b"\r") || (self.is_return && part.is_empty());
        self.line += part.len();
    }

    /// Whether the line that has ended was the last one of the answer's own head.
    fn end_line(&mut self) -> Result<bool, TooManyInterim> {
        let is_blank = self.line == 0 || self.is_return;
        (self.line, self.is_return) = (0, false);
        match (self.in_fields, is_blank) {
            (_, false) => self.in_fields = true,
            (false, true) => {} // blank lines before a head are passed over
            (true, true) if self.is_interim() => {
                self.interim += 1;
                if self.interim > MOST_INTERIM {
                    return Err(TooManyInterim);
                }
                self.in_fields = false;
            }
            (true, true) => return Ok(true),
        }
        Ok(false)
    }

    /// A switch of protocols is an answer.
    fn is_interim(&self) -> bool {
        self.status[8..10] == *b" 1" && self.status[10..] != *b"01"
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

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
        /// What hyper's parser takes for a whole head ends where this says, in whatever pieces it comes.
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
            let mut slots = [httparse::EMPTY_HEADER; 16];
            let parsed = httparse::Response::new(&mut slots).parse(message.as_bytes());
            if let Ok(httparse::Status::Complete(len)) = parsed {
                prop_assert_eq!(end(message.as_bytes(), size), Some(len));
            }
        }
    }
}

//! Finds where blocks end, one chunk at a time.
//!
//! All that a scanner must remember between chunks is whether the current line
//! has any bytes yet and whether the last byte was a CR; so a chunk is searched
//! once and never again, and the search is independent of what is buffered.

use memchr::memchr2;

/// The byte order mark, allowed once at the very start of a stream.
pub(super) const BOM: [u8; 3] = [0xEF, 0xBB, 0xBF];

/// The position within the line structure of a stream.
#[derive(Debug)]
pub(super) struct Scanner {
    /// The current line has no bytes so far: a line end now makes it a blank line.
    line_is_empty: bool,
    /// The last byte was a CR that ended a line: an LF now belongs to it.
    after_cr: bool,
    bom: Bom,
}

/// How much of a byte order mark has been seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bom {
    /// So many of its bytes match the start of the stream.
    Matching(usize),
    /// It stands at the start of the first block, which has not ended yet.
    InFirstBlock,
    /// There is none, or the first block is over.
    Past,
}

impl Scanner {
    pub(super) fn new() -> Self {
        Self {
            line_is_empty: true,
            after_cr: false,
            bom: Bom::Matching(0),
        }
    }

    /// The number of bytes up to and with the blank line that ends the current
    /// block, or `None` if `bytes` do not hold its end; then all of them are
    /// scanned. The LF of a final CRLF is left to [`takes_stray_lf`](Self::takes_stray_lf).
    pub(super) fn block_end(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut at = self.skip_bom(bytes);
        if self.takes_stray_lf(&bytes[at..]) {
            at += 1;
        }
        loop {
            let rest = &bytes[at..];
            let Some(line_len) = memchr2(b'\n', b'\r', rest) else {
                self.line_is_empty &= rest.is_empty();
                return None;
            };
            let is_blank = self.line_is_empty && line_len == 0;
            self.line_is_empty = true;
            self.after_cr = rest[line_len] == b'\r';
            at += line_len + 1;
            if is_blank {
                return Some(at);
            }
            if self.takes_stray_lf(&bytes[at..]) {
                at += 1;
            }
        }
    }

    /// Whether the first of `bytes` is the LF of a CRLF whose CR was the last byte.
    ///
    /// With no bytes the question stays open until the next chunk.
    pub(super) fn takes_stray_lf(&mut self, bytes: &[u8]) -> bool {
        match bytes.first() {
            Some(first) => std::mem::take(&mut self.after_cr) && *first == b'\n',
            None => false,
        }
    }

    /// Whether the block that just ended began with a byte order mark. True at most once.
    pub(super) fn take_bom(&mut self) -> bool {
        let has_bom = self.bom == Bom::InFirstBlock;
        self.bom = Bom::Past;
        has_bom
    }

    /// The number of leading bytes that belong to a byte order mark.
    fn skip_bom(&mut self, bytes: &[u8]) -> usize {
        let Bom::Matching(seen) = self.bom else {
            return 0;
        };
        let expected = &BOM[seen..];
        let matched = expected
            .iter()
            .zip(bytes)
            .take_while(|(want, got)| want == got)
            .count();
        if matched == expected.len() {
            self.bom = Bom::InFirstBlock;
        } else if matched == bytes.len() {
            self.bom = Bom::Matching(seen + matched);
        } else {
            // What looked like a mark was the beginning of an ordinary line.
            self.bom = Bom::Past;
            self.line_is_empty = seen + matched == 0;
        }
        matched
    }
}

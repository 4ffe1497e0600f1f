//! Finds where the head of an answer ends in what a peer sends, and counts the heads before it.
//!
//! It reads no more of a head than that: whether the head is a valid one is for hyper to say, which gets every
//! byte of it. Lines end as hyper's parser ends them, with or without a carriage return.

use memchr::memchr_iter;

/// The most answers before the answer (1xx, RFC 9110 §15.2) that are passed over.
pub(in crate::upstream) const MOST_INTERIM: u32 = 100;

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
                // Nothing of its line may be left: the next one can be shorter.
                *self = Self {
                    interim: self.interim + 1,
                    ..Self::default()
                };
                if self.interim > MOST_INTERIM {
                    return Err(TooManyInterim);
                }
            }
            (true, true) => return Ok(true),
        }
        Ok(false)
    }

    /// A switch of protocols is an answer.
    fn is_interim(&self) -> bool {
        match self.status[8..] {
            [b' ', b'1', tens, ones] => {
                tens.is_ascii_digit() && ones.is_ascii_digit() && [tens, ones] != *b"01"
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests;

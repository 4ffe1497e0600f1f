//! The chunked transfer coding (RFC 9112 §7.1), as strict as hyper's decoder: every line ends in CRLF, a size
//! is hexadecimal digits and nothing before them, what may be ignored is bounded.

use bytes::{Buf as _, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};
use memchr::memchr;

/// Bytes of extensions in one body. Nobody has a use for them, and each costs an attacker nothing.
pub(super) const MOST_EXTENSIONS: usize = 16 * 1024;

/// Bytes of all trailers.
pub(super) const MOST_TRAILERS: usize = 16 * 1024;

/// Trailers.
pub(super) const MOST_FIELDS: usize = 100;

/// A line that is longer than this is none.
pub(super) const MOST_LINE: usize = 17 * 1024;

/// What a body in chunks gives.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// A chunk, or the part of it that is there.
    Data(Bytes),
    /// The fields behind the last chunk, and the end.
    Trailers(HeaderMap),
    /// The end.
    End,
}

/// A body that is not what the coding demands.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the upstream's chunks are broken: {0}")]
pub struct BrokenChunks(&'static str);

/// Where in the coding a body stands.
#[derive(Debug)]
enum State {
    /// Before or in the line of a size.
    Size,
    /// So much of a chunk is to come, at least one byte.
    Data(u64),
    /// Before the line end behind a chunk.
    DataEnd,
    /// Behind the last chunk.
    Trailers,
}

/// The decoder: takes bytes from a buffer as far as they go.
#[derive(Debug)]
pub(super) struct Chunks {
    state: State,
    extensions: usize,
    trailers: Vec<u8>,
}

impl Chunks {
    /// Before the first chunk.
    pub(super) fn new() -> Self {
        Self {
            state: State::Size,
            extensions: 0,
            trailers: Vec::new(),
        }
    }

    /// The next piece out of `bytes`; `None` when more of them is needed. Not to be asked again after the end or
    /// an error.
    pub(super) fn next(&mut self, bytes: &mut BytesMut) -> Result<Option<Piece>, BrokenChunks> {
        loop {
            match self.state {
                State::Size => {
                    let Some(line) = take_line(bytes)? else {
                        return Ok(None);
                    };
                    self.state = match self.size(&line)? {
                        0 => State::Trailers,
                        size => State::Data(size),
                    };
                }
                State::Data(_) if bytes.is_empty() => return Ok(None),
                State::Data(left) => {
                    let there =
                        usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()));
                    self.state = match left - there as u64 {
                        0 => State::DataEnd,
                        left => State::Data(left),
                    };
                    return Ok(Some(Piece::Data(bytes.split_to(there).freeze())));
                }
                State::DataEnd => {
                    if !b"\r\n".starts_with(&bytes[..bytes.len().min(2)]) {
                        return Err(BrokenChunks("no line end behind a chunk"));
                    }
                    if bytes.len() < 2 {
                        return Ok(None);
                    }
                    bytes.advance(2);
                    self.state = State::Size;
                }
                State::Trailers => {
                    let Some(line) = take_line(bytes)? else {
                        return Ok(None);
                    };
                    if line.is_empty() {
                        return self.end().map(Some);
                    }
                    self.trailers.extend_from_slice(&line);
                    self.trailers.extend_from_slice(b"\r\n");
                    if self.trailers.len() >= MOST_TRAILERS {
                        return Err(BrokenChunks("too many trailers"));
                    }
                }
            }
        }
    }

    fn size(&mut self, line: &[u8]) -> Result<u64, BrokenChunks> {
        let digits = line
            .iter()
            .take_while(|byte| byte.is_ascii_hexdigit())
            .count();
        let (digits, rest) = line.split_at(digits);
        if digits.is_empty() {
            return Err(BrokenChunks("no size before a chunk"));
        }
        let padding = rest
            .iter()
            .take_while(|byte| matches!(byte, b' ' | b'\t'))
            .count();
        match rest.get(padding) {
            None => {}
            Some(b';') => {
                self.extensions += rest.len() - padding - 1;
                if self.extensions >= MOST_EXTENSIONS {
                    return Err(BrokenChunks("too much behind the sizes of chunks"));
                }
            }
            Some(_) => return Err(BrokenChunks("a size that is no number")),
        }
        let digit = |byte: &u8| u64::from(char::from(*byte).to_digit(16).unwrap_or_default());
        digits
            .iter()
            .try_fold(0_u64, |size, byte| {
                Some(size.checked_mul(16)? | digit(byte))
            })
            .ok_or(BrokenChunks("a size beyond all bounds"))
    }

    fn end(&mut self) -> Result<Piece, BrokenChunks> {
        if self.trailers.is_empty() {
            return Ok(Piece::End);
        }
        self.trailers.extend_from_slice(b"\r\n");
        let mut slots = [httparse::EMPTY_HEADER; MOST_FIELDS];
        let Ok(httparse::Status::Complete((_, fields))) =
            httparse::parse_headers(&self.trailers, &mut slots)
        else {
            return Err(BrokenChunks("trailers that are no fields"));
        };
        let mut trailers = HeaderMap::with_capacity(fields.len());
        for field in fields {
            let name = HeaderName::from_bytes(field.name.as_bytes());
            let value = HeaderValue::from_bytes(field.value);
            let (Ok(name), Ok(value)) = (name, value) else {
                return Err(BrokenChunks("trailers that are no fields"));
            };
            trailers.append(name, value);
        }
        Ok(Piece::Trailers(trailers))
    }
}

/// The next line without its CRLF, once it is there.
fn take_line(bytes: &mut BytesMut) -> Result<Option<BytesMut>, BrokenChunks> {
    let end = memchr(b'\n', bytes);
    // Also when the end has come with the rest: what is refused must not depend on how it is cut.
    if end.unwrap_or(bytes.len()) > MOST_LINE {
        return Err(BrokenChunks("a line beyond all bounds"));
    }
    let Some(end) = end else {
        return Ok(None);
    };
    let mut line = bytes.split_to(end + 1);
    match memchr(b'\r', &line) {
        Some(len) if len + 1 == end => line.truncate(len),
        _ => return Err(BrokenChunks("a line that does not end in CRLF")),
    }
    Ok(Some(line))
}

#[cfg(test)]
mod tests;

//! What must hold of the decoder of bodies in chunks, whatever comes.

use bytes::BytesMut;

use super::{Chunks, MOST_EXTENSIONS, MOST_FIELDS, MOST_LINE, MOST_TRAILERS, Piece};

/// What a body gives in all.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Read {
    pub(crate) data: Vec<u8>,
    pub(crate) trailers: Vec<(String, Vec<u8>)>,
    pub(crate) end: End,
    /// What is behind the end.
    pub(crate) rest: Vec<u8>,
}

/// How far a body goes.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    #[default]
    NotYet,
    Whole,
    Broken,
}

/// A body is what a decoder by the letter reads, however it is cut, and nothing behind its end is touched.
pub(crate) fn holds(pieces: &[&[u8]]) {
    let coded = pieces.concat();
    // A map of fields tells those of one name together.
    let sorted = |mut read: Read| {
        read.trailers.sort_by(|(one, _), (other, _)| one.cmp(other));
        read
    };
    let expected = sorted(reference(&coded));
    assert_eq!(sorted(read(&[&coded])), expected, "at once");
    assert_eq!(sorted(read(pieces)), expected, "in pieces");
}

/// Reads a body that comes in these pieces.
pub(crate) fn read(pieces: &[&[u8]]) -> Read {
    let (mut chunks, mut bytes, mut read) = (Chunks::new(), BytesMut::new(), Read::default());
    for piece in pieces {
        bytes.extend_from_slice(piece);
        while read.end == End::NotYet {
            match chunks.next(&mut bytes) {
                Ok(None) => break,
                Ok(Some(Piece::Data(data))) => {
                    assert!(!data.is_empty(), "a piece of nothing");
                    read.data.extend_from_slice(&data);
                }
                Ok(Some(Piece::End)) => read.end = End::Whole,
                Ok(Some(Piece::Trailers(trailers))) => {
                    read.trailers = fields(&trailers);
                    read.end = End::Whole;
                }
                Err(_) => read.end = End::Broken,
            }
        }
    }
    if read.end == End::Whole {
        read.rest = bytes.to_vec();
    }
    read
}

pub(crate) fn fields(map: &http::HeaderMap) -> Vec<(String, Vec<u8>)> {
    let fields = map.iter();
    fields
        .map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()))
        .collect()
}

/// The same by the letter of RFC 9112, within our bounds, and with all of the body at hand.
fn reference(coded: &[u8]) -> Read {
    let (mut read, mut rest) = (Read::default(), coded);
    read.end = match body(&mut rest, &mut read) {
        Ok(()) => End::Whole,
        Err(end) => end,
    };
    if read.end == End::Whole {
        read.rest = rest.to_vec();
    }
    read
}

fn body(rest: &mut &[u8], read: &mut Read) -> Result<(), End> {
    let mut extensions = 0;
    loop {
        let line = line(rest)?;
        let mut halves = line.splitn(2, |byte| *byte == b';');
        let size = size(halves.next().unwrap_or_default())?;
        extensions += halves.next().map_or(0, <[u8]>::len);
        if extensions > MOST_EXTENSIONS {
            return Err(End::Broken);
        }
        if size == 0 {
            read.trailers = trailers(rest)?;
            return Ok(());
        }
        let there = usize::try_from(size).map_or(rest.len(), |size| size.min(rest.len()));
        let (data, behind) = rest.split_at(there);
        read.data.extend_from_slice(data);
        *rest = match behind {
            _ if (there as u64) < size => return Err(End::NotYet),
            [b'\r', b'\n', behind @ ..] => behind,
            [] | [b'\r'] => return Err(End::NotYet),
            _ => return Err(End::Broken),
        };
    }
}

/// A line without its CRLF; other carriage returns and line feeds break it.
fn line<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], End> {
    let Some(len) = rest.iter().position(|byte| *byte == b'\n') else {
        let is_line = rest.len() <= MOST_LINE;
        return Err(if is_line { End::NotYet } else { End::Broken });
    };
    let line = &rest[..len];
    *rest = &rest[len + 1..];
    match line.strip_suffix(b"\r") {
        Some(text) if len <= MOST_LINE && !text.contains(&b'\r') => Ok(text),
        _ => Err(End::Broken),
    }
}

fn size(mut digits: &[u8]) -> Result<u64, End> {
    while let [before @ .., b' ' | b'\t'] = digits {
        digits = before;
    }
    if !digits.iter().all(u8::is_ascii_hexdigit) {
        return Err(End::Broken);
    }
    let digits = str::from_utf8(digits).map_err(|_| End::Broken)?;
    u64::from_str_radix(digits, 16).map_err(|_| End::Broken)
}

fn trailers(rest: &mut &[u8]) -> Result<Vec<(String, Vec<u8>)>, End> {
    let (mut lines, mut len) = (Vec::new(), 0);
    loop {
        match line(rest)? {
            b"" => break,
            line => lines.push(line),
        }
        len += lines.last().map_or(0, |line| line.len()) + 2;
        if len > MOST_TRAILERS {
            return Err(End::Broken);
        }
    }
    let fields: Option<Vec<_>> = lines.into_iter().map(field).collect();
    let fields = fields.filter(|fields| fields.len() <= MOST_FIELDS);
    fields.ok_or(End::Broken)
}

/// RFC 9110 §5.5 and §5.6.2.
fn field(line: &[u8]) -> Option<(String, Vec<u8>)> {
    let (name, mut value) = line.split_at(line.iter().position(|byte| *byte == b':')?);
    value = &value[1..];
    while let [b' ' | b'\t', behind @ ..] = value {
        value = behind;
    }
    while let [before @ .., b' ' | b'\t'] = value {
        value = before;
    }
    let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    let is_value = |byte: &u8| matches!(byte, b'\t' | b' '..=b'~' | 0x80..);
    let is_field = !name.is_empty() && name.iter().all(is_token) && value.iter().all(is_value);
    let name = String::from_utf8_lossy(name).to_ascii_lowercase();
    is_field.then(|| (name, value.to_vec()))
}

//! A gzip encoder that does not compress.
//!
//! Stored blocks are valid gzip, decoders cannot tell the difference, and each event becomes whole at the moment it is
//! sent, as with a real encoder that flushes. That is all a test of pass-through needs, and it costs no dependency.
//! Formats: RFC 1952 (member), RFC 1951 §3.2.4 (stored block).

use std::iter;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};

use super::reply::{Piece, Pieces, Role};

/// Largest content of one stored block.
const MOST_STORED: usize = 0xFFFF;

/// Deflate, no name, no time, unknown system.
const HEADER: &[u8] = &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];

/// Encodes a whole body.
pub(super) fn encoded(body: &[u8]) -> Bytes {
    let mut state = Encoder::default();
    let mut out = BytesMut::from(HEADER);
    state.block(&mut out, body);
    state.end(&mut out);
    out.freeze()
}

/// Encodes a body piece by piece; each remains a piece of its own.
pub(super) fn pieces(mut body: Pieces) -> Pieces {
    let mut state = Some(Encoder::default());
    let mut begun = false;
    Box::new(iter::from_fn(move || {
        let encoder = state.as_mut()?;
        let mut out = BytesMut::from(if begun { &[][..] } else { HEADER });
        begun = true;
        let Some(piece) = body.next() else {
            encoder.end(&mut out);
            state = None;
            return Some(Piece {
                wait: Duration::ZERO,
                bytes: out.freeze(),
                role: Role::Closing,
            });
        };
        encoder.block(&mut out, &piece.bytes);
        Some(Piece {
            bytes: out.freeze(),
            ..piece
        })
    }))
}

/// The checksum and length that stand at the end.
#[derive(Debug, Default)]
struct Encoder {
    crc: Crc32,
    /// Length modulo 2^32, as the format has it.
    length: u32,
}

impl Encoder {
    fn block(&mut self, out: &mut BytesMut, bytes: &[u8]) {
        for part in bytes.chunks(MOST_STORED) {
            let length = u16::try_from(part.len()).unwrap_or(u16::MAX);
            out.put_u8(0); // not the last block, stored
            out.put_u16_le(length);
            out.put_u16_le(!length);
            out.put_slice(part);
            self.crc.update(part);
            self.length = self.length.wrapping_add(u32::from(length));
        }
    }

    fn end(&mut self, out: &mut BytesMut) {
        out.put_slice(&[1, 0, 0, 0xff, 0xff]); // the last block, stored, empty
        out.put_u32_le(self.crc.value());
        out.put_u32_le(self.length);
    }
}

/// CRC-32 with the reflected polynomial `0xEDB88320` (RFC 1952 §8).
#[derive(Debug)]
struct Crc32(u32);

impl Default for Crc32 {
    fn default() -> Self {
        Self(u32::MAX)
    }
}

impl Crc32 {
    const TABLE: [u32; 256] = Self::table();

    const fn table() -> [u32; 256] {
        let mut table = [0u32; 256];
        let mut index = 0u32;
        while index < 256 {
            let (mut value, mut bit) = (index, 0);
            while bit < 8 {
                value = if value & 1 == 1 {
                    (value >> 1) ^ 0xEDB8_8320
                } else {
                    value >> 1
                };
                bit += 1;
            }
            table[index as usize] = value;
            index += 1;
        }
        table
    }

    fn update(&mut self, bytes: &[u8]) {
        for byte in bytes {
            let [low, ..] = (self.0 ^ u32::from(*byte)).to_le_bytes();
            self.0 = Self::TABLE[usize::from(low)] ^ (self.0 >> 8);
        }
    }

    fn value(&self) -> u32 {
        !self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_standard_one() {
        let mut crc = Crc32::default();
        crc.update(b"123456789");
        assert_eq!(crc.value(), 0xCBF4_3926); // the check value of CRC-32/ISO-HDLC
    }

    #[test]
    fn the_encoding_is_what_the_format_says() {
        let expected = b"\x1f\x8b\x08\0\0\0\0\0\0\xff\
            \0\x09\0\xf6\xff123456789\
            \x01\0\0\xff\xff\x26\x39\xf4\xcb\x09\0\0\0";
        assert_eq!(encoded(b"123456789").as_ref(), expected);
    }

    #[test]
    fn pieces_make_the_same_bytes_as_blocks() {
        let piece = |text: &'static str| Piece {
            wait: Duration::ZERO,
            bytes: Bytes::from(text),
            role: Role::Content,
        };
        let body: Pieces = Box::new([piece("12345"), piece("6789")].into_iter());
        let all: Vec<u8> = pieces(body)
            .flat_map(|piece| piece.bytes.to_vec())
            .collect();
        let expected = b"\x1f\x8b\x08\0\0\0\0\0\0\xff\
            \0\x05\0\xfa\xff12345\0\x04\0\xfb\xff6789\
            \x01\0\0\xff\xff\x26\x39\xf4\xcb\x09\0\0\0";
        assert_eq!(all, expected);
    }

    #[test]
    fn long_bodies_take_several_blocks() {
        let encoded = encoded(&vec![b'x'; MOST_STORED + 1]);
        assert_eq!(
            encoded.len(),
            HEADER.len() + 5 + MOST_STORED + 5 + 1 + 5 + 8
        );
    }
}

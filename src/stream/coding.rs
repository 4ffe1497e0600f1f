//! Compressed answers: looked into, never changed.
//!
//! SDKs ask for gzip and deflate, so most plain answers and some streams come in them. Their bytes
//! pass as they are; beside them a copy is decoded for reading. What a few bytes can decode to is
//! without a bound, so the reader has one, and gives up on an answer that goes beyond it.

use std::{fmt, io::Write};

use bytes::Bytes;
use flate2::write::{MultiGzDecoder, ZlibDecoder};
use http::{HeaderMap, header};

/// Text is seldom packed tighter than twenty to one; a bomb is a thousand to one.
const MAX_RATIO: usize = 200;

/// Decoded bytes that any answer may have, however small it is packed.
const ALWAYS_ALLOWED: usize = 1024 * 1024;

/// Packed bytes that are decoded at once: the most that a step can give is a thousand times that.
const STEP: usize = 1024;

/// How an answer is packed.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Coding {
    /// Not at all.
    Identity,
    /// `gzip`.
    Gzip,
    /// `deflate`, which is the zlib format.
    Deflate,
}

impl Coding {
    /// What the headers declare; `None` for a coding, or several, that cannot be read here.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let mut codings = headers.get_all(header::CONTENT_ENCODING).iter();
        let Some(first) = codings.next() else {
            return Some(Self::Identity);
        };
        if codings.next().is_some() {
            return None;
        }
        match first
            .as_bytes()
            .trim_ascii()
            .to_ascii_lowercase()
            .as_slice()
        {
            b"" | b"identity" => Some(Self::Identity),
            b"gzip" | b"x-gzip" => Some(Self::Gzip),
            b"deflate" => Some(Self::Deflate),
            _ => None,
        }
    }
}

/// Decodes an answer piece by piece. Holds the decoder's window and buffer, some 80 KiB where
/// something is packed, and nothing of the answer.
#[derive(Debug)]
pub struct Decoder {
    inner: Inner,
    packed: usize,
    clear: usize,
}

enum Inner {
    Identity,
    Packed(Box<dyn Unpack>),
    /// The answer is damaged, or a bomb.
    GivenUp,
}

/// A decoder that is written to.
trait Unpack: Write + Send {
    /// What has come out since the last time.
    fn take(&mut self) -> Vec<u8>;
}

impl Unpack for MultiGzDecoder<Vec<u8>> {
    fn take(&mut self) -> Vec<u8> {
        std::mem::take(self.get_mut())
    }
}

impl Unpack for ZlibDecoder<Vec<u8>> {
    fn take(&mut self) -> Vec<u8> {
        std::mem::take(self.get_mut())
    }
}

impl Decoder {
    /// At an answer's beginning.
    #[must_use]
    pub fn new(coding: Coding) -> Self {
        let inner = match coding {
            Coding::Identity => Inner::Identity,
            Coding::Gzip => Inner::Packed(Box::new(MultiGzDecoder::new(Vec::new()))),
            Coding::Deflate => Inner::Packed(Box::new(ZlibDecoder::new(Vec::new()))),
        };
        Self {
            inner,
            packed: 0,
            clear: 0,
        }
    }

    /// The text of the next piece, as far as it can be decoded already. What was not compressed is given
    /// as it is. `None` once the answer cannot be read any further.
    pub fn decode(&mut self, piece: &Bytes) -> Option<Bytes> {
        let decoder = match &mut self.inner {
            Inner::Identity => return Some(piece.clone()),
            Inner::Packed(decoder) => decoder,
            Inner::GivenUp => return None,
        };
        self.packed = self.packed.saturating_add(piece.len());
        let most = self.packed.saturating_mul(MAX_RATIO).max(ALWAYS_ALLOWED);
        let clear = unpack(decoder.as_mut(), piece, most.saturating_sub(self.clear));
        match &clear {
            Some(clear) => self.clear += clear.len(),
            None => self.inner = Inner::GivenUp,
        }
        clear.map(Into::into)
    }

    /// Whether what it gives is the answer itself.
    #[must_use]
    pub fn is_identity(&self) -> bool {
        matches!(self.inner, Inner::Identity)
    }

    /// Whether it has stopped reading.
    #[must_use]
    pub fn has_given_up(&self) -> bool {
        matches!(self.inner, Inner::GivenUp)
    }
}

/// A whole answer in clear text; `None` where its coding is unknown, or it is damaged.
#[must_use]
pub fn decode_whole(headers: &HeaderMap, body: &Bytes) -> Option<Bytes> {
    Decoder::new(Coding::of(headers)?).decode(body)
}

/// What comes out of `decoder` for `piece`, unless that is more than `most` bytes, or nothing sound.
fn unpack(decoder: &mut dyn Unpack, piece: &[u8], most: usize) -> Option<Vec<u8>> {
    let mut clear = Vec::new();
    for step in piece.chunks(STEP) {
        decoder.write_all(step).ok()?;
        // What can be decoded comes out at once, not when the next piece needs the room.
        decoder.flush().ok()?;
        clear.append(&mut decoder.take());
        if clear.len() > most {
            return None;
        }
    }
    Some(clear)
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Identity => "Identity",
            Self::Packed(_) => "Packed",
            Self::GivenUp => "GivenUp",
        })
    }
}

#[cfg(test)]
mod tests {
    use flate2::{
        Compression,
        write::{GzEncoder, ZlibEncoder},
    };
    use proptest::prelude::*;

    use super::*;

    fn gzip(data: &[u8], level: Compression) -> Vec<u8> {
        let mut gzip = GzEncoder::new(Vec::new(), level);
        gzip.write_all(data).expect("memory");
        gzip.finish().expect("memory")
    }

    fn deflate(data: &[u8]) -> Vec<u8> {
        let mut zlib = ZlibEncoder::new(Vec::new(), Compression::fast());
        zlib.write_all(data).expect("memory");
        zlib.finish().expect("memory")
    }

    /// What comes out of pieces of `len`; `None` where the decoder gave up.
    fn decoded(coding: Coding, packed: &[u8], len: usize) -> Option<Vec<u8>> {
        let (mut decoder, mut clear) = (Decoder::new(coding), Vec::new());
        for piece in packed.chunks(len) {
            clear.extend_from_slice(&decoder.decode(&Bytes::copy_from_slice(piece))?);
        }
        Some(clear)
    }

    #[test]
    fn the_declared_coding_is_read() {
        let of = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(
                    header::CONTENT_ENCODING,
                    http::HeaderValue::from_static(value),
                );
            }
            Coding::of(&headers)
        };
        assert_eq!(of(&[]), Some(Coding::Identity));
        assert_eq!(of(&["identity"]), Some(Coding::Identity));
        assert_eq!(of(&["GZip"]), Some(Coding::Gzip));
        assert_eq!(of(&["x-gzip"]), Some(Coding::Gzip));
        assert_eq!(of(&["deflate"]), Some(Coding::Deflate));
        for unknown in [&["br"][..], &["gzip, gzip"], &["gzip", "gzip"]] {
            assert_eq!(of(unknown), None, "{unknown:?}");
        }
    }

    #[test]
    fn each_flushed_event_is_there_at_once() {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        let mut decoder = Decoder::new(Coding::Gzip);
        for number in 0..20 {
            let event = format!("data: {{\"number\":{number}}}\n\n");
            gzip.write_all(event.as_bytes()).expect("memory");
            gzip.flush().expect("memory");
            let piece = Bytes::from(std::mem::take(gzip.get_mut()));
            assert_eq!(decoder.decode(&piece).expect("sound"), event);
        }
    }

    #[test]
    fn bombs_and_damage_are_given_up() {
        let bomb = gzip(&vec![b' '; 64 << 20], Compression::best());
        assert!(bomb.len() < 100_000, "it is one");
        assert_eq!(decoded(Coding::Gzip, &bomb, 16 * 1024), None);
        let mut damaged = gzip(b"an answer", Compression::fast());
        damaged[2] ^= 0xff;
        assert_eq!(decoded(Coding::Gzip, &damaged, 5), None);
        assert_eq!(decoded(Coding::Deflate, b"no zlib at all", 5), None);
        let mut decoder = Decoder::new(Coding::Deflate);
        assert!(
            decoder
                .decode(&Bytes::from_static(b"no zlib at all"))
                .is_none()
        );
        assert!(decoder.has_given_up());
        assert!(
            decoder.decode(&Bytes::from(deflate(b"x"))).is_none(),
            "for good"
        );
    }

    #[test]
    fn an_answer_may_have_several_members() {
        let both = [
            gzip(b"one ", Compression::fast()),
            gzip(b"two", Compression::fast()),
        ]
        .concat();
        assert_eq!(decoded(Coding::Gzip, &both, 7).expect("sound"), b"one two");
    }

    proptest! {
        #[test]
        fn any_data_in_any_pieces_comes_out_whole(
            data in prop::collection::vec(any::<u8>(), 0..5000), len in 1_usize..700,
        ) {
            let packed = gzip(&data, Compression::best());
            prop_assert_eq!(decoded(Coding::Gzip, &packed, len), Some(data.clone()));
            prop_assert_eq!(decoded(Coding::Deflate, &deflate(&data), len), Some(data.clone()));
            prop_assert_eq!(decoded(Coding::Identity, &data, len), Some(data));
        }

        #[test]
        fn garbage_never_panics(data in prop::collection::vec(any::<u8>(), 0..500), len in 1_usize..50) {
            for coding in [Coding::Gzip, Coding::Deflate] {
                let _ = decoded(coding, &data, len);
            }
        }
    }
}

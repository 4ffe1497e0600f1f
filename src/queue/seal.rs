//! Encryption at rest: what is written of requests and answers.
//!
//! ```text
//! plain    0 | the bytes
//! sealed   1 | print of the key, 4 bytes | nonce, 12 bytes | ciphertext and tag
//! ```
//!
//! ChaCha20-Poly1305 (RFC 8439) with a random nonce for each sealing. The entry's id and the name of the part are
//! authenticated with it, so that nobody who can write to the file can put one caller's answer in the place of another's.
//! The print says which of several keys it was, so that keys can be changed while entries wait.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};

use crate::store::jobs::JobId;

const PLAIN: u8 = 0;
const SEALED: u8 = 1;
const KEY: usize = 32;
const PRINT: usize = 4;

/// Which part of an entry some bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    RequestHead,
    RequestBody,
    AnswerHead,
    AnswerBody,
}

impl Part {
    const fn as_bytes(self) -> &'static [u8] {
        match self {
            Self::RequestHead => b"request head",
            Self::RequestBody => b"request body",
            Self::AnswerHead => b"answer head",
            Self::AnswerBody => b"answer body",
        }
    }
}

/// The keys of a queue. The first seals, all of them open; without any, nothing is sealed.
#[derive(Default)]
pub(super) struct Keys(Vec<Key>);

struct Key {
    print: [u8; PRINT],
    key: LessSafeKey,
}

/// Bytes of an entry that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// There is no key of this print.
    #[error("it was encrypted with a key that is not in `queue.encrypt`")]
    NoKey,
    /// They were changed, or are of another version.
    #[error("it is damaged")]
    Damaged,
}

/// The text is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a key is 32 bytes in base64 or in hexadecimal digits, such as `openssl rand -base64 32` makes"
)]
pub struct KeyError;

impl Keys {
    /// Reads keys from their texts.
    ///
    /// # Errors
    /// When one of them is no key.
    pub(super) fn read(texts: &[SecretString]) -> Result<Self, KeyError> {
        let key = |text: &SecretString| {
            let bytes = bytes_of(text.expose_secret().trim()).ok_or(KeyError)?;
            let key = UnboundKey::new(&CHACHA20_POLY1305, &bytes).map_err(|_| KeyError)?;
            let digest = Sha256::new()
                .chain_update(b"surgetank queue key\0")
                .chain_update(&bytes)
                .finalize();
            let mut print = [0; PRINT];
            print.copy_from_slice(&digest[..PRINT]);
            Ok(Key {
                print,
                key: LessSafeKey::new(key),
            })
        };
        texts.iter().map(key).collect::<Result<_, _>>().map(Self)
    }

    /// The bytes as they are to be written.
    pub(super) fn seal(&self, id: JobId, part: Part, plain: &[u8]) -> Vec<u8> {
        let Some(Key { print, key }) = self.0.first() else {
            return [&[PLAIN], plain].concat();
        };
        let nonce: [u8; NONCE_LEN] = rand::random();
        let mut out = Vec::with_capacity(1 + PRINT + NONCE_LEN + plain.len() + 16);
        out.push(SEALED);
        out.extend_from_slice(print);
        out.extend_from_slice(&nonce);
        let mut sealed = plain.to_vec();
        let nonce = Nonce::assume_unique_for_key(nonce);
        key.seal_in_place_append_tag(nonce, aad(id, part), &mut sealed)
            .expect("ring refuses only more than 256 GiB, and a body is held in memory");
        out.append(&mut sealed);
        out
    }

    /// The bytes as they were.
    ///
    /// # Errors
    /// When they cannot be read.
    pub(super) fn open(
        &self,
        id: JobId,
        part: Part,
        mut bytes: Vec<u8>,
    ) -> Result<Vec<u8>, Unreadable> {
        match bytes.first() {
            Some(&PLAIN) => {
                bytes.remove(0);
                Ok(bytes)
            }
            Some(&SEALED) => self.unseal(id, part, &mut bytes[1..]),
            _ => Err(Unreadable::Damaged),
        }
    }

    fn unseal(&self, id: JobId, part: Part, sealed: &mut [u8]) -> Result<Vec<u8>, Unreadable> {
        let (print, sealed) = sealed
            .split_at_mut_checked(PRINT)
            .ok_or(Unreadable::Damaged)?;
        let (nonce, sealed) = sealed
            .split_at_mut_checked(NONCE_LEN)
            .ok_or(Unreadable::Damaged)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| Unreadable::Damaged)?;
        let mut keys = self.0.iter();
        let key = keys
            .find(|key| key.print == *print)
            .ok_or(Unreadable::NoKey)?;
        let plain = key.key.open_in_place(nonce, aad(id, part), sealed);
        plain
            .map(|plain| plain.to_vec())
            .map_err(|_| Unreadable::Damaged)
    }
}

fn aad(id: JobId, part: Part) -> Aad<Vec<u8>> {
    Aad::from([b"surgetank 1\0", &id.0[..], part.as_bytes()].concat())
}

fn bytes_of(text: &str) -> Option<Vec<u8>> {
    let hex = |text: &str| {
        let digits = (0..text.len()).step_by(2);
        digits
            .map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok())
            .collect::<Option<Vec<u8>>>()
    };
    let is_hex = text.len() == 2 * KEY && text.bytes().all(|digit| digit.is_ascii_hexdigit());
    let bytes = if is_hex {
        hex(text)
    } else {
        STANDARD.decode(text).ok()
    };
    bytes.filter(|bytes| bytes.len() == KEY)
}

/// Shows how many, and nothing of them.
impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Keys").field(&self.0.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEX: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
    const BASE64: &str = "//////////////////////////////////////////8=";

    fn keys(texts: &[&str]) -> Keys {
        let texts: Vec<SecretString> = texts.iter().map(|text| (*text).into()).collect();
        Keys::read(&texts).unwrap()
    }

    fn id() -> JobId {
        JobId::random(&mut rand::rng())
    }

    #[test]
    fn a_key_is_32_bytes() {
        for text in [
            "",
            "00",
            &HEX[2..],
            "AAAA",
            "not base64 at all!",
            &HEX.replace('0', "g"),
        ] {
            let text = [SecretString::from(text)];
            assert!(Keys::read(&text).is_err());
        }
        assert_eq!(format!("{:?}", keys(&[HEX, BASE64])), "Keys(2)");
    }

    #[test]
    fn keys_change_while_entries_wait() {
        let (old, both, new) = (keys(&[HEX]), keys(&[BASE64, HEX]), keys(&[BASE64]));
        let id = id();
        let sealed = old.seal(id, Part::RequestBody, b"a prompt");
        let open = |keys: &Keys| keys.open(id, Part::RequestBody, sealed.clone());
        assert_eq!(open(&both).unwrap(), b"a prompt");
        assert_eq!(open(&new), Err(Unreadable::NoKey));
        let sealed = both.seal(id, Part::RequestBody, b"a prompt");
        assert_eq!(
            new.open(id, Part::RequestBody, sealed).unwrap(),
            b"a prompt"
        );
        let plain = Keys::default().seal(id, Part::RequestBody, b"before there were keys");
        assert_eq!(
            new.open(id, Part::RequestBody, plain).unwrap(),
            b"before there were keys"
        );
    }

    #[test]
    fn nothing_of_the_text_shows_and_no_two_sealings_agree() {
        let (keys, id) = (keys(&[HEX]), id());
        let one = keys.seal(id, Part::RequestBody, b"CANARY CANARY");
        let two = keys.seal(id, Part::RequestBody, b"CANARY CANARY");
        assert_ne!(one, two);
        assert!(memchr::memmem::find(&one, b"CANARY").is_none());
    }

    #[test]
    fn a_part_of_one_entry_does_not_pass_for_another() {
        let (keys, id_of_one, id_of_other) = (keys(&[HEX]), id(), id());
        let sealed = keys.seal(id_of_one, Part::AnswerBody, b"for one");
        for (id, part) in [
            (id_of_other, Part::AnswerBody),
            (id_of_one, Part::AnswerHead),
            (id_of_one, Part::RequestBody),
        ] {
            let opened = keys.open(id, part, sealed.clone());
            assert_eq!(opened, Err(Unreadable::Damaged), "{part:?}");
        }
    }

    proptest! {
        #[test]
        fn what_was_sealed_opens_and_what_was_changed_does_not(
            plain in proptest::collection::vec(any::<u8>(), 0..200),
            at in any::<proptest::sample::Index>(),
            flip in 1_u8..,
        ) {
            let (keys, id) = (keys(&[HEX]), id());
            let sealed = keys.seal(id, Part::RequestHead, &plain);
            prop_assert_eq!(keys.open(id, Part::RequestHead, sealed.clone()).unwrap(), plain);
            let (mut changed, at) = (sealed, at.index(200));
            let at = at % changed.len();
            changed[at] ^= flip;
            // The first byte may turn it into what claims not to be sealed; then it is not what it was.
            if at > 0 {
                prop_assert!(keys.open(id, Part::RequestHead, changed).is_err());
            }
        }
    }
}

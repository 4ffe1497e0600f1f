//! A claim of a JSON Web Token, as a user's name.
//!
//! Without a key a claim is read and not believed: it tells users apart who have no reason to lie, and
//! whoever makes up tokens can make up users. With a key, only a token that it has signed, that is
//! valid now, and that was issued by and for whom the configuration says, names anybody; all others are
//! as if they were not there, and the next source of `identify` decides. Which algorithm counts is the
//! configuration's word and never the token's.
//!
//! This tells users apart; it admits nobody. A token that does not pass is still forwarded.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::{
    hmac,
    signature::{
        ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey,
        VerificationAlgorithm,
    },
};
use rustls::pki_types::{SubjectPublicKeyInfoDer, pem::PemObject as _};
use serde_json::Value;

use crate::config::{Algorithm, Jwt};

#[cfg(test)]
mod tests;

/// A longer token is not read.
const LONGEST: usize = 16 * 1024;

/// Clocks differ; a token counts for this long before and behind its time.
const LEEWAY: f64 = 60.0;

/// An HMAC key shorter than the hash is guessed sooner than the hash (RFC 7518 §3.2).
const SHORTEST_SECRET: usize = 32;

/// How tokens are checked.
pub(super) struct Verifier {
    key: Key,
    algorithm: Algorithm,
    issuer: Option<String>,
    audience: Option<String>,
}

enum Key {
    Secret(hmac::Key),
    Public(UnparsedPublicKey<Vec<u8>>),
}

/// A key that no token can be checked with. Says nothing of what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not a public key as PEM.
    #[error("it is no public key as PEM, which begins with `-----BEGIN PUBLIC KEY-----`")]
    Pem,
    /// A key of another kind.
    #[error("it is a public key of another kind than the `algorithm` needs")]
    Kind,
    /// Too easy to guess.
    #[error("a secret for HS256 has at least {SHORTEST_SECRET} bytes")]
    Short,
}

impl Verifier {
    /// Checks tokens as `config` says, with this key.
    pub(super) fn new(config: &Jwt, key: &str) -> Result<Self, KeyError> {
        let public = |algorithm: &'static dyn VerificationAlgorithm, fits: fn(&[u8]) -> bool| {
            let spki = SubjectPublicKeyInfoDer::from_pem_slice(key.as_bytes());
            let spki = spki.map_err(|_| KeyError::Pem)?;
            let bits = key_bits(&spki).filter(|bits| fits(bits));
            let bits = bits.ok_or(KeyError::Kind)?.to_vec();
            Ok(Key::Public(UnparsedPublicKey::new(algorithm, bits)))
        };
        let key = match config.algorithm {
            Algorithm::Hs256 => {
                let secret = key.trim_end_matches(['\r', '\n']).as_bytes();
                if secret.len() < SHORTEST_SECRET {
                    return Err(KeyError::Short);
                }
                Key::Secret(hmac::Key::new(hmac::HMAC_SHA256, secret))
            }
            // An integer pair, an uncompressed point, and a compressed one.
            Algorithm::Rs256 => public(&RSA_PKCS1_2048_8192_SHA256, |bits| {
                bits.len() > 256 && bits[0] == SEQUENCE
            })?,
            Algorithm::Es256 => public(&ECDSA_P256_SHA256_FIXED, |bits| {
                bits.len() == 65 && bits[0] == 4
            })?,
            Algorithm::EdDsa => public(&ED25519, |bits| bits.len() == 32)?,
        };
        Ok(Self {
            key,
            algorithm: config.algorithm,
            issuer: config.issuer.clone(),
            audience: config.audience.clone(),
        })
    }

    /// Whether the token is good at `now`. `signed` is what its signature covers.
    fn passes(&self, signed: &[u8], parts: &Parts, now: SystemTime) -> bool {
        let named = parts.header.get("alg").and_then(Value::as_str);
        let signature = || match &self.key {
            Key::Secret(key) => hmac::verify(key, signed, &parts.signature).is_ok(),
            Key::Public(key) => key.verify(signed, &parts.signature).is_ok(),
        };
        // What must be understood to be believed (RFC 7515 §4.1.11) is not understood here.
        named == Some(name(self.algorithm))
            && parts.header.get("crit").is_none()
            && signature()
            && self.is_for_us(&parts.claims)
            && is_current(&parts.claims, now)
    }

    fn is_for_us(&self, claims: &Value) -> bool {
        let is = |claim: &Value, wanted: &str| match claim {
            Value::String(text) => text == wanted,
            Value::Array(all) => all.iter().any(|one| one.as_str() == Some(wanted)),
            _ => false,
        };
        let issuer = self.issuer.as_deref();
        let audience = self.audience.as_deref();
        issuer.is_none_or(|wanted| claims["iss"].as_str() == Some(wanted))
            && audience.is_none_or(|wanted| is(&claims["aud"], wanted))
    }
}

/// The value of a claim in the bearer's token, if the token is one, and passes where it is checked.
pub(super) fn claim(
    token: &[u8],
    claim: &str,
    verifier: Option<&Verifier>,
    now: SystemTime,
) -> Option<String> {
    let token = std::str::from_utf8(token).ok()?;
    let (signed, signature) = token.rsplit_once('.').filter(|_| token.len() <= LONGEST)?;
    let (header, claims) = signed.split_once('.')?;
    let json = |part: &str| -> Option<Value> {
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
    };
    let parts = Parts {
        header: json(header)?,
        claims: json(claims)?,
        signature: URL_SAFE_NO_PAD.decode(signature).ok()?,
    };
    if verifier.is_some_and(|verifier| !verifier.passes(signed.as_bytes(), &parts, now)) {
        return None;
    }
    match parts.claims.get(claim)? {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

struct Parts {
    header: Value,
    claims: Value,
    signature: Vec<u8>,
}

fn is_current(claims: &Value, now: SystemTime) -> bool {
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = since.as_secs_f64();
    let moment = |claim: &str| match claims.get(claim) {
        None => Ok(None),
        Some(value) => value.as_f64().map(Some).ok_or(()),
    };
    // A time that cannot be read is no permission.
    match (moment("nbf"), moment("exp")) {
        (Ok(from), Ok(until)) => {
            from.is_none_or(|from| now + LEEWAY >= from)
                && until.is_none_or(|until| now < until + LEEWAY)
        }
        _ => false,
    }
}

fn name(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::Hs256 => "HS256",
        Algorithm::Rs256 => "RS256",
        Algorithm::Es256 => "ES256",
        Algorithm::EdDsa => "EdDSA",
    }
}

const SEQUENCE: u8 = 0x30;
const BIT_STRING: u8 = 0x03;

/// The key inside a `SubjectPublicKeyInfo` (RFC 5280 §4.1): a sequence of an algorithm and a string of bits.
fn key_bits(spki: &[u8]) -> Option<&[u8]> {
    let (SEQUENCE, inside, []) = element(spki)? else {
        return None;
    };
    let (SEQUENCE, _, rest) = element(inside)? else {
        return None;
    };
    let (BIT_STRING, bits, []) = element(rest)? else {
        return None;
    };
    // The first byte counts the unused bits of the last; a key has none.
    bits.strip_prefix(&[0])
}

/// A DER element's tag and content, and what follows it.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
        let long = digits.len() <= 4;
        let length = digits
            .iter()
            .fold(0, |sum, &digit| sum << 8 | usize::from(digit));
        (long.then_some(length)?, rest)
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

/// Without the key.
impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Verifier")
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}

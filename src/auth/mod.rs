//! Asking who calls.
//!
//! A token is compared by its digest: of two digests nothing can be learned from how far they agree, and
//! the comparison itself takes the same time whatever they are. All tokens are compared with, whichever
//! agrees, so that neither their number nor the place of the right one shows in the time.

mod guesses;

use std::{net::IpAddr, sync::Arc, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConstantTimeEq as _};
use tokio::time::Instant;

use self::guesses::Guesses;
use crate::config::{Auth, Credential, Environment, TokenError, read_tokens};

/// The tokens that open, as digests; the tokens themselves are not kept.
#[derive(Clone)]
pub struct Tokens {
    digests: Vec<[u8; 32]>,
    headers: Vec<HeaderName>,
    /// The addresses that have shown others, where they are counted.
    guesses: Option<Arc<Guesses>>,
}

/// Nobody who is known. Says nothing of what was shown.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stranger {
    /// No token at all.
    #[error("this surgetank asks its callers for a token, and the request has none")]
    Nothing,
    /// A token that does not open.
    #[error("the token of this request is not one that this surgetank knows")]
    Unknown,
    /// Its token was not looked at; one is again after this time.
    #[error(
        "too many tokens that this surgetank does not know came from the address of this request; it is looked at again in {} s",
        .0.as_secs() + 1
    )]
    TooMany(Duration),
}

impl Stranger {
    /// A label value.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Nothing => "missing",
            Self::Unknown => "unknown",
            Self::TooMany(_) => "too_many",
        }
    }
}

impl Tokens {
    /// Reads the tokens of callers. `env` looks up an environment variable.
    ///
    /// # Errors
    /// When a source cannot be read or holds no usable token.
    pub fn of_callers(auth: &Auth, env: Environment<'_>) -> Result<Self, TokenError> {
        let tokens = Self::read(&auth.tokens, auth.header.clone(), env)?;
        // A rate that a file can hold can be counted: its bounds are those of the type.
        let guesses = auth
            .failures
            .map(|rate| Guesses::at_most(rate, Instant::now()));
        Ok(Self {
            guesses: guesses.and_then(Result::ok).map(Arc::new),
            ..tokens
        })
    }

    /// Reads the tokens of operators, who show them in `Authorization`.
    ///
    /// # Errors
    /// As [`Tokens::of_callers`].
    pub fn of_operators(source: &Credential, env: Environment<'_>) -> Result<Self, TokenError> {
        let headers = vec![http::header::AUTHORIZATION];
        Self::read(std::slice::from_ref(source), headers, env)
    }

    fn read(
        sources: &[Credential],
        headers: Vec<HeaderName>,
        env: Environment<'_>,
    ) -> Result<Self, TokenError> {
        let mut digests = Vec::new();
        for source in sources {
            let tokens = read_tokens(source, env)?;
            let digest = |token: &SecretString| digest(token.expose_secret().as_bytes());
            digests.extend(tokens.iter().map(digest));
        }
        Ok(Self {
            digests,
            headers,
            guesses: None,
        })
    }

    /// As [`Tokens::admit`], for a request from `peer`, where that is known: from one address not too many wrong tokens
    /// are looked at.
    ///
    /// # Errors
    /// As [`Tokens::admit`], and when there were too many.
    pub fn admit_from(
        &self,
        peer: Option<IpAddr>,
        headers: &HeaderMap,
        now: Instant,
    ) -> Result<(), Stranger> {
        match (&self.guesses, peer) {
            (Some(guesses), Some(peer)) => guesses.watch(peer, now, || self.admit(headers)),
            _ => self.admit(headers),
        }
    }

    /// Whether one of the headers carries one of the tokens. A header that stands twice may open by either
    /// of its values.
    ///
    /// # Errors
    /// When none does.
    pub fn admit(&self, headers: &HeaderMap) -> Result<(), Stranger> {
        let shown = self.headers.iter().flat_map(|name| headers.get_all(name));
        let (mut anything, mut known) = (false, Choice::from(0));
        for value in shown {
            anything = true;
            let shown = digest(token_in(value));
            for digest in &self.digests {
                known |= digest.ct_eq(&shown);
            }
        }
        match (bool::from(known), anything) {
            (true, _) => Ok(()),
            (false, true) => Err(Stranger::Unknown),
            (false, false) => Err(Stranger::Nothing),
        }
    }

    /// The headers that a token may be in.
    #[must_use]
    pub fn headers(&self) -> &[HeaderName] {
        &self.headers
    }

    /// Takes the headers off that carry a token: they are for us alone.
    pub fn strip(&self, headers: &mut HeaderMap) {
        if !self.headers.iter().any(|name| headers.contains_key(name)) {
            return;
        }
        // Rebuilt rather than removed from: removing swaps entries, and the order would change.
        let mut rest = HeaderMap::with_capacity(headers.len());
        for (name, value) in headers.iter() {
            if !self.headers.contains(name) {
                rest.append(name.clone(), value.clone());
            }
        }
        *headers = rest;
    }
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokens")
            .field("count", &self.digests.len())
            .field("headers", &self.headers)
            .finish_non_exhaustive()
    }
}

/// The token alone, or behind `Bearer`.
pub(crate) fn token_in(value: &HeaderValue) -> &[u8] {
    let bytes = value.as_bytes();
    let is_bearer = bytes
        .get(..7)
        .is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"bearer "));
    bytes[if is_bearer { 7 } else { 0 }..].trim_ascii()
}

fn digest(token: &[u8]) -> [u8; 32] {
    Sha256::digest(token).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "0123456789abcdef";
    const TWO: &str = "fedcba9876543210";

    fn tokens(headers: &[&'static str]) -> Tokens {
        let auth = Auth {
            tokens: vec![Credential::Env("ONE".into()), Credential::Env("TWO".into())],
            header: headers
                .iter()
                .map(|name| HeaderName::from_static(name))
                .collect(),
            failures: None,
        };
        let env = |name: &str| Some(if name == "ONE" { ONE } else { TWO }.to_owned());
        Tokens::of_callers(&auth, &env).expect("tokens")
    }

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_str(value).expect("a value"));
        }
        headers
    }

    #[test]
    fn only_a_whole_token_in_the_right_header_opens() {
        let tokens = tokens(&["x-token", "authorization"]);
        let long = ONE.repeat(500);
        let bearer = format!("bEaReR  {TWO}");
        let (unknown, nothing) = (Err(Stranger::Unknown), Err(Stranger::Nothing));
        let table: [(&[(&'static str, &str)], _); 12] = [
            (&[("x-token", ONE)], Ok(())),
            (&[("x-token", TWO)], Ok(())),
            (&[("authorization", &bearer)], Ok(())),
            (&[("x-token", "no"), ("authorization", &bearer)], Ok(())),
            (&[("x-token", "no"), ("x-token", ONE)], Ok(())),
            (&[("x-token", &ONE[..15])], unknown),
            (&[("x-token", &long)], unknown),
            (&[("x-token", "")], unknown),
            (&[("x-token", "Bearer ")], unknown),
            (&[("x-token", &ONE.to_uppercase())], unknown),
            (&[("x-other", ONE)], nothing),
            (&[], nothing),
        ];
        for (fields, expected) in table {
            assert_eq!(tokens.admit(&headers(fields)), expected, "{fields:?}");
        }
    }

    #[test]
    fn a_token_is_taken_off_and_shown_nowhere() {
        let tokens = tokens(&["x-token"]);
        let mut all = headers(&[
            ("a", "1"),
            ("x-token", ONE),
            ("b", "2"),
            ("a", "3"),
            ("x-token", TWO),
        ]);
        tokens.strip(&mut all);
        let left: Vec<_> = all
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_bytes()))
            .collect();
        assert_eq!(left.len(), 3);
        assert!(left.iter().all(|(name, _)| *name != "x-token"));
        let shown = format!("{tokens:?}");
        assert!(!shown.contains("0123") && !shown.contains("[1"), "{shown}");
    }
}

//! Whose a queued request is: fingerprints of what its caller has shown.
//!
//! Nothing that could be used again is kept: a fingerprint of all credentials that the request carried, whichever header
//! they stood in and whatever scheme stood before them. Whoever shows the same ones may read the answer.

use http::{HeaderMap, HeaderName};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::{
    auth::{Tokens, token_in},
    call::Call,
};

/// The headers that carry a credential to a vendor.
static CREDENTIALS: [HeaderName; 4] = [
    http::header::AUTHORIZATION,
    HeaderName::from_static("x-api-key"),
    HeaderName::from_static("api-key"),
    HeaderName::from_static("x-goog-api-key"),
];

/// Who may read an answer.
#[derive(Clone, Copy)]
pub struct Owner([u8; 32]);

impl Owner {
    /// The owner of what comes with these headers, where `callers` are asked for tokens.
    #[must_use]
    pub fn of(headers: &HeaderMap, callers: Option<&Tokens>) -> Self {
        let names = CREDENTIALS
            .iter()
            .chain(callers.map_or(&[][..], Tokens::headers));
        let mut shown: Vec<&[u8]> = names
            .flat_map(|name| headers.get_all(name))
            .map(token_in)
            .filter(|token| !token.is_empty())
            .collect();
        shown.sort_unstable();
        shown.dedup();
        Self(digest(b"surgetank owner 1\0", shown))
    }

    /// The fingerprint, to be kept.
    pub(super) const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Whether an entry is this one's, in a time that tells nothing.
    pub(super) fn owns(&self, entry: &[u8; 32]) -> bool {
        self.0.ct_eq(entry).into()
    }
}

/// Shows nothing: a fingerprint can be compared with guesses.
impl std::fmt::Debug for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Owner")
    }
}

/// The idempotency key of a call: as a fingerprint of it, its owner and its route, and the print of the request.
///
/// The key itself goes into the print, so that a prompt cannot be guessed by whoever has the file.
pub(super) fn key_of(call: &Call, owner: &Owner, body: &[u8]) -> Option<([u8; 32], [u8; 32])> {
    let head = call.head()?;
    let key = head.headers.get("idempotency-key")?.as_bytes();
    if key.is_empty() {
        return None;
    }
    let route = call.route.name().as_bytes();
    let print = [
        key,
        call.method.as_str().as_bytes(),
        head.target.as_str().as_bytes(),
        body,
    ];
    Some((
        digest(b"surgetank key 1\0", [&owner.0, route, key]),
        digest(b"surgetank print 1\0", print),
    ))
}

/// The lengths go in first, so that no part can borrow letters of another.
fn digest<'a>(kind: &[u8], parts: impl IntoIterator<Item = &'a [u8]>) -> [u8; 32] {
    let mut digest = Sha256::new().chain_update(kind);
    for part in parts {
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part);
    }
    digest.finalize().into()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn owner(fields: &[(&'static str, &'static str)]) -> Owner {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_static(value));
        }
        Owner::of(&headers, None)
    }

    #[test]
    fn the_credential_counts_and_not_where_it_stands() {
        let queued = owner(&[("authorization", "Bearer k-1"), ("x-other", "a")]);
        for same in [
            &[("authorization", "bearer k-1")][..],
            &[("x-api-key", "k-1")],
            &[("api-key", "k-1"), ("authorization", "Bearer k-1")],
        ] {
            assert!(owner(same).owns(queued.as_bytes()), "{same:?}");
        }
        for other in [
            &[][..],
            &[("authorization", "Bearer k-2")],
            &[("authorization", "Bearer k-1"), ("x-api-key", "k-2")],
            &[("x-other", "k-1")],
        ] {
            assert!(!owner(other).owns(queued.as_bytes()), "{other:?}");
        }
        assert_eq!(format!("{queued:?}"), "Owner");
    }
}

//! Who is asking. The first source of `limits.identify` that the request has decides.
//!
//! The value itself is hashed at once and dropped: it may be an address, a key or a name.

use std::net::IpAddr;

use http::{HeaderMap, header};

use crate::{
    config::{BodyField, IdentitySource},
    dialect::{Ask, Private},
    limit::identity::UserKey,
};

/// Finds the user by the sources in their order. Without any match all such requests are one user.
#[must_use]
pub fn find(
    sources: &[IdentitySource],
    headers: &HeaderMap,
    ask: &Ask,
    peer: Option<IpAddr>,
) -> UserKey {
    let user = sources
        .iter()
        .find_map(|source| by(source, headers, ask, peer));
    user.unwrap_or_else(|| UserKey::from_source("nobody", b""))
}

fn by(
    source: &IdentitySource,
    headers: &HeaderMap,
    ask: &Ask,
    peer: Option<IpAddr>,
) -> Option<UserKey> {
    let body = |tag, value: &Option<Private>| {
        value
            .as_ref()
            .map(|value| UserKey::from_source(tag, value.expose().as_bytes()))
    };
    match source {
        // A header sent twice is one value of both: neither can be used to pose as somebody else.
        IdentitySource::Header(name) => {
            let mut values = headers.get_all(name).iter();
            let first = values.next()?.as_bytes();
            let Some(second) = values.next() else {
                return Some(UserKey::from_source("header", first));
            };
            let joined = [first, second.as_bytes()]
                .into_iter()
                .chain(values.map(http::HeaderValue::as_bytes));
            Some(UserKey::from_source(
                "headers",
                &joined.collect::<Vec<_>>().join(&b'\n'),
            ))
        }
        IdentitySource::Body(BodyField::SafetyIdentifier) => {
            body("safety_identifier", &ask.safety_identifier)
        }
        IdentitySource::Body(BodyField::User) => body("user", &ask.user),
        IdentitySource::Body(BodyField::MetadataUserId) => {
            body("metadata.user_id", &ask.metadata_user_id)
        }
        IdentitySource::Credential => {
            credential(headers).map(|value| UserKey::from_source("credential", value))
        }
        IdentitySource::Peer => {
            peer.map(|peer| UserKey::from_source("peer", peer.to_string().as_bytes()))
        }
    }
}

/// The caller's key, wherever its SDK puts it: the same key counts as the same user in every field.
fn credential(headers: &HeaderMap) -> Option<&[u8]> {
    let bearer = headers.get(header::AUTHORIZATION).map(|value| {
        let bytes = value.as_bytes();
        let is_bearer = bytes
            .get(..7)
            .is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"bearer "));
        if is_bearer { &bytes[7..] } else { bytes }
    });
    let key = |name| headers.get(name).map(http::HeaderValue::as_bytes);
    bearer
        .or_else(|| key("x-api-key"))
        .or_else(|| key("api-key"))
        .or_else(|| key("x-goog-api-key"))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::dialect::Dialect;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn the_first_source_that_is_there_decides() {
        let sources = [
            IdentitySource::Header(http::HeaderName::from_static("x-surgetank-user")),
            IdentitySource::Body(BodyField::User),
            IdentitySource::Credential,
        ];
        let ask = Ask::read(Dialect::CHAT_COMPLETIONS, br#"{"user":"u1"}"#);
        let none = Ask::default();
        let named = headers(&[("x-surgetank-user", "ann"), ("authorization", "Bearer k")]);
        let plain = headers(&[("authorization", "Bearer k")]);
        let by_header = find(&sources, &named, &ask, None);
        assert_ne!(
            by_header,
            find(&sources, &plain, &ask, None),
            "the header comes first"
        );
        assert_eq!(
            find(&sources, &plain, &ask, None),
            find(&sources, &headers(&[]), &ask, None),
            "then the body's user"
        );
        assert_eq!(
            find(&sources, &plain, &none, None),
            find(&sources, &headers(&[("x-api-key", "k")]), &none, None),
            "the same key in another field is the same user"
        );
        assert_eq!(
            find(&sources, &headers(&[]), &none, None),
            find(&[], &plain, &ask, None),
            "nobody is one user"
        );
    }

    #[test]
    fn a_doubled_header_is_neither_of_its_values() {
        let sources = [IdentitySource::Header(http::HeaderName::from_static(
            "x-surgetank-user",
        ))];
        let who = |fields: &[_]| find(&sources, &headers(fields), &Ask::default(), None);
        let (a, b) = (("x-surgetank-user", "a"), ("x-surgetank-user", "b"));
        assert_ne!(who(&[a, b]), who(&[a]));
        assert_ne!(who(&[a, b]), who(&[b]));
        assert_eq!(who(&[a, b]), who(&[a, b]));
    }
}

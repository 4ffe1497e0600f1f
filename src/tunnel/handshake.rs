//! The opening handshake of a WebSocket (RFC 6455 §4), and nothing else: no other protocol is switched to.
//!
//! A proxy that hands on an `Upgrade` it does not understand, or takes an answer for a switch that is none,
//! lets two parties disagree on where a request ends, and a smuggled one pass unseen. So a request becomes
//! a tunnel only if it is a whole handshake without a body, and only after an answer that could come from
//! nobody but a WebSocket server that has read this very request.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Version, header};
use ring::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY};

use crate::headers::has_token;

/// Appended to the key before it is hashed (RFC 6455 §1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The length of a key in clear.
const KEY_LEN: usize = 16;

/// Whether a request with this head is a whole handshake. Anything less is served as plain HTTP, without
/// its `Upgrade`, as RFC 9110 §7.8 allows.
#[must_use]
pub fn is_asked(method: &Method, version: Version, headers: &HeaderMap) -> bool {
    // The cheapest question first: hardly any request gets past it.
    headers.contains_key(header::UPGRADE)
        && *method == Method::GET
        && version == Version::HTTP_11
        && names_websocket(headers)
        && only(headers, &header::SEC_WEBSOCKET_VERSION).is_some_and(|version| version == "13")
        && key_of(headers).is_some()
        && !headers.contains_key(header::TRANSFER_ENCODING)
        && headers
            .get_all(header::CONTENT_LENGTH)
            .iter()
            .all(|length| length == "0")
}

/// Whether an answer with these fields grants what a request with the fields `asked` asked for.
#[must_use]
pub fn is_granted(asked: &HeaderMap, answer: &HeaderMap) -> bool {
    let accepted = only(answer, &header::SEC_WEBSOCKET_ACCEPT);
    names_websocket(answer)
        && key_of(asked).is_some_and(|key| accepted.is_some_and(|value| *value == accept(key)))
}

/// Writes the two fields that make a message a switch to WebSocket; they speak of one connection, so each
/// side gets its own.
pub fn put(headers: &mut HeaderMap) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
}

fn names_websocket(headers: &HeaderMap) -> bool {
    let upgrade = only(headers, &header::UPGRADE);
    upgrade.is_some_and(|protocol| protocol.as_bytes().eq_ignore_ascii_case(b"websocket"))
        && has_token(headers, &header::CONNECTION, "upgrade")
}

/// The value of a field that stands exactly once.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}

fn key_of(headers: &HeaderMap) -> Option<&[u8]> {
    let key = only(headers, &header::SEC_WEBSOCKET_KEY)?.as_bytes();
    let decoded = BASE64_STANDARD.decode(key).ok()?;
    (decoded.len() == KEY_LEN).then_some(key)
}

/// What a server that has read `key` answers with.
fn accept(key: &[u8]) -> String {
    let mut digest = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
    digest.update(key);
    digest.update(GUID);
    BASE64_STANDARD.encode(digest.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 6455 §1.3.
    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

    fn map(fields: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            let value = HeaderValue::from_str(value).expect("a value");
            headers.append(HeaderName::from_static(name), value);
        }
        headers
    }

    fn whole() -> HeaderMap {
        map(&[
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "WebSocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", KEY),
        ])
    }

    #[test]
    fn only_a_whole_handshake_without_a_body_is_one() {
        let asked = |headers: &HeaderMap| is_asked(&Method::GET, Version::HTTP_11, headers);
        assert!(asked(&whole()));
        assert!(!is_asked(&Method::POST, Version::HTTP_11, &whole()));
        assert!(!is_asked(&Method::GET, Version::HTTP_10, &whole()));
        assert!(!is_asked(&Method::GET, Version::HTTP_2, &whole()));
        let changed = |name: &'static str, values: &[&str]| {
            let mut headers = whole();
            headers.remove(name);
            for value in values {
                let value = HeaderValue::from_str(value).expect("a value");
                headers.append(HeaderName::from_static(name), value);
            }
            headers
        };
        for (name, values) in [
            ("connection", &[][..]),
            ("connection", &["keep-alive"]),
            ("upgrade", &["h2c"]),
            ("upgrade", &["websocket, h2c"]),
            ("upgrade", &["websocket", "websocket"]),
            ("sec-websocket-version", &[]),
            ("sec-websocket-version", &["12"]),
            ("sec-websocket-version", &["13", "13"]),
            ("sec-websocket-key", &[]),
            ("sec-websocket-key", &["short"]),
            ("sec-websocket-key", &["dGhlIHNhbXBsZQ=="]),
            ("sec-websocket-key", &[KEY, KEY]),
            ("content-length", &["5"]),
            ("transfer-encoding", &["chunked"]),
        ] {
            assert!(!asked(&changed(name, values)), "{name} {values:?}");
        }
        assert!(asked(&changed("content-length", &["0"])));
    }

    #[test]
    fn only_the_answer_to_this_very_key_grants_it() {
        let granted = |accept: &str| {
            let answer = map(&[
                ("connection", "upgrade"),
                ("upgrade", "websocket"),
                ("sec-websocket-accept", accept),
            ]);
            is_granted(&whole(), &answer)
        };
        assert!(granted("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        assert!(!granted("s3pPLMBiTxaQ9kYGzzhZRbK+xOx="));
        let mut without = map(&[("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")]);
        assert!(!is_granted(&whole(), &without));
        put(&mut without);
        assert!(is_granted(&whole(), &without));
    }
}

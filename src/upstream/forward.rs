//! What changes between the caller's message and the upstream's, and back. This is the complete list
//! of edits that surgetank makes; everything else arrives as it was sent.
//!
//! Fields that speak of one connection only are left out (RFC 9110 §7.6.1), `Host` names the
//! upstream, `Via` is added, our own `x-surgetank-*` fields end here, a configured credential
//! replaces the caller's, a configured model replaces the request's. Only the handshake of a WebSocket
//! gets an `Upgrade` of its own.

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version, header, uri::PathAndQuery,
};

use http_body::Body as _;

use super::Upstream;
use crate::{
    body::{self, Body},
    call::{Attempt, Call},
    dialect::{self, Ask, Vendor},
    headers::has_token,
    payload::Payload,
    tunnel::handshake,
};

/// Our part of `Via`, told apart from another surgetank's by a number in its comment.
pub mod via {
    use std::sync::LazyLock;

    use http::{HeaderMap, HeaderValue, header};
    use rand::Rng as _;

    /// How this process calls itself. A chain of several surgetanks is legal; a loop through one is not.
    static OURS: LazyLock<String> =
        LazyLock::new(|| format!("1.1 surgetank ({:016x})", rand::rng().next_u64()));

    pub(super) fn value() -> HeaderValue {
        HeaderValue::from_str(&OURS).unwrap_or_else(|_| HeaderValue::from_static("1.1 surgetank"))
    }

    /// Whether a request has already passed through this process.
    #[must_use]
    pub fn is_loop(headers: &HeaderMap) -> bool {
        let passed = |value: &HeaderValue| {
            value
                .to_str()
                .is_ok_and(|text| text.contains(OURS.as_str()))
        };
        headers.get_all(header::VIA).iter().any(passed)
    }
}

const X_API_KEY: &str = "x-api-key";
const API_KEY: &str = "api-key";
const OUR_PREFIX: &str = "x-surgetank-";

/// Builds the request of one attempt. `None` when the body was already spent.
pub(super) fn request(attempt: &Attempt) -> Option<Request<Body>> {
    let Attempt {
        call,
        upstream,
        upload,
        ..
    } = attempt;
    let (head, replaced) = (call.head()?, replaced_body(attempt));
    let mut headers = request_headers(call, &head.headers, upstream, replaced.as_ref());
    let body = match replaced {
        Some(bytes) => body::full(bytes),
        None => call.payload.send()?,
    };
    if call.is_handshake {
        handshake::put(&mut headers);
    }
    if !speaks_http2(call, upstream) && needs_chunks(&headers, &body) {
        // hyper does so by itself, but for methods that seldom have a body: there it would leave it out.
        let chunked = HeaderValue::from_static("chunked");
        headers.insert(header::TRANSFER_ENCODING, chunked);
    }
    let body = match upload {
        Some(upload) => upload.watch(body),
        None => body,
    };
    let mut request = Request::new(body);
    let elsewhere = attempt
        .sequel
        .as_ref()
        .and_then(|sequel| sequel.target.as_ref());
    *request.method_mut() = elsewhere.map_or_else(|| call.method.clone(), |_| Method::GET);
    *request.uri_mut() = uri(upstream, elsewhere.unwrap_or(&head.target))?;
    *request.version_mut() = if speaks_http2(call, upstream) {
        Version::HTTP_2
    } else {
        Version::HTTP_11
    };
    *request.headers_mut() = headers;
    *request.extensions_mut() = head.extensions.clone();
    Some(request)
}

/// A WebSocket needs a connection of its own, and that is HTTP/1.1.
pub(super) fn speaks_http2(call: &Call, upstream: &Upstream) -> bool {
    upstream.http2 && !call.is_handshake
}

/// Whether its body is still coming.
pub(super) fn goes_apart(attempt: &Attempt) -> bool {
    attempt.sequel.is_none() && matches!(attempt.call.payload, Payload::Passing(_))
}

fn needs_chunks(headers: &HeaderMap, body: &Body) -> bool {
    !body.is_end_stream()
        && body.size_hint().exact().is_none()
        && !headers.contains_key(header::CONTENT_LENGTH)
}

/// The body where it is not the caller's own: that of a sequel, and either with the upstream's own model
/// in it, where it names one and the request has one.
fn replaced_body(attempt: &Attempt) -> Option<Bytes> {
    let Attempt { call, upstream, .. } = attempt;
    let own = attempt.sequel.as_ref().map(|sequel| sequel.body.clone());
    let Some(model) = &upstream.model else {
        return own;
    };
    // What a sequel changes may stand before the model, and moves it.
    let (bytes, span) = match &own {
        Some(body) => (body.clone(), Ask::read(call.dialect, body).model_span),
        None => (call.payload.bytes()?, call.ask.model_span.clone()),
    };
    span.and_then(|span| dialect::ask::replace_model(&bytes, span, model))
        .map(Into::into)
        .or(own)
}

/// The raw target behind the upstream's own prefix. It cannot leave the prefix by being normalised,
/// because nothing here normalises.
fn uri(upstream: &Upstream, target: &PathAndQuery) -> Option<Uri> {
    let target = if upstream.path_prefix.is_empty() {
        target.clone()
    } else {
        PathAndQuery::try_from(format!("{}{target}", upstream.path_prefix)).ok()?
    };
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(upstream.scheme.clone());
    parts.authority = Some(upstream.authority.clone());
    parts.path_and_query = Some(target);
    Uri::from_parts(parts).ok()
}

fn request_headers(
    call: &Call,
    asked: &HeaderMap,
    upstream: &Upstream,
    replaced: Option<&Bytes>,
) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(asked.keys_len() + 2);
    headers.insert(header::HOST, upstream.host.clone());
    let named = Nominated::by(asked);
    let own_credential = upstream.credential.is_some();
    for (name, value) in asked {
        let dropped = is_hop_by_hop(name)
            || named.names(name)
            || matches!(*name, header::HOST | header::EXPECT)
            || name.as_str().starts_with(OUR_PREFIX)
            || (own_credential && is_credential(name))
            || (*name == header::CONTENT_LENGTH
                && (replaced.is_some() || call.payload.has_trailers()));
        if dropped {
            continue;
        }
        if *name == header::CONTENT_LENGTH {
            // HTTP/2 lets it stand twice with one value; to the upstream it is said once.
            headers.insert(name.clone(), value.clone());
        } else {
            headers.append(name.clone(), value.clone());
        }
    }
    if call.version == Version::HTTP_2 && !speaks_http2(call, upstream) {
        join_crumbs(&mut headers);
    }
    if has_token(asked, &header::TE, "trailers") {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    if own_credential {
        set_credential(&mut headers, asked, call.dialect.vendor(), upstream);
    }
    if upstream.via {
        headers.append(header::VIA, via::value());
    }
    headers
}

/// HTTP/2 lets a cookie come in crumbs; outside of it they are one field (RFC 9113 §8.2.3).
fn join_crumbs(headers: &mut HeaderMap) {
    let crumbs: Vec<_> = headers.get_all(header::COOKIE).iter().collect();
    if crumbs.len() > 1 {
        let crumbs: Vec<_> = crumbs.into_iter().map(HeaderValue::as_bytes).collect();
        if let Ok(mut cookie) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) {
            cookie.set_sensitive(true);
            headers.insert(header::COOKIE, cookie);
        }
    }
}

/// Puts the configured credential where the caller had its own; a caller without one gets it where
/// the vendor's documentation puts it.
fn set_credential(headers: &mut HeaderMap, asked: &HeaderMap, vendor: Vendor, upstream: &Upstream) {
    let (name, prefix) = if asked.contains_key(API_KEY) {
        (API_KEY, "")
    } else if asked.contains_key(X_API_KEY)
        || (vendor == Vendor::Anthropic && !asked.contains_key(header::AUTHORIZATION))
    {
        (X_API_KEY, "")
    } else {
        ("authorization", "Bearer ")
    };
    if let Some(value) = upstream.credential_value(prefix) {
        headers.insert(name, value);
    }
}

/// Cleans the fields of an upstream's answer for the caller: framing is made anew by hyper, so a
/// contradictory pair of Content-Length and Transfer-Encoding is not handed on.
pub fn clean_response(headers: &mut HeaderMap) {
    let named = Nominated::by(headers);
    let chunked = headers.contains_key(header::TRANSFER_ENCODING);
    let must_change = headers
        .keys()
        .any(|name| is_hop_by_hop(name) || named.names(name));
    if !must_change {
        return;
    }
    // Rebuilt rather than removed from: removing swaps entries, and the order would change.
    let mut clean = HeaderMap::with_capacity(headers.keys_len());
    for (name, value) in headers.iter() {
        let dropped = is_hop_by_hop(name)
            || named.names(name)
            || (chunked && *name == header::CONTENT_LENGTH);
        if !dropped {
            clean.append(name.clone(), value.clone());
        }
    }
    *headers = clean;
}

pub(crate) fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection"
            | "te"
            | "transfer-encoding"
            | "upgrade"
            | "keep-alive"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "proxy-connection"
            | "http2-settings"
    )
}

pub(crate) fn is_credential(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "authorization" | X_API_KEY | API_KEY | "x-goog-api-key"
    )
}

/// The fields that `Connection` declares to be of this connection only.
struct Nominated(Vec<String>);

impl Nominated {
    fn by(headers: &HeaderMap) -> Self {
        let mut names = Vec::new();
        for value in headers.get_all(header::CONNECTION) {
            let tokens = value
                .to_str()
                .unwrap_or_default()
                .split(',')
                .map(|token| token.trim().to_ascii_lowercase());
            names.extend(
                tokens.filter(|token| !matches!(token.as_str(), "" | "close" | "keep-alive")),
            );
        }
        Self(names)
    }

    /// A nomination cannot take away what makes the message what it is: that would let a caller
    /// strip the length or the key from a request behind our back.
    fn names(&self, name: &HeaderName) -> bool {
        if self.0.is_empty() {
            return false;
        }
        let protected = is_credential(name)
            || matches!(
                name.as_str(),
                "host" | "content-length" | "content-type" | "content-encoding"
            );
        !protected && self.0.iter().any(|nominated| nominated == name.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let fields = fields.iter().map(|(name, value)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )
        });
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(name, value);
        }
        headers
    }

    #[test]
    fn an_answer_loses_only_what_speaks_of_its_connection() {
        let mut headers = map(&[
            ("connection", "close, X-Hop, content-type"),
            ("x-hop", "1"),
            ("content-type", "application/json"),
            ("set-cookie", "a"),
            ("keep-alive", "timeout=5"),
            ("set-cookie", "b"),
            ("x-custom", "kept"),
        ]);
        clean_response(&mut headers);
        let left: Vec<_> = headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
            .collect();
        assert_eq!(
            left,
            [
                ("content-type", "application/json"),
                ("set-cookie", "a"),
                ("set-cookie", "b"),
                ("x-custom", "kept")
            ]
        );
    }

    #[test]
    fn a_contradictory_length_is_dropped_and_an_honest_one_kept() {
        let mut both = map(&[("content-length", "5"), ("transfer-encoding", "chunked")]);
        clean_response(&mut both);
        assert!(both.is_empty());
        let mut one = map(&[("content-length", "5"), ("date", "today")]);
        clean_response(&mut one);
        assert_eq!(one.len(), 2);
    }

    #[test]
    fn our_own_via_is_recognised_and_another_surgetank_is_not_a_loop() {
        let mut headers = map(&[("via", "1.1 surgetank (0000000000000000)")]);
        assert!(!via::is_loop(&headers));
        headers.append(header::VIA, via::value());
        assert!(via::is_loop(&headers));
    }
}

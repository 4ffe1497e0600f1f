//! Reading what a caller wants differently from its route, of its request's own fields.

use std::time::Duration;

use http::{HeaderMap, HeaderName};

use crate::{
    call::{FallbackWish, Wishes},
    retry::tries::allowed_retries,
};

const X_FALLBACK: HeaderName = HeaderName::from_static("x-surgetank-fallback");
const X_MAX_RETRIES: HeaderName = HeaderName::from_static("x-surgetank-max-retries");
const X_RETRY_COUNT: HeaderName = HeaderName::from_static("x-stainless-retry-count");
const PREFER: HeaderName = HeaderName::from_static("prefer");

/// Reads our own request headers; what cannot be read is as if it were not there.
pub(super) fn wishes(headers: &HeaderMap, configured_retries: u32) -> Wishes {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let fallback = match text(X_FALLBACK).map(str::trim) {
        Some("none") => FallbackWish::None,
        Some("reply") => FallbackWish::Reply,
        Some("queue") => FallbackWish::Queue,
        _ => FallbackWish::Route,
    };
    let retries = allowed_retries(configured_retries, text(X_MAX_RETRIES), text(X_RETRY_COUNT));
    Wishes {
        fallback,
        retries,
        respond_async: respond_async(headers),
    }
}

/// Reads `Prefer` (RFC 7240): how long its sender would rather wait than be answered later, which with
/// `respond-async` alone is not at all.
fn respond_async(headers: &HeaderMap) -> Option<Duration> {
    let fields = headers.get_all(PREFER).iter();
    let preferences = fields
        .filter_map(|field| field.to_str().ok())
        .flat_map(|field| field.split(','))
        // A preference may have parameters behind it; none has a meaning for these two.
        .map(|preference| preference.split(';').next().unwrap_or_default().trim());
    let (mut is_wanted, mut wait) = (false, None);
    for preference in preferences {
        let (name, value) = preference.split_once('=').unwrap_or((preference, ""));
        if name.trim_end().eq_ignore_ascii_case("respond-async") {
            is_wanted = true;
        } else if name.trim_end().eq_ignore_ascii_case("wait") {
            // Of a preference that stands twice the first counts.
            let seconds = value.trim().trim_matches('"').parse().ok();
            wait = wait.or(seconds.map(Duration::from_secs));
        }
    }
    is_wanted.then(|| wait.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn wishes_are_read_leniently() {
        let unasked = Wishes {
            fallback: FallbackWish::Route,
            retries: 3,
            respond_async: None,
        };
        let mut headers = HeaderMap::new();
        assert_eq!(wishes(&headers, 3), unasked);
        headers.insert("x-surgetank-fallback", HeaderValue::from_static(" none "));
        headers.insert("x-surgetank-max-retries", HeaderValue::from_static("1"));
        let read = wishes(&headers, 3);
        assert_eq!((read.fallback, read.retries), (FallbackWish::None, 1));
        headers.insert("x-surgetank-fallback", HeaderValue::from_static("later"));
        headers.insert("x-surgetank-max-retries", HeaderValue::from_static("-1"));
        assert_eq!(wishes(&headers, 3), unasked);
        headers.insert("x-stainless-retry-count", HeaderValue::from_static("1"));
        assert_eq!(
            wishes(&headers, 3).retries,
            0,
            "the SDK is already retrying"
        );
    }

    #[test]
    fn preferences_are_read_as_the_standard_writes_them() {
        let read = |fields: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for field in fields {
                headers.append("prefer", HeaderValue::from_static(field));
            }
            respond_async(&headers).map(|wait| wait.as_secs())
        };
        for (fields, expected) in [
            (&[][..], None),
            (&["return=minimal"], None),
            (&["wait=10"], None),
            (&["respond-async"], Some(0)),
            (&["Respond-Async, wait=10"], Some(10)),
            (&["respond-async; foo=1", "wait = \"3\""], Some(3)),
            (
                &["handling=lenient, wait=100, respond-async, wait=5"],
                Some(100),
            ),
            (&["respond-async, wait=soon"], Some(0)),
            (&["not-respond-async"], None),
        ] {
            assert_eq!(read(fields), expected, "{fields:?}");
        }
    }
}

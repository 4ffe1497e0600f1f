//! The fields of a stream of our own.

use http::{HeaderMap, HeaderValue, header};

/// What a stream needs to arrive event by event, whoever stands in between.
pub(crate) fn events(headers: &mut HeaderMap) {
    let mut set = |name, value| headers.insert(name, HeaderValue::from_static(value));
    set(header::CONTENT_TYPE, "text/event-stream; charset=utf-8");
    set(header::CACHE_CONTROL, "no-cache, no-transform");
    // nginx collects what it passes on unless it is told not to.
    set(http::HeaderName::from_static("x-accel-buffering"), "no");
}

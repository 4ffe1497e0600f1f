//! What surgetank tells of a request in the fields of its answer.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::call::{Call, CallId};

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-surgetank-request-id");
const X_UPSTREAM: HeaderName = HeaderName::from_static("x-surgetank-upstream");
const X_ATTEMPTS: HeaderName = HeaderName::from_static("x-surgetank-attempts");
const X_WAITED_MS: HeaderName = HeaderName::from_static("x-surgetank-waited-ms");
const X_QUEUE_ID: HeaderName = HeaderName::from_static("x-surgetank-queue-id");
const X_FALLBACK: HeaderName = HeaderName::from_static("x-surgetank-fallback");
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// The fields that an answer usually gets here and in the layers below. Room for them at once is cheaper than growing.
const OUR_FIELDS: usize = 8;

/// Our own fields, on every response.
pub(super) fn tell(headers: &mut HeaderMap, id: CallId, call: Option<&Call>) {
    headers.reserve(OUR_FIELDS);
    if let Ok(id) = HeaderValue::from_bytes(id.as_bytes()) {
        headers.insert(X_REQUEST_ID, id);
    }
    let Some(call) = call else { return };
    for (name, value) in fields_of(call).into_iter().flatten() {
        headers.insert(name, value);
    }
    let first_byte = call.arrived.elapsed();
    let waited = {
        let mut journal = call.journal();
        journal.first_byte = Some(first_byte);
        journal.waited
    };
    let mut timing = Vec::with_capacity(48);
    timing.extend_from_slice(b"upstream;dur=");
    push_millis(&mut timing, first_byte.saturating_sub(waited));
    timing.extend_from_slice(b", wait;dur=");
    push_millis(&mut timing, waited);
    if let Ok(value) = HeaderValue::from_maybe_shared(Bytes::from(timing)) {
        headers.append(SERVER_TIMING, value);
    }
}

fn push_millis(text: &mut Vec<u8>, time: Duration) {
    text.extend_from_slice(itoa::Buffer::new().format(millis(time)).as_bytes());
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// A number as a field's value. Most are a digit, and need no memory.
fn number(number: u64) -> HeaderValue {
    const DIGITS: [&str; 10] = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];
    let digit = usize::try_from(number)
        .ok()
        .and_then(|digit| DIGITS.get(digit));
    digit.map_or_else(
        || HeaderValue::from(number),
        |digit| HeaderValue::from_static(digit),
    )
}

/// What has happened to a call so far, as the fields that tell it.
pub(crate) fn fields_of(call: &Call) -> [Option<(HeaderName, HeaderValue)>; 5] {
    let journal = call.journal();
    let upstream = journal.upstream.as_ref();
    let upstream = upstream.and_then(|upstream| HeaderValue::from_str(&upstream.name).ok());
    let substituted = journal.substituted.map(HeaderValue::from_static);
    let queued = journal.queued.map(|id| id.to_string());
    let queued = queued.and_then(|id| HeaderValue::try_from(id).ok());
    [
        upstream.map(|value| (X_UPSTREAM, value)),
        Some((X_ATTEMPTS, number(journal.attempts.into()))),
        Some((X_WAITED_MS, number(millis(journal.waited)))),
        substituted.map(|value| (X_FALLBACK, value)),
        queued.map(|value| (X_QUEUE_ID, value)),
    ]
}

//! How a message says where its body ends, in either direction.
//!
//! Two readers that disagree about it take one message for two, so only what every reader of HTTP/1.1
//! understands alike is let through (RFC 9112 §6.1, §6.3).

use http::{HeaderMap, HeaderValue, header};

/// Whether the transfer coding is absent or exactly `chunked`, once. hyper reads past every other one:
/// a body in `gzip, chunked` would arrive packed and without a word about it.
#[must_use]
pub fn has_known_coding(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => true,
        (Some(coding), None) => coding.as_bytes().eq_ignore_ascii_case(b"chunked"),
        _ => false,
    }
}

/// Says a length once that stands several times with one value, in a list or in several fields
/// (RFC 9110 §8.6); hyper has refused lengths that differ.
pub fn say_length_once(headers: &mut HeaderMap) {
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    let Some(first) = lengths.next() else { return };
    let mut listed = first.as_bytes().split(|byte| *byte == b',');
    let (one, another) = (listed.next().unwrap_or_default(), listed.next());
    if another.is_none() && lengths.next().is_none() {
        return;
    }
    if let Ok(once) = HeaderValue::from_bytes(one.trim_ascii()) {
        headers.insert(header::CONTENT_LENGTH, once);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &header::HeaderName, values: &[&'static str]) -> HeaderMap {
        let values = values.iter().map(|value| HeaderValue::from_static(value));
        values.map(|value| (name.clone(), value)).collect()
    }

    #[test]
    fn only_chunked_is_known_and_only_once() {
        for (codings, is_known) in [
            (&[][..], true),
            (&["chunked"], true),
            (&["Chunked"], true),
            (&["chunked, chunked"], false),
            (&["chunked", "chunked"], false),
            (&[", chunked"], false),
            (&["gzip, chunked"], false),
            (&["chunked, gzip"], false),
            (&["gzip"], false),
            (&["identity"], false),
            (&["xchunked"], false),
            (&[""], false),
        ] {
            let headers = of(&header::TRANSFER_ENCODING, codings);
            assert_eq!(has_known_coding(&headers), is_known, "{codings:?}");
        }
    }

    #[test]
    fn a_length_is_said_once() {
        for (lengths, once) in [
            (&["2"][..], "2"),
            (&["2, 2"], "2"),
            (&["2,2,2"], "2"),
            (&["2", "2"], "2"),
        ] {
            let mut headers = of(&header::CONTENT_LENGTH, lengths);
            say_length_once(&mut headers);
            let said: Vec<_> = headers.get_all(header::CONTENT_LENGTH).iter().collect();
            assert_eq!(said, [once], "{lengths:?}");
        }
        let mut none = HeaderMap::new();
        say_length_once(&mut none);
        assert!(none.is_empty());
    }
}

//! What several layers ask of a message's fields.

use http::{HeaderMap, HeaderName, HeaderValue, header};

/// Whether a list of tokens (RFC 9110 §5.6.1), in one field or in several, has `token`, however it is spelled.
#[must_use]
pub fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    let has = |value: &HeaderValue| {
        let mut tokens = value.as_bytes().split(|byte| *byte == b',');
        tokens.any(|one| one.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
    };
    headers.get_all(name).iter().any(has)
}

/// Whether a message says that it is of this media type, whatever its parameters.
#[must_use]
pub fn is_of_type(headers: &HeaderMap, media_type: &str) -> bool {
    let value = headers
        .get(header::CONTENT_TYPE)
        .map(HeaderValue::as_bytes)
        .unwrap_or_default();
    value
        .get(..media_type.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(media_type.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &HeaderName, values: &[&'static str]) -> HeaderMap {
        let values = values.iter().map(|value| HeaderValue::from_static(value));
        values.map(|value| (name.clone(), value)).collect()
    }

    #[test]
    fn a_token_is_found_in_any_list() {
        for (values, has) in [
            (&[][..], false),
            (&["close"], true),
            (&["x-hop ,\tClose"], true),
            (&["x-hop", "CLOSE"], true),
            (&["closed"], false),
            (&["not close"], false),
            (&["close;q=1"], false),
        ] {
            let headers = of(&header::CONNECTION, values);
            assert_eq!(
                has_token(&headers, &header::CONNECTION, "close"),
                has,
                "{values:?}"
            );
        }
    }

    #[test]
    fn a_media_type_is_known_with_its_parameters() {
        for (value, is) in [
            ("text/event-stream", true),
            ("Text/Event-Stream; charset=utf-8", true),
            ("text/event", false),
            ("application/json", false),
        ] {
            let headers = of(&header::CONTENT_TYPE, &[value]);
            assert_eq!(is_of_type(&headers, "text/event-stream"), is, "{value}");
        }
        assert!(!is_of_type(&HeaderMap::new(), "text/event-stream"));
    }
}

//! Heads as they are kept: as they would stand on the wire, without what must not be kept.
//!
//! No credential is ever written. Of a field that carried one its name stays, without a value, since it says where the
//! configured credential belongs. Left out is also what concerns the caller's connection, its own patience and its own
//! ability to unpack: the answer may be read by somebody else, later.

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header, uri::PathAndQuery,
};

use crate::{
    call::{Call, Head},
    upstream::forward::{is_credential, is_hop_by_hop},
};

/// The most fields of a head that is read back; it was within the listener's bounds when it was kept.
const MOST_FIELDS: usize = 1024;

/// Fields of a request that are not kept, beside credentials and those of a connection.
const LEFT_OUT: [&str; 11] = [
    "host",
    "expect",
    "content-length",
    "accept-encoding",
    "cookie",
    "prefer",
    "via",
    "x-stainless-retry-count",
    "x-stainless-timeout",
    "x-stainless-read-timeout",
    "proxy-authorization",
];

/// The name of its user's class stands in this field of a kept head: classes are numbered by the configuration of the
/// moment. A caller's own field of this name is not kept.
static CLASS: HeaderName = HeaderName::from_static("x-surgetank-class");

/// A request's head, read back.
#[derive(Debug)]
pub(super) struct RequestHead {
    pub(super) method: Method,
    pub(super) target: PathAndQuery,
    pub(super) headers: HeaderMap,
    /// The name of its user's class, if it had one.
    pub(super) class: Option<String>,
}

/// The head of a request as it is kept.
pub(super) fn request_head(call: &Call, head: &Head) -> Vec<u8> {
    let mut out = format!("{} {} HTTP/1.1\r\n", call.method, head.target).into_bytes();
    for (name, value) in &head.headers {
        let field = name.as_str();
        let is_left_out =
            is_hop_by_hop(name) || field.starts_with("x-surgetank-") || LEFT_OUT.contains(&field);
        if is_credential(name) {
            push(&mut out, name, b"");
        } else if !is_left_out {
            push(&mut out, name, value.as_bytes());
        }
    }
    if let Some(class) = call.route.class_name(call.class) {
        push(&mut out, &CLASS, class.as_bytes());
    }
    out.extend_from_slice(b"\r\n");
    out
}

/// Reads such a head; `None` where it is none.
pub(super) fn read_request(bytes: &[u8]) -> Option<RequestHead> {
    let mut fields = vec![httparse::EMPTY_HEADER; MOST_FIELDS];
    let mut request = httparse::Request::new(&mut fields);
    request.parse(bytes).ok()?.is_complete().then_some(())?;
    let mut headers = read_fields(request.headers)?;
    let class = headers.remove(&CLASS);
    Some(RequestHead {
        method: request.method?.parse().ok()?,
        target: request.path?.parse().ok()?,
        class: class.and_then(|class| Some(class.to_str().ok()?.to_owned())),
        headers,
    })
}

/// The head of an answer as it is kept.
pub(super) fn answer_head(response: &http::response::Parts) -> Vec<u8> {
    let mut out = format!("HTTP/1.1 {} \r\n", response.status.as_u16()).into_bytes();
    for (name, value) in &response.headers {
        if *name != header::CONTENT_LENGTH && !is_hop_by_hop(name) {
            push(&mut out, name, value.as_bytes());
        }
    }
    out.extend_from_slice(b"\r\n");
    out
}

/// Reads an answer back; `None` where the head is none.
pub(super) fn read_answer(head: &[u8], body: Vec<u8>) -> Option<Response<Bytes>> {
    let mut fields = vec![httparse::EMPTY_HEADER; MOST_FIELDS];
    let mut parsed = httparse::Response::new(&mut fields);
    parsed.parse(head).ok()?.is_complete().then_some(())?;
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = StatusCode::from_u16(parsed.code?).ok()?;
    *response.headers_mut() = read_fields(parsed.headers)?;
    Some(response)
}

fn push(out: &mut Vec<u8>, name: &HeaderName, value: &[u8]) {
    out.extend_from_slice(name.as_str().as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

fn read_fields(fields: &[httparse::Header<'_>]) -> Option<HeaderMap> {
    let mut headers = HeaderMap::with_capacity(fields.len());
    for field in fields {
        headers.append(
            HeaderName::from_bytes(field.name.as_bytes()).ok()?,
            HeaderValue::from_bytes(field.value).ok()?,
        );
    }
    Some(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_comes_back_as_it_went() {
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::IM_A_TEAPOT;
        for (name, value) in [
            ("content-type", "application/json"),
            ("set-cookie", "a=1"),
            ("content-length", "5"),
            ("set-cookie", "b=2"),
            ("x-empty", ""),
        ] {
            response
                .headers_mut()
                .append(name, HeaderValue::from_static(value));
        }
        response
            .headers_mut()
            .append("x-bytes", HeaderValue::from_bytes(b"\xe4\xff").unwrap());
        let head = answer_head(&response.into_parts().0);
        let back = read_answer(&head, b"hello".to_vec()).unwrap();
        assert_eq!(back.status(), StatusCode::IM_A_TEAPOT);
        let fields: Vec<_> = back
            .headers()
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_bytes()))
            .collect();
        assert_eq!(
            fields,
            [
                ("content-type", &b"application/json"[..]),
                ("set-cookie", b"a=1"),
                ("set-cookie", b"b=2"),
                ("x-empty", b""),
                ("x-bytes", b"\xe4\xff"),
            ]
        );
        assert_eq!(back.into_body(), "hello");
    }

    #[test]
    fn what_is_no_head_is_not_read() {
        for bytes in [
            &b""[..],
            b"POST / HTTP/1.1\r\n",
            b"\xff\xff\r\n\r\n",
            b"HTTP/1.1 99 \r\n\r\n",
        ] {
            assert!(read_request(bytes).is_none());
            assert!(read_answer(bytes, Vec::new()).is_none());
        }
    }
}

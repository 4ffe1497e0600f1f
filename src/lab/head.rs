//! The head of a request, as it was received and strictly judged.
//!
//! A test upstream that forgives hides the mistakes of the proxy before it, so whatever RFC 9112 calls ambiguous
//! (two lengths, a length beside chunked, a bare LF, a missing Host) is refused and counted.

use bytes::Bytes;
use thiserror::Error;
use tokio::time::{Duration, timeout};

use super::wire::{Left, Wire};

/// Most header fields of a request.
const MOST_FIELDS: usize = 256;

/// One request head.
#[derive(Debug, Clone)]
pub(super) struct Head {
    /// Everything up to and including the empty line.
    pub(super) raw: Bytes,
    pub(super) method: String,
    /// The request target byte for byte.
    pub(super) target: String,
    /// 0 for HTTP/1.0, 1 for HTTP/1.1.
    pub(super) minor_version: u8,
    /// Names and values in the order of arrival.
    pub(super) fields: Vec<(Bytes, Bytes)>,
}

/// How long the body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// This many bytes, often none.
    Length(u64),
    /// As the chunks tell.
    Chunked,
}

/// Why no head was read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum HeadError {
    /// The connection ended, or was idle for too long, between two requests.
    Idle,
    /// The connection ended, or stalled, inside a head.
    Unfinished,
    /// The request is refused.
    Refused(Malformed),
}

/// What is wrong with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(super) enum Malformed {
    #[error("the request head is larger than the lab's limit")]
    HeadTooLarge,
    #[error("the request head is not HTTP/1.1")]
    Syntax,
    #[error("a line of the request head ends in a bare LF")]
    BareLineFeed,
    #[error("an HTTP/1.1 request needs exactly one Host")]
    Host,
    #[error("content-length is not one number")]
    Length,
    #[error("transfer-encoding is not exactly `chunked`, once")]
    TransferEncoding,
    #[error("content-length and transfer-encoding stand together")]
    LengthAndChunked,
    #[error("a chunk of the body is not well formed")]
    Chunk,
    #[error("the request body is larger than the lab's limit")]
    BodyTooLarge,
    #[error("the lab holds as many request bodies as it may; try again")]
    Memory,
}

impl Malformed {
    /// The status that says it.
    pub(super) fn status(self) -> u16 {
        match self {
            Self::HeadTooLarge => 431,
            Self::BodyTooLarge => 413,
            Self::Memory => 503,
            _ => 400,
        }
    }
}

impl Head {
    /// The first value of a field.
    pub(super) fn field(&self, name: &str) -> Option<&[u8]> {
        let named = |(field, _): &&(Bytes, Bytes)| field.eq_ignore_ascii_case(name.as_bytes());
        self.fields
            .iter()
            .find(named)
            .map(|(_, value)| value.as_ref())
    }

    /// The first value of a field, if it is text.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.field(name)
            .and_then(|value| str::from_utf8(value).ok())
    }

    /// All values of a field.
    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.fields
            .iter()
            .filter(move |(field, _)| field.eq_ignore_ascii_case(name.as_bytes()))
            .map(|(_, value)| value.as_ref())
    }

    /// The target without the query.
    pub(super) fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// What identifies the caller's account.
    pub(super) fn credential(&self) -> Option<&[u8]> {
        CREDENTIALS.iter().find_map(|name| self.field(name))
    }

    /// Whether the connection may serve another request.
    pub(super) fn keeps_alive(&self) -> bool {
        let mut options = self
            .all("connection")
            .flat_map(|value| value.split(|byte| *byte == b','));
        self.minor_version >= 1
            && !options.any(|option| option.trim_ascii().eq_ignore_ascii_case(b"close"))
    }

    /// How long the body is.
    pub(super) fn framing(&self) -> Result<Framing, Malformed> {
        let mut lengths = self.all("content-length");
        let mut codings = self.all("transfer-encoding");
        match (lengths.next(), codings.next()) {
            (Some(_), Some(_)) => Err(Malformed::LengthAndChunked),
            (None, None) => Ok(Framing::Length(0)),
            (None, Some(coding)) => {
                let chunked = self.minor_version >= 1 && coding.eq_ignore_ascii_case(b"chunked");
                if chunked && codings.next().is_none() {
                    Ok(Framing::Chunked)
                } else {
                    Err(Malformed::TransferEncoding)
                }
            }
            (Some(length), None) => {
                let digits = !length.is_empty() && length.iter().all(u8::is_ascii_digit);
                let number = str::from_utf8(length)
                    .ok()
                    .and_then(|text| text.parse().ok());
                let number = number.filter(|_| digits && lengths.next().is_none());
                number.map(Framing::Length).ok_or(Malformed::Length)
            }
        }
    }
}

/// Fields whose values are secrets.
pub(super) const CREDENTIALS: &[&str] =
    &["authorization", "x-api-key", "api-key", "x-goog-api-key"];

/// Reads the next head, up to `limit` bytes.
pub(super) async fn read(
    wire: &mut Wire,
    limit: usize,
    idle: Duration,
    read: Duration,
) -> Result<Head, HeadError> {
    if wire.inbox().is_empty() {
        match timeout(idle, wire.fill()).await {
            Ok(Ok(())) => {}
            Ok(Err(Left)) | Err(_) => return Err(HeadError::Idle),
        }
    }
    let whole = async {
        loop {
            let inbox = wire.inbox();
            if let Some(length) = complete(inbox).map_err(HeadError::Refused)? {
                if length > limit {
                    return Err(HeadError::Refused(Malformed::HeadTooLarge));
                }
                return parse(&inbox.split_to(length).freeze()).map_err(HeadError::Refused);
            }
            if inbox.len() > limit {
                return Err(HeadError::Refused(Malformed::HeadTooLarge));
            }
            wire.fill().await.map_err(|Left| HeadError::Unfinished)?;
        }
    };
    timeout(read, whole)
        .await
        .unwrap_or(Err(HeadError::Unfinished))
}

/// The length of the head, once all of it is there.
fn complete(bytes: &[u8]) -> Result<Option<usize>, Malformed> {
    let mut fields = [httparse::EMPTY_HEADER; MOST_FIELDS];
    match httparse::Request::new(&mut fields).parse(bytes) {
        Ok(httparse::Status::Complete(length)) => Ok(Some(length)),
        Ok(httparse::Status::Partial) => Ok(None),
        Err(httparse::Error::TooManyHeaders) => Err(Malformed::HeadTooLarge),
        Err(_) => Err(Malformed::Syntax),
    }
}

/// Reads and judges a whole head.
fn parse(raw: &Bytes) -> Result<Head, Malformed> {
    let mut fields = [httparse::EMPTY_HEADER; MOST_FIELDS];
    let mut request = httparse::Request::new(&mut fields);
    request.parse(raw).map_err(|_| Malformed::Syntax)?;
    if memchr::memchr_iter(b'\n', raw).any(|at| at == 0 || raw[at - 1] != b'\r') {
        return Err(Malformed::BareLineFeed);
    }
    let (Some(method), Some(target), Some(minor_version)) =
        (request.method, request.path, request.version)
    else {
        return Err(Malformed::Syntax);
    };
    let (method, target) = (method.to_owned(), target.to_owned());
    let fields = request.headers.iter();
    let fields = fields
        .map(|field| {
            (
                raw.slice_ref(field.name.as_bytes()),
                raw.slice_ref(field.value),
            )
        })
        .collect();
    let head = Head {
        raw: raw.clone(),
        method,
        target,
        minor_version,
        fields,
    };
    if minor_version >= 1 && head.all("host").count() != 1 {
        return Err(Malformed::Host);
    }
    Ok(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(text: &str) -> Result<Head, Malformed> {
        let length = complete(text.as_bytes())?.expect("a whole head");
        parse(&Bytes::copy_from_slice(&text.as_bytes()[..length]))
    }

    fn framing(fields: &str) -> Result<Framing, Malformed> {
        head(&format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"))?.framing()
    }

    #[test]
    fn a_head_is_kept_as_it_came() {
        let head = head(
            "PoST /a/%2e%2e/b?x='|' HTTP/1.1\r\nHost: a\r\nX-Twice: 1\r\nx-tWice:  2 \r\n\r\n",
        )
        .unwrap();
        assert_eq!(
            (head.method.as_str(), head.target.as_str()),
            ("PoST", "/a/%2e%2e/b?x='|'")
        );
        assert_eq!(head.path(), "/a/%2e%2e/b");
        assert_eq!(head.all("x-twice").collect::<Vec<_>>(), [b"1", b"2"]);
        assert_eq!(head.fields[2].0.as_ref(), b"x-tWice");
    }

    #[test]
    fn ambiguous_framing_is_refused() {
        assert_eq!(framing(""), Ok(Framing::Length(0)));
        assert_eq!(framing("Content-Length: 12\r\n"), Ok(Framing::Length(12)));
        assert_eq!(
            framing("Transfer-Encoding: Chunked\r\n"),
            Ok(Framing::Chunked)
        );
        for (fields, error) in [
            (
                "Content-Length: 1\r\nContent-Length: 1\r\n",
                Malformed::Length,
            ),
            ("Content-Length: 1, 1\r\n", Malformed::Length),
            ("Content-Length: +1\r\n", Malformed::Length),
            ("Content-Length: -1\r\n", Malformed::Length),
            ("Content-Length: \r\n", Malformed::Length),
            (
                "Content-Length: 99999999999999999999999\r\n",
                Malformed::Length,
            ),
            (
                "Transfer-Encoding: chunked, chunked\r\n",
                Malformed::TransferEncoding,
            ),
            (
                "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
                Malformed::TransferEncoding,
            ),
            ("Transfer-Encoding: gzip\r\n", Malformed::TransferEncoding),
            (
                "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n",
                Malformed::LengthAndChunked,
            ),
        ] {
            assert_eq!(framing(fields), Err(error), "{fields:?}");
        }
    }

    #[test]
    fn bad_heads_are_refused() {
        for (text, error) in [
            ("GET / HTTP/1.1\r\n\r\n", Malformed::Host),
            (
                "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
                Malformed::Host,
            ),
            ("GET / HTTP/1.1\nHost: a\n\n", Malformed::BareLineFeed),
            (
                "GET / HTTP/1.1\r\nHost: a\r\nX : 1\r\n\r\n",
                Malformed::Syntax,
            ),
            (
                "GET / HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n",
                Malformed::Syntax,
            ),
        ] {
            assert_eq!(head(text).unwrap_err(), error, "{text:?}");
        }
        assert!(head("GET / HTTP/1.0\r\n\r\n").is_ok_and(|head| !head.keeps_alive()));
    }

    #[test]
    fn close_is_an_option_among_others() {
        for (value, alive) in [
            ("close", false),
            ("foo, Close", false),
            ("keep-alive", true),
            ("closed", true),
        ] {
            let head = head(&format!(
                "GET / HTTP/1.1\r\nHost: a\r\nConnection: {value}\r\n\r\n"
            ))
            .unwrap();
            assert_eq!(head.keeps_alive(), alive, "{value}");
        }
    }
}

//! Refuses heads that hyper accepts but that another HTTP implementation could read differently.
//!
//! Request smuggling lives on such differences. hyper takes a doubled `Transfer-Encoding`, a missing
//! or doubled `Host`, and an absolute target that contradicts `Host`; we do not pass any of these on
//! (RFC 9112 §3.2, §6.1; RFC 9110 §7.2).

use http::{HeaderMap, Method, StatusCode, Version, header, uri::Authority};

use crate::framing;

/// Why a head was refused. Displayed to the caller; it quotes nothing that the caller sent.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Ambiguous {
    /// Anything but exactly one `chunked`.
    #[error("the Transfer-Encoding must be absent or exactly `chunked`, once")]
    TransferEncoding,
    /// HTTP/1.1 demands exactly one.
    #[error("the request must carry exactly one Host field")]
    HostCount,
    /// Not `host[:port]`.
    #[error("the Host field is not a valid host")]
    HostInvalid,
    /// The target names one server and `Host` another.
    #[error("the request target and the Host field name different servers")]
    HostDiffers,
    /// A tunnel would bypass everything this proxy does.
    #[error("surgetank does not open CONNECT tunnels and does not answer TRACE")]
    Method,
    /// Only `100-continue` is known.
    #[error("the expectation is not understood; only `100-continue` is")]
    Expectation,
}

impl Ambiguous {
    /// The status that says so.
    #[must_use]
    pub fn status(self) -> StatusCode {
        match self {
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::Expectation => StatusCode::EXPECTATION_FAILED,
            _ => StatusCode::BAD_REQUEST,
        }
    }
}

/// Checks a request's head before anything is derived from it.
pub fn check<B>(request: &http::Request<B>) -> Result<(), Ambiguous> {
    if matches!(*request.method(), Method::CONNECT | Method::TRACE) {
        return Err(Ambiguous::Method);
    }
    let headers = request.headers();
    if !framing::has_known_coding(headers) {
        return Err(Ambiguous::TransferEncoding);
    }
    check_host(request.version(), request.uri().authority(), headers)?;
    let expectation = headers.get(header::EXPECT);
    if expectation.is_some_and(|value| !value.as_bytes().eq_ignore_ascii_case(b"100-continue")) {
        return Err(Ambiguous::Expectation);
    }
    Ok(())
}

fn check_host(
    version: Version,
    target: Option<&Authority>,
    headers: &HeaderMap,
) -> Result<(), Ambiguous> {
    if target.is_some_and(|target| target.as_str().contains('@')) {
        return Err(Ambiguous::HostInvalid);
    }
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (Some(host), None) => host,
        // HTTP/1.0 has no Host, HTTP/2 has `:authority` in its place.
        (None, _)
            if version == Version::HTTP_10 || (version == Version::HTTP_2 && target.is_some()) =>
        {
            return Ok(());
        }
        _ => return Err(Ambiguous::HostCount),
    };
    let host = host.as_bytes();
    if !is_host(host) {
        return Err(Ambiguous::HostInvalid);
    }
    match target {
        Some(target) if !target.as_str().as_bytes().eq_ignore_ascii_case(host) => {
            Err(Ambiguous::HostDiffers)
        }
        _ => Ok(()),
    }
}

/// Whether this is `host[:port]`.
fn is_host(host: &[u8]) -> bool {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-');
    let mut parts = host.split(|byte| *byte == b':');
    let (name, port, more) = (parts.next(), parts.next(), parts.next());
    let is_name = name.is_some_and(|name| !name.is_empty() && name.iter().all(is_plain));
    let is_port = port.is_none_or(|port| !port.is_empty() && port.iter().all(u8::is_ascii_digit));
    // What nearly all callers send needs no copy; the rest (addresses in brackets, what is no host) is for a parser.
    (is_name && is_port && more.is_none())
        || (!host.is_empty() && !host.contains(&b'@') && Authority::try_from(host).is_ok())
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn judge(target: &str, fields: &[(&str, &str)]) -> Result<(), Ambiguous> {
        let mut request = Request::builder().uri(target);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        check(&request.body(()).unwrap())
    }

    type Row<'a> = (&'a str, &'a [(&'a str, &'a str)], Result<(), Ambiguous>);

    #[test]
    fn what_can_be_read_in_two_ways_is_refused() {
        use Ambiguous::{Expectation, HostCount, HostDiffers, HostInvalid, TransferEncoding};
        let host = ("host", "localhost:4290");
        let table: &[Row<'_>] = &[
            ("/", &[host], Ok(())),
            ("/", &[("host", "[::1]:4290")], Ok(())),
            ("/", &[], Err(HostCount)),
            ("/", &[host, host], Err(HostCount)),
            ("/", &[("host", "")], Err(HostInvalid)),
            ("/", &[("host", "a b")], Err(HostInvalid)),
            ("/", &[("host", "a/b")], Err(HostInvalid)),
            ("/", &[("host", "user@a")], Err(HostInvalid)),
            ("/", &[("host", "a:b:c")], Err(HostInvalid)),
            ("/", &[("host", "api.example-1.com")], Ok(())),
            ("http://LOCALHOST:4290/x", &[host], Ok(())),
            ("http://evil.example/x", &[host], Err(HostDiffers)),
            ("http://user@localhost:4290/x", &[host], Err(HostInvalid)),
            ("/", &[host, ("transfer-encoding", "chunked")], Ok(())),
            ("/", &[host, ("transfer-encoding", "Chunked")], Ok(())),
            (
                "/",
                &[host, ("transfer-encoding", "chunked, chunked")],
                Err(TransferEncoding),
            ),
            (
                "/",
                &[host, ("transfer-encoding", ", chunked")],
                Err(TransferEncoding),
            ),
            (
                "/",
                &[host, ("transfer-encoding", "gzip, chunked")],
                Err(TransferEncoding),
            ),
            (
                "/",
                &[
                    host,
                    ("transfer-encoding", "chunked"),
                    ("transfer-encoding", "chunked"),
                ],
                Err(TransferEncoding),
            ),
            ("/", &[host, ("expect", "100-Continue")], Ok(())),
            ("/", &[host, ("expect", "a pony")], Err(Expectation)),
        ];
        for (target, fields, expected) in table {
            assert_eq!(judge(target, fields), *expected, "{target} {fields:?}");
        }
    }

    #[test]
    fn tunnels_are_refused_and_old_callers_need_no_host() {
        let connect = Request::builder()
            .method("CONNECT")
            .uri("evil.example:443")
            .body(())
            .unwrap();
        assert_eq!(check(&connect), Err(Ambiguous::Method));
        let old = Request::builder()
            .version(Version::HTTP_10)
            .uri("/")
            .body(())
            .unwrap();
        assert_eq!(check(&old), Ok(()));
    }
}

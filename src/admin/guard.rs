//! Who may do what on the operator's port.
//!
//! Looking is free to whoever reaches the port: it shows neither keys nor prompts. Two kinds of visitor
//! come without having reached it, though: a web page in the browser of somebody who has. Its requests
//! name another origin, or, when its own name was made to point here (DNS rebinding), another host.
//! Changing anything takes a token, on every path and from every address.

use std::net::IpAddr;

use axum::{
    extract::{Request, State},
    http::{HeaderMap, Method, StatusCode, header, request::Parts, uri::Authority},
    middleware::Next,
    response::{IntoResponse, Response},
};

use crate::rules::RulesInForce;

/// Judges requests to the operator's port.
#[derive(Clone, Debug)]
pub struct Guard {
    rules: RulesInForce,
    /// Whether the port is on loopback, where it has no name that a stranger could own.
    is_loopback: bool,
}

/// Why a request is not answered.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("this port is on loopback and answers to its address or to localhost only")]
    ForeignHost,
    #[error("web pages of other origins may not look at this port")]
    ForeignPage,
    #[error("nothing can be changed here: set `admin_token` in the configuration")]
    NoOperators,
    #[error("changing something takes a token of `admin_token`, as `Authorization: Bearer TOKEN`")]
    Stranger,
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = match self {
            Self::ForeignHost | Self::ForeignPage | Self::NoOperators => StatusCode::FORBIDDEN,
            Self::Stranger => StatusCode::UNAUTHORIZED,
        };
        let mut response = (status, format!("{self}\n")).into_response();
        if self == Self::Stranger {
            let scheme = header::HeaderValue::from_static("Bearer realm=\"surgetank admin\"");
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, scheme);
        }
        response
    }
}

impl Guard {
    /// Judges by `rules`; `is_loopback` tells that only this machine reaches the port.
    #[must_use]
    pub fn new(rules: RulesInForce, is_loopback: bool) -> Self {
        Self { rules, is_loopback }
    }

    /// Turns away what a stranger's web page sends.
    pub(super) fn visitor(&self, request: &Parts) -> Result<(), Refusal> {
        let field = |name: header::HeaderName| {
            let value = request.headers.get(name)?;
            value.to_str().ok()
        };
        let host = field(header::HOST).or_else(|| request.uri.authority().map(Authority::as_str));
        if self.is_loopback && host.is_some_and(is_public_name) {
            return Err(Refusal::ForeignHost);
        }
        // A link may lead here from anywhere; what it shows is shown to the person, not to the page.
        let is_followed_link =
            request.method == Method::GET && of(&request.headers, "sec-fetch-mode") == Some("navigate");
        let site = of(&request.headers, "sec-fetch-site");
        let is_foreign = matches!(site, Some("cross-site" | "same-site")) && !is_followed_link;
        let origin = field(header::ORIGIN);
        let is_of_another = origin.is_some_and(|origin| {
            let of_origin = origin.split_once("://").map(|(_, authority)| authority);
            of_origin.is_none() || of_origin != host
        });
        if is_foreign || is_of_another {
            return Err(Refusal::ForeignPage);
        }
        Ok(())
    }

    fn operator(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let rules = self.rules.now();
        let operators = rules.operators.as_ref().ok_or(Refusal::NoOperators)?;
        operators.admit(headers).map_err(|_| Refusal::Stranger)
    }
}

/// Lets only operators through: the layer around everything that changes something.
pub(super) async fn operators_only(
    State(guard): State<Guard>,
    request: Request,
    next: Next,
) -> Result<Response, Refusal> {
    guard.operator(request.headers())?;
    Ok(next.run(request).await)
}

fn of<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// Whether somebody could own this name: it has a dot and is no address. `localhost` and the names of
/// hosts files have none.
fn is_public_name(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else {
        return true;
    };
    let name = authority.host().trim_matches(['[', ']']);
    name.contains('.') && name.parse::<IpAddr>().is_err()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::Config, rules::Rules};

    fn guard(is_loopback: bool) -> Guard {
        let rules = Rules::new(&Config::built_in(), &|_| None, None).expect("no credentials");
        Guard::new(RulesInForce::new(rules), is_loopback)
    }

    fn judged(is_loopback: bool, method: &str, fields: &[(&str, &str)]) -> Result<(), Refusal> {
        let mut request = http::Request::builder().method(method).uri("/api/state");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).expect("a request").into_parts();
        guard(is_loopback).visitor(&parts)
    }

    #[test]
    fn only_strangers_pages_are_turned_away() {
        let here = ("host", "127.0.0.1:4291");
        let table: [(bool, &str, &[(&str, &str)], Result<(), Refusal>); 17] = [
            (true, "GET", &[here], Ok(())),
            (true, "GET", &[("host", "localhost:4291")], Ok(())),
            (true, "GET", &[("host", "[::1]:4291")], Ok(())),
            (true, "GET", &[("host", "surgetank")], Ok(())),
            (true, "GET", &[], Ok(())),
            (true, "GET", &[("host", "evil.example:4291")], Err(Refusal::ForeignHost)),
            (true, "GET", &[("host", "127.0.0.1.evil.example")], Err(Refusal::ForeignHost)),
            (true, "GET", &[("host", "a b")], Err(Refusal::ForeignHost)),
            (false, "GET", &[("host", "admin.svc.cluster.local:4291")], Ok(())),
            (true, "GET", &[here, ("sec-fetch-site", "same-origin")], Ok(())),
            (true, "GET", &[here, ("sec-fetch-site", "cross-site")], Err(Refusal::ForeignPage)),
            (true, "GET", &[here, ("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")], Ok(())),
            (true, "POST", &[here, ("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")], Err(Refusal::ForeignPage)),
            (true, "GET", &[here, ("origin", "http://127.0.0.1:4291")], Ok(())),
            (true, "GET", &[here, ("origin", "http://evil.example")], Err(Refusal::ForeignPage)),
            (true, "GET", &[here, ("origin", "http://127.0.0.1:9")], Err(Refusal::ForeignPage)),
            (false, "GET", &[here, ("origin", "null")], Err(Refusal::ForeignPage)),
        ];
        for (is_loopback, method, fields, expected) in table {
            assert_eq!(judged(is_loopback, method, fields), expected, "{method} {fields:?}");
        }
    }
}

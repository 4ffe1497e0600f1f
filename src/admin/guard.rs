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
        // One that says two names is no browser, and what it means nobody knows.
        if request.headers.get_all(header::HOST).iter().count() > 1 {
            return Err(Refusal::ForeignHost);
        }
        let host = field(header::HOST).or_else(|| request.uri.authority().map(Authority::as_str));
        if self.is_loopback && host.is_some_and(is_public_name) {
            return Err(Refusal::ForeignHost);
        }
        // A link may lead here from anywhere; what it shows is shown to the person, not to the page.
        let is_followed_link = request.method == Method::GET
            && of(&request.headers, "sec-fetch-mode") == Some("navigate");
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
        let rules = Rules::new(&Config::built_in(), &|_| None, None, None).expect("no credentials");
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
    fn a_name_that_a_stranger_could_own_does_not_lead_to_loopback() {
        for host in [
            "127.0.0.1:4291",
            "localhost:4291",
            "[::1]:4291",
            "[::1]",
            "surgetank",
        ] {
            assert_eq!(judged(true, "GET", &[("host", host)]), Ok(()), "{host}");
        }
        assert_eq!(judged(true, "GET", &[]), Ok(()), "HTTP/1.0");
        for host in ["evil.example:4291", "127.0.0.1.evil.example", "a b"] {
            let refused = Err(Refusal::ForeignHost);
            assert_eq!(judged(true, "GET", &[("host", host)]), refused, "{host}");
            assert_eq!(judged(false, "GET", &[("host", host)]), Ok(()), "{host}");
        }
        let two = [("host", "localhost"), ("host", "evil.example")];
        assert_eq!(judged(true, "GET", &two), Err(Refusal::ForeignHost));
    }

    #[test]
    fn pages_of_other_origins_are_turned_away_and_links_are_followed() {
        const SITE: &str = "sec-fetch-site";
        let here = ("host", "127.0.0.1:4291");
        let link = ("sec-fetch-mode", "navigate");
        let ours: [&[_]; 3] = [
            &[here, (SITE, "same-origin")],
            &[here, (SITE, "cross-site"), link],
            &[here, ("origin", "http://127.0.0.1:4291")],
        ];
        for fields in ours {
            assert_eq!(judged(true, "GET", fields), Ok(()), "{fields:?}");
        }
        let foreign: [(&str, &[_]); 6] = [
            ("GET", &[here, (SITE, "cross-site")]),
            ("GET", &[here, (SITE, "same-site")]),
            ("POST", &[here, (SITE, "cross-site"), link]),
            ("GET", &[here, ("origin", "http://evil.example")]),
            ("GET", &[here, ("origin", "http://127.0.0.1:9")]),
            ("GET", &[here, ("origin", "null")]),
        ];
        for (method, fields) in foreign {
            let judged = judged(false, method, fields);
            assert_eq!(judged, Err(Refusal::ForeignPage), "{method} {fields:?}");
        }
    }
}

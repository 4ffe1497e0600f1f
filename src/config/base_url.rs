//! Where an upstream is.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use http::Uri;
use http::uri::{Authority, Scheme};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer};

use super::units::from_text;

/// The beginning of every URL of an upstream. The path and query of a request are appended to it as they came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseUrl {
    /// `http` or `https`.
    pub scheme: Scheme,
    /// Host and port; never user information.
    pub authority: Authority,
    /// What stands before the path of each request: empty, or beginning with `/` and not ending with one.
    pub path_prefix: String,
}

/// Why a text is no base URL. Never quotes it: a key may stand in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BaseUrlError {
    /// No `http://` or `https://` before the host.
    #[error("it must begin with `https://` or `http://`")]
    Scheme,
    /// Not a URL.
    #[error("it must be a URL such as `https://api.openai.com`")]
    Form,
    /// Userinfo in the URL.
    #[error("a key has no place in a URL; take the part before `@` out and use `credential`")]
    Userinfo,
    /// A query or fragment.
    #[error("a base URL ends before any `?` or `#`; requests bring their own query")]
    Query,
}

impl FromStr for BaseUrl {
    type Err = BaseUrlError;

    fn from_str(text: &str) -> Result<Self, BaseUrlError> {
        let has_scheme = ["https://", "http://"].iter().any(|scheme| {
            text.get(..scheme.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(scheme))
        });
        if !has_scheme {
            return Err(BaseUrlError::Scheme);
        }
        // The URI parser drops fragments without a word.
        if text.contains(['?', '#']) {
            return Err(BaseUrlError::Query);
        }
        let parts = text
            .parse::<Uri>()
            .map_err(|_| BaseUrlError::Form)?
            .into_parts();
        let (Some(scheme), Some(authority)) = (parts.scheme, parts.authority) else {
            return Err(BaseUrlError::Form);
        };
        if authority.as_str().contains('@') {
            return Err(BaseUrlError::Userinfo);
        }
        let has_port = authority.as_str().len() > authority.host().len();
        if authority.host().is_empty() || (has_port && authority.port_u16().is_none()) {
            return Err(BaseUrlError::Form);
        }
        let path = parts
            .path_and_query
            .map_or(String::new(), |path| path.path().to_owned());
        Ok(Self {
            scheme,
            authority,
            path_prefix: path.trim_end_matches('/').to_owned(),
        })
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}://{}{}",
            self.scheme, self.authority, self.path_prefix
        )
    }
}

impl<'de> Deserialize<'de> for BaseUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_text(deserializer, "a URL such as `https://api.openai.com`")
    }
}

impl JsonSchema for BaseUrl {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "BaseUrl".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": r"^(https?://[^?#@]+|.*\$\{.*)$" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_url_is_taken_apart() {
        for (text, authority, prefix, printed) in [
            (
                "https://api.openai.com",
                "api.openai.com",
                "",
                "https://api.openai.com",
            ),
            (
                "https://api.openai.com/",
                "api.openai.com",
                "",
                "https://api.openai.com",
            ),
            (
                "http://127.0.0.1:8000/a/b/",
                "127.0.0.1:8000",
                "/a/b",
                "http://127.0.0.1:8000/a/b",
            ),
            ("HTTPS://[::1]:1/x", "[::1]:1", "/x", "https://[::1]:1/x"),
            ("http://host/%2Fa", "host", "/%2Fa", "http://host/%2Fa"),
        ] {
            let url: BaseUrl = text.parse().unwrap();
            assert_eq!(url.authority.as_str(), authority, "{text}");
            assert_eq!(url.path_prefix, prefix, "{text}");
            assert_eq!(url.to_string(), printed, "{text}");
        }
    }

    #[test]
    fn what_is_no_base_url_says_why() {
        for (text, expected) in [
            ("api.openai.com", BaseUrlError::Scheme),
            ("ftp://api.openai.com", BaseUrlError::Scheme),
            ("//api.openai.com", BaseUrlError::Scheme),
            ("", BaseUrlError::Scheme),
            ("https://", BaseUrlError::Form),
            ("https://:80", BaseUrlError::Form),
            ("https://a b", BaseUrlError::Form),
            ("https://host:99999", BaseUrlError::Form),
            ("https://host:", BaseUrlError::Form),
            ("https://key@host", BaseUrlError::Userinfo),
            ("https://u:key@host", BaseUrlError::Userinfo),
            ("https://host?key=x", BaseUrlError::Query),
            ("https://host/#x", BaseUrlError::Query),
        ] {
            assert_eq!(text.parse::<BaseUrl>(), Err(expected), "{text}");
        }
    }
}

//! Which requests a route takes.
//!
//! Several criteria are alternatives: a request that meets any of them is taken.
//! That suits what they are for, telling vendors apart: a path that only one vendor has, or a header that only one vendor's clients send.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use http::{HeaderMap, HeaderName, HeaderValue};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};

use super::decode::OneOrMany;
use super::units::from_text;

/// What a request must show to be taken: any one of these. Without any, every request is taken.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Match {
    /// A path, or a list of paths. Each stands for itself and everything below it.
    #[serde(rename = "path", deserialize_with = "one_or_many")]
    #[schemars(with = "OneOrMany<PathPrefix>")]
    pub paths: Vec<PathPrefix>,
    /// Headers with the value they must have, or `*` for any.
    #[serde(deserialize_with = "header_patterns")]
    #[schemars(with = "std::collections::BTreeMap<String, String>")]
    pub headers: Vec<(HeaderName, HeaderPattern)>,
}

impl Match {
    /// Whether a request with this path (without its query) and these headers is taken.
    #[must_use]
    pub fn takes(&self, path: &str, headers: &HeaderMap) -> bool {
        self.takes_everything()
            || self.paths.iter().any(|prefix| prefix.covers(path))
            || self.headers.iter().any(|(name, pattern)| {
                let mut values = headers.get_all(name).iter();
                values.any(|value| pattern.takes(value))
            })
    }

    /// Whether no request can pass it by.
    #[must_use]
    pub fn takes_everything(&self) -> bool {
        (self.paths.is_empty() && self.headers.is_empty())
            || self.paths.iter().any(PathPrefix::is_root)
    }

    /// Whether whatever `other` takes is taken by this one too.
    pub(super) fn covers(&self, other: &Self) -> bool {
        self.takes_everything()
            || (!other.takes_everything()
                && other.paths.iter().all(|path| self.covers_path(path))
                && other
                    .headers
                    .iter()
                    .all(|header| self.covers_header(header)))
    }

    fn covers_path(&self, path: &PathPrefix) -> bool {
        self.paths.iter().any(|own| own.covers(path.as_str()))
    }

    fn covers_header(&self, (name, pattern): &(HeaderName, HeaderPattern)) -> bool {
        self.headers.iter().any(|(own_name, own)| {
            own_name == name && (*own == HeaderPattern::Any || own == pattern)
        })
    }
}

/// A path that stands for itself and everything below it: `/v1/messages` takes `/v1/messages/batches` and not `/v1/messagesx`.
///
/// Paths are compared as they are written on the wire, percent-encoding included.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PathPrefix(String);

impl PathPrefix {
    /// The path without a `/` at its end; empty for the root.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it stands for every path.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `path` is this one or below it.
    #[must_use]
    pub fn covers(&self, path: &str) -> bool {
        path.strip_prefix(self.as_str())
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || self.is_root())
    }
}

/// Why a text is no path to match.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathPrefixError {
    /// It does not begin with a slash.
    #[error("a path begins with `/`")]
    Relative,
    /// It has a wildcard.
    #[error("a path has no wildcards; it stands for itself and everything below it already")]
    Wildcard,
    /// It has what no path on the wire has.
    #[error("a path ends before any `?` or `#` and has no spaces or control characters")]
    Form,
}

impl FromStr for PathPrefix {
    type Err = PathPrefixError;

    fn from_str(text: &str) -> Result<Self, PathPrefixError> {
        if !text.starts_with('/') {
            return Err(PathPrefixError::Relative);
        }
        if text.contains('*') {
            return Err(PathPrefixError::Wildcard);
        }
        let is_outside = |c: char| matches!(c, '?' | '#') || !c.is_ascii_graphic();
        if text.contains(is_outside) {
            return Err(PathPrefixError::Form);
        }
        Ok(Self(text.trim_end_matches('/').to_owned()))
    }
}

impl<'de> Deserialize<'de> for PathPrefix {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_text(deserializer, "a path such as `/v1/messages`")
    }
}

impl JsonSchema for PathPrefix {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Path".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": r"^(/[^?#*\s]*|.*\$\{.*)$" })
    }
}

/// What the value of a header must be.
#[derive(Clone, PartialEq, Eq)]
pub enum HeaderPattern {
    /// Anything, as long as the header is there. Written `*`.
    Any,
    /// Exactly this.
    Exact(HeaderValue),
}

impl HeaderPattern {
    /// Whether a value has this form.
    #[must_use]
    pub fn takes(&self, value: &HeaderValue) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(exact) => exact == value,
        }
    }
}

/// Does not show the value: routes may be told apart by a credential.
impl fmt::Debug for HeaderPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Any => "Any",
            Self::Exact(_) => "Exact(..)",
        })
    }
}

/// The value can be in no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it must be `*` for any value, or the exact value of a header, without further wildcards")]
pub struct HeaderPatternError;

impl FromStr for HeaderPattern {
    type Err = HeaderPatternError;

    fn from_str(text: &str) -> Result<Self, HeaderPatternError> {
        match text {
            "*" => Ok(Self::Any),
            // `*/*` is a value of `accept`; a star at an end is the beginning or end of a misunderstanding.
            _ if text.ends_with('*') && !text.ends_with("/*") => Err(HeaderPatternError),
            _ => text
                .parse()
                .map(Self::Exact)
                .map_err(|_| HeaderPatternError),
        }
    }
}

impl<'de> Deserialize<'de> for HeaderPattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_text(deserializer, "the value of a header, or `*`")
    }
}

fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<PathPrefix>, D::Error> {
    OneOrMany::deserialize(deserializer).map(|OneOrMany(paths)| paths)
}

/// Header names with the values they must have.
pub(super) fn header_patterns<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<(HeaderName, HeaderPattern)>, D::Error> {
    struct Headers;

    impl<'de> Visitor<'de> for Headers {
        type Value = Vec<(HeaderName, HeaderPattern)>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a mapping of header names to values")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
            let mut headers = Vec::new();
            while let Some((Name(name), pattern)) = entries.next_entry()? {
                headers.push((name, pattern));
            }
            Ok(headers)
        }
    }

    deserializer.deserialize_map(Headers)
}

struct Name(HeaderName);

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        let name = name
            .parse()
            .map_err(|_| serde::de::Error::custom("it must be the name of a header"));
        name.map(Self)
    }
}

#[cfg(test)]
mod tests;

//! Users with limits of their own.

use std::fmt;
use std::path::PathBuf;

use http::HeaderName;
use schemars::JsonSchema;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde::ser::{Serialize, SerializeMap as _, Serializer};

use super::decode::OneOrMany;
use super::limits::PerUser;
use super::matching::{HeaderPattern, header_patterns};
use super::units::from_text;

/// Classes by name, in the order of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Classes(pub Vec<Class>);

/// Users with limits of their own.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Class {
    /// Its name.
    #[serde(skip)]
    pub name: String,
    /// Which users it takes: those that meet any of these criteria.
    #[serde(rename = "match")]
    pub match_: ClassMatch,
    /// What each of them may use: what differs from `per_user`, or `none` for no limit.
    #[serde(default)]
    pub per_user: Option<PerUser>,
}

/// What a user or its request must show to be in a class: any one of these.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ClassMatch {
    /// Headers with the value they must have, or `*` for any. Whoever can set such a header can choose the class.
    #[serde(deserialize_with = "header_patterns")]
    #[schemars(with = "std::collections::BTreeMap<String, String>")]
    pub headers: Vec<(HeaderName, HeaderPattern)>,
    /// Users by their name, as `identify` found it, with `*` for any letters; or `hash:` and the digits by which the status page shows a user.
    #[serde(deserialize_with = "one_or_many")]
    #[schemars(with = "OneOrMany<String>")]
    pub users: Vec<UserPattern>,
    /// A file with such users, one a line; lines that begin with `#` are comments. It is read at the start.
    #[schemars(with = "Option<String>")]
    pub file: Option<PathBuf>,
}

impl ClassMatch {
    /// Whether it takes nobody.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.headers.is_empty() && self.users.is_empty() && self.file.is_none()
    }
}

/// A user's name with `*` for any letters, or the beginning of its fingerprint.
#[derive(Clone, PartialEq, Eq)]
pub enum UserPattern {
    /// The parts between the stars; one part is a whole name.
    Name(Vec<Box<[u8]>>),
    /// Hexadecimal digits, at least eight.
    Hash(Box<str>),
}

/// Why a text stands for no user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UserPatternError {
    /// There is nothing in it.
    #[error(
        "it must be the name of a user, with `*` for any letters, or `hash:` with at least 8 digits"
    )]
    Empty,
    /// No fingerprint begins so.
    #[error("behind `hash:` stand 8 to 32 of the digits 0 to 9 and a to f")]
    Hash,
}

impl UserPattern {
    /// Whether it stands for the user of this name and fingerprint (in hexadecimal digits).
    #[must_use]
    pub fn takes(&self, name: &[u8], fingerprint: &str) -> bool {
        match self {
            Self::Hash(digits) => fingerprint.starts_with(&**digits),
            Self::Name(parts) => matches(parts, name),
        }
    }

    /// The name, where it has no star.
    #[must_use]
    pub fn exact(&self) -> Option<&[u8]> {
        match self {
            Self::Name(parts) => match parts.as_slice() {
                [whole] => Some(whole),
                _ => None,
            },
            Self::Hash(_) => None,
        }
    }
}

/// The first part at the beginning, the last at the end, the others between them in their order.
fn matches(parts: &[Box<[u8]>], name: &[u8]) -> bool {
    let Some((first, others)) = parts.split_first() else {
        return false;
    };
    let Some((last, middle)) = others.split_last() else {
        return **first == *name;
    };
    let Some(mut rest) = name
        .strip_prefix(&**first)
        .and_then(|rest| rest.strip_suffix(&**last))
    else {
        return false;
    };
    // The earliest place for each part leaves most room for the next.
    middle.iter().all(|part| {
        let found = memchr::memmem::find(rest, part);
        if let Some(at) = found {
            rest = &rest[at + part.len()..];
        }
        found.is_some()
    })
}

impl std::str::FromStr for UserPattern {
    type Err = UserPatternError;

    fn from_str(text: &str) -> Result<Self, UserPatternError> {
        if text.is_empty() {
            return Err(UserPatternError::Empty);
        }
        if let Some(digits) = text.strip_prefix("hash:") {
            let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
            return if (8..=32).contains(&digits.len()) && digits.bytes().all(is_digit) {
                Ok(Self::Hash(digits.into()))
            } else {
                Err(UserPatternError::Hash)
            };
        }
        Ok(Self::Name(
            text.split('*').map(|part| part.as_bytes().into()).collect(),
        ))
    }
}

/// Does not show the name: it may be a person's.
impl fmt::Debug for UserPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Name(_) => "Name(..)",
            Self::Hash(_) => "Hash(..)",
        })
    }
}

impl<'de> Deserialize<'de> for UserPattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_text(deserializer, "the name of a user, such as `team-*`")
    }
}

fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<UserPattern>, D::Error> {
    OneOrMany::deserialize(deserializer).map(|OneOrMany(users)| users)
}

impl<'de> Deserialize<'de> for Classes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ClassesVisitor)
    }
}

struct ClassesVisitor;

impl<'de> Visitor<'de> for ClassesVisitor {
    type Value = Classes;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a mapping of names to classes")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Classes, A::Error> {
        let mut classes = Vec::new();
        while let Some((name, class)) = entries.next_entry()? {
            classes.push(Class { name, ..class });
        }
        Ok(Classes(classes))
    }
}

/// For the defaults in the schema, of which there is one: no classes.
impl Serialize for Classes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_map(Some(0))?.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn takes(pattern: &str, name: &str) -> bool {
        let pattern: UserPattern = pattern.parse().expect("a pattern");
        pattern.takes(name.as_bytes(), "2633de7b00112233445566778899aabb")
    }

    #[test]
    fn stars_stand_for_any_letters() {
        for (pattern, yes, no) in [
            ("ann", &["ann"][..], &["", "an", "anna", "Ann"][..]),
            ("*", &["", "ann", "a\nb"], &[]),
            ("team-*", &["team-", "team-a"], &["team", "a-team-a"]),
            ("*@x.org", &["@x.org", "ann@x.org"], &["ann@x.orgs"]),
            ("a*a", &["aa", "aba", "aaa"], &["a", "ab"]),
            ("a*b*c", &["abc", "a-b-c", "abbc"], &["acb", "ac"]),
            ("*b*b*", &["bb", "abab"], &["b"]),
            ("🦀*", &["🦀s"], &["s🦀"]),
        ] {
            for name in yes {
                assert!(takes(pattern, name), "{pattern} {name}");
            }
            for name in no {
                assert!(!takes(pattern, name), "{pattern} {name}");
            }
        }
    }

    #[test]
    fn a_fingerprint_is_known_by_its_beginning() {
        assert!(takes("hash:2633de7b", "whoever"));
        assert!(!takes("hash:2633de7c", "whoever"));
        for text in ["hash:", "hash:2633de7", "hash:2633DE7B", "hash:2633de7b*"] {
            assert_eq!(text.parse::<UserPattern>(), Err(UserPatternError::Hash));
        }
        assert_eq!("".parse::<UserPattern>(), Err(UserPatternError::Empty));
    }
}

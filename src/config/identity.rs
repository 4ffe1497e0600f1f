//! Where the user of a request is read from.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use http::HeaderName;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer};
use serde::ser::{Serialize, Serializer};

use super::units::from_text;

/// Claims have short names, or URLs.
const LONGEST_CLAIM: usize = 256;

/// One place to look for the user of a request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum IdentitySource {
    /// The value of a header. Written `header:NAME`.
    Header(HeaderName),
    /// A field of the JSON body. Written `body:FIELD`.
    Body(BodyField),
    /// A claim of the JSON Web Token that the caller sends as its bearer credential. Written `jwt:CLAIM`.
    Jwt(Box<str>),
    /// The caller's own credential, by its fingerprint. Written `credential`.
    Credential,
    /// The address that the caller connects from. Written `peer`.
    Peer,
}

/// A field of the JSON body that vendors have for the user's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BodyField {
    /// `safety_identifier`, of OpenAI.
    SafetyIdentifier,
    /// `user`, of OpenAI and most that are compatible with it.
    User,
    /// `metadata.user_id`, of Anthropic.
    MetadataUserId,
}

impl BodyField {
    const ALL: [Self; 3] = [Self::SafetyIdentifier, Self::User, Self::MetadataUserId];

    /// The field as it is written, with a dot between levels.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SafetyIdentifier => "safety_identifier",
            Self::User => "user",
            Self::MetadataUserId => "metadata.user_id",
        }
    }
}

/// Why a text is no place to look for a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentitySourceError {
    /// None of the known words.
    #[error(
        "it must be `header:NAME`, `body:safety_identifier`, `body:user`, `body:metadata.user_id`, `jwt:CLAIM`, `credential` or `peer`"
    )]
    Unknown,
    /// `header:` without a name of a header behind it.
    #[error("behind `header:` stands the name of a header, as in `header:x-surgetank-user`")]
    Header,
    /// `body:` with a field that is not looked for.
    #[error(
        "the fields of a body that are known are `safety_identifier`, `user` and `metadata.user_id`"
    )]
    Body,
    /// `jwt:` without the name of a claim behind it.
    #[error("behind `jwt:` stands the name of a claim, as in `jwt:sub`")]
    Jwt,
}

impl FromStr for IdentitySource {
    type Err = IdentitySourceError;

    fn from_str(text: &str) -> Result<Self, IdentitySourceError> {
        match text.split_once(':') {
            None if text == "credential" => Ok(Self::Credential),
            None if text == "peer" => Ok(Self::Peer),
            Some(("header", name)) => {
                let name = name
                    .trim()
                    .parse()
                    .map_err(|_| IdentitySourceError::Header)?;
                Ok(Self::Header(name))
            }
            Some(("body", field)) => {
                let mut known = BodyField::ALL.into_iter();
                let known = known.find(|known| known.as_str() == field.trim());
                known.map(Self::Body).ok_or(IdentitySourceError::Body)
            }
            Some(("jwt", claim)) => {
                let claim = claim.trim();
                let is_name = (1..=LONGEST_CLAIM).contains(&claim.len());
                is_name
                    .then(|| Self::Jwt(claim.into()))
                    .ok_or(IdentitySourceError::Jwt)
            }
            _ => Err(IdentitySourceError::Unknown),
        }
    }
}

impl fmt::Display for IdentitySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(name) => write!(f, "header:{name}"),
            Self::Body(field) => write!(f, "body:{}", field.as_str()),
            Self::Jwt(claim) => write!(f, "jwt:{claim}"),
            Self::Credential => f.write_str("credential"),
            Self::Peer => f.write_str("peer"),
        }
    }
}

impl<'de> Deserialize<'de> for IdentitySource {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_text(
            deserializer,
            "a place to look for the user, such as `header:x-user`",
        )
    }
}

impl Serialize for IdentitySource {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for IdentitySource {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "IdentitySource".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": r"^(header:.+|body:(safety_identifier|user|metadata\.user_id)|jwt:.+|credential|peer|.*\$\{.*)$",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_print_as_they_are_read() {
        for text in [
            "header:x-surgetank-user",
            "body:safety_identifier",
            "body:user",
            "body:metadata.user_id",
            "jwt:sub",
            "jwt:https://example.com/user:id",
            "credential",
            "peer",
        ] {
            assert_eq!(text.parse::<IdentitySource>().unwrap().to_string(), text);
        }
        assert_eq!(
            "header:X-User".parse(),
            Ok(IdentitySource::Header(HeaderName::from_static("x-user")))
        );
    }

    #[test]
    fn what_is_no_source_says_which_are() {
        use IdentitySourceError::{Body, Header, Jwt, Unknown};
        for (text, expected) in [
            ("", Unknown),
            ("user", Unknown),
            ("peer:x", Unknown),
            ("cookie:session", Unknown),
            ("header:", Header),
            ("header:a b", Header),
            ("body:", Body),
            ("jwt:", Jwt),
            ("body:metadata", Body),
        ] {
            assert_eq!(text.parse::<IdentitySource>(), Err(expected), "{text}");
        }
    }
}

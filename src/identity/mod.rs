//! Who is asking. The first source of `limits.identify` that the request has decides.
//!
//! The value itself is hashed at once and dropped: it may be an address, a key or a name.
//!
//! Whoever can choose the value can choose who they are. So the application, and not its users, is to set
//! the header or the field that names them; a credential and a token that is checked (`jwt`) cannot be
//! chosen; a token that is not checked can.

mod classes;
mod jwt;

use std::{borrow::Cow, fs, io, net::IpAddr, path::PathBuf, time::SystemTime};

use http::{HeaderMap, header};

use self::{classes::Classes, jwt::Verifier};
use crate::{
    config::{self, BodyField, Credential, Environment, IdentitySource},
    dialect::{Ask, Private},
    limit::identity::UserKey,
};

pub use self::jwt::KeyError;

/// How the users of a route are told apart.
#[derive(Debug)]
pub struct Identities {
    sources: Vec<IdentitySource>,
    verifier: Option<Verifier>,
    classes: Classes,
}

/// Who a request is from.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The user.
    pub user: UserKey,
    /// The number of its class, counted from 1 in the order of the configuration; 0 for none.
    pub class: u16,
}

/// Users cannot be told apart as it is configured.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The key for tokens is not there.
    #[error("`limits.jwt.key`: {0}")]
    NoKey(String),
    /// It can check no token.
    #[error("`limits.jwt.key`: {0}")]
    Key(#[from] KeyError),
    /// A file of users cannot be used.
    #[error("the file `{}` of the class `{class}`: {why}", .path.display())]
    File {
        /// Whose.
        class: String,
        /// Which.
        path: PathBuf,
        /// Why.
        why: String,
    },
}

/// A user's name as it was found.
struct Found<'a> {
    /// Where; equal names from different places are different users.
    source: &'static str,
    name: Cow<'a, [u8]>,
}

impl Identities {
    /// Reads the key and the files of users that the configuration names.
    ///
    /// # Errors
    /// When one of them is not there, or is not what it should be.
    pub fn new(limits: &config::Limits, env: Environment<'_>) -> Result<Self, IdentityError> {
        let verifier = match &limits.jwt {
            None => None,
            Some(jwt) => Some(Verifier::new(jwt, &key_of(&jwt.key, env)?)?),
        };
        Ok(Self {
            sources: limits.identify.clone(),
            verifier,
            classes: Classes::new(&limits.classes)?,
        })
    }

    /// Finds the user by the sources in their order. Without any match all such requests are one user.
    #[must_use]
    pub fn of(&self, headers: &HeaderMap, ask: &Ask, peer: Option<IpAddr>) -> Identity {
        let mut sources = self.sources.iter();
        let found = sources.find_map(|source| self.by(source, headers, ask, peer));
        let found = found.unwrap_or(Found {
            source: "nobody",
            name: Cow::Borrowed(b""),
        });
        let user = UserKey::from_source(found.source, &found.name);
        // A secret is not matched against what stands in a file.
        let name = (found.source != "credential").then_some(&*found.name);
        Identity {
            user,
            class: self.classes.of(user, name, headers),
        }
    }

    fn by<'a>(
        &self,
        source: &IdentitySource,
        headers: &'a HeaderMap,
        ask: &'a Ask,
        peer: Option<IpAddr>,
    ) -> Option<Found<'a>> {
        match source {
            IdentitySource::Header(name) => header(headers, name),
            IdentitySource::Body(BodyField::SafetyIdentifier) => {
                body("safety_identifier", ask.safety_identifier.as_ref())
            }
            IdentitySource::Body(BodyField::User) => body("user", ask.user.as_ref()),
            IdentitySource::Body(BodyField::MetadataUserId) => {
                body("metadata.user_id", ask.metadata_user_id.as_ref())
            }
            IdentitySource::Jwt(claim) => {
                let token = headers.get(header::AUTHORIZATION).map(bearer)?;
                let value = jwt::claim(token, claim, self.verifier.as_ref(), SystemTime::now())?;
                Some(Found {
                    source: "jwt",
                    name: Cow::Owned(value.into_bytes()),
                })
            }
            IdentitySource::Credential => credential(headers).map(|name| Found {
                source: "credential",
                name: Cow::Borrowed(name),
            }),
            IdentitySource::Peer => peer.map(|peer| Found {
                source: "peer",
                name: Cow::Owned(peer.to_string().into_bytes()),
            }),
        }
    }
}

/// A header sent twice is one value of both: neither can be used to pose as somebody else.
fn header<'a>(headers: &'a HeaderMap, name: &http::HeaderName) -> Option<Found<'a>> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?.as_bytes();
    let Some(second) = values.next() else {
        return Some(Found {
            source: "header",
            name: Cow::Borrowed(first),
        });
    };
    let joined = [first, second.as_bytes()]
        .into_iter()
        .chain(values.map(http::HeaderValue::as_bytes));
    Some(Found {
        source: "headers",
        name: Cow::Owned(joined.collect::<Vec<_>>().join(&b'\n')),
    })
}

fn body<'a>(source: &'static str, value: Option<&'a Private>) -> Option<Found<'a>> {
    value.map(|value| Found {
        source,
        name: Cow::Borrowed(value.expose().as_bytes()),
    })
}

/// The text of a key, from where the configuration says. Unlike a credential it may have several lines.
fn key_of(key: &Credential, env: Environment<'_>) -> Result<String, IdentityError> {
    let text = match key {
        Credential::Env(name) => env(name).ok_or_else(|| io::Error::other("it is not set")),
        Credential::File(path) => fs::read_to_string(path),
    };
    text.map_err(|error| IdentityError::NoKey(format!("{key} cannot be used: {error}")))
}

/// The caller's key, wherever its SDK puts it: the same key counts as the same user in every field.
fn credential(headers: &HeaderMap) -> Option<&[u8]> {
    let bearer = headers.get(header::AUTHORIZATION).map(bearer);
    let key = |name| headers.get(name).map(http::HeaderValue::as_bytes);
    bearer
        .or_else(|| key("x-api-key"))
        .or_else(|| key("api-key"))
        .or_else(|| key("x-goog-api-key"))
}

/// What follows the scheme, where that is `Bearer`.
fn bearer(value: &http::HeaderValue) -> &[u8] {
    let bytes = value.as_bytes();
    let is_bearer = bytes
        .get(..7)
        .is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"bearer "));
    if is_bearer { &bytes[7..] } else { bytes }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::dialect::Dialect;

    fn find(
        sources: &[IdentitySource],
        headers: &HeaderMap,
        ask: &Ask,
        peer: Option<IpAddr>,
    ) -> UserKey {
        let limits = config::Limits {
            identify: sources.to_vec(),
            ..config::Limits::default()
        };
        let identities = Identities::new(&limits, &|_| None).expect("nothing is read");
        identities.of(headers, ask, peer).user
    }

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn the_first_source_that_is_there_decides() {
        let sources = [
            IdentitySource::Header(http::HeaderName::from_static("x-surgetank-user")),
            IdentitySource::Body(BodyField::User),
            IdentitySource::Credential,
        ];
        let ask = Ask::read(Dialect::CHAT_COMPLETIONS, br#"{"user":"u1"}"#);
        let none = Ask::default();
        let named = headers(&[("x-surgetank-user", "ann"), ("authorization", "Bearer k")]);
        let plain = headers(&[("authorization", "Bearer k")]);
        let by_header = find(&sources, &named, &ask, None);
        assert_ne!(
            by_header,
            find(&sources, &plain, &ask, None),
            "the header comes first"
        );
        assert_eq!(
            find(&sources, &plain, &ask, None),
            find(&sources, &headers(&[]), &ask, None),
            "then the body's user"
        );
        assert_eq!(
            find(&sources, &plain, &none, None),
            find(&sources, &headers(&[("x-api-key", "k")]), &none, None),
            "the same key in another field is the same user"
        );
        assert_eq!(
            find(&sources, &headers(&[]), &none, None),
            find(&[], &plain, &ask, None),
            "nobody is one user"
        );
    }

    #[test]
    fn a_doubled_header_is_neither_of_its_values() {
        let sources = [IdentitySource::Header(http::HeaderName::from_static(
            "x-surgetank-user",
        ))];
        let who = |fields: &[_]| find(&sources, &headers(fields), &Ask::default(), None);
        let (a, b) = (("x-surgetank-user", "a"), ("x-surgetank-user", "b"));
        assert_ne!(who(&[a, b]), who(&[a]));
        assert_ne!(who(&[a, b]), who(&[b]));
        assert_eq!(who(&[a, b]), who(&[a, b]));
    }
}

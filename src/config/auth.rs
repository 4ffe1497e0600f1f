//! Who may call.
//!
//! On loopback, reaching the port is the permission to use it. Beyond that somebody has to ask who is calling, because
//! whoever calls spends the keys that surgetank holds. So a listener beyond loopback needs tokens, or a word from the
//! operator that something else asks.

use std::time::Duration;

use http::{HeaderName, header};
use schemars::JsonSchema;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde::de::{Deserializer, Error};

use super::credential::{Credential, CredentialError};
use super::decode::OneOrMany;
use super::tree::Environment;
use super::units::Rate;

/// A shorter token could be guessed: an attacker may have many addresses. 16 random characters are 95 bits.
const SHORTEST_TOKEN: usize = 16;

/// The header that a token is in, unless the configuration says otherwise.
pub const TOKEN_HEADER: HeaderName = HeaderName::from_static("x-surgetank-token");

/// The tokens that callers must show one of, and where.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Auth {
    /// The file or the variable that holds the tokens, one a line, or a list of several. Any of the tokens opens.
    #[serde(deserialize_with = "sources")]
    #[schemars(with = "OneOrMany<Credential>")]
    pub tokens: Vec<Credential>,
    /// The header that carries the token, alone or behind `Bearer`, or a list of headers of which one must. It is taken
    /// off before a request is sent on. Headers that carry a caller's own key to the vendor, such as `authorization`,
    /// can be used when every upstream has a `credential`.
    #[serde(default = "token_header", deserialize_with = "headers")]
    #[schemars(with = "OneOrMany<String>", default = "token_header_text")]
    pub header: Vec<HeaderName>,
    /// How many tokens that do not open one address may show; above that, nothing that comes from there is looked at, and
    /// is told 429. `none` for any number, as where all callers come through one address.
    #[serde(default = "failures")]
    #[schemars(default = "failures_text")]
    pub failures: Option<Rate>,
}

/// Ten in a second.
#[expect(
    clippy::unnecessary_wraps,
    reason = "the default of a setting that may be `none`"
)]
fn failures() -> Option<Rate> {
    Some(Rate {
        count: 600,
        per: Duration::from_mins(1),
    })
}

fn failures_text() -> &'static str {
    "600/min"
}

fn token_header() -> Vec<HeaderName> {
    vec![TOKEN_HEADER]
}

fn token_header_text() -> String {
    TOKEN_HEADER.to_string()
}

fn sources<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Credential>, D::Error> {
    let OneOrMany(sources) = OneOrMany::deserialize(deserializer)?;
    if sources.is_empty() {
        return Err(D::Error::custom(
            "it is empty, so that nobody could call; name a file or a variable that holds tokens",
        ));
    }
    Ok(sources)
}

fn headers<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<HeaderName>, D::Error> {
    let OneOrMany(names) = OneOrMany::<String>::deserialize(deserializer)?;
    let names = names.iter().map(|name| {
        let name: HeaderName = name
            .parse()
            .map_err(|_| D::Error::custom("it must be the name of a header"))?;
        if has_another_meaning(&name) {
            return Err(D::Error::custom(
                "this header has a meaning of its own and cannot carry a token; `x-surgetank-token` can",
            ));
        }
        Ok(name)
    });
    let names = names.collect::<Result<Vec<_>, _>>()?;
    if names.is_empty() {
        return Err(D::Error::custom(
            "it is empty; leave it out for `x-surgetank-token`",
        ));
    }
    Ok(names)
}

/// Whether taking the header off would change what the request is.
fn has_another_meaning(name: &HeaderName) -> bool {
    const OURS: [&str; 4] = [
        "x-surgetank-user",
        "x-surgetank-fallback",
        "x-surgetank-max-retries",
        "x-surgetank-timeout-ms",
    ];
    let of_http = [
        header::HOST,
        header::CONNECTION,
        header::CONTENT_LENGTH,
        header::CONTENT_TYPE,
        header::CONTENT_ENCODING,
        header::TRANSFER_ENCODING,
        header::TE,
        header::UPGRADE,
        header::EXPECT,
        header::VIA,
        header::ACCEPT,
        header::ACCEPT_ENCODING,
    ];
    of_http.contains(name) || OURS.contains(&name.as_str())
}

/// Whether callers carry their own key to the vendor in this header.
#[must_use]
pub(super) fn carries_a_key(name: &HeaderName) -> bool {
    *name == header::AUTHORIZATION
        || matches!(name.as_str(), "x-api-key" | "api-key" | "x-goog-api-key")
}

/// Why tokens could not be had. Never shows one.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The place cannot be read.
    #[error(transparent)]
    Source(#[from] CredentialError),
    /// One of them is no protection.
    #[error(
        "{0} holds a token of fewer than {SHORTEST_TOKEN} characters; `openssl rand -hex 32` makes one that nobody guesses"
    )]
    Short(Credential),
}

/// Reads the tokens that a file or a variable holds: one a line, empty lines aside; at least one.
///
/// # Errors
/// When it cannot be read, holds no token, or one that is too short or has spaces in it.
pub fn read_tokens(
    source: &Credential,
    env: Environment<'_>,
) -> Result<Vec<SecretString>, TokenError> {
    let text = source.fetch(env)?;
    let lines = text.expose_secret().lines().map(str::trim);
    let tokens: Vec<_> = lines.filter(|line| !line.is_empty()).collect();
    if tokens.is_empty() {
        return Err(CredentialError::Empty(source.clone()).into());
    }
    if !tokens
        .iter()
        .flat_map(|token| token.bytes())
        .all(|byte| byte.is_ascii_graphic())
    {
        return Err(CredentialError::Unusable(source.clone()).into());
    }
    if tokens.iter().any(|token| token.len() < SHORTEST_TOKEN) {
        return Err(TokenError::Short(source.clone()));
    }
    Ok(tokens.into_iter().map(SecretString::from).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_one_a_line_and_long_enough() {
        let read = |held: &str| {
            let env = |_: &str| Some(held.to_owned());
            let tokens = read_tokens(&Credential::Env("A".into()), &env);
            tokens
                .map(|tokens| tokens.len())
                .map_err(|error| error.to_string())
        };
        let (one, two) = ("0123456789abcdef", "fedcba98765432100");
        assert_eq!(read(one), Ok(1));
        assert_eq!(read(&format!("\n {one}\r\n\n{two}\n")), Ok(2));
        for (held, words) in [
            (String::new(), "is empty"),
            ("\n \n".into(), "is empty"),
            ("0123456789abcde".into(), "fewer than 16 characters"),
            (format!("{one}\nshort"), "fewer than 16 characters"),
            (format!("{one} {two}"), "no HTTP header can carry"),
        ] {
            let error = read(&held).unwrap_err();
            assert!(error.contains(words), "{held:?}: {error}");
            assert!(!error.contains("0123"), "{error}");
        }
    }
}

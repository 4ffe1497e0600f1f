//! Credentials are named in the configuration and held elsewhere.
//!
//! A configuration is copied, committed, pasted into tickets and shown by `kubectl describe`.
//! So it can name a variable or a file and has no way to hold the secret itself; a secret pasted in by mistake is refused
//! without being shown.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use secrecy::{ExposeSecret as _, SecretString};
use serde::de::{Deserialize, Deserializer, Error};

use super::expand::is_variable_name;
use super::tree::Environment;

/// No vendor's key is near this long; a bigger file is another file.
const LONGEST: u64 = 64 * 1024;

/// Where a credential is held.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Credential {
    /// The environment variable of this name.
    Env(
        #[serde(deserialize_with = "variable_name")]
        #[schemars(regex(pattern = "^[A-Za-z_][A-Za-z0-9_]*$"))]
        String,
    ),
    /// The file at this path, such as a mounted secret.
    File(#[serde(deserialize_with = "file_path")] PathBuf),
}

/// Why a credential could not be had. Names its variable or file and never what it holds.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// The variable is not set.
    #[error("the environment variable `{0}` is not set")]
    Unset(String),
    /// The file cannot be read, for the reason given.
    #[error("the file `{path}` cannot be read: {source}")]
    Unreadable {
        /// The file.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// There is nothing in it.
    #[error("{0} is empty; put the key there")]
    Empty(Credential),
    /// It holds what cannot be a key.
    #[error(
        "{0} holds something that no HTTP header can carry, such as a second line; keep the key alone in it"
    )]
    Unusable(Credential),
}

impl Credential {
    /// Fetches the secret, without one line end at its end.
    ///
    /// A file is read at each call, so that a mounted secret may change.
    pub fn resolve(&self, env: Environment<'_>) -> Result<SecretString, CredentialError> {
        let mut secret = self.fetch(env)?.expose_secret().to_owned();
        if secret.ends_with('\n') {
            secret.pop();
            if secret.ends_with('\r') {
                secret.pop();
            }
        }
        if secret.is_empty() {
            return Err(CredentialError::Empty(self.clone()));
        }
        if !secret
            .bytes()
            .all(|byte| byte.is_ascii_graphic() || byte == b' ')
        {
            return Err(CredentialError::Unusable(self.clone()));
        }
        Ok(SecretString::from(secret))
    }

    /// What its place holds, as it is.
    pub(super) fn fetch(&self, env: Environment<'_>) -> Result<SecretString, CredentialError> {
        let held = match self {
            Self::Env(name) => env(name).ok_or_else(|| CredentialError::Unset(name.clone()))?,
            Self::File(path) => self.read(path)?,
        };
        Ok(held.into())
    }

    /// The file that it is in, if it is in one.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::Env(_) => None,
            Self::File(path) => Some(path),
        }
    }

    fn read(&self, path: &PathBuf) -> Result<String, CredentialError> {
        let mut bytes = Vec::new();
        File::open(path)
            .and_then(|file| file.take(LONGEST + 1).read_to_end(&mut bytes))
            .map_err(|source| CredentialError::Unreadable {
                path: path.display().to_string(),
                source,
            })?;
        if bytes.len() as u64 > LONGEST {
            return Err(CredentialError::Unusable(self.clone()));
        }
        String::from_utf8(bytes).map_err(|_| CredentialError::Unusable(self.clone()))
    }
}

impl fmt::Display for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "the environment variable `{name}`"),
            Self::File(path) => write!(f, "the file `{}`", path.display()),
        }
    }
}

fn variable_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let name = String::deserialize(deserializer)?;
    if is_variable_name(&name) {
        return Ok(name);
    }
    let why = "it must be the name of an environment variable, such as ANTHROPIC_API_KEY, and not the key itself";
    Err(D::Error::custom(why))
}

pub(super) fn file_path<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
    let path = String::deserialize(deserializer)?;
    if path.is_empty() || path.contains('\0') {
        return Err(D::Error::custom("it must be the path of a file"));
    }
    Ok(path.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret;

    fn env(name: &str) -> Option<String> {
        match name {
            "KEY" => Some("sk-secret".to_owned()),
            "LINE" => Some("sk-secret\n".to_owned()),
            "LINES" => Some("sk-secret\n\n".to_owned()),
            "CRLF" => Some("sk-secret\r\n".to_owned()),
            "EMPTY" => Some(String::new()),
            "BLANK" => Some("\n".to_owned()),
            _ => None,
        }
    }

    fn resolve(credential: &Credential) -> Result<String, String> {
        match credential.resolve(&env) {
            Ok(secret) => Ok(secret.expose_secret().to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn one_line_end_is_taken_off() {
        for name in ["KEY", "LINE", "CRLF"] {
            assert_eq!(
                resolve(&Credential::Env(name.into())),
                Ok("sk-secret".into()),
                "{name}"
            );
        }
    }

    #[test]
    fn a_credential_that_cannot_be_had_is_named_but_not_shown() {
        for (name, words) in [
            ("NONE", "`NONE` is not set"),
            ("EMPTY", "`EMPTY` is empty"),
            ("BLANK", "`BLANK` is empty"),
            (
                "LINES",
                "`LINES` holds something that no HTTP header can carry",
            ),
        ] {
            let error = resolve(&Credential::Env(name.into())).unwrap_err();
            assert!(error.contains(words), "{error}");
            assert!(!error.contains("sk-secret"), "{error}");
        }
    }

    #[test]
    fn a_file_is_read_at_each_call() {
        let path =
            std::env::temp_dir().join(format!("surgetank-credential-{}", std::process::id()));
        let credential = Credential::File(path.clone());
        for (content, expected) in [
            ("sk-one\n", Some("sk-one")),
            ("sk-two", Some("sk-two")),
            ("", None),
        ] {
            std::fs::write(&path, content).unwrap();
            assert_eq!(resolve(&credential).ok().as_deref(), expected);
        }
        std::fs::write(&path, "x".repeat(64 * 1024 + 1)).unwrap();
        assert!(
            resolve(&credential).unwrap_err().contains("cannot carry")
                || resolve(&credential).is_err()
        );
        std::fs::write(&path, [0xff, 0xfe]).unwrap();
        assert!(resolve(&credential).is_err());
        std::fs::remove_file(&path).unwrap();
        let error = resolve(&credential).unwrap_err();
        assert!(error.contains(&path.display().to_string()), "{error}");
    }
}

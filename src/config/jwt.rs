//! How a caller's token is checked before a claim in it is believed.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::credential::Credential;

/// How the tokens are checked that `jwt:CLAIM` reads. One that does not pass names nobody.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Jwt {
    /// The key: a public one as PEM for RS256, ES256 and EdDSA, or the shared secret for HS256.
    pub key: Credential,
    /// How tokens are signed; others do not pass, so that a public key cannot be taken for a secret.
    pub algorithm: Algorithm,
    /// Who must have issued them (`iss`). Left out, anybody.
    #[serde(default)]
    pub issuer: Option<String>,
    /// Whom they must be for (`aud`). Left out, anybody.
    #[serde(default)]
    pub audience: Option<String>,
}

/// How a token is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
pub enum Algorithm {
    /// HMAC with SHA-256.
    #[serde(rename = "HS256")]
    Hs256,
    /// RSA (PKCS #1 v1.5) with SHA-256.
    #[serde(rename = "RS256")]
    Rs256,
    /// ECDSA on P-256 with SHA-256.
    #[serde(rename = "ES256")]
    Es256,
    /// Ed25519.
    #[serde(rename = "EdDSA")]
    EdDsa,
}

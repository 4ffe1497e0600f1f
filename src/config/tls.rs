//! The certificate that listeners show.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use super::credential::file_path;

/// TLS on the TCP listeners, by files that are read again when they change.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// The certificate with its chain, PEM, the listener's own first.
    #[serde(deserialize_with = "file_path")]
    pub cert: PathBuf,
    /// Its private key, PEM.
    #[serde(deserialize_with = "file_path")]
    pub key: PathBuf,
}

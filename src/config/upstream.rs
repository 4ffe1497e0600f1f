//! The APIs that requests are sent on to.

use std::fmt;
use std::time::Duration;

use schemars::JsonSchema;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};

use super::base_url::BaseUrl;
use super::credential::Credential;
use super::units::{OptionalDurationText, PositiveDurationText, share};

/// An API that requests are sent on to.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Upstream {
    /// Its name in the configuration, by which routes and fallbacks refer to it.
    #[serde(skip)]
    pub name: String,
    /// Where it is. The path and query of a request are appended as they came.
    pub base_url: BaseUrl,
    /// The key to send instead of the caller's, held in a variable or a file. Without it the caller's own key is passed on.
    #[serde(default)]
    pub credential: Option<Credential>,
    /// Replaces the model that a request names; for fallbacks to another model.
    #[serde(default)]
    #[schemars(length(min = 1))]
    pub model: Option<String>,
    /// The part of the vendor's quota that this instance may use, above 0 and up to 1: `0.25` for one of four replicas.
    #[serde(default = "whole", deserialize_with = "share")]
    #[schemars(range(max = 1.0), extend("exclusiveMinimum" = 0))]
    pub quota_share: f64,
    /// Whether to speak HTTP/2 to it. Over the one connection of HTTP/2, a caller who reads slowly can hold up others.
    #[serde(default)]
    pub http2: bool,
    /// How long to wait for it.
    #[serde(default)]
    pub timeouts: Timeouts,
}

fn whole() -> f64 {
    1.0
}

/// How long to wait for an upstream. None of these can be switched off: what waits for ever is lost.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Timeouts {
    /// For a connection, TLS included.
    #[serde(with = "PositiveDurationText")]
    pub connect: Duration,
    /// For the first byte of the answer, from when the request is sent in full.
    /// Left out, it is 60 s for streams and 300 s for plain answers, which arrive when they are complete.
    #[serde(with = "OptionalDurationText")]
    pub first_byte: Option<Duration>,
    /// For the next piece of a stream.
    #[serde(with = "PositiveDurationText")]
    pub idle: Duration,
    /// For everything, all tries and waits included, to the last byte.
    #[serde(with = "PositiveDurationText")]
    pub total: Duration,
    /// For the next byte of a WebSocket, from either side. An open one has no `total`.
    #[serde(with = "PositiveDurationText")]
    pub tunnel_idle: Duration,
}

impl Timeouts {
    const FIRST_BYTE_OF_STREAM: Duration = Duration::from_mins(1);
    const FIRST_BYTE_OF_ANSWER: Duration = Duration::from_mins(5);

    /// The time for the first byte: the configured one, or the built-in one for the kind of request.
    #[must_use]
    pub fn first_byte_for(&self, is_stream: bool) -> Duration {
        self.first_byte.unwrap_or(if is_stream {
            Self::FIRST_BYTE_OF_STREAM
        } else {
            Self::FIRST_BYTE_OF_ANSWER
        })
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            first_byte: None,
            idle: Duration::from_secs(90),
            total: Duration::from_mins(10),
            tunnel_idle: Duration::from_mins(10),
        }
    }
}

/// Upstreams by name, in the order of the file.
#[derive(Clone, Debug, Default)]
pub(super) struct Upstreams(pub(super) Vec<Upstream>);

impl Upstreams {
    pub(super) fn named(&self, name: &str) -> Option<&Upstream> {
        self.0.iter().find(|upstream| upstream.name == name)
    }
}

impl<'de> Deserialize<'de> for Upstreams {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(UpstreamsVisitor)
    }
}

struct UpstreamsVisitor;

impl<'de> Visitor<'de> for UpstreamsVisitor {
    type Value = Upstreams;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a mapping of names to upstreams")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Upstreams, A::Error> {
        let mut upstreams = Vec::new();
        while let Some((name, upstream)) = entries.next_entry()? {
            upstreams.push(Upstream { name, ..upstream });
        }
        Ok(Upstreams(upstreams))
    }
}

//! Settings of the process as a whole: what it accepts, remembers, reports, and how it ends.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use super::units::{
    DurationText, PositiveDurationText, SizeText, at_least_one, at_least_one_or_none, portion,
};

/// Bounds on what callers may ask of the listener.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Server {
    /// The time a caller has to send the head of a request.
    #[serde(with = "PositiveDurationText")]
    pub head_timeout: Duration,
    /// How long a connection without a request is kept open.
    #[serde(with = "PositiveDurationText")]
    pub keepalive_idle: Duration,
    /// How long a caller may take nothing of an answer before its connection, or its stream of HTTP/2, is ended.
    #[serde(with = "PositiveDurationText")]
    pub write_idle: Duration,
    /// The largest head of a request: its target and all of its headers. From 8KiB to 1MiB.
    #[serde(with = "SizeText")]
    pub max_head: usize,
    /// The most headers of a request.
    #[serde(deserialize_with = "at_least_one")]
    #[schemars(range(min = 1))]
    pub max_headers: usize,
    /// The most connections at once.
    #[serde(deserialize_with = "at_least_one")]
    #[schemars(range(min = 1))]
    pub max_connections: usize,
    /// Threads that serve requests. Left out, one for each processor that the process may use.
    #[serde(deserialize_with = "at_least_one_or_none")]
    #[schemars(range(min = 1))]
    pub workers: Option<usize>,
    /// Whether requests carry a `via` header to the upstreams, as those of proxies should. It is also how a request that
    /// comes back to this surgetank is recognised.
    pub via: bool,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            head_timeout: Duration::from_secs(10),
            keepalive_idle: Duration::from_secs(75),
            write_idle: Duration::from_secs(60),
            max_head: 64 * 1024,
            max_headers: 100,
            max_connections: 10_000,
            workers: None,
            via: true,
        }
    }
}

/// Memory for request bodies that are kept until no retry can need them. A body beyond it is sent on as it arrives, once.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Replay {
    /// The largest body that is kept.
    #[serde(with = "SizeText")]
    pub per_request: usize,
    /// The most memory for all bodies together.
    #[serde(with = "SizeText")]
    pub total: usize,
}

impl Default for Replay {
    fn default() -> Self {
        Self {
            per_request: 32 << 20,
            total: 256 << 20,
        }
    }
}

/// What surgetank reports of itself.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Telemetry {
    /// The form of log lines.
    pub log: LogFormat,
    /// The share of served requests that have a line in the log and a trace, from 0 to 1. What was not served always has.
    #[serde(deserialize_with = "portion")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub sample: f64,
    /// Where traces are sent: a collector that takes OTLP over HTTP, such as `http://localhost:4318`; `none` for nowhere.
    pub otlp: Option<String>,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self {
            log: LogFormat::default(),
            sample: 1.0,
            otlp: None,
        }
    }
}

/// The form of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// `human` on a terminal, `json` otherwise.
    #[default]
    Auto,
    /// One JSON object a line.
    Json,
    /// For eyes.
    Human,
}

/// How the process ends when it is told to.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Shutdown {
    /// How long requests in progress may go on.
    #[serde(with = "DurationText")]
    pub drain: Duration,
    /// How long new connections are still accepted, until all who send them know better.
    #[serde(with = "DurationText")]
    pub settle: Duration,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self {
            drain: Duration::from_mins(10),
            settle: Duration::ZERO,
        }
    }
}

/// Where limits and queued requests are kept beyond the life of the process.
#[derive(Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Store {
    /// `sqlite:FILE`, or `redis://…` or `rediss://…` to share limits and queue among several instances. The hosts of a
    /// cluster stand behind each other with commas.
    #[schemars(
        with = "String",
        regex(pattern = r"^(sqlite:.+|rediss?://.+|.*\$\{.*)$")
    )]
    pub url: SecretString,
    /// Whether the servers are a Redis Cluster.
    #[serde(default)]
    pub cluster: bool,
    /// For `rediss://`, a file with the certificates (PEM) of the authorities to trust. Left out, those of the machine.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub ca: Option<PathBuf>,
    /// The longest that a request waits for the store. It is to be a few times what the store usually takes.
    #[serde(default = "Store::default_timeout", with = "PositiveDurationText")]
    pub timeout: Duration,
    /// What happens to limits while the store does not answer.
    #[serde(default)]
    pub fail: Fail,
    /// How many instances share the store: with `fail: local`, each keeps its part of every limit. Left out, as many as were
    /// last seen there.
    #[serde(default, deserialize_with = "at_least_one_or_none")]
    #[schemars(range(min = 1))]
    pub replicas: Option<u32>,
    /// What the keys begin with, so that several applications can share one store.
    #[serde(default = "Store::default_prefix")]
    pub prefix: String,
}

impl Store {
    /// How a store is used where only its URL is given.
    #[must_use]
    pub fn at(url: impl Into<SecretString>) -> Self {
        Self {
            url: url.into(),
            cluster: false,
            ca: None,
            timeout: Self::default_timeout(),
            fail: Fail::default(),
            replicas: None,
            prefix: Self::default_prefix(),
        }
    }

    /// Whether it is shared by several instances.
    #[must_use]
    pub fn is_redis(&self) -> bool {
        !self.url.expose_secret().starts_with("sqlite:")
    }

    fn default_timeout() -> Duration {
        Duration::from_millis(100)
    }

    fn default_prefix() -> String {
        "surgetank".to_owned()
    }
}

/// What happens to limits while a shared store does not answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Fail {
    /// Each instance keeps its part of the limits on its own: the limit divided by the number of instances.
    #[default]
    Local,
    /// Nobody is limited.
    Open,
    /// Requests of limited users are refused.
    Closed,
}

/// Does not show the URL: it may hold a password.
impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("cluster", &self.cluster)
            .field("ca", &self.ca)
            .field("timeout", &self.timeout)
            .field("fail", &self.fail)
            .field("replicas", &self.replicas)
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

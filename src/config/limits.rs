//! What one user may use.
//!
//! Without configuration nobody is limited: fair queueing keeps one user from starving the others,
//! and a limit that nobody asked for is an error that nobody expects.

use std::time::Duration;

use http::HeaderName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::identity::{BodyField, IdentitySource};
use super::units::{DurationText, Rate, at_least_one, at_least_one_or_none};

/// Who is a user, and what one user may use.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Where the user of a request is read from; the first place that has one counts.
    pub identify: Vec<IdentitySource>,
    /// What each user may use; `none` for no limit.
    pub per_user: Option<PerUser>,
    /// How many users are remembered at once. Memory is bounded by it; an id is kept as a fingerprint.
    #[serde(deserialize_with = "at_least_one")]
    #[schemars(range(min = 1))]
    pub max_users: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            identify: vec![
                IdentitySource::Header(HeaderName::from_static("x-surgetank-user")),
                IdentitySource::Body(BodyField::SafetyIdentifier),
                IdentitySource::Body(BodyField::User),
                IdentitySource::Body(BodyField::MetadataUserId),
                IdentitySource::Credential,
                IdentitySource::Peer,
            ],
            per_user: None,
            max_users: 100_000,
        }
    }
}

/// What each user may use. Whatever is left out is not limited.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PerUser {
    /// Requests in a time, such as `60/min`; `none` for no limit.
    pub requests: Option<Rate>,
    /// How many requests may come at once before the rate counts. Left out, as many as the rate allows in its time.
    #[serde(deserialize_with = "at_least_one_or_none")]
    #[schemars(range(min = 1))]
    pub burst: Option<u64>,
    /// Tokens in a time, such as `200000/min`; `none` for no limit.
    pub tokens: Option<Rate>,
    /// Requests in progress at once, streams until their end; `none` for no limit.
    #[serde(deserialize_with = "at_least_one_or_none")]
    #[schemars(range(min = 1))]
    pub concurrent: Option<u32>,
    /// What happens to a request above the limit.
    pub when_exceeded: WhenExceeded,
    /// With `wait`: the longest that a request waits for its turn; one that would wait longer is refused at once.
    #[serde(with = "DurationText")]
    pub max_wait: Duration,
}

impl PerUser {
    /// How many requests may come at once; `None` without a rate.
    #[must_use]
    pub fn burst(&self) -> Option<u64> {
        let requests = self.requests?;
        Some(self.burst.unwrap_or(requests.count))
    }
}

impl Default for PerUser {
    fn default() -> Self {
        Self {
            requests: None,
            burst: None,
            tokens: None,
            concurrent: None,
            when_exceeded: WhenExceeded::Reject,
            max_wait: Duration::from_secs(10),
        }
    }
}

/// What happens to a request above its user's limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WhenExceeded {
    /// It is answered with 429 and the time after which to come again.
    #[default]
    Reject,
    /// It waits for its turn, up to `max_wait`.
    Wait,
}

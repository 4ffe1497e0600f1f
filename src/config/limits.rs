//! What one user may use, and all of them together.
//!
//! Without configuration nobody is limited: fair queueing keeps one user from starving the others,
//! and a limit that nobody asked for is an error that nobody expects.

use std::time::Duration;

use http::HeaderName;
use schemars::JsonSchema;
use serde::de::{Deserializer, Error};
use serde::{Deserialize, Serialize};

use super::classes::Classes;
use super::decode::OneOrMany;
use super::identity::{BodyField, IdentitySource};
use super::jwt::Jwt;
use super::units::{DurationText, Rate, at_least_one, at_least_one_or_none};

/// Who is a user, what one user may use, and what all may use together.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Where the user of a request is read from; the first place that has one counts.
    pub identify: Vec<IdentitySource>,
    /// How the tokens are checked that `jwt:CLAIM` reads; `none` to read them unchecked.
    pub jwt: Option<Jwt>,
    /// What each user may use; `none` for no limit.
    pub per_user: Option<PerUser>,
    /// Users with limits of their own, by the name of their class; the first class that takes a user has it.
    #[schemars(with = "std::collections::BTreeMap<String, super::classes::Class>")]
    pub classes: Classes,
    /// What all users together may use; `none` for no limit.
    pub total: Option<Total>,
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
            jwt: None,
            per_user: None,
            classes: Classes::default(),
            total: None,
            max_users: 100_000,
        }
    }
}

/// What each user may use. Whatever is left out is not limited.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PerUser {
    /// Requests in a time, such as `60/min`, or a list such as `[60/min, 1000/day]`, all of which hold; `none` for no limit.
    pub requests: Option<Rates>,
    /// How many requests may come at once before the (first) rate counts. Left out, as many as the rate allows in its time.
    #[serde(deserialize_with = "at_least_one_or_none")]
    #[schemars(range(min = 1))]
    pub burst: Option<u64>,
    /// Tokens in a time, such as `200000/min`, or a list; of prompt and answer together, as the vendor counts them; `none` for no limit.
    pub tokens: Option<Rates>,
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
    /// How many requests may come at once by the first rate; `None` without one.
    #[must_use]
    pub fn burst(&self) -> Option<u64> {
        let first = self.requests.as_ref()?.0.first()?;
        Some(self.burst.unwrap_or(first.count))
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

/// What all users together may use, whatever each of them may. A request above it is treated as one above its user's own limit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Total {
    /// Requests in a time, or a list; `none` for no limit.
    pub requests: Option<Rates>,
    /// How many requests may come at once before the (first) rate counts. Left out, as many as the rate allows in its time.
    #[serde(deserialize_with = "at_least_one_or_none")]
    #[schemars(range(min = 1))]
    pub burst: Option<u64>,
    /// Tokens in a time, or a list; `none` for no limit.
    pub tokens: Option<Rates>,
    /// Requests in progress at once, streams until their end; `none` for no limit.
    #[serde(deserialize_with = "at_least_one_or_none")]
    #[schemars(range(min = 1))]
    pub concurrent: Option<u32>,
}

/// One rate, or several that hold at once.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, JsonSchema)]
#[schemars(transparent, inline)]
pub struct Rates(#[schemars(with = "OneOrMany<Rate>")] pub Vec<Rate>);

impl<'de> Deserialize<'de> for Rates {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let OneOrMany(rates) = OneOrMany::deserialize(deserializer)?;
        if rates.is_empty() {
            return Err(D::Error::custom(
                "it must be a rate such as `60/min`, a list of them, or `none`",
            ));
        }
        Ok(Self(rates))
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

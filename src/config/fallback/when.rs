//! For which requests a link of the chain is there.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

use crate::config::decode::OneOrMany;
use crate::config::units::OptionalDurationText;

/// What must hold for a link to be tried. Everything that is left out does not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct When {
    /// How the request failed last: one of these. Left out, any failure that is not the caller's own fault;
    /// for `reply` and `queue`, not `exhausted` either, since only the operator can mend that.
    #[serde(deserialize_with = "one_or_many")]
    #[schemars(with = "OneOrMany<FailureKind>")]
    pub failure: Vec<FailureKind>,
    /// The class of the caller's user: one of these, by their names in `limits.classes` of the route. Left out, any user,
    /// also one without a class. It is no permission: who asks for the queue by its own header gets it all the same.
    #[serde(deserialize_with = "one_or_many")]
    #[schemars(with = "OneOrMany<String>")]
    pub class: Vec<String>,
    /// Whether the request asks for an answer in a given form, such as JSON by a schema or the call of a tool.
    pub structured: Option<bool>,
    /// The least time that the caller must still have.
    #[serde(with = "OptionalDurationText")]
    pub time_left: Option<Duration>,
}

/// How a request failed, as far as a chain can be told to care.
///
/// A request that a content policy turned down has no word here, and no link: another model is not asked for what
/// one has refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// It reached nobody.
    Unsent,
    /// The vendor asked to slow down, or the wait for its quota was too long.
    Throttled,
    /// The vendor has no capacity.
    Overloaded,
    /// The vendor broke or fell silent.
    Faulty,
    /// The account's money is spent.
    Exhausted,
    /// The prompt does not fit into the model's context.
    ContextTooLong,
}

impl FailureKind {
    /// The name in the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unsent => "unsent",
            Self::Throttled => "throttled",
            Self::Overloaded => "overloaded",
            Self::Faulty => "faulty",
            Self::Exhausted => "exhausted",
            Self::ContextTooLong => "context_too_long",
        }
    }
}

pub(super) fn one_or_many<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    OneOrMany::deserialize(deserializer).map(|OneOrMany(words)| words)
}

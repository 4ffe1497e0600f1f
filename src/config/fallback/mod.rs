//! What a caller gets when the retries are spent.

mod reply;
mod template;
mod when;

use std::borrow::Cow;
use std::fmt;
use std::path::Path;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::{Deserializer, Error, SeqAccess, Visitor};

pub use self::reply::{Language, Reply, Source, Variant};
pub use self::template::{Placeholder, Template, TemplateError, Values};
pub use self::when::{FailureKind, When};

use super::decode::BESIDE_WHEN;

/// One link of a chain that is tried in order once the retries are spent: what to do, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// What it leads to.
    pub to: Target,
    /// For which requests.
    pub when: When,
}

/// Where a link leads.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// Another upstream, by its name.
    Upstream(String),
    /// Another model of the route's own upstream.
    Model(#[serde(deserialize_with = "model_name")] String),
    /// A friendly text, in the form of an answer of the dialect that the caller speaks, and marked as substituted.
    Reply(Reply),
    /// The request is kept and carried out later.
    Queue,
    /// The upstream's last error, as it came.
    Error,
}

impl Link {
    /// The files that hold what it says.
    pub(super) fn files(&self) -> impl Iterator<Item = &Path> {
        let reply = match &self.to {
            Target::Reply(reply) => Some(reply),
            Target::Upstream(_) | Target::Model(_) | Target::Queue | Target::Error => None,
        };
        reply.into_iter().flat_map(Reply::files)
    }
}

impl From<Target> for Link {
    fn from(to: Target) -> Self {
        Self {
            to,
            when: When::default(),
        }
    }
}

/// The chain when none is configured: one friendly reply.
pub(super) fn default_chain() -> Vec<Link> {
    let text = "I'm temporarily unavailable, please try again.";
    vec![Target::Reply(Reply::of(Template::plain(text))).into()]
}

fn model_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let name = String::deserialize(deserializer)?;
    if name.trim().is_empty() {
        return Err(D::Error::custom("it must be the name of a model"));
    }
    Ok(name)
}

impl<'de> Deserialize<'de> for Link {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Parts;

        impl<'de> Visitor<'de> for Parts {
            type Value = Link;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a link of the chain")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Link, A::Error> {
                let Some(to) = parts.next_element()? else {
                    return Err(A::Error::invalid_length(0, &self));
                };
                let when = parts.next_element()?.unwrap_or_default();
                Ok(Link { to, when })
            }
        }

        deserializer.deserialize_newtype_struct(BESIDE_WHEN, Parts)
    }
}

impl JsonSchema for Link {
    fn schema_name() -> Cow<'static, str> {
        "Link".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let when = generator.subschema_for::<When>();
        let link = |key: &str, description: &str, value: serde_json::Value| {
            json_schema!({
                "description": description,
                "type": "object",
                "properties": { key: value, "when": when },
                "required": [key],
                "additionalProperties": false,
            })
        };
        let text = serde_json::json!({ "type": "string", "minLength": 1 });
        let nothing = serde_json::json!({
            "anyOf": [{ "type": "object", "additionalProperties": false }, { "const": null }],
        });
        let reply = generator.subschema_for::<Reply>().to_value();
        json_schema!({
            "description": "One link of a chain that is tried in order once the retries are spent.",
            "oneOf": [
                link("upstream", "Another upstream, by its name.", text.clone()),
                link("model", "Another model of the route's own upstream.", text),
                link("reply", "A friendly text, in the form of an answer of the dialect that the caller speaks, and marked as substituted.", reply),
                link("queue", "The request is kept and carried out later.", nothing.clone()),
                link("error", "The upstream's last error, as it came.", nothing),
                { "enum": ["queue", "error"] },
            ],
        })
    }
}

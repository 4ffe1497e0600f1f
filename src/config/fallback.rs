//! What a caller gets when the retries are spent.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserializer, Error};
use serde::{Deserialize, Serialize};

/// One link of a chain that is tried in order once the retries are spent.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Link {
    /// Another upstream, by its name.
    Upstream(String),
    /// A friendly text, in the form of an answer of the dialect that the caller speaks, and marked as substituted.
    Reply(#[serde(deserialize_with = "reply_text")] String),
    /// The request is kept and carried out later.
    Queue,
    /// The upstream's last error, as it came.
    Error,
}

/// The chain when none is configured: one friendly reply.
pub(super) fn default_chain() -> Vec<Link> {
    vec![Link::Reply(
        "I'm temporarily unavailable, please try again.".to_owned(),
    )]
}

fn reply_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.trim().is_empty() {
        return Err(D::Error::custom("it must say something to the user"));
    }
    Ok(text)
}

impl JsonSchema for Link {
    fn schema_name() -> Cow<'static, str> {
        "Link".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let link = |key: &str, description: &str, value: serde_json::Value| {
            json_schema!({
                "description": description,
                "type": "object",
                "properties": { key: value },
                "required": [key],
                "additionalProperties": false,
            })
        };
        let text = serde_json::json!({ "type": "string", "minLength": 1 });
        let nothing = serde_json::json!({
            "anyOf": [{ "type": "object", "additionalProperties": false }, { "const": null }],
        });
        json_schema!({
            "description": "One link of a chain that is tried in order once the retries are spent.",
            "oneOf": [
                link("upstream", "Another upstream, by its name.", text.clone()),
                link("reply", "A friendly text, in the form of an answer of the dialect that the caller speaks, and marked as substituted.", text),
                link("queue", "The request is kept and carried out later.", nothing.clone()),
                link("error", "The upstream's last error, as it came.", nothing),
            ],
        })
    }
}

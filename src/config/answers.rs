//! What surgetank does to the answers that pass: the wait before a stream, and answers that are not what they should be.

use std::time::Duration;

use schemars::JsonSchema;
use serde::de::{Deserializer, Error};
use serde::{Deserialize, Serialize};

use super::units::{DurationText, PositiveDurationText};

/// What a caller who waits on a stream is told.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Stream {
    /// The text that a waiting caller is told, as a comment in the stream: one line.
    #[serde(deserialize_with = "one_line")]
    pub notice: String,
    /// After this wait the stream is begun, with the notice. Until then the caller still gets the upstream's real status.
    #[serde(with = "DurationText")]
    pub notice_after: Duration,
    /// How long the beginning of a stream is held back while there is nothing of the answer in it, so that an error behind
    /// it can still be retried. `0` for none of it: a stream is then judged by its first event.
    #[serde(with = "DurationText")]
    pub hold_preamble: Duration,
    /// How often something is sent into a stream that was begun and is silent, so that nobody on the way gives it up.
    #[serde(with = "PositiveDurationText")]
    pub keepalive: Duration,
}

impl Default for Stream {
    fn default() -> Self {
        Self {
            notice: "We're experiencing high demand, please wait a moment.".to_owned(),
            notice_after: Duration::from_secs(2),
            hold_preamble: Duration::from_secs(2),
            keepalive: Duration::from_secs(15),
        }
    }
}

/// A line end would end the comment, and what follows would be taken for an event.
fn one_line<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.trim().is_empty() || text.contains(char::is_control) {
        return Err(D::Error::custom("it must be one line of text"));
    }
    Ok(text)
}

/// What happens to answers that are not what they should be.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Answers {
    /// What happens to an answer that was cut by its token limit.
    pub on_truncated: OnTruncated,
    /// Whether JSON that was asked for is taken out of the Markdown fence that a model put around it.
    pub unwrap_json: bool,
    /// Whether compressed answers are read too, for all that is learnt and said of answers. Their bytes pass as they came.
    pub read_compressed: bool,
}

impl Default for Answers {
    fn default() -> Self {
        Self {
            on_truncated: OnTruncated::Mark,
            unwrap_json: false,
            read_compressed: true,
        }
    }
}

/// What happens to an answer that was cut by its token limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnTruncated {
    /// It is passed on and marked with a header or a comment.
    #[default]
    Mark,
    /// It is asked for once more with a higher limit.
    RetryLarger,
    /// Its continuation is asked for and joined to it.
    Continue,
    /// It is passed on without a mark.
    Ignore,
}

//! What surgetank does to the answers that pass: the wait before a stream, and answers that are not what they should be.

use std::{borrow::Cow, fmt, str::FromStr, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserializer, Error};
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};

use super::units::{
    DurationError, DurationText, OptionalDurationText, PositiveDurationText, at_least_one,
    display_duration, from_text, parse_duration,
};

/// What a caller who waits is told.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Stream {
    /// The text that a waiting caller is told, as a comment in the stream: one line.
    #[serde(deserialize_with = "one_line")]
    pub notice: String,
    /// After this wait a stream is begun with the notice, and from then on a failure is an error event in it. Until then
    /// the caller still gets the real status. `0` begins every stream at once; `never` tells nothing, and begins a stream
    /// only after four minutes, before HTTP clients give up. At most `4m`.
    pub notice_after: NoticeAfter,
    /// How long the beginning of a stream is held back while there is nothing of the answer in it, so that an error behind
    /// it can still be retried. `0` for none of it: a stream is then judged by its first event.
    #[serde(with = "DurationText")]
    pub hold_preamble: Duration,
    /// How often something is sent into a stream that was begun and is silent, so that nobody on the way gives it up.
    #[serde(with = "PositiveDurationText")]
    pub keepalive: Duration,
    /// How often white space is sent to a caller who waits for a plain JSON answer; `none` for never. The first of it comes
    /// with the status 200, so a failure behind it has lost its status: its error body comes on a connection that is then
    /// broken off.
    #[serde(with = "OptionalDurationText")]
    pub json_keepalive: Option<Duration>,
}

impl Default for Stream {
    fn default() -> Self {
        Self {
            notice: "We're experiencing high demand, please wait a moment.".to_owned(),
            notice_after: NoticeAfter::After(Duration::from_secs(2)),
            hold_preamble: Duration::from_secs(2),
            keepalive: Duration::from_secs(15),
            json_keepalive: None,
        }
    }
}

/// When a waiting caller is told so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoticeAfter {
    /// After this wait.
    After(Duration),
    /// Not at all.
    Never,
}

/// The longest wait for a notice: HTTP clients in Node give up after five minutes without a status.
const LATEST_NOTICE: Duration = Duration::from_mins(4);

/// Why a text is no [`NoticeAfter`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoticeAfterError {
    /// Neither a duration nor the word.
    #[error("{0}, or it is `never`")]
    Duration(#[from] DurationError),
    /// Longer than clients wait.
    #[error(
        "a notice comes after `4m` at the latest, because many HTTP clients give up after `5m` without a status; or it is `never`"
    )]
    TooLate,
}

impl FromStr for NoticeAfter {
    type Err = NoticeAfterError;

    fn from_str(text: &str) -> Result<Self, NoticeAfterError> {
        if text == "never" {
            return Ok(Self::Never);
        }
        let after = parse_duration(text)?;
        if after > LATEST_NOTICE {
            return Err(NoticeAfterError::TooLate);
        }
        Ok(Self::After(after))
    }
}

impl fmt::Display for NoticeAfter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::After(after) => display_duration(*after).fmt(f),
            Self::Never => f.write_str("never"),
        }
    }
}

impl<'de> Deserialize<'de> for NoticeAfter {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_text(deserializer, "a duration such as `2s`, or `never`")
    }
}

impl Serialize for NoticeAfter {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for NoticeAfter {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "NoticeAfter".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": r"^(never|0|([0-9]+(\.[0-9]+)?(ms|s|m|h|d))+|.*\$\{.*)$" })
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
    /// What happens to a stream that breaks after its beginning has left.
    pub on_broken: OnBroken,
    /// How a model is asked to go on with an answer.
    pub continue_by: ContinueBy,
    /// How often one answer is continued at most.
    #[serde(deserialize_with = "at_least_one")]
    #[schemars(range(min = 1))]
    pub max_continuations: u32,
    /// The highest token limit that `retry_larger` asks for.
    #[serde(deserialize_with = "at_least_one")]
    #[schemars(range(min = 1))]
    pub largest_output: u64,
    /// Whether JSON that was asked for is taken out of the Markdown fence that a model put around it.
    pub unwrap_json: bool,
    /// Whether compressed answers are read too, for all that is learnt and said of answers. Their bytes pass as they came.
    pub read_compressed: bool,
}

impl Default for Answers {
    fn default() -> Self {
        Self {
            on_truncated: OnTruncated::Mark,
            on_broken: OnBroken::Fail,
            continue_by: ContinueBy::Message,
            max_continuations: 2,
            largest_output: 16384,
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
    /// It is asked for once more with a higher limit, unless it is a stream.
    RetryLarger,
    /// The rest of a text is asked for and joined to it; every such request is billed, prompt and all.
    Continue,
    /// It is passed on without a mark.
    Ignore,
}

/// What happens to a stream that breaks after its beginning has left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnBroken {
    /// Its caller is told so by an error in it.
    #[default]
    Fail,
    /// Its rest is asked for and joined to it, if it is text; otherwise it fails.
    Continue,
}

/// How a model is asked to go on with an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ContinueBy {
    /// A message of the user says so. Every model takes that.
    #[default]
    Message,
    /// The answer so far is put into its mouth. Only for models of Anthropic that take a prefill: 4.5 and older.
    Prefill,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_comes_in_time_or_never() {
        let after = |ms| Ok(NoticeAfter::After(Duration::from_millis(ms)));
        for (text, expected) in [
            ("2s", after(2000)),
            ("0", after(0)),
            ("4m", after(240_000)),
            ("never", Ok(NoticeAfter::Never)),
            ("4m1ms", Err(NoticeAfterError::TooLate)),
            ("10", Err(NoticeAfterError::Duration(DurationError::NoUnit))),
            (
                "always",
                Err(NoticeAfterError::Duration(DurationError::Form)),
            ),
        ] {
            let read = text.parse::<NoticeAfter>();
            assert_eq!(read, expected, "{text}");
            if let Ok(read) = read {
                assert_eq!(read.to_string().parse(), Ok(read), "{text}");
            }
        }
    }
}

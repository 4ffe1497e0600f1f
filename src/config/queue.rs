//! The queue of requests that must not be lost: its bounds, how it is worked off, who is told.

use std::{fmt, str::FromStr, time::Duration};

use schemars::JsonSchema;
use serde::de::{Deserializer, Error};
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};

use super::base_url::BaseUrl;
use super::credential::Credential;
use super::decode::OneOrMany;
use super::fallback::{Template, TemplateError};
use super::units::{PositiveDurationText, Rate, SizeText, at_least_one, text_form};
use crate::store::jobs;

/// How requests are kept that are carried out later. It needs a `store`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Queue {
    /// What the caller of a queued request reads, in the form of an answer. `{queue_id}`, `{location}`, `{wait}`,
    /// `{wait_seconds}` and `{request_id}` are replaced.
    pub text: QueueText,
    /// How long a request may wait for its answer; then it is given up.
    #[serde(with = "PositiveDurationText")]
    pub ttl: Duration,
    /// How long an answer is kept, and how long it is known that there was one.
    #[serde(with = "PositiveDurationText")]
    pub keep: Duration,
    /// What happens to an answer when it has been read.
    pub on_read: OnRead,
    /// What happens to a request that was under way when surgetank died.
    pub on_crash: OnCrash,
    /// The most requests that wait at once.
    #[serde(deserialize_with = "at_least_one")]
    #[schemars(range(min = 1))]
    pub max_requests: u64,
    /// The most bytes of requests and answers together.
    #[serde(with = "SizeText")]
    pub max_bytes: usize,
    /// The most queued requests that are carried out at once.
    #[serde(deserialize_with = "at_least_one")]
    #[schemars(range(min = 1))]
    pub concurrency: usize,
    /// How fast queued requests are carried out at most, such as `60/min`; `none` for as fast as their lanes let them.
    pub pace: Option<Rate>,
    /// How often a request is begun at most.
    #[serde(deserialize_with = "at_least_one")]
    #[schemars(range(min = 1))]
    pub max_attempts: u32,
    /// The wait before the second try; it doubles with each further one.
    #[serde(with = "PositiveDurationText")]
    pub retry_base: Duration,
    /// The longest wait between two tries.
    #[serde(with = "PositiveDurationText")]
    pub retry_cap: Duration,
    /// The key that requests and answers are encrypted with on the disk: 32 bytes in base64 or hexadecimal digits, in a
    /// variable or a file. Of a list, the first encrypts and all decrypt. Left out, they are not encrypted.
    #[serde(deserialize_with = "keys")]
    #[schemars(with = "OneOrMany<Credential>", default = "no_keys")]
    pub encrypt: Vec<Credential>,
    /// Who is told that a queued request has ended. A request names one by `x-surgetank-webhook`; one that names none is
    /// told to the first.
    pub webhooks: Vec<Webhook>,
}

fn no_keys() -> [Credential; 0] {
    []
}

impl Default for Queue {
    fn default() -> Self {
        const DAY: Duration = Duration::from_hours(24);
        Self {
            text: QueueText::default(),
            ttl: DAY,
            keep: DAY,
            on_read: OnRead::default(),
            on_crash: OnCrash::default(),
            max_requests: 10_000,
            max_bytes: 1 << 30,
            concurrency: 4,
            pace: None,
            max_attempts: 10,
            retry_base: Duration::from_secs(5),
            retry_cap: Duration::from_mins(10),
            encrypt: Vec::new(),
            webhooks: Vec::new(),
        }
    }
}

impl Queue {
    /// Where its secrets are.
    pub(super) fn secrets(&self) -> impl Iterator<Item = &Credential> {
        let webhooks = self.webhooks.iter().map(|webhook| &webhook.secret);
        self.encrypt.iter().chain(webhooks)
    }
}

/// What happens to an answer when it has been read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnRead {
    /// It stays for as long as answers are kept.
    #[default]
    Keep,
    /// It is removed.
    Remove,
}

/// What happens to a request that was under way when surgetank died.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnCrash {
    /// It is tried again, and marked as perhaps carried out twice.
    #[default]
    Retry,
    /// It is not tried again; its state says that nobody knows.
    Uncertain,
}

impl From<OnCrash> for jobs::OnCrash {
    fn from(on_crash: OnCrash) -> Self {
        match on_crash {
            OnCrash::Retry => Self::Retry,
            OnCrash::Uncertain => Self::Uncertain,
        }
    }
}

/// Somebody who is told that a queued request has ended, by a signed POST (Standard Webhooks).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Webhook {
    /// The name that requests call it by.
    pub name: String,
    /// Where the message is sent.
    pub url: WebhookUrl,
    /// The secret that it is signed with, in a variable or a file: `whsec_` and base64.
    pub secret: Credential,
}

/// The URL of a webhook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookUrl(String);

impl WebhookUrl {
    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for WebhookUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // What may not stand in a base URL, but for the query, may not stand here.
        let base = text.split_once('?').map_or(text, |(base, _)| base);
        base.parse::<BaseUrl>()
            .map_err(|error| error.to_string())
            .map(|_| Self(text.to_owned()))
    }
}

impl fmt::Display for WebhookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What the caller of a queued request reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueText(pub Template);

impl Default for QueueText {
    fn default() -> Self {
        Self(Template::plain_with_location(
            "Your request has been queued and will be carried out. Its answer will be at ",
        ))
    }
}

impl FromStr for QueueText {
    type Err = TemplateError;

    fn from_str(text: &str) -> Result<Self, TemplateError> {
        text.parse().map(Self)
    }
}

impl fmt::Display for QueueText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for QueueText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for WebhookUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

text_form! {
    QueueText, "QueueText", "a text", r"\S";
    WebhookUrl, "WebhookUrl", "a URL such as `https://app.example.com/queue`", r"^([Hh][Tt][Tt][Pp][Ss]?://.+|.*\$\{.*)$";
}

fn keys<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Credential>, D::Error> {
    let OneOrMany(keys) = OneOrMany::deserialize(deserializer)?;
    // A key's number in the file is one byte.
    if keys.len() > 16 {
        return Err(D::Error::custom("there can be at most 16 keys"));
    }
    Ok(keys)
}

//! The lab's configuration, which is also the scenario file.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use thiserror::Error;

use super::fault::MOST_WORDS;
use super::listener::ListenerWindow;
use super::quota::QuotaConfig;
use super::scenario::Rule;
use super::units;

/// Everything that can be told to a lab before it starts. Unknown keys are errors.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LabConfig {
    /// Where to listen; port 0 picks a free one. Default `127.0.0.1:0`.
    pub listen: SocketAddr,
    /// Seed of the rules' probabilities: the same seed and the same order of requests give the same faults.
    pub seed: u64,
    /// The healthy answer.
    pub answer: AnswerConfig,
    /// The vendor's quota; none by default.
    pub quota: Option<QuotaConfig>,
    /// Faults by rule; the first that matches wins, and without a match the answer is healthy.
    pub rules: Vec<Rule>,
    /// Times during which the listener refuses or resets connections.
    pub listener: Vec<ListenerWindow>,
    /// How much is remembered of the requests.
    pub record: RecordConfig,
    /// Bounds of what a caller may send or hold.
    pub limits: LimitsConfig,
}

/// What a healthy answer says and how fast. A word is a token.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AnswerConfig {
    /// Words of the answer, unless `text` is given or the request's own limit is smaller. Default 24.
    pub words: usize,
    /// The answer word for word.
    pub text: Option<String>,
    /// Time until the response head, of any answer but a fault without one.
    #[serde(deserialize_with = "units::de_duration")]
    pub headers_after: Duration,
    /// Time from there until the first token.
    #[serde(deserialize_with = "units::de_duration")]
    pub first_token: Duration,
    /// Time between tokens. An answer that does not stream comes when its last token would.
    #[serde(deserialize_with = "units::de_duration")]
    pub interval: Duration,
    /// JSON comes chunked instead of with a `content-length`.
    pub chunked: bool,
}

/// How much is remembered of the requests.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RecordConfig {
    /// Requests; the oldest are forgotten first. Default 1,000.
    pub requests: usize,
    /// Bytes of each body. Default 16 KiB.
    pub body_bytes: usize,
}

/// Bounds of what a caller may send or hold.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsConfig {
    /// Connections at once; further ones wait in the backlog. Default 10,000.
    pub connections: usize,
    /// Bytes of a request head. Default 64 KiB.
    pub head_bytes: usize,
    /// Bytes of a request body. Default 64 MiB.
    pub body_bytes: usize,
    /// Bytes of all request bodies that are held at once; beyond it requests get 503. Default 1 GiB.
    pub body_bytes_total: usize,
    /// How long a connection may be idle between requests. Default 75 s.
    #[serde(deserialize_with = "units::de_duration")]
    pub idle: Duration,
    /// How long a request's head, and then each piece of its body, may take. Default 30 s.
    #[serde(deserialize_with = "units::de_duration")]
    pub read: Duration,
}

impl Default for LabConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            seed: 1,
            answer: AnswerConfig::default(),
            quota: None,
            rules: Vec::new(),
            listener: Vec::new(),
            record: RecordConfig::default(),
            limits: LimitsConfig::default(),
        }
    }
}

impl Default for AnswerConfig {
    fn default() -> Self {
        Self {
            words: 24,
            text: None,
            headers_after: Duration::ZERO,
            first_token: Duration::ZERO,
            interval: Duration::ZERO,
            chunked: false,
        }
    }
}

impl Default for RecordConfig {
    fn default() -> Self {
        Self {
            requests: 1_000,
            body_bytes: 16 << 10,
        }
    }
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            connections: 10_000,
            head_bytes: 64 << 10,
            body_bytes: 64 << 20,
            body_bytes_total: 1 << 30,
            idle: Duration::from_secs(75),
            read: Duration::from_secs(30),
        }
    }
}

/// Why a scenario file cannot be used.
#[derive(Debug, Error)]
pub enum ScenarioError {
    /// The file cannot be read.
    #[error("cannot read the scenario file {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The text is not what the lab understands; the message has line and column.
    #[error("the scenario is not valid: {0}")]
    Parse(String),
    /// Well formed, and yet impossible.
    #[error("the scenario is not valid: {0}")]
    Value(String),
}

impl LabConfig {
    /// Reads a scenario file.
    pub fn load(path: &Path) -> Result<Self, ScenarioError> {
        let text = std::fs::read_to_string(path).map_err(|source| ScenarioError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::from_yaml(&text)
    }

    /// Reads a scenario.
    pub fn from_yaml(text: &str) -> Result<Self, ScenarioError> {
        let config: Self = serde_saphyr::from_str(text)
            .map_err(|error| ScenarioError::Parse(error.to_string()))?;
        config.validate()?;
        Ok(config)
    }

    /// Checks what the types cannot: ranges.
    fn validate(&self) -> Result<(), ScenarioError> {
        let wrong = |what: String| Err(ScenarioError::Value(what));
        if self.answer.words > MOST_WORDS {
            return wrong(format!(
                "`answer.words` is {}, at most {MOST_WORDS} are possible",
                self.answer.words
            ));
        }
        if self.limits.connections == 0 || self.limits.head_bytes == 0 {
            return wrong(
                "`limits.connections` and `limits.head_bytes` must be at least 1".to_owned(),
            );
        }
        if let Some(quota) = &self.quota {
            if !(quota.burst >= 1.0 && quota.burst.is_finite()) {
                return wrong(format!(
                    "`quota.burst` is {}, it must be at least 1",
                    quota.burst
                ));
            }
            if !(0.0..=1.0).contains(&quota.rejects_cost) {
                return wrong(format!(
                    "`quota.rejects_cost` is {}, it must be 0 to 1",
                    quota.rejects_cost
                ));
            }
        }
        for (index, rule) in self.rules.iter().enumerate() {
            if let Err(what) = rule.validate() {
                return wrong(format!("`rules[{index}]`: {what}"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::quota::{Hints, Per};
    use super::*;

    #[test]
    fn every_block_of_a_scenario_is_read() {
        let config = LabConfig::from_yaml(
            "
            seed: 7
            answer: { words: 5, first_token: 20ms, interval: 1ms }
            quota: { rate: 60/min, burst: 10, rejects_cost: 0.5, per: credential, concurrent: 3, hints: both }
            listener: [ { from: 1s, until: 2s, state: closed } ]
            rules:
              - match: { path: /v1/messages, model: 'claude-*', nth: 2 }
                times: 3
                fault: 529
              - match: { probability: 0.5, from: 1s, until: 2s }
                fault: 'cut;after=3'
            record: { requests: 10, body_bytes: 0 }
            limits: { idle: 2ms }
            ",
        )
        .unwrap();
        assert_eq!(config.answer.first_token, Duration::from_millis(20));
        assert_eq!(config.rules.len(), 2);
        assert_eq!(config.limits.idle, Duration::from_millis(2));
        let quota = config.quota.unwrap();
        assert!((quota.rate - 1.0).abs() < 1e-9);
        assert_eq!(
            (quota.per, quota.hints, quota.concurrent),
            (Per::Credential, Hints::Both, Some(3))
        );
    }

    #[test]
    fn mistakes_are_told_with_their_place() {
        for (yaml, told) in [
            ("anwser: {}", "anwser"),
            ("rules:\n  - fault: 429;retry-afer=1\n", "retry-afer"),
            ("rules:\n  - fault: hangg\n", "did you mean `hang`"),
            ("quota: { rate: fast }", "60/min"),
            ("quota: { rate: 1, burst: 0 }", "quota.burst"),
            ("quota: { rate: 1, rejects_cost: 2 }", "rejects_cost"),
            (
                "rules: [ { match: { probability: 2 }, fault: 500 } ]",
                "probability",
            ),
            ("rules: [ { match: { nth: 0 }, fault: 500 } ]", "nth"),
            ("answer: { interval: 5 }", "duration"),
        ] {
            let error = LabConfig::from_yaml(yaml).unwrap_err().to_string();
            assert!(error.contains(told), "{yaml}: {error}");
        }
        let error = LabConfig::from_yaml("answer:\n  words: 3\n  wrods: 4\n")
            .unwrap_err()
            .to_string();
        assert!(error.contains('3'), "the third line is named: {error}");
    }
}

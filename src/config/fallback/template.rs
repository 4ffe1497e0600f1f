//! Texts with placeholders, understood when the configuration is read.
//!
//! A misspelt placeholder would be noticed by the first user of the first outage. So a text is taken apart at start,
//! and what remains for the moment of need cannot fail.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A text with placeholders. `{name}` is a placeholder; any other brace stands for itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Placeholder(Placeholder),
}

/// What a text can say that is known only when it is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Placeholder {
    /// How long to wait: `20 s`, `3 min`.
    Wait,
    /// The same in whole seconds, as a bare number.
    WaitSeconds,
    /// The request's id.
    RequestId,
    /// The id of the queued request.
    QueueId,
    /// Where the answer of the queued request will be.
    Location,
}

impl Placeholder {
    const ALL: [Self; 5] = [
        Self::Wait,
        Self::WaitSeconds,
        Self::RequestId,
        Self::QueueId,
        Self::Location,
    ];

    /// Those of them that only a queued request has.
    const QUEUED: [Self; 2] = [Self::QueueId, Self::Location];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Wait => "{wait}",
            Self::WaitSeconds => "{wait_seconds}",
            Self::RequestId => "{request_id}",
            Self::QueueId => "{queue_id}",
            Self::Location => "{location}",
        }
    }
}

/// What is put in the place of the placeholders.
#[derive(Clone, Copy, Debug, Default)]
pub struct Values<'a> {
    /// How long to wait; told in whole seconds, rounded up, at least one.
    pub wait: Duration,
    /// See [`Placeholder::RequestId`].
    pub request_id: &'a str,
    /// See [`Placeholder::QueueId`].
    pub queue_id: &'a str,
    /// See [`Placeholder::Location`].
    pub location: &'a str,
}

/// Why a text cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// There is nothing to read in it.
    #[error("it must say something to the user")]
    Empty,
    /// No such placeholder.
    #[error(
        "there is no placeholder `{0}`; there are `{{wait}}`, `{{wait_seconds}}` and `{{request_id}}`, and for a queued request `{{queue_id}}` and `{{location}}`"
    )]
    Unknown(String),
    /// A placeholder of another kind of text.
    #[error("only a queued request has a `{0}`")]
    NotQueued(&'static str),
}

impl Template {
    /// A text without placeholders.
    pub(super) fn plain(text: &str) -> Self {
        Self(vec![Part::Text(text.to_owned())])
    }

    /// A text with the location of a queued request's answer behind it, and a full stop.
    pub(in crate::config) fn plain_with_location(text: &str) -> Self {
        let location = Part::Placeholder(Placeholder::Location);
        let (text, stop) = (Part::Text(text.to_owned()), Part::Text(".".to_owned()));
        Self(vec![text, location, stop])
    }

    /// Understands the text of a reply, which has no placeholder of queued requests.
    ///
    /// # Errors
    /// When it cannot be used.
    pub fn of_reply(text: &str) -> Result<Self, TemplateError> {
        text.parse::<Self>()?.for_reply()
    }

    /// The text with these values.
    #[must_use]
    pub fn render(&self, values: &Values<'_>) -> String {
        let mut out = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Placeholder(placeholder) => values.push(*placeholder, &mut out),
            }
        }
        out
    }

    /// Refuses placeholders that only a queued request has.
    fn for_reply(self) -> Result<Self, TemplateError> {
        let foreign = self.0.iter().find_map(|part| match part {
            Part::Placeholder(placeholder) => Placeholder::QUEUED
                .contains(placeholder)
                .then_some(placeholder),
            Part::Text(_) => None,
        });
        match foreign {
            Some(placeholder) => Err(TemplateError::NotQueued(placeholder.as_str())),
            None => Ok(self),
        }
    }
}

impl Values<'_> {
    fn push(&self, placeholder: Placeholder, out: &mut String) {
        let seconds = self.wait.as_secs() + u64::from(self.wait.subsec_nanos() > 0);
        let seconds = seconds.max(1);
        match placeholder {
            Placeholder::Wait if seconds < 100 => out.extend([&seconds.to_string(), " s"]),
            Placeholder::Wait => out.extend([&seconds.div_ceil(60).to_string(), " min"]),
            Placeholder::WaitSeconds => out.push_str(&seconds.to_string()),
            Placeholder::RequestId => out.push_str(self.request_id),
            Placeholder::QueueId => out.push_str(self.queue_id),
            Placeholder::Location => out.push_str(self.location),
        }
    }
}

impl FromStr for Template {
    type Err = TemplateError;

    fn from_str(text: &str) -> Result<Self, TemplateError> {
        if text.trim().is_empty() {
            return Err(TemplateError::Empty);
        }
        let (mut parts, mut rest, mut plain) = (Vec::new(), text, String::new());
        while let Some(at) = rest.find('{') {
            let (before, behind) = rest.split_at(at);
            plain.push_str(before);
            let Some(word) = placeholder_at(behind) else {
                plain.push('{');
                rest = &behind[1..];
                continue;
            };
            let known = Placeholder::ALL.into_iter();
            let placeholder = known
                .into_iter()
                .find(|placeholder| placeholder.as_str() == word)
                .ok_or_else(|| TemplateError::Unknown(word.to_owned()))?;
            if !plain.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut plain)));
            }
            parts.push(Part::Placeholder(placeholder));
            rest = &behind[word.len()..];
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            parts.push(Part::Text(plain));
        }
        Ok(Self(parts))
    }
}

/// The `{word}` that a text begins with. JSON has no such thing outside of its strings.
fn placeholder_at(text: &str) -> Option<&str> {
    let end = text.find('}')?;
    let word = &text[1..end];
    let is_word = !word.is_empty() && word.bytes().all(|c| c.is_ascii_lowercase() || c == b'_');
    is_word.then_some(&text[..=end])
}

impl fmt::Display for Template {
    /// As it was written.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in &self.0 {
            f.write_str(match part {
                Part::Text(text) => text,
                Part::Placeholder(placeholder) => placeholder.as_str(),
            })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rendered(text: &str, wait: Duration) -> String {
        let values = Values {
            wait,
            request_id: "r1",
            queue_id: "q1",
            location: "/x",
        };
        text.parse::<Template>().unwrap().render(&values)
    }

    #[test]
    fn placeholders_are_replaced_and_other_braces_stay() {
        let wait = Duration::from_millis(19_001);
        for (text, expected) in [
            ("Busy.", "Busy."),
            ("In {wait}, please.", "In 20 s, please."),
            ("{wait_seconds}", "20"),
            ("{request_id}{queue_id}{location}", "r1q1/x"),
            (
                "a {b c} { } {} {{wait}} {Wait}",
                "a {b c} { } {} {20 s} {Wait}",
            ),
            (
                r#"{"retry_in":{wait_seconds},"of":{}}"#,
                r#"{"retry_in":20,"of":{}}"#,
            ),
            ("open { end", "open { end"),
            ("🦀{wait}🦀", "🦀20 s🦀"),
        ] {
            assert_eq!(rendered(text, wait), expected, "{text}");
        }
    }

    #[test]
    fn waits_are_told_roughly() {
        for (ms, expected) in [
            (0, "1 s"),
            (1_000, "1 s"),
            (1_001, "2 s"),
            (99_000, "99 s"),
            (99_001, "2 min"),
            (121_000, "3 min"),
        ] {
            assert_eq!(
                rendered("{wait}", Duration::from_millis(ms)),
                expected,
                "{ms}"
            );
        }
    }

    #[test]
    fn what_cannot_be_used_is_told_when_it_is_read() {
        let error = |text: &str| text.parse::<Template>().unwrap_err();
        assert_eq!(error(" \n"), TemplateError::Empty);
        assert_eq!(error("in {wiat}"), TemplateError::Unknown("{wiat}".into()));
        assert_eq!(
            Template::of_reply("{location}"),
            Err(TemplateError::NotQueued("{location}"))
        );
        assert!("{location}".parse::<Template>().is_ok());
    }

    proptest! {
        #[test]
        fn a_template_prints_as_it_is_read(text in "[a{}_ wit]{0,20}(\\{wait\\}|\\{queue_id\\})?[^{}]{0,9}") {
            if let Ok(template) = text.parse::<Template>() {
                prop_assert_eq!(template.to_string(), text);
            }
        }
    }
}

//! A generated answer in the dialect that was asked for: as one JSON object, or as the events of a stream.

mod anthropic;
mod chat;
mod responses;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::api::{Endpoint, Request};
use super::config::AnswerConfig;
use super::errors::VendorError;
use super::fault::ErrorForm;
use super::reply::{Piece, Pieces, Role};

/// The words of an answer that nobody wrote a text for, over and over.
const VOCABULARY: &[&str] = &[
    "the", "tank", "takes", "the", "excess", "when", "the", "pressure", "jumps", "and", "gives",
    "water", "back", "when", "it", "drops", "so", "that", "no", "pipe", "bursts", "and", "no",
    "tap", "runs", "dry",
];

/// One answer.
#[derive(Debug, Clone)]
pub(super) struct Speech {
    endpoint: Endpoint,
    /// Makes the ids unique.
    serial: u64,
    created: u64,
    model: String,
    tokens: Tokens,
    /// The caller's limit ended the answer.
    truncated: bool,
    input_tokens: u64,
    include_usage: bool,
}

/// The tokens of an answer.
#[derive(Debug, Clone)]
enum Tokens {
    /// So many words of the vocabulary.
    Words(usize),
    /// A given text, split behind each space.
    Text(Vec<String>),
}

/// The pace of a stream.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    pub(super) first_token: Duration,
    pub(super) interval: Duration,
}

impl Speech {
    /// The answer to a request. The limit of the request, if there is one, truncates it.
    pub(super) fn new(request: &Request, config: &AnswerConfig, serial: u64, created: u64) -> Self {
        let mut tokens = match &config.text {
            Some(text) => Tokens::Text(text.split_inclusive(' ').map(str::to_owned).collect()),
            None => Tokens::Words(config.words),
        };
        let limit = request
            .max_tokens
            .and_then(|limit| usize::try_from(limit).ok());
        let truncated = limit.is_some_and(|limit| limit < tokens.len());
        if let (true, Some(limit)) = (truncated, limit) {
            tokens.truncate(limit);
        }
        Self {
            endpoint: request.endpoint,
            serial,
            created,
            model: request.model.clone(),
            tokens,
            truncated,
            input_tokens: request.input_tokens,
            include_usage: request.include_usage,
        }
    }

    /// Number of tokens, which is also the number of content events.
    pub(super) fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Changes one token; the last if there are fewer. An answer without tokens gets this one.
    pub(super) fn replace_token(&mut self, index: usize, token: String) {
        let mut words: Vec<String> = (0..self.len())
            .map(|index| self.tokens.get(index).into_owned())
            .collect();
        match words.len().checked_sub(1) {
            Some(last) => words[index.min(last)] = token,
            None => words.push(token),
        }
        self.tokens = Tokens::Text(words);
    }

    /// The whole answer as JSON.
    pub(super) fn json(&self) -> String {
        match self.endpoint {
            Endpoint::Messages => anthropic::json(self),
            Endpoint::Responses => responses::json(self),
            _ => chat::json(self),
        }
    }

    /// The whole answer as a stream of events.
    pub(super) fn pieces(self: Arc<Self>, pace: Pace) -> Pieces {
        let preamble = self
            .preamble()
            .into_iter()
            .map(|event| piece(event, Duration::ZERO, Role::Preamble));
        let speech = Arc::clone(&self);
        let content = (0..self.len()).map(move |index| {
            let wait = if index == 0 {
                pace.first_token
            } else {
                pace.interval
            };
            piece(speech.delta(index), wait, Role::Content)
        });
        // Made when they are sent: a long text is not held twice while the stream is slow.
        let closing = std::iter::once_with(move || self.closing()).flatten();
        let closing = closing.map(|event| piece(event, Duration::ZERO, Role::Closing));
        Box::new(preamble.chain(content).chain(closing))
    }

    /// The lifecycle events before any content.
    pub(super) fn preamble(&self) -> Vec<String> {
        match self.endpoint {
            Endpoint::Messages => anthropic::preamble(self),
            Endpoint::Responses => responses::preamble(self),
            _ => chat::preamble(self),
        }
    }

    /// An error as an event of this stream, after `content` content events.
    pub(super) fn error(
        &self,
        error: &VendorError,
        form: Option<ErrorForm>,
        after: Option<usize>,
    ) -> String {
        let native = match self.endpoint {
            Endpoint::Messages => ErrorForm::Native,
            Endpoint::Responses => ErrorForm::Flat,
            _ => ErrorForm::Chat,
        };
        // Before the preamble the first number is free; after it the numbers go on.
        let sequence = after.map_or(0, |content| responses::PREAMBLE + content);
        match form.unwrap_or(native) {
            ErrorForm::Failed => {
                responses::failed(self, &error.frame(ErrorForm::Failed, sequence), sequence)
            }
            form => error.frame(form, sequence),
        }
    }

    /// The whole answer of OpenAI Responses as JSON, failed.
    pub(super) fn failed_json(&self, error: &VendorError) -> String {
        responses::failed_json(self, &error.frame(ErrorForm::Failed, 0))
    }

    fn delta(&self, index: usize) -> String {
        let token = self.tokens.get(index);
        match self.endpoint {
            Endpoint::Messages => anthropic::delta(&token),
            Endpoint::Responses => responses::delta(self, index, &token),
            _ => chat::delta(self, &token),
        }
    }

    fn closing(&self) -> Vec<String> {
        match self.endpoint {
            Endpoint::Messages => anthropic::closing(self),
            Endpoint::Responses => responses::closing(self),
            _ => chat::closing(self),
        }
    }

    fn text(&self) -> String {
        (0..self.len())
            .map(|index| self.tokens.get(index))
            .collect()
    }
}

impl Tokens {
    fn len(&self) -> usize {
        match self {
            Self::Words(count) => *count,
            Self::Text(tokens) => tokens.len(),
        }
    }

    fn truncate(&mut self, limit: usize) {
        match self {
            Self::Words(count) => *count = limit,
            Self::Text(tokens) => tokens.truncate(limit),
        }
    }

    fn get(&self, index: usize) -> Cow<'_, str> {
        match self {
            Self::Text(tokens) => tokens
                .get(index)
                .map_or(Cow::Borrowed(""), |token| Cow::Borrowed(token)),
            Self::Words(_) => {
                let word = VOCABULARY[index % VOCABULARY.len()];
                if index == 0 {
                    Cow::Borrowed(word)
                } else {
                    Cow::Owned(format!(" {word}"))
                }
            }
        }
    }
}

fn piece(event: String, wait: Duration, role: Role) -> Piece {
    Piece {
        wait,
        bytes: Bytes::from(event),
        role,
    }
}

/// An event with its name, as Anthropic and OpenAI Responses send it.
fn event(name: &str, data: &str) -> String {
    format!("event: {name}\ndata: {data}\n\n")
}

#[cfg(test)]
mod tests;

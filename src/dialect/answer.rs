//! What an answer says about itself: why it ended, and what it cost.

#[cfg(test)]
mod tests;

use super::{
    Dialect, Endpoint, Finish, Usage, json,
    meaning::{MAX_WORD_LEN, finish_word},
    sieve::{Field, Sieve},
    usage::Tally,
};

/// What is known of one answer: of a whole one everything that its vendor tells, of a broken one
/// what had arrived.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reading {
    /// Tokens, where the vendor told them. A chat that streams does so only where the caller asked for it.
    pub usage: Option<Usage>,
    /// Why the model stopped, where it has said so; of several choices, a cut one counts first.
    pub finish: Option<Finish>,
    /// Events of a stream that held content. Most vendors send one a token, so where no usage was told
    /// this is the best guess at the output.
    pub content_events: u64,
}

impl Reading {
    /// Whether the answer was cut by a limit.
    #[must_use]
    pub fn is_truncated(&self) -> bool {
        self.finish.is_some_and(Finish::is_truncated)
    }
}

/// Reads a plain JSON answer in the pieces in which it arrives, holding none of them.
#[derive(Debug, Clone)]
pub struct AnswerReader {
    dialect: Dialect,
    sieve: Sieve,
    tally: Tally,
    finish: Option<Finish>,
    /// Why a response of Responses is incomplete; it may come before its status or behind it.
    incomplete: Option<Finish>,
}

json::fields! {
    /// What is missing of an answer.
    Details {
        reason: "reason",
    }
}

impl AnswerReader {
    /// At an answer's beginning. Of an endpoint that is not known nothing is read.
    #[must_use]
    pub fn new(dialect: Dialect) -> Self {
        Self {
            dialect,
            sieve: Sieve::new(),
            tally: Tally::default(),
            finish: None,
            incomplete: None,
        }
    }

    /// Takes the next piece of the answer, in clear text.
    pub fn see(&mut self, piece: &[u8]) {
        let Self {
            dialect,
            sieve,
            tally,
            finish,
            incomplete,
        } = self;
        let endpoint = dialect.endpoint();
        if endpoint == Endpoint::Other {
            return;
        }
        sieve.see(piece, |field, value| match (field, endpoint) {
            (Field::Usage, _) => tally.note(value),
            (Field::StopReason, Endpoint::Messages)
            | (Field::FinishReason, Endpoint::ChatCompletions | Endpoint::Completions)
            | (Field::Status, Endpoint::Responses) => {
                let word = json::text(json::value(value), MAX_WORD_LEN);
                let told = word.map(|word| finish_word(endpoint, &word));
                *finish = Finish::of_several(*finish, told.flatten());
            }
            (Field::IncompleteDetails, Endpoint::Responses) => {
                let details: Details<'_> = json::fields_of(value).unwrap_or_default();
                let reason = json::text(details.reason, MAX_WORD_LEN);
                *incomplete = reason.map(|reason| Finish::of_incomplete(&reason));
            }
            _ => {}
        });
    }

    /// What has been read so far.
    #[must_use]
    pub fn reading(&self) -> Reading {
        Reading {
            usage: self.tally.usage(self.dialect),
            finish: self.incomplete.or(self.finish),
            content_events: 0,
        }
    }
}

/// Reads a plain JSON answer that is there as a whole.
#[must_use]
pub fn read(dialect: Dialect, body: &[u8]) -> Reading {
    let mut reader = AnswerReader::new(dialect);
    reader.see(body);
    reader.reading()
}

//! How many tokens a request is taken to use: before it has begun, and when it has ended.
//!
//! Only the vendor counts tokens, and it tells its count at the end, or not at all. Before the end
//! there is an estimate. It need not be good, since it is put right; it has to be cheap, and must
//! not be far too small, or many requests at once would pass before the first of them is settled.
//!
//! - The prompt is taken as a token for every four bytes of text, which is about true of English
//!   and errs upwards for JSON. What looks like data (an image in base64) is not text: counted so, one
//!   picture would cost as much as a novel.
//! - The answer is taken as long as the request allows, up to [`TYPICAL_OUTPUT`]: many set a limit that
//!   is never reached, and nobody who does so is to wait for a quota that will not be used.
//!
//! Where the end tells nothing, what is known counts: a stream's events of content are about one a
//! token, and a prompt that was sent has been read.

use super::estimate_text::text_bytes;
use crate::{
    dialect::{Ask, Endpoint, Reading, Usage},
    telemetry::Outcome,
};

/// Tokens of an answer whose request allows more, or does not say.
pub const TYPICAL_OUTPUT: u64 = 1_024;

/// Bytes of text for a token.
const BYTES_A_TOKEN: u64 = 4;

/// What a request will use, about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Estimate {
    /// Of the prompt.
    pub input: u64,
    /// Of the answer.
    pub output: u64,
}

impl Estimate {
    /// Of a request to `endpoint` that asks for `ask`. `body` is what is known of its body, out of `length` bytes.
    ///
    /// What does not generate (lists of models, files, batches) uses no tokens.
    #[must_use]
    pub fn of(endpoint: Endpoint, ask: &Ask, body: &[u8], length: u64) -> Self {
        let unseen = length.saturating_sub(body.len() as u64);
        let input = (text_bytes(body).saturating_add(unseen)).div_ceil(BYTES_A_TOKEN);
        let output = ask.max_output.unwrap_or(TYPICAL_OUTPUT).min(TYPICAL_OUTPUT);
        match endpoint {
            Endpoint::Other => Self::default(),
            Endpoint::Embeddings => Self { input, output: 0 },
            _ => Self { input, output },
        }
    }

    /// To be reserved.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.input.saturating_add(self.output)
    }
}

/// What is known of a request when it has ended, whichever way.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    /// What was reserved.
    pub estimate: Estimate,
    /// What the caller got; `None` if it left before it got anything.
    pub outcome: Option<Outcome>,
    /// Whether anything was sent to an upstream.
    pub was_sent: bool,
    /// Whether the caller got the answer to its end.
    pub ended: bool,
    /// What the vendors have told, of all answers together.
    pub used: Option<Usage>,
    /// What was read of the answer.
    pub answer: Reading,
}

/// The tokens to be charged.
#[must_use]
pub fn spent(known: &Known) -> u64 {
    let Known {
        estimate,
        used,
        answer,
        ..
    } = known;
    if let Some(used) = used {
        // A stream that was cut has told of its beginning only.
        let written = if answer.finish.is_some() {
            used.output
        } else {
            used.output.max(answer.content_events)
        };
        return used.input.saturating_add(written);
    }
    if answer.content_events > 0 {
        return estimate.input.saturating_add(answer.content_events);
    }
    match known.outcome {
        // Whole and silent on its cost, or not to be read.
        Some(Outcome::Served) if known.ended => estimate.total(),
        // Cut, or the caller has left. What was sent may have been read, and will be paid for.
        None | Some(Outcome::Served) if known.was_sent => estimate.input,
        // Refused, failed, or answered by us: nobody has generated anything.
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::{Dialect, Finish};

    fn known(outcome: Option<Outcome>) -> Known {
        Known {
            estimate: Estimate {
                input: 100,
                output: 1_000,
            },
            outcome,
            was_sent: true,
            ended: true,
            used: None,
            answer: Reading::default(),
        }
    }

    /// A case: what the caller got, whether to its end; the usage that was told (input, output); the events of content,
    /// and whether the end was among them; what is charged.
    type Row = (
        &'static str,
        Option<Outcome>,
        bool,
        Option<(u64, u64)>,
        u64,
        bool,
        u64,
    );

    const SERVED: Option<Outcome> = Some(Outcome::Served);
    const FAILED: Option<Outcome> = Some(Outcome::Failed);

    #[rustfmt::skip]
    const ROWS: [Row; 13] = [
        ("told",                      SERVED, true,  Some((7, 5)),     3,  true,  12),
        ("more than reserved",        SERVED, true,  Some((7, 9_000)), 3,  true,  9_007),
        ("cut behind its beginning",  SERVED, false, Some((7, 1)),     40, false, 47),
        ("without usage",             SERVED, true,  None,             40, true,  140),
        ("cut, without usage",        SERVED, false, None,             40, false, 140),
        ("unreadable",                SERVED, true,  None,             0,  false, 1_100),
        ("cut before its content",    SERVED, false, None,             0,  false, 100),
        ("left before the answer",    None,   false, None,             0,  false, 100),
        ("failed",                    FAILED, false, None,             0,  false, 0),
        ("failed after a paid try",   FAILED, false, Some((7, 5)),     0,  true,  12),
        ("refused", Some(Outcome::Refused),     true, None, 0, false, 0),
        ("no money", Some(Outcome::Exhausted),  true, None, 0, false, 0),
        ("our reply", Some(Outcome::Substituted), true, None, 0, false, 0),
    ];

    #[test]
    fn what_was_told_is_charged_and_what_was_not_is_guessed() {
        for (case, outcome, ended, told, content_events, finished, expected) in ROWS {
            let known = Known {
                ended,
                used: told.map(|(input, output)| Usage {
                    input,
                    output,
                    ..Usage::default()
                }),
                answer: Reading {
                    finish: finished.then_some(Finish::Stop),
                    content_events,
                    ..Reading::default()
                },
                ..known(outcome)
            };
            assert_eq!(spent(&known), expected, "{case}");
        }
        let unsent = Known {
            was_sent: false,
            ..known(None)
        };
        assert_eq!(spent(&unsent), 0, "left while it waited for its turn");
    }

    #[test]
    fn estimates() {
        let text = vec![b' '; 4_000];
        let of = |endpoint: Dialect, body: &str, bytes: &[u8], length| {
            Estimate::of(
                endpoint.endpoint(),
                &Ask::read(endpoint, body.as_bytes()),
                bytes,
                length,
            )
        };
        let chat = Dialect::CHAT_COMPLETIONS;
        let plain = of(chat, "{}", &text, 4_000);
        assert_eq!((plain.input, plain.output), (1_000, TYPICAL_OUTPUT));
        assert_eq!(of(chat, r#"{"max_tokens":10}"#, &text, 4_000).output, 10);
        let boastful = of(chat, r#"{"max_tokens":100000}"#, &text, 4_000);
        assert_eq!(boastful.output, TYPICAL_OUTPUT);
        assert_eq!(
            of(chat, "{}", &text, 8_000).input,
            2_000,
            "the rest was not seen"
        );
        let embeddings = Dialect::detect("/v1/embeddings", false);
        assert_eq!(of(embeddings, "{}", &text, 4_000).total(), 1_000);
        let models = Dialect::detect("/v1/models", false);
        assert_eq!(of(models, "{}", &text, 4_000).total(), 0);
    }
}

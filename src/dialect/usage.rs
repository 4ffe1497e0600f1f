//! How many tokens an answer took, as the vendor counted them.
//!
//! Only the vendor knows: its tokenizer, its cache and its hidden reasoning are out of sight. So
//! nothing is estimated here, and what was not told stays unknown. Within one stream a later figure
//! replaces an earlier one, because every vendor that reports more than once reports running totals.

use std::ops::AddAssign;

use super::{Dialect, Vendor, json, words};
use crate::stream::sse::Event;

/// Tokens of one or several answers. A part that the vendor does not tell apart is 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// What the model read, whether anew or from a cache.
    pub input: u64,
    /// The part of [`input`](Self::input) that came from the vendor's cache.
    pub cached_input: u64,
    /// The part of [`input`](Self::input) that was written into the vendor's cache.
    pub cache_write: u64,
    /// What the model wrote, its reasoning included.
    pub output: u64,
    /// The part of [`output`](Self::output) that was reasoning.
    pub reasoning: u64,
}

impl AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        self.input = self.input.saturating_add(other.input);
        self.cached_input = self.cached_input.saturating_add(other.cached_input);
        self.cache_write = self.cache_write.saturating_add(other.cache_write);
        self.output = self.output.saturating_add(other.output);
        self.reasoning = self.reasoning.saturating_add(other.reasoning);
    }
}

/// The figures that one answer has told so far.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Tally {
    input: Option<u64>,
    cached_input: Option<u64>,
    cache_write: Option<u64>,
    output: Option<u64>,
    reasoning: Option<u64>,
}

json::fields! {
    /// A usage object, in the words of all vendors.
    Told {
        input_tokens: "input_tokens",
        prompt_tokens: "prompt_tokens",
        output_tokens: "output_tokens",
        completion_tokens: "completion_tokens",
        cache_read_input_tokens: "cache_read_input_tokens",
        cache_creation_input_tokens: "cache_creation_input_tokens",
        input_tokens_details: "input_tokens_details",
        prompt_tokens_details: "prompt_tokens_details",
        output_tokens_details: "output_tokens_details",
        completion_tokens_details: "completion_tokens_details",
    }
}

json::fields! {
    /// The breakdown of one side.
    #[expect(clippy::struct_field_names, reason = "they are the vendors' own")]
    Details {
        cached_tokens: "cached_tokens",
        cache_write_tokens: "cache_write_tokens",
        reasoning_tokens: "reasoning_tokens",
        thinking_tokens: "thinking_tokens",
    }
}

json::fields! {
    /// Where an event holds its usage object: at its top, in the message it starts, in the response it ends.
    Holder {
        usage: "usage",
        message: "message",
        response: "response",
    }
}

impl Tally {
    /// Takes the figures of an event, if it has some.
    ///
    /// Content has none, and is told apart by a search of its bytes: a quote inside a JSON string is
    /// always escaped, so the key cannot occur in the text of an answer.
    pub(super) fn observe(&mut self, event: &Event) {
        if !may_hold_usage(event.data()) {
            return;
        }
        let at_top: Holder<'_> = json::fields_of(event.data()).unwrap_or_default();
        let nested = |holder| json::fields_in::<Holder<'_>>(holder).usage;
        let found = at_top
            .usage
            .or_else(|| nested(at_top.message))
            .or_else(|| nested(at_top.response));
        if let Some(usage) = found {
            self.note(usage.as_bytes());
        }
    }

    /// Takes the figures of a usage object. What it does not tell stays as it was.
    pub(super) fn note(&mut self, usage: &[u8]) {
        let told: Told<'_> = json::fields_of(usage).unwrap_or_default();
        let details = |one: Option<_>, other| json::fields_in::<Details<'_>>(one.or(other));
        let input = details(told.input_tokens_details, told.prompt_tokens_details);
        let output = details(told.output_tokens_details, told.completion_tokens_details);
        replace(&mut self.input, told.input_tokens, told.prompt_tokens);
        replace(&mut self.output, told.output_tokens, told.completion_tokens);
        replace(
            &mut self.cached_input,
            told.cache_read_input_tokens,
            input.cached_tokens,
        );
        replace(
            &mut self.cache_write,
            told.cache_creation_input_tokens,
            input.cache_write_tokens,
        );
        replace(
            &mut self.reasoning,
            output.reasoning_tokens,
            output.thinking_tokens,
        );
    }

    /// The figures so far; `None` where neither side was told.
    pub(super) fn usage(&self, dialect: Dialect) -> Option<Usage> {
        if self.input.is_none() && self.output.is_none() {
            return None;
        }
        let or_none = |figure: Option<u64>| figure.unwrap_or(0);
        let (cached_input, cache_write) = (or_none(self.cached_input), or_none(self.cache_write));
        // Anthropic counts beside the cache, the others count the cache in.
        let beside = match dialect.vendor() {
            Vendor::Anthropic => cached_input.saturating_add(cache_write),
            Vendor::OpenAi => 0,
        };
        Some(Usage {
            input: or_none(self.input).saturating_add(beside),
            cached_input,
            cache_write,
            output: or_none(self.output),
            reasoning: or_none(self.reasoning),
        })
    }
}

/// Takes a figure under the one name or the other.
fn replace<'a>(figure: &mut Option<u64>, one: Option<&'a str>, other: Option<&'a str>) {
    *figure = json::whole_number(one.or(other)).or(*figure);
}

/// Whether any `usage` in the data may be something else than `null`, which servers that report at
/// the end write into every chunk.
fn may_hold_usage(data: &[u8]) -> bool {
    let mut values = words::USAGE.values(data);
    values.any(|value| !value.starts_with(b"null"))
}

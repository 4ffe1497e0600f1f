//! What a request asks for, as far as a proxy must know.
//!
//! The body is read for three reasons only: to answer in the form that the
//! caller expects when no upstream does, to know whose limit a request counts
//! against, and to find the one value that a fallback target may replace. It is
//! never parsed into a document and never printed again, so a field that was
//! invented yesterday passes as it is.
//!
//! Reading never fails. A body that is not JSON, or broken, or hostile, gives
//! [`Ask::default`]: the upstream is the one to reject it, with the error text
//! that the vendor's documentation explains.

#[cfg(test)]
mod beginning;
#[cfg(test)]
mod tests;

use std::{fmt, ops::Range};

use super::{Dialect, Endpoint, json};

/// The longest model name that is read, in bytes; a longer one counts as none.
pub const MAX_MODEL_LEN: usize = 256;

/// The longest user field that is read, in bytes; a longer one counts as none.
///
/// Cutting it instead would make one user of all who share a prefix, and
/// keeping it would let a caller size our tables. The request then counts
/// against the next thing that identifies it, such as its credential.
pub const MAX_USER_LEN: usize = 512;

/// The longest word that can be one of the API's own, such as a tool choice.
const MAX_WORD_LEN: usize = 64;

/// What a request asks for. All fields are absent, false or [`Structured::No`] when unknown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each answers a question of its own"
)]
pub struct Ask {
    /// Whether all of it could be read. Of what could not be, no other field says that something is not asked for.
    pub is_understood: bool,
    /// The model's name, of 1 to [`MAX_MODEL_LEN`] bytes. It comes from the
    /// caller: never a metric label.
    pub model: Option<String>,
    /// Where the value of `model`, quotes included, stands in the body; for [`replace_model`].
    pub model_span: Option<Range<usize>>,
    /// The answer is wanted as a stream of events.
    pub stream: bool,
    /// The stream is to end with a usage chunk (`stream_options.include_usage`).
    pub include_usage: bool,
    /// The form that the answer must have.
    pub structured: Structured,
    /// The request builds on state that the vendor holds (`previous_response_id`,
    /// `conversation`, a container, a thread) or leaves some there (`background`).
    /// An answer that the vendor does not know would break the next call.
    pub chained: bool,
    /// The run goes on at the vendor whether anybody listens or not (`background` of Responses).
    pub background: bool,
    /// `safety_identifier`, of 1 to [`MAX_USER_LEN`] bytes.
    pub safety_identifier: Option<Private>,
    /// `user`, of 1 to [`MAX_USER_LEN`] bytes.
    pub user: Option<Private>,
    /// `metadata.user_id`, of 1 to [`MAX_USER_LEN`] bytes.
    pub metadata_user_id: Option<Private>,
    /// The most tokens that the answer may have, as the caller set it.
    pub max_output: Option<u64>,
    /// Where that number stands in the body; for [`replace_number`].
    pub max_output_span: Option<Range<usize>>,
    /// The model may answer by calling a tool.
    pub tools: bool,
}

/// The form that an answer must have for the caller's parser to take it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Structured {
    /// Prose is fine.
    #[default]
    No,
    /// Any JSON object.
    JsonObject,
    /// JSON that follows a schema.
    JsonSchema,
    /// A call of a tool. Stands before the JSON forms when both are asked for,
    /// for then there is no text to format.
    ForcedTool,
}

/// Text that tells who somebody is. It can be used, but not printed.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Private(Box<str>);

impl Private {
    /// The text itself: for hashing and comparing, not for logs.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Private {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Private(…)")
    }
}

json::fields! {
    /// The fields of a request body that matter, of all dialects.
    Body {
        model: "model",
        stream: "stream",
        stream_options: "stream_options",

        response_format: "response_format",
        text: "text",
        output_config: "output_config",
        output_format: "output_format",
        tools: "tools",
        functions: "functions",
        tool_choice: "tool_choice",
        function_call: "function_call",

        previous_response_id: "previous_response_id",
        conversation: "conversation",
        background: "background",
        container: "container",
        thread: "thread",

        safety_identifier: "safety_identifier",
        user: "user",
        metadata: "metadata",

        max_tokens: "max_tokens",
        max_completion_tokens: "max_completion_tokens",
        max_output_tokens: "max_output_tokens",
    }
}

json::fields! {
    /// The fields of the objects inside a request body that matter.
    Inner {
        kind: "type",
        format: "format",
        mode: "mode",
        allowed_tools: "allowed_tools",
        include_usage: "include_usage",
        user_id: "user_id",
    }
}

impl Ask {
    /// Reads what a request with this body asks for. Never fails; see the [module](self).
    ///
    /// One pass over the body; nothing of it is copied but the fields found. A
    /// body that has one of the fields twice gives [`Ask::default`], because
    /// JSON leaves open which one the upstream will take.
    #[must_use]
    pub fn read(dialect: Dialect, body: &[u8]) -> Self {
        let Some(fields) = json::fields_of::<Body<'_>>(body) else {
            return Self::default();
        };
        Self::of(dialect, body, &fields)
    }

    /// Reads what the beginning of a larger body tells. What stands behind it is as if it were not there.
    ///
    /// Such a body is passed on as it arrives, and only its beginning is known when it has to be decided on. What can be
    /// read there is read: otherwise anybody could leave the limits of their user, and the form in which they want
    /// errors, by making a request large enough. Official SDKs put the short fields of a request before the large part
    /// or behind it.
    #[must_use]
    pub fn read_beginning(dialect: Dialect, beginning: &[u8]) -> Self {
        Self {
            is_understood: false,
            model_span: None,
            ..Self::of(dialect, beginning, &json::fields_at_beginning(beginning))
        }
    }

    fn of(dialect: Dialect, body: &[u8], fields: &Body<'_>) -> Self {
        let stream_options: Inner<'_> = json::fields_in(fields.stream_options);
        let metadata: Inner<'_> = json::fields_in(fields.metadata);
        Self {
            is_understood: true,
            model: json::text(fields.model, MAX_MODEL_LEN).map(Into::into),
            model_span: model_span(body, fields.model),
            stream: json::is_true(fields.stream),
            include_usage: json::is_true(stream_options.include_usage),
            structured: fields.structured(),
            chained: fields.is_chained(dialect),
            background: dialect.endpoint() == Endpoint::Responses
                && json::is_true(fields.background),
            safety_identifier: private(fields.safety_identifier),
            user: private(fields.user),
            metadata_user_id: private(metadata.user_id),
            max_output: json::whole_number(fields.max_output(dialect)),
            max_output_span: json::span(body, fields.max_output(dialect)),
            tools: json::is_truthy(fields.tools) || json::is_truthy(fields.functions),
        }
    }
}

/// The body with another value for `model` and every other byte as it was.
///
/// `span` is the [`model_span`](Ask::model_span) found in this very body; `None`
/// if it cannot be that, because it lies outside.
#[must_use]
pub fn replace_model(body: &[u8], span: Range<usize>, new: &str) -> Option<Vec<u8>> {
    let quoted = serde_json::Value::from(new).to_string();
    json::spliced(body, &[(span, quoted.as_bytes())])
}

/// The body with another number, such as at [`max_output_span`](Ask::max_output_span), and every other
/// byte as it was; `None` if the span lies outside.
#[must_use]
pub fn replace_number(body: &[u8], span: Range<usize>, new: u64) -> Option<Vec<u8>> {
    json::spliced(body, &[(span, new.to_string().as_bytes())])
}

/// Where `model` stands in `body`, which it is a slice of; `None` if it is no string.
fn model_span(body: &[u8], model: Option<&str>) -> Option<Range<usize>> {
    json::span(body, model.filter(|model| model.starts_with('"')))
}

fn private(value: Option<&str>) -> Option<Private> {
    json::text(value, MAX_USER_LEN).map(|text| Private(text.into()))
}

// === impl Body ===

impl Body<'_> {
    fn structured(&self) -> Structured {
        if is_forced(self.tool_choice) || names_function(self.function_call) {
            return Structured::ForcedTool;
        }
        // Chat, the older Messages beta; then Responses and Messages, one level down.
        let nested = [self.text, self.output_config].map(|holder| {
            let holder: Inner<'_> = json::fields_in(holder);
            holder.format
        });
        [self.response_format, self.output_format]
            .into_iter()
            .chain(nested)
            .map(asked_format)
            .find(|format| *format != Structured::No)
            .unwrap_or_default()
    }

    fn is_chained(&self, dialect: Dialect) -> bool {
        match dialect.endpoint() {
            Endpoint::Responses => {
                self.previous_response_id.is_some()
                    || self.conversation.is_some()
                    || json::is_true(self.background)
            }
            Endpoint::Messages => self.container.is_some() || self.thread.is_some(),
            _ => false,
        }
    }

    /// Of several, the one that counts.
    fn max_output(&self, dialect: Dialect) -> Option<&str> {
        let is_number = |value: &&str| json::whole_number(Some(value)).is_some();
        match dialect.endpoint() {
            Endpoint::Responses => self.max_output_tokens.filter(is_number),
            Endpoint::ChatCompletions => self
                .max_completion_tokens
                .filter(is_number)
                .or(self.max_tokens.filter(is_number)),
            Endpoint::Messages | Endpoint::Completions => self.max_tokens.filter(is_number),
            Endpoint::Embeddings | Endpoint::Other => None,
        }
    }
}

fn asked_format(format: Option<&str>) -> Structured {
    let format: Inner<'_> = json::fields_in(format);
    match json::text(format.kind, MAX_WORD_LEN).as_deref() {
        Some("json_schema") => Structured::JsonSchema,
        Some("json_object") => Structured::JsonObject,
        _ => Structured::No,
    }
}

/// Whether a `tool_choice` leaves no way but to call a tool: a word (`required`),
/// or an object that names a tool or the mode.
fn is_forced(choice: Option<&str>) -> bool {
    if let Some(word) = json::text(choice, MAX_WORD_LEN) {
        return matches!(&*word, "required" | "any");
    }
    let choice: Inner<'_> = json::fields_in(choice);
    match json::text(choice.kind, MAX_WORD_LEN).as_deref() {
        None | Some("auto" | "none") => false,
        // Chat holds the mode one level deeper than Responses.
        Some("allowed_tools") => {
            let nested: Inner<'_> = json::fields_in(choice.allowed_tools);
            let mode = choice.mode.or(nested.mode);
            json::text(mode, MAX_WORD_LEN).as_deref() == Some("required")
        }
        Some(_) => true,
    }
}

/// Whether the legacy `function_call` is an object: then it names the function to call.
fn names_function(function_call: Option<&str>) -> bool {
    function_call.is_some_and(|choice| choice.starts_with('{'))
}

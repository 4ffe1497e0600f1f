//! What a request asks for: which vendor's endpoint, and the few fields of the body that shape the answer.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::head::Head;

/// The model that is named where the request names none.
pub(super) const DEFAULT_MODEL: &str = "lab-model";

/// Whose habits the answer follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Vendor {
    Anthropic,
    OpenAi,
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Endpoint {
    Messages,
    CountTokens,
    Chat,
    Responses,
    Embeddings,
    Models,
    /// One model, whose id is the last segment of the path.
    Model,
    Echo,
    /// An address that the vendor does not know.
    Unknown,
}

/// One request, as far as the lab understands it.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) vendor: Vendor,
    pub(super) endpoint: Endpoint,
    pub(super) model: String,
    pub(super) stream: bool,
    /// The caller's bound on the answer, in tokens.
    pub(super) max_tokens: Option<u64>,
    /// A chat stream ends with a usage chunk.
    pub(super) include_usage: bool,
    /// Estimated from the body's length, four bytes a token.
    pub(super) input_tokens: u64,
    /// Texts to embed, and whether as base64.
    pub(super) embeddings: (usize, bool),
    /// Where the body stops being understood.
    pub(super) unreadable: Option<String>,
}

/// The fields that matter; everything else in the body is skipped.
#[derive(Debug, Default, Deserialize)]
struct Peek<'a> {
    model: Option<String>,
    stream: Option<bool>,
    max_tokens: Option<u64>,
    max_completion_tokens: Option<u64>,
    max_output_tokens: Option<u64>,
    stream_options: Option<StreamOptions>,
    #[serde(borrow)]
    input: Option<&'a RawValue>,
    encoding_format: Option<String>,
}

#[derive(Debug, Deserialize)]
struct StreamOptions {
    include_usage: Option<bool>,
}

impl Endpoint {
    /// Paths are recognised by their end, so that a base URL may have any prefix.
    fn of(method: &str, path: &str) -> Self {
        if path.starts_with("/echo") {
            return Self::Echo;
        }
        let path = path.trim_end_matches('/');
        let post = method == "POST";
        match path.rsplit('/').next() {
            Some("messages") if post => Self::Messages,
            Some("count_tokens") if post => Self::CountTokens,
            Some("completions") if post && path.ends_with("/chat/completions") => Self::Chat,
            Some("responses") if post => Self::Responses,
            Some("embeddings") if post => Self::Embeddings,
            Some("models") if !post => Self::Models,
            _ if !post && path.rsplit('/').nth(1) == Some("models") => Self::Model,
            _ => Self::Unknown,
        }
    }

    /// Whether the body is JSON that the endpoint must understand.
    fn reads_json(self) -> bool {
        matches!(
            self,
            Self::Messages | Self::CountTokens | Self::Chat | Self::Responses | Self::Embeddings
        )
    }

    /// Whether it generates text, and can stream.
    pub(super) fn speaks(self) -> bool {
        matches!(self, Self::Messages | Self::Chat | Self::Responses)
    }

    fn vendor(self, head: &Head) -> Vendor {
        match self {
            Self::Messages | Self::CountTokens => Vendor::Anthropic,
            Self::Chat | Self::Responses | Self::Embeddings => Vendor::OpenAi,
            _ if head.field("anthropic-version").is_some() => Vendor::Anthropic,
            _ => Vendor::OpenAi,
        }
    }
}

impl Request {
    /// Reads a request.
    pub(super) fn read(head: &Head, body: &[u8]) -> Self {
        let endpoint = Endpoint::of(&head.method, head.path());
        let vendor = endpoint.vendor(head);
        let (peek, unreadable) = match serde_json::from_slice::<Peek>(body) {
            Ok(peek) => (peek, None),
            Err(error) => {
                // Only the place is told: the parser's own words may quote the prompt.
                let place = || format!("line {} column {}", error.line(), error.column());
                (Peek::default(), endpoint.reads_json().then(place))
            }
        };
        let of_path = (endpoint == Endpoint::Model)
            .then(|| head.path().rsplit('/').next())
            .flatten();
        Self {
            vendor,
            endpoint,
            max_tokens: peek
                .max_tokens
                .or(peek.max_completion_tokens)
                .or(peek.max_output_tokens),
            stream: peek.stream.unwrap_or(false) && endpoint.speaks(),
            include_usage: peek
                .stream_options
                .and_then(|options| options.include_usage)
                .unwrap_or(false),
            input_tokens: (body.len() as u64).div_ceil(4),
            embeddings: (
                texts(peek.input),
                peek.encoding_format.as_deref() == Some("base64"),
            ),
            model: peek
                .model
                .or(of_path.map(str::to_owned))
                .unwrap_or_else(|| DEFAULT_MODEL.to_owned()),
            unreadable,
        }
    }
}

/// How many texts an embeddings request holds: a list of texts or token lists counts each, anything else is one.
fn texts(input: Option<&RawValue>) -> usize {
    let list: Option<Vec<&RawValue>> =
        input.and_then(|input| serde_json::from_str(input.get()).ok());
    match list {
        Some(list)
            if list
                .first()
                .is_some_and(|first| first.get().starts_with(['"', '['])) =>
        {
            list.len()
        }
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_known_by_method_and_path() {
        for (method, path, endpoint) in [
            ("POST", "/v1/messages", Endpoint::Messages),
            ("POST", "/v1/messages/count_tokens", Endpoint::CountTokens),
            ("POST", "/base/v1/chat/completions", Endpoint::Chat),
            ("POST", "/v1/responses", Endpoint::Responses),
            ("POST", "/v1/embeddings", Endpoint::Embeddings),
            ("GET", "/v1/models", Endpoint::Models),
            ("GET", "/v1/models/gpt-x", Endpoint::Model),
            ("PURGE", "/echo/%2e%2e/x", Endpoint::Echo),
            ("GET", "/v1/messages", Endpoint::Unknown),
            ("POST", "/v1/completions", Endpoint::Unknown),
        ] {
            assert_eq!(Endpoint::of(method, path), endpoint, "{method} {path}");
        }
    }

    #[test]
    fn texts_to_embed_are_counted() {
        for (input, count) in [
            ("\"one\"", 1),
            ("[\"one\",\"two\"]", 2),
            ("[1,2,3]", 1),
            ("[[1],[2],[3]]", 3),
        ] {
            let raw: Box<RawValue> = serde_json::from_str(input).unwrap();
            assert_eq!(texts(Some(&raw)), count, "{input}");
        }
    }
}

//! Requests as applications send them.

use serde_json::{Value, json};

/// One request.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: String,
    target: String,
    fields: Vec<(String, String)>,
    body: Vec<u8>,
}

/// The three ways in which nearly all applications speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tongue {
    Messages,
    Chat,
    Responses,
}

impl Tongue {
    pub(crate) const ALL: [Self; 3] = [Self::Messages, Self::Chat, Self::Responses];

    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::Messages => "/v1/messages",
            Self::Chat => "/v1/chat/completions",
            Self::Responses => "/v1/responses",
        }
    }

    fn body(self, stream: bool) -> Value {
        let turn = json!([{ "role": "user", "content": "hello" }]);
        match self {
            Self::Messages => {
                json!({ "model": "claude-lab", "max_tokens": 4096, "messages": turn, "stream": stream })
            }
            Self::Chat => json!({ "model": "gpt-lab", "messages": turn, "stream": stream }),
            Self::Responses => json!({ "model": "gpt-lab", "input": turn, "stream": stream }),
        }
    }

    /// A request that asks for an answer in one piece.
    pub(crate) fn plain(self) -> Request {
        self.asking(&self.body(false))
    }

    /// A request that asks for a stream.
    pub(crate) fn stream(self) -> Request {
        self.asking(&self.body(true))
    }

    /// A request with `extra` in its body.
    pub(crate) fn with(self, stream: bool, extra: &Value) -> Request {
        let mut body = self.body(stream);
        for (key, value) in extra.as_object().expect("an object") {
            body[key] = value.clone();
        }
        self.asking(&body)
    }

    fn asking(self, body: &Value) -> Request {
        let request = Request::post(self.path(), body.to_string());
        match self {
            Self::Messages => request
                .header("x-api-key", "k")
                .header("anthropic-version", "2023-06-01"),
            Self::Chat | Self::Responses => request.header("authorization", "Bearer k"),
        }
    }

    /// The text that a whole stream carries, as an SDK would join it.
    pub(crate) fn text_of_stream(self, stream: &[u8]) -> String {
        let stream = super::text(stream);
        let events = stream
            .split("\n\n")
            .filter_map(|event| event.split_once("data: "));
        let documents = events.filter_map(|(_, data)| serde_json::from_str::<Value>(data).ok());
        let delta = |event: Value| {
            let delta = match self {
                Self::Messages => &event["delta"]["text"],
                Self::Chat => &event["choices"][0]["delta"]["content"],
                Self::Responses => &event["delta"],
            };
            delta.as_str().map(str::to_owned)
        };
        documents.filter_map(delta).collect()
    }

    /// The text of an answer in one piece.
    pub(crate) fn text_of_answer(self, answer: &Value) -> String {
        let text = match self {
            Self::Messages => &answer["content"][0]["text"],
            Self::Chat => &answer["choices"][0]["message"]["content"],
            Self::Responses => &answer["output"][0]["content"][0]["text"],
        };
        text.as_str().unwrap_or_default().to_owned()
    }

    /// A whole stream, event by event.
    pub(crate) fn events(self) -> Vec<&'static str> {
        match self {
            Self::Messages => vec![
                "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_1\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"m\",\"content\":[],\"stop_reason\":null,\"stop_sequence\":null,\"usage\":{\"input_tokens\":1,\"output_tokens\":1}}}\n\n",
                "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n",
                "event: ping\ndata: {\"type\":\"ping\"}\n\n",
                "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"Hello \"}}\n\n",
                "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"there\"}}\n\n",
                "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n",
                "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\",\"stop_sequence\":null},\"usage\":{\"output_tokens\":2}}\n\n",
                "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
            ],
            Self::Chat => vec![
                "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":null}]}\n\n",
                "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hello \"},\"finish_reason\":null}]}\n\n",
                "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"there\"},\"finish_reason\":null}]}\n\n",
                "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n",
                "data: [DONE]\n\n",
            ],
            Self::Responses => vec![
                "event: response.created\ndata: {\"type\":\"response.created\",\"sequence_number\":0,\"response\":{\"id\":\"r\",\"status\":\"in_progress\"}}\n\n",
                "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"sequence_number\":1,\"item_id\":\"m\",\"output_index\":0,\"content_index\":0,\"delta\":\"Hello \"}\n\n",
                "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"sequence_number\":2,\"item_id\":\"m\",\"output_index\":0,\"content_index\":0,\"delta\":\"there\"}\n\n",
                "event: response.completed\ndata: {\"type\":\"response.completed\",\"sequence_number\":3,\"response\":{\"id\":\"r\",\"status\":\"completed\"}}\n\n",
            ],
        }
    }

    /// How many of [`Tongue::events`] hold nothing of the answer yet.
    pub(crate) fn preamble(self) -> usize {
        match self {
            Self::Messages => 3,
            Self::Chat | Self::Responses => 1,
        }
    }

    /// The event without which no stream of this kind is whole.
    pub(crate) fn terminator(self) -> &'static str {
        match self {
            Self::Messages => "event: message_stop",
            Self::Chat => "data: [DONE]",
            Self::Responses => "event: response.completed",
        }
    }

    /// A word by which an error event of this kind is known, that no healthy stream has.
    pub(crate) fn error_mark(self) -> &'static str {
        match self {
            Self::Messages | Self::Responses => "event: error\n",
            Self::Chat => "data: {\"error\":",
        }
    }
}

impl Request {
    pub(crate) fn new(method: &str, target: &str) -> Self {
        let (method, target) = (method.to_owned(), target.to_owned());
        Self {
            method,
            target,
            fields: vec![("host".to_owned(), "app".to_owned())],
            body: Vec::new(),
        }
    }

    pub(crate) fn get(target: &str) -> Self {
        Self::new("GET", target)
    }

    /// A JSON body with its length.
    pub(crate) fn post(target: &str, body: impl Into<Vec<u8>>) -> Self {
        let body = body.into();
        let length = body.len().to_string();
        let request = Self::new("POST", target).header("content-type", "application/json");
        Self {
            body,
            ..request.header("content-length", &length)
        }
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.fields.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The same by another method.
    pub(crate) fn method(mut self, method: &str) -> Self {
        method.clone_into(&mut self.method);
        self
    }

    /// Another host than the usual one.
    pub(crate) fn host(mut self, host: &str) -> Self {
        host.clone_into(&mut self.fields[0].1);
        self
    }

    /// What the lab plays: one entry an attempt, counted by `key`. The key is a credential too, so that requests with
    /// different keys share no lane, and no test learns from another's failures.
    pub(crate) fn script(self, key: &str, script: &str) -> Self {
        self.header("x-lab-key", key)
            .header("x-goog-api-key", key)
            .header("x-lab-script", script)
    }

    /// The same for a client that makes its own frames.
    pub(crate) fn http(&self) -> (http::Request<()>, bytes::Bytes) {
        let mut request = http::Request::builder()
            .method(self.method.as_str())
            .uri(format!("http://app{}", self.target));
        for (name, value) in self.fields.iter().filter(|(name, _)| name != "host") {
            request = request.header(name, value);
        }
        let head = request.body(()).expect("a request");
        (head, self.body.clone().into())
    }

    /// The head alone.
    pub(crate) fn head(&self) -> String {
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        for (name, value) in &self.fields {
            head.extend([name.as_str(), ": ", value, "\r\n"]);
        }
        head + "\r\n"
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.head().into_bytes();
        bytes.extend_from_slice(&self.body);
        bytes
    }
}

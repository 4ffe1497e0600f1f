//! Our answer as an `OpenAI` response.

use serde::Serialize;

use super::{Draft, Form, deltas, wire};

#[derive(Serialize)]
pub(super) struct Response<'a> {
    id: String,
    object: &'static str,
    created_at: u64,
    status: &'static str,
    error: Option<()>,
    incomplete_details: Option<()>,
    instructions: Option<()>,
    metadata: Empty,
    model: &'a str,
    output: Vec<Item<'a>>,
    parallel_tool_calls: bool,
    temperature: Option<()>,
    tool_choice: &'static str,
    tools: [(); 0],
    top_p: Option<()>,
    usage: Option<Usage>,
}

#[derive(Serialize)]
struct Empty {}

#[derive(Serialize)]
struct Item<'a> {
    id: String,
    r#type: &'static str,
    status: &'static str,
    role: &'static str,
    content: Vec<Part<'a>>,
}

#[derive(Clone, Copy, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Part<'a> {
    OutputText { text: &'a str, annotations: [(); 0] },
    Refusal { refusal: &'a str },
}

/// Nothing was used: no model was called.
#[derive(Default, Serialize)]
struct Usage {
    input_tokens: u64,
    input_tokens_details: InputDetails,
    output_tokens: u64,
    output_tokens_details: OutputDetails,
    total_tokens: u64,
}

#[derive(Default, Serialize)]
struct InputDetails {
    cached_tokens: u64,
}

#[derive(Default, Serialize)]
struct OutputDetails {
    reasoning_tokens: u64,
}

/// One event of the stream: its type and number, then what is its own.
#[derive(Serialize)]
struct Event<'a> {
    r#type: &'static str,
    sequence_number: usize,
    #[serde(flatten)]
    body: Body<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Body<'a> {
    Response { response: Response<'a> },
    Item { output_index: u32, item: Item<'a> },
    Part(InPart<'a, PartOnly<'a>>),
    Text(InPart<'a, Text<'a>>),
}

/// What concerns the one part of the one item.
#[derive(Serialize)]
struct InPart<'a, T> {
    item_id: &'a str,
    output_index: u32,
    content_index: u32,
    #[serde(flatten)]
    rest: T,
}

#[derive(Serialize)]
struct PartOnly<'a> {
    part: Part<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Text<'a> {
    Delta { delta: &'a str, logprobs: [(); 0] },
    Done { text: &'a str, logprobs: [(); 0] },
    RefusalDelta { delta: &'a str },
    RefusalDone { refusal: &'a str },
}

pub(super) fn whole<'a>(draft: &Draft<'a>) -> Response<'a> {
    Response {
        status: "completed",
        output: vec![item(draft, "completed", vec![part(draft.form, draft.text)])],
        usage: Some(Usage::default()),
        ..announced(draft)
    }
}

/// All ten kinds of event: with fewer, raw streams work, but the helpers of some SDKs fail.
pub(super) fn stream(draft: &Draft<'_>) -> Vec<u8> {
    let item_id = item_id(draft);
    let item_id = item_id.as_str();
    let text_of = |text| Body::Text(InPart::new(item_id, text));
    let part_of = |text| {
        let part = part(draft.form, text);
        Body::Part(InPart::new(item_id, PartOnly { part }))
    };
    let item_of = |item| Body::Item {
        output_index: 0,
        item,
    };
    let (delta_type, done_type) = match draft.form {
        Form::Prose => ("response.output_text.delta", "response.output_text.done"),
        Form::Refusal => ("response.refusal.delta", "response.refusal.done"),
    };

    let mut bodies = vec![
        (
            "response.created",
            Body::Response {
                response: announced(draft),
            },
        ),
        (
            "response.in_progress",
            Body::Response {
                response: announced(draft),
            },
        ),
        (
            "response.output_item.added",
            item_of(item(draft, "in_progress", Vec::new())),
        ),
        ("response.content_part.added", part_of("")),
    ];
    bodies.extend(deltas(draft.text).map(|text| (delta_type, text_of(delta(draft.form, text)))));
    let whole_item = item(draft, "completed", vec![part(draft.form, draft.text)]);
    bodies.extend([
        (done_type, text_of(done(draft.form, draft.text))),
        ("response.content_part.done", part_of(draft.text)),
        ("response.output_item.done", item_of(whole_item)),
        (
            "response.completed",
            Body::Response {
                response: whole(draft),
            },
        ),
    ]);

    let mut out = Vec::with_capacity(4096);
    for (sequence_number, (r#type, body)) in bodies.into_iter().enumerate() {
        wire::push_event(
            &mut out,
            Some(r#type),
            &Event {
                r#type,
                sequence_number,
                body,
            },
        );
    }
    out
}

/// The id of the message within the response.
fn item_id(draft: &Draft<'_>) -> String {
    format!("msg_{}", draft.id)
}

/// The response as it stands before anything was said.
fn announced<'a>(draft: &Draft<'a>) -> Response<'a> {
    Response {
        id: format!("resp_{}", draft.id),
        object: "response",
        created_at: draft.unix_time,
        status: "in_progress",
        error: None,
        incomplete_details: None,
        instructions: None,
        metadata: Empty {},
        model: draft.model,
        output: Vec::new(),
        parallel_tool_calls: true,
        temperature: None,
        tool_choice: "auto",
        tools: [],
        top_p: None,
        usage: None,
    }
}

fn item<'a>(draft: &Draft<'_>, status: &'static str, content: Vec<Part<'a>>) -> Item<'a> {
    Item {
        id: item_id(draft),
        r#type: "message",
        status,
        role: "assistant",
        content,
    }
}

fn part(form: Form, text: &str) -> Part<'_> {
    match form {
        Form::Prose => Part::OutputText {
            text,
            annotations: [],
        },
        Form::Refusal => Part::Refusal { refusal: text },
    }
}

fn delta(form: Form, delta: &str) -> Text<'_> {
    match form {
        Form::Prose => Text::Delta {
            delta,
            logprobs: [],
        },
        Form::Refusal => Text::RefusalDelta { delta },
    }
}

fn done(form: Form, text: &str) -> Text<'_> {
    match form {
        Form::Prose => Text::Done { text, logprobs: [] },
        Form::Refusal => Text::RefusalDone { refusal: text },
    }
}

// === impl InPart ===

impl<'a, T> InPart<'a, T> {
    /// There is one item with one part.
    fn new(item_id: &'a str, rest: T) -> Self {
        Self {
            item_id,
            output_index: 0,
            content_index: 0,
            rest,
        }
    }
}

//! Our answer as an Anthropic message.

use serde::Serialize;

use super::{Draft, Form, deltas, wire};

#[derive(Serialize)]
pub(super) struct Message<'a> {
    id: String,
    r#type: &'static str,
    role: &'static str,
    model: &'a str,
    content: Vec<Block<'a>>,
    stop_reason: Option<&'static str>,
    stop_sequence: Option<()>,
    usage: Usage,
    #[serde(skip_serializing_if = "Option::is_none")]
    stop_details: Option<StopDetails<'a>>,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Block<'a> {
    Text { text: &'a str },
}

/// Nothing was used: no model was called.
#[derive(Serialize)]
struct Usage {
    input_tokens: u64,
    output_tokens: u64,
}

#[derive(Serialize)]
struct OutputUsage {
    output_tokens: u64,
}

/// With `content: []`, the one form of refusal that the parse helpers take for "no result".
#[derive(Serialize)]
struct StopDetails<'a> {
    r#type: &'static str,
    category: Option<()>,
    explanation: &'a str,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Event<'a> {
    MessageStart {
        message: Message<'a>,
    },
    ContentBlockStart {
        index: u32,
        content_block: Block<'a>,
    },
    ContentBlockDelta {
        index: u32,
        delta: Delta<'a>,
    },
    ContentBlockStop {
        index: u32,
    },
    MessageDelta {
        delta: Outcome<'a>,
        usage: OutputUsage,
    },
    MessageStop,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Delta<'a> {
    TextDelta { text: &'a str },
}

/// How the message ended.
#[expect(clippy::struct_field_names, reason = "the names are those of the API")]
#[derive(Serialize)]
struct Outcome<'a> {
    stop_reason: &'static str,
    stop_sequence: Option<()>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stop_details: Option<StopDetails<'a>>,
}

pub(super) fn whole<'a>(draft: &Draft<'a>) -> Message<'a> {
    let content = match draft.form {
        Form::Prose => vec![Block::Text { text: draft.text }],
        Form::Refusal => Vec::new(),
    };
    Message {
        content,
        stop_reason: Some(stop_reason(draft.form)),
        stop_details: stop_details(draft),
        ..announced(draft)
    }
}

pub(super) fn stream(draft: &Draft<'_>) -> Vec<u8> {
    let mut events = vec![Event::MessageStart {
        message: announced(draft),
    }];
    if draft.form == Form::Prose {
        events.push(Event::ContentBlockStart {
            index: 0,
            content_block: Block::Text { text: "" },
        });
        events.extend(deltas(draft.text).map(|text| Event::ContentBlockDelta {
            index: 0,
            delta: Delta::TextDelta { text },
        }));
        events.push(Event::ContentBlockStop { index: 0 });
    }
    events.push(Event::MessageDelta {
        delta: Outcome {
            stop_reason: stop_reason(draft.form),
            stop_sequence: None,
            stop_details: stop_details(draft),
        },
        usage: OutputUsage { output_tokens: 0 },
    });
    events.push(Event::MessageStop);

    let mut out = Vec::with_capacity(1024);
    for event in &events {
        wire::push_event(&mut out, Some(event.name()), event);
    }
    out
}

/// The message as it stands before anything was said.
fn announced<'a>(draft: &Draft<'a>) -> Message<'a> {
    Message {
        id: format!("msg_{}", draft.id),
        r#type: "message",
        role: "assistant",
        model: draft.model,
        content: Vec::new(),
        stop_reason: None,
        stop_sequence: None,
        usage: Usage {
            input_tokens: 0,
            output_tokens: 0,
        },
        stop_details: None,
    }
}

fn stop_reason(form: Form) -> &'static str {
    match form {
        Form::Prose => "end_turn",
        Form::Refusal => "refusal",
    }
}

fn stop_details<'a>(draft: &Draft<'a>) -> Option<StopDetails<'a>> {
    (draft.form == Form::Refusal).then_some(StopDetails {
        r#type: "refusal",
        category: None,
        explanation: draft.text,
    })
}

// === impl Event ===

impl Event<'_> {
    /// The `event:` line, which must say the same as the `type`: the SDKs go by the line.
    fn name(&self) -> &'static str {
        match self {
            Self::MessageStart { .. } => "message_start",
            Self::ContentBlockStart { .. } => "content_block_start",
            Self::ContentBlockDelta { .. } => "content_block_delta",
            Self::ContentBlockStop { .. } => "content_block_stop",
            Self::MessageDelta { .. } => "message_delta",
            Self::MessageStop => "message_stop",
        }
    }
}

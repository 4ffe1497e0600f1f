//! Our answer as an `OpenAI` chat completion.

use serde::Serialize;

use super::{Draft, Form, deltas, wire};

#[derive(Serialize)]
pub(super) struct Completion<'a> {
    #[serde(flatten)]
    head: Head<'a>,
    choices: [Choice<'a>; 1],
    usage: Usage,
}

/// One event of the stream. The helpers fail on a chunk that lacks any field of the head.
#[derive(Serialize)]
struct Chunk<'a> {
    #[serde(flatten)]
    head: Head<'a>,
    choices: Vec<ChunkChoice<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Usage>,
}

#[derive(Clone, Serialize)]
struct Head<'a> {
    id: String,
    object: &'static str,
    created: u64,
    model: &'a str,
}

#[derive(Serialize)]
struct Choice<'a> {
    index: u32,
    message: Message<'a>,
    logprobs: Option<()>,
    finish_reason: &'static str,
}

#[derive(Serialize)]
struct Message<'a> {
    role: &'static str,
    content: Option<&'a str>,
    refusal: Option<&'a str>,
}

#[derive(Serialize)]
struct ChunkChoice<'a> {
    index: u32,
    delta: Delta<'a>,
    logprobs: Option<()>,
    finish_reason: Option<&'static str>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Delta<'a> {
    Role(Message<'a>),
    Content { content: &'a str },
    Refusal { refusal: &'a str },
    Nothing {},
}

/// Nothing was used: no model was called.
#[expect(clippy::struct_field_names, reason = "the names are those of the API")]
#[derive(Serialize)]
struct Usage {
    prompt_tokens: u64,
    completion_tokens: u64,
    total_tokens: u64,
}

const NO_USAGE: Usage = Usage {
    prompt_tokens: 0,
    completion_tokens: 0,
    total_tokens: 0,
};

pub(super) fn whole<'a>(draft: &Draft<'a>) -> Completion<'a> {
    let choice = Choice {
        index: 0,
        message: message(draft.form, draft.text),
        logprobs: None,
        finish_reason: "stop",
    };
    Completion {
        head: head(draft, "chat.completion"),
        choices: [choice],
        usage: NO_USAGE,
    }
}

pub(super) fn stream(draft: &Draft<'_>) -> Vec<u8> {
    let head = head(draft, "chat.completion.chunk");
    let chunk = |delta, finish_reason| Chunk {
        head: head.clone(),
        choices: vec![ChunkChoice {
            index: 0,
            delta,
            logprobs: None,
            finish_reason,
        }],
        usage: None,
    };
    let mut chunks = vec![chunk(Delta::Role(message(draft.form, "")), None)];
    chunks.extend(deltas(draft.text).map(|text| match draft.form {
        Form::Prose => chunk(Delta::Content { content: text }, None),
        Form::Refusal => chunk(Delta::Refusal { refusal: text }, None),
    }));
    chunks.push(chunk(Delta::Nothing {}, Some("stop")));
    if draft.include_usage {
        // Only on request: applications that read `choices[0]` crash on this one.
        chunks.push(Chunk {
            head: head.clone(),
            choices: Vec::new(),
            usage: Some(NO_USAGE),
        });
    }

    let mut out = Vec::with_capacity(1024);
    for chunk in &chunks {
        wire::push_event(&mut out, None, chunk);
    }
    out.extend_from_slice(b"data: [DONE]\n\n");
    out
}

fn head<'a>(draft: &Draft<'a>, object: &'static str) -> Head<'a> {
    Head {
        id: format!("chatcmpl-{}", draft.id),
        object,
        created: draft.unix_time,
        model: draft.model,
    }
}

fn message(form: Form, text: &str) -> Message<'_> {
    let (content, refusal) = match form {
        Form::Prose => (Some(text), None),
        Form::Refusal => (None, Some(text)),
    };
    Message {
        role: "assistant",
        content,
        refusal,
    }
}

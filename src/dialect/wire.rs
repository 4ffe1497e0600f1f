//! Writes JSON and server-sent events.

use serde::Serialize;

/// Appends `value` as JSON on one line.
pub(super) fn push_json(out: &mut Vec<u8>, value: &impl Serialize) {
    serde_json::to_writer(out, value)
        .expect("structs of text and numbers serialise, and a vector takes every write");
}

/// Appends one event. `data` becomes one line, because JSON escapes line ends within text.
pub(super) fn push_event(out: &mut Vec<u8>, name: Option<&str>, data: &impl Serialize) {
    if let Some(name) = name {
        out.extend_from_slice(b"event: ");
        out.extend_from_slice(name.as_bytes());
        out.push(b'\n');
    }
    out.extend_from_slice(b"data: ");
    push_json(out, data);
    out.extend_from_slice(b"\n\n");
}

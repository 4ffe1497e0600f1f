//! Looks into JSON without building it.
//!
//! A request body can be tens of megabytes of prompt, and an event that carries
//! a whole response nearly as much; what this proxy needs of either is a few
//! short fields. So callers declare a struct of [`RawValue`]s, one for each
//! field that matters; the document is walked once, the fields come out as
//! slices of it, and everything else is skipped without being copied. Skipping
//! needs no recursion, so nesting of any depth is harmless.
//!
//! An object that has one of those keys twice is taken as unreadable. JSON
//! leaves open which one counts, and a proxy that guesses otherwise than the
//! upstream could be led to judge another request than the one that is executed.

use std::{borrow::Cow, ops::Range};

use serde::Deserialize;
use serde_json::value::RawValue;

/// The fields of `T` from the object that `json` is; `None` if it is not one well-formed object.
pub(super) fn object<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Option<T> {
    // Without this look, the values of an array would be taken for the fields in their order.
    if json.trim_ascii_start().first() != Some(&b'{') {
        return None;
    }
    serde_json::from_slice(json).ok()
}

/// [`object`] for a value found before; all fields absent if it is no object.
pub(super) fn object_in<'a, T: Deserialize<'a> + Default>(value: Option<&'a RawValue>) -> T {
    value
        .and_then(|value| object(value.get().as_bytes()))
        .unwrap_or_default()
}

/// The elements of the array that `json` is; none if it is no array.
pub(super) fn elements(json: &[u8]) -> Vec<&RawValue> {
    serde_json::from_slice(json).unwrap_or_default()
}

/// The text of a string of 1 to `max` bytes; `None` for anything else.
pub(super) fn text(value: Option<&RawValue>, max: usize) -> Option<Cow<'_, str>> {
    /// The longest spelling of one byte of text: `\u0041`.
    const LONGEST_ESCAPE: usize = 6;

    let quoted = value?.get();
    if quoted.len() > max.saturating_mul(LONGEST_ESCAPE).saturating_add(2) {
        return None;
    }
    let inner = quoted.strip_prefix('"')?.strip_suffix('"')?;
    let text = if inner.contains('\\') {
        Cow::Owned(serde_json::from_str(quoted).ok()?)
    } else {
        Cow::Borrowed(inner)
    };
    (1..=max).contains(&text.len()).then_some(text)
}

/// Where `value` stands in `document`; `None` if it is no slice of it.
pub(super) fn span(document: &[u8], value: Option<&RawValue>) -> Option<Range<usize>> {
    let value = value?.get();
    let start = value
        .as_ptr()
        .addr()
        .checked_sub(document.as_ptr().addr())?;
    let end = start.checked_add(value.len())?;
    (end <= document.len()).then_some(start..end)
}

/// `document` with other bytes at some places, given in their order, and every other byte as it was;
/// `None` if they overlap or lie outside.
pub(super) fn spliced(document: &[u8], edits: &[(Range<usize>, &[u8])]) -> Option<Vec<u8>> {
    let longer: usize = edits.iter().map(|(_, new)| new.len()).sum();
    let mut out = Vec::with_capacity(document.len() + longer);
    let mut at = 0;
    for (span, new) in edits {
        out.extend_from_slice(document.get(at..span.start)?);
        out.extend_from_slice(new);
        document.get(span.clone())?;
        at = span.end;
    }
    out.extend_from_slice(document.get(at..)?);
    Some(out)
}

/// Whether the value is the literal `true`.
pub(super) fn is_true(value: Option<&RawValue>) -> bool {
    value.is_some_and(|value| value.get() == "true")
}

/// Whether Python would take the value for true: how SDKs ask whether there was an error.
pub(super) fn is_truthy(value: Option<&RawValue>) -> bool {
    value.is_some_and(|value| !matches!(value.get(), "null" | "false" | "0" | "\"\"" | "{}" | "[]"))
}

/// A whole number that is not negative; `None` for anything else.
pub(super) fn whole_number(value: Option<&RawValue>) -> Option<u64> {
    value?.get().parse().ok()
}

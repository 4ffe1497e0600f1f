//! Looks into JSON without building it.
//!
//! A request body can be tens of megabytes of prompt, and an event that carries
//! a whole response nearly as much; what this proxy needs of either is a few
//! short fields. So callers declare a struct of [`RawValue`]s, one for each
//! field that matters; the document is walked once, the fields come out as
//! slices of it, and everything else is skipped without being copied. Skipping
//! needs no recursion, so nesting of any depth is harmless.
//!
//! What every request and every answer pays for is declared by [`fields!`] and
//! walked by our own [`Scan`], which costs a third of that.
//!
//! An object that has one of those keys twice is taken as unreadable. JSON
//! leaves open which one counts, and a proxy that guesses otherwise than the
//! upstream could be led to judge another request than the one that is executed.

use std::{borrow::Cow, ops::Range};

use serde::Deserialize;
use serde_json::value::RawValue;

use super::scan::{Entry, Scan};

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

/// A struct of the fields that matter, made by [`fields!`].
pub(super) trait Fields<'a>: Default {
    /// The place of the field with this key.
    fn slot(&mut self, key: &str) -> Option<&mut Option<&'a str>>;

    /// A field that is `null` is as if it were not there.
    fn without_nulls(self) -> Self;
}

/// Declares a struct of fields with their keys; each is the value as it is spelt, where it is there.
macro_rules! fields {
    ($(#[$about:meta])* $name:ident { $($field:ident: $key:literal,)* }) => {
        $(#[$about])*
        #[derive(Default)]
        struct $name<'a> {
            $($field: Option<&'a str>,)*
        }

        impl<'a> $crate::dialect::json::Fields<'a> for $name<'a> {
            fn slot(&mut self, key: &str) -> Option<&mut Option<&'a str>> {
                Some(match key {
                    $($key => &mut self.$field,)*
                    _ => return None,
                })
            }

            fn without_nulls(mut self) -> Self {
                $(self.$field = self.$field.filter(|value| *value != "null");)*
                self
            }
        }
    };
}
pub(super) use fields;

/// The fields of `T` from the object that `json` is; `None` if it is not one well-formed object.
pub(super) fn fields_of<'a, T: Fields<'a>>(json: &'a [u8]) -> Option<T> {
    let (mut found, mut scan) = (T::default(), Scan::new(json));
    let is_whole = take_fields(&mut found, &mut scan)? && scan.is_at_end();
    is_whole.then(|| found.without_nulls())
}

/// The fields of `T` that stand complete at the beginning of an object that is not all there; none, if one of them
/// stands there twice.
pub(super) fn fields_at_beginning<'a, T: Fields<'a>>(json: &'a [u8]) -> T {
    let mut found = T::default();
    // The text ends in the middle, so that its end is never found; what was found before counts.
    match take_fields(&mut found, &mut Scan::new(json)) {
        Some(false) => T::default(),
        _ => found.without_nulls(),
    }
}

/// [`fields_of`] a value found before; all fields absent if it is no object.
pub(super) fn fields_in<'a, T: Fields<'a>>(value: Option<&'a str>) -> T {
    value
        .and_then(|value| fields_of(value.as_bytes()))
        .unwrap_or_default()
}

/// Fills in what the object at `scan` has; `Some(false)` where it has one of the fields twice.
fn take_fields<'a, T: Fields<'a>>(found: &mut T, scan: &mut Scan<'a>) -> Option<bool> {
    scan.object()?;
    let mut entries = 0;
    while let Entry::Is(key, value) = scan.entry(entries)? {
        entries += 1;
        if let Some(slot) = found.slot(&key)
            && slot.replace(std::str::from_utf8(value).ok()?).is_some()
        {
            return Some(false);
        }
    }
    Some(true)
}

/// The one value that `json` is, as it is spelt.
pub(super) fn value(json: &[u8]) -> Option<&str> {
    let mut scan = Scan::new(json);
    scan.value()?;
    let is_whole = scan.is_at_end();
    std::str::from_utf8(json).ok().filter(|_| is_whole)
}

/// A value found in a document, as it is spelt there.
pub(super) trait Spelt<'a>: Copy {
    /// The spelling.
    fn spelt(self) -> &'a str;
}

impl<'a> Spelt<'a> for &'a str {
    fn spelt(self) -> &'a str {
        self
    }
}

impl<'a, T: Spelt<'a>> Spelt<'a> for &T {
    fn spelt(self) -> &'a str {
        (*self).spelt()
    }
}

impl<'a> Spelt<'a> for &'a RawValue {
    fn spelt(self) -> &'a str {
        self.get()
    }
}

/// The elements of the array that `json` is; none if it is no array.
pub(super) fn elements(json: &[u8]) -> Vec<&RawValue> {
    serde_json::from_slice(json).unwrap_or_default()
}

/// The text of a string of 1 to `max` bytes; `None` for anything else.
pub(super) fn text<'a>(value: Option<impl Spelt<'a>>, max: usize) -> Option<Cow<'a, str>> {
    /// The longest spelling of one byte of text: `\u0041`.
    const LONGEST_ESCAPE: usize = 6;

    let quoted = value?.spelt();
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
pub(super) fn span<'a>(document: &[u8], value: Option<impl Spelt<'a>>) -> Option<Range<usize>> {
    let value = value?.spelt();
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
pub(super) fn is_true<'a>(value: Option<impl Spelt<'a>>) -> bool {
    value.is_some_and(|value| value.spelt() == "true")
}

/// Whether Python would take the value for true: how SDKs ask whether there was an error.
pub(super) fn is_truthy<'a>(value: Option<impl Spelt<'a>>) -> bool {
    value.is_some_and(|value| {
        !matches!(value.spelt(), "null" | "false" | "0" | "\"\"" | "{}" | "[]")
    })
}

/// A whole number that is not negative; `None` for anything else.
pub(super) fn whole_number<'a>(value: Option<impl Spelt<'a>>) -> Option<u64> {
    value?.spelt().parse().ok()
}

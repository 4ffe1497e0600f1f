//! Reads the error bodies of all vendors, and the error events of their streams.

#[cfg(test)]
mod tests;

use std::{borrow::Cow, time::Duration};

use memchr::memmem;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    ErrorKind, ErrorSignal,
    codes::{kind_of_code, refine_by_message},
};
use crate::dialect::json;

/// The longest code that is read, in bytes.
const MAX_CODE_LEN: usize = 64;

/// The longest message that is searched for telling phrases, in bytes. Vendors'
/// own are shorter; a longer one is somebody else's text.
const MAX_MESSAGE_LEN: usize = 4096;

/// The outermost object of an error body or event.
#[derive(Deserialize)]
struct Outer<'a> {
    #[serde(borrow)]
    error: Option<&'a RawValue>,
    #[serde(borrow, rename = "type")]
    kind: Option<&'a RawValue>,
    #[serde(borrow)]
    object: Option<&'a RawValue>,
}

/// The object that tells the error.
#[derive(Default, Deserialize)]
struct Inner<'a> {
    #[serde(borrow)]
    message: Option<&'a RawValue>,
    #[serde(borrow, rename = "type")]
    kind: Option<&'a RawValue>,
    #[serde(borrow)]
    code: Option<&'a RawValue>,
    #[serde(borrow)]
    status: Option<&'a RawValue>,
    #[serde(borrow)]
    details: Option<&'a RawValue>,
    #[serde(borrow)]
    innererror: Option<&'a RawValue>,
}

/// The objects inside that one: Anthropic's and Gemini's details, Azure's inner error.
#[derive(Default, Deserialize)]
struct Detail<'a> {
    #[serde(borrow)]
    error_code: Option<&'a RawValue>,
    #[serde(borrow)]
    code: Option<&'a RawValue>,
    #[serde(borrow, rename = "retryDelay")]
    retry_delay: Option<&'a RawValue>,
}

/// What the error in this JSON is; `None` if the JSON holds none that can be recognised.
///
/// Understood are `{"error":{…}}` (`OpenAI`, Azure, Gemini, `OpenRouter`), the
/// same inside an array (Gemini), `{"type":"error","error":{…}}` (Anthropic),
/// the flat `{"type":"error","code":…}` (Responses) and `{"object":"error",…}`
/// (older compatible servers), and `{"error":"text"}`. A field `error` that is
/// null or empty is no error: whole answers carry one.
///
/// The work is linear in the body; bound its length before.
#[must_use]
pub fn read(body: &[u8]) -> Option<ErrorSignal> {
    if body.trim_ascii_start().first() == Some(&b'[') {
        return json::elements(body)
            .first()
            .and_then(|first| read_object(first.get().as_bytes()));
    }
    read_object(body)
}

fn read_object(body: &[u8]) -> Option<ErrorSignal> {
    let outer: Outer<'_> = json::object(body)?;
    if json::is_truthy(outer.error) {
        let Some(message) = json::text(outer.error, MAX_MESSAGE_LEN) else {
            return Some(signal(&json::object_in(outer.error)));
        };
        // A bare text: all there is to go by.
        return Some(ErrorSignal {
            kind: refine_by_message(ErrorKind::Unknown, &message),
            ..ErrorSignal::unknown()
        });
    }
    let is_flat = [outer.kind, outer.object]
        .into_iter()
        .any(|word| json::text(word, MAX_CODE_LEN).as_deref() == Some("error"));
    is_flat.then(|| {
        json::object(body)
            .as_ref()
            .map_or_else(ErrorSignal::unknown, signal)
    })
}

fn signal(error: &Inner<'_>) -> ErrorSignal {
    let codes = codes(error);
    let kinds = || codes.iter().map(|code| kind_of_code(code));
    let by_code = kinds()
        // What money cannot mend by waiting is decisive wherever it is said.
        .find(|kind| *kind == ErrorKind::Exhausted)
        .or_else(|| kinds().find(|kind| *kind != ErrorKind::Unknown))
        .unwrap_or(ErrorKind::Unknown);

    let message = json::text(error.message, MAX_MESSAGE_LEN).unwrap_or_default();
    let kind = match refine_by_message(by_code, &message) {
        ErrorKind::RateLimited if is_daily_quota(error.details) => ErrorKind::Exhausted,
        kind => kind,
    };
    ErrorSignal {
        kind,
        code: codes.into_iter().next().map(Cow::into_owned),
        retry_after: retry_delay(error.details),
    }
}

/// All codes that the error gives, the most specific first.
fn codes<'a>(error: &Inner<'a>) -> Vec<Cow<'a, str>> {
    let details: Detail<'_> = json::object_in(error.details);
    let inner: Detail<'_> = json::object_in(error.innererror);
    // A number says no more than the status of the answer, so words go first.
    let (words, numbers): (Vec<_>, Vec<_>) = [
        details.error_code,
        error.code,
        inner.code,
        error.kind,
        error.status,
    ]
    .into_iter()
    .filter_map(code)
    .filter(|code| !GENERIC_TYPES.contains(&code.as_ref()))
    .partition(|code| !code.bytes().all(|byte| byte.is_ascii_digit()));
    words.into_iter().chain(numbers).collect()
}

/// The `type` of a flat error event, which says nothing about the error.
const GENERIC_TYPES: [&str; 1] = ["error"];

/// A code given as a word or as a number.
fn code(value: Option<&RawValue>) -> Option<Cow<'_, str>> {
    let code = json::text(value, MAX_CODE_LEN)
        .or_else(|| json::whole_number(value).map(|number| Cow::Owned(number.to_string())))?;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    code.bytes().all(is_plain).then_some(code)
}

/// Whether Gemini's details name a quota that is counted by the day.
fn is_daily_quota(details: Option<&RawValue>) -> bool {
    details.is_some_and(|details| memmem::find(details.get().as_bytes(), b"PerDay").is_some())
}

/// Gemini's `retryDelay`, which is seconds as `"37s"` or `"37.5s"`.
fn retry_delay(details: Option<&RawValue>) -> Option<Duration> {
    json::elements(details?.get().as_bytes())
        .into_iter()
        .find_map(|detail| {
            let detail: Detail<'_> = json::object_in(Some(detail));
            let delay = json::text(detail.retry_delay, MAX_CODE_LEN)?;
            let seconds: f64 = delay.strip_suffix('s')?.parse().ok()?;
            Duration::try_from_secs_f64(seconds).ok()
        })
}

//! Taking JSON that was asked for out of the Markdown fence around it.
//!
//! Only plain answers: the fence of a stream is told from an answer's own backticks by its end, and by
//! then its beginning has long left.

use http::{HeaderValue, header};

use crate::{
    attempt::{Answer, Whole},
    body,
    call::Call,
    dialect::{Finish, Structured, fence, text},
    stream::coding,
};

/// Says that the text is not as the model wrote it.
const UNWRAPPED: &str = "x-surgetank-unwrapped";

/// What an answer's head says of bytes that are no longer the same.
const OF_THE_BYTES: [&str; 5] = [
    "content-encoding",
    "content-digest",
    "digest",
    "content-md5",
    "etag",
];

/// Takes the fence off every text of the answer that is one fence around JSON, where the request asked
/// for JSON and for nothing else. `None` where nothing was done, and then the answer is untouched.
pub(super) fn unwrap(call: &Call, answer: &mut Answer) -> Option<()> {
    let wants_json = matches!(
        call.ask.structured,
        Structured::JsonObject | Structured::JsonSchema
    );
    if !wants_json || call.ask.tools || call.ask.stream {
        return None;
    }
    let whole = answer.whole.as_ref()?;
    let reading = whole.reading;
    if reading.finish != Some(Finish::Stop) {
        return None;
    }
    let clear = coding::decode_whole(answer.response.headers(), &whole.bytes)?;
    let fenced: Vec<_> = text::sole_texts(call.dialect, &clear)
        .into_iter()
        .filter_map(|place| Some((text::at(&clear, &place)?, place)))
        .collect();
    let bare: Vec<_> = fenced
        .iter()
        .filter_map(|(text, place)| Some((place.clone(), fence::unfenced(text)?)))
        .collect();
    if bare.is_empty() {
        return None;
    }
    let bytes: bytes::Bytes = text::replace(&clear, &bare)?.into();
    let headers = answer.response.headers_mut();
    for name in OF_THE_BYTES {
        headers.remove(name);
    }
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(bytes.len()));
    headers.insert(UNWRAPPED, HeaderValue::from_static("true"));
    *answer.response.body_mut() = body::full(bytes.clone());
    answer.whole = Some(Whole { bytes, reading });
    Some(())
}

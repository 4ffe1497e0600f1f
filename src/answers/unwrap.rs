//! Taking JSON that was asked for out of the Markdown fence around it.
//!
//! Only plain answers: the fence of a stream is told from an answer's own backticks by its end, and by
//! then its beginning has long left.

use http::HeaderValue;

use super::with_bytes;
use crate::{
    attempt::Answer,
    call::Call,
    dialect::{Finish, Structured, fence, text},
    stream::coding,
};

/// Says that the text is not as the model wrote it.
const UNWRAPPED: &str = "x-surgetank-unwrapped";

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
    with_bytes(answer, text::replace(&clear, &bare)?.into(), reading);
    let headers = answer.response.headers_mut();
    headers.insert(UNWRAPPED, HeaderValue::from_static("true"));
    Some(())
}

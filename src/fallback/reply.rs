//! The friendly reply as a response.

use std::time::{SystemTime, UNIX_EPOCH};

use http::{HeaderValue, Method, Response, header};

use crate::{
    body::{self, Body},
    call::Call,
    dialect::reply,
    stream::head,
};

/// The reply in the shape that this request's SDK takes for an answer. `None` where no shape would
/// be honest: an endpoint without a sensible reply, or a request that refers to an earlier answer.
pub(super) fn render(call: &Call, text: &str) -> Option<Response<Body>> {
    if call.method != Method::POST {
        return None;
    }
    let unix_time = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let rendered = reply::render(
        call.dialect,
        &call.ask,
        &reply::ReplyText {
            text,
            id: call.id.as_str(),
            unix_time,
        },
    )?;
    let mut response = Response::new(body::full(rendered.body));
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static(rendered.content_type),
    );
    if rendered.streamed {
        head::events(headers);
    }
    call.id.name_in(headers, call.dialect);
    Some(response)
}

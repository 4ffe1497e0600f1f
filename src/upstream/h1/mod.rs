//! HTTP/1.1: a pool of connections of our own over hyper's, so that a request and its connection are one task.
//!
//! hyper writes requests, and reads the heads of answers and plain bodies. Streams of events are read without it
//! (decision 18).

mod answer;
mod apart;
mod chunks;
mod heads;
mod link;
mod pool;
mod socket;
mod switched;

use std::sync::Arc;

use http::{Request, Response, Uri, uri};

pub(super) use answer::{Plain, Stream};
pub(super) use apart::Interest;
pub use chunks::BrokenChunks;
pub(super) use heads::{MOST_INTERIM, TooManyInterim};
pub(super) use pool::Pool;
pub use switched::Switched;

use super::{SendError, answer::AnswerBody, unambiguous};
use crate::body::Body;

/// Sends `request` over a connection of `pool`, and waits for the head of its answer. A request that goes `apart` has
/// a body that is still coming.
pub(super) async fn send(
    pool: &Arc<Pool>,
    mut request: Box<Request<Body>>,
    apart: bool,
) -> Result<Response<AnswerBody>, SendError> {
    *request.uri_mut() = origin_form(request.uri());
    let link = pool.take().await;
    let link = link.map_err(|error| SendError::connecting(&error))?;
    if apart {
        let (response, interest) = Box::pin(link.send_apart(*request)).await?;
        let response = unambiguous(response)?;
        return Ok(response.map(|incoming| AnswerBody::apart(incoming, Some(interest))));
    }
    let (response, link) = link.send(request).await?;
    Ok(answer::body_of(unambiguous(response)?, link, pool))
}

/// The target as it stands in a request's first line (RFC 9112 §3.2.1).
fn origin_form(uri: &Uri) -> Uri {
    let mut parts = uri::Parts::default();
    parts.path_and_query = uri.path_and_query().cloned();
    Uri::from_parts(parts).unwrap_or_default()
}

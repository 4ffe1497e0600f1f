//! Plain answers: short, useless in part, and so held until they are whole.

use std::{collections::VecDeque, time::Duration};

use http::{HeaderValue, Response, header, response::Parts};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::time::{Instant, timeout_at};

use super::{Judging, failed, is, served};
use crate::{
    attempt::{Attempted, Cause},
    body,
    dialect::{Endpoint, answer},
    retry::triage::Transport,
};

/// The largest plain answer that is held until it is whole.
const MAX_WHOLE: usize = 1024 * 1024;

/// How long a plain answer is held after its head. Some vendors keep long calls alive with white
/// space; holding that back for ever would undo it.
const WHOLE_TIME: Duration = Duration::from_secs(20);

impl Judging<'_> {
    pub(super) fn should_be_whole(&self, parts: &Parts, body: &Incoming) -> bool {
        let generates = !matches!(self.call.dialect.endpoint(), Endpoint::Other);
        let small = body.size_hint().lower() <= MAX_WHOLE as u64;
        generates
            && small
            && self.call.method == http::Method::POST
            && is(&parts.headers, "application/json")
    }

    /// An answer that its token limit has cut is marked: it looks like any other, and is not one.
    fn mark_truncated(&self, parts: &mut Parts, whole: &[u8]) {
        let readable = !parts.headers.contains_key(header::CONTENT_ENCODING);
        if readable && answer::is_truncated(self.call.dialect, whole) {
            parts
                .headers
                .insert("x-surgetank-truncated", HeaderValue::from_static("true"));
            self.call.journal().truncated = true;
        }
    }

    /// Holds a plain answer until it is whole, so that one that is cut can be retried.
    pub(super) async fn whole(&self, mut parts: Parts, mut body: Incoming) -> Attempted {
        let commit_at = self.timer.at.min(Instant::now() + WHOLE_TIME);
        let (mut reserved, mut held, mut len) = (self.with.budget.open(), VecDeque::new(), 0);
        loop {
            // Too slow to hold on: the caller gets what there is.
            let Ok(frame) = timeout_at(commit_at, body.frame()).await else {
                break;
            };
            match frame {
                None => {
                    let whole = body::joined(held);
                    self.mark_truncated(&mut parts, &whole);
                    return Ok(served(Response::from_parts(parts, body::full(whole))));
                }
                Some(Err(_)) => return Err(failed(Transport::BodyCut, Cause::Cut)),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => {
                        len += data.len();
                        let fits = len <= MAX_WHOLE && reserved.grow(data.len());
                        held.push_back(data);
                        if !fits {
                            break;
                        }
                    }
                    // Trailers need the framing they came in.
                    Err(trailers) => {
                        let data = body::joined(held);
                        let whole =
                            body::with_trailers(data, trailers.into_trailers().unwrap_or_default());
                        return Ok(served(Response::from_parts(parts, whole)));
                    }
                },
            }
        }
        let relay = self.relay(body, held, Some(reserved), None);
        Ok(served(Response::from_parts(parts, relay)))
    }
}

//! Streams: judged by the first event that holds anything of the answer.
//!
//! Vendors greet before they know whether they can serve: `message_start`, a chunk with a role alone,
//! `response.created` come at once, and a moment later the word that the service is overloaded. A
//! caller who has the greeting cannot be given another answer, so the greeting is held back until
//! content shows that it is one, until an error shows that it is none, or until it has been held for
//! `stream.hold_preamble`: then it is the best sign of life that there is. What was held is released as
//! it came.

use std::collections::VecDeque;

use bytes::Bytes;
use http::{Response, header, response::Parts};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::time::{Instant, timeout_at};

use super::{Judging, failed, hint_of, served, signal_of};
use crate::{
    attempt::{Answer, Attempted, Cause},
    budget::Reservation,
    dialect::{End, ErrorSignal, Meaning},
    retry::triage::{Outcome, Transport, triage},
    stream::watch::Watch,
};

/// How much of a stream is held at most. Responses repeat the whole request in their greeting, tools
/// and all, and twice.
const MAX_HELD: usize = 512 * 1024;

/// The beginning of a stream, held back.
struct Prefix {
    pieces: VecDeque<Bytes>,
    len: usize,
    reserved: Reservation,
}

impl Prefix {
    /// Whether there is room for more.
    fn hold(&mut self, piece: Bytes) -> bool {
        self.len += piece.len();
        let fits = self.len <= MAX_HELD && self.reserved.grow(piece.len());
        self.pieces.push_back(piece);
        fits
    }
}

impl Judging<'_> {
    /// Reads until the stream has shown what it is, so that an error can still be retried.
    pub(super) async fn stream(&self, mut parts: Parts, mut body: Incoming) -> Attempted {
        // An error event may have to be added, so a declared length would be a promise we cannot keep.
        parts.headers.remove(header::CONTENT_LENGTH);
        let readable = !parts.headers.contains_key(header::CONTENT_ENCODING);
        let hold = self.call.route.policy.stream.hold_preamble;
        let is_wanted = |meaning: &Meaning| hold.is_zero() || !meaning.is_preamble();
        let mut watch = Watch::new(self.call.dialect);
        let mut prefix = Prefix {
            pieces: VecDeque::new(),
            len: 0,
            reserved: self.with.budget.open(),
        };
        let mut until = self.timer.at;
        loop {
            let Ok(frame) = timeout_at(until, body.frame()).await else {
                if prefix.len == 0 {
                    return Err(self.timer.failure());
                }
                break; // held long enough
            };
            let data = match frame {
                None if readable || prefix.len == 0 => {
                    return Err(failed(Transport::BodyCut, Cause::EmptyStream));
                }
                None => break,
                Some(Err(_)) => return Err(failed(Transport::BodyCut, Cause::Cut)),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => data,
                    Err(_) => continue, // trailers: the end follows
                },
            };
            if prefix.len == 0 && !hold.is_zero() {
                until = until.min(self.release_at(Instant::now() + hold));
            }
            let has_room = prefix.hold(data.clone());
            if !readable {
                break; // compressed: passed on unread
            }
            match watch.find(data, is_wanted) {
                None if has_room => {}
                Some(Meaning::Error(signal) | Meaning::End(End::Failed(signal))) => {
                    return Ok(self.stream_error(parts, body, prefix, watch, &signal));
                }
                None | Some(_) => break,
            }
        }
        watch.rest();
        let relay = self.relay(
            body,
            prefix.pieces,
            Some(prefix.reserved),
            readable.then_some(watch),
        );
        Ok(served(Response::from_parts(parts, relay.boxed_unsync())))
    }

    /// When the preamble leaves, content or not. Before a notice is given it is the better word: it has the real head.
    fn release_at(&self, held_until: Instant) -> Instant {
        let is_begun = self.call.journal().begun;
        let begins = self.call.late.filter(|_| !is_begun).map(|plan| plan.at);
        begins.map_or(held_until, |at| held_until.min(at))
    }

    /// An error where content should be: triaged as if the status had said it.
    fn stream_error(
        &self,
        parts: Parts,
        body: Incoming,
        prefix: Prefix,
        mut watch: Watch,
        signal: &ErrorSignal,
    ) -> Answer {
        watch.rest();
        let hint = hint_of(&parts.headers, Some(signal));
        let relay = self.relay(body, prefix.pieces, Some(prefix.reserved), Some(watch));
        let verdict = triage(&Outcome::StreamError {
            signal: signal_of(signal.kind),
        });
        Answer {
            response: Response::from_parts(parts, relay.boxed_unsync()),
            verdict,
            hint,
        }
    }
}

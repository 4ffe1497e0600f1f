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
use http::{Response, header};
use http_body_util::BodyExt as _;
use tokio::time::{Instant, timeout_at};

use super::{Arrived, Judging, failed, hint_of, served, signal_of};
use crate::{
    attempt::{Answer, Attempted, Cause, Failure},
    body::Body,
    budget::Reservation,
    dialect::{End, ErrorSignal, Meaning},
    retry::triage::{Outcome, Transport, triage},
    stream::{coding::Coding, watch::Watch},
    upstream::AnswerBody,
};

/// How much of a stream is held at most. Responses repeat the whole request in their greeting, tools
/// and all, and twice.
const MAX_HELD: usize = 512 * 1024;

/// The beginning of a stream, held back.
struct Prefix {
    pieces: VecDeque<Bytes>,
    len: usize,
    reserved: Reservation,
    /// Absent for a stream in a coding that is not read.
    watch: Option<Watch>,
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
    pub(super) async fn stream(&self, arrived: Box<Arrived>) -> Attempted {
        let Arrived {
            mut parts,
            mut body,
        } = *arrived;
        // An error event may have to be added, so a declared length would be a promise we cannot keep.
        parts.headers.remove(header::CONTENT_LENGTH);
        let reads_compressed = self.call.route.policy.answers.read_compressed;
        let coding = Coding::of(&parts.headers)
            .filter(|coding| reads_compressed || *coding == Coding::Identity);
        let mut prefix = Prefix {
            pieces: VecDeque::new(),
            len: 0,
            reserved: self.with.budget.open(),
            watch: coding.map(|coding| Watch::new(self.call.dialect, coding)),
        };
        let error = self.read_prefix(&mut body, &mut prefix).await?;
        if let Some(watch) = &mut prefix.watch {
            watch.rest();
        }
        let relay = self.relay(body, prefix.pieces, Some(prefix.reserved), prefix.watch);
        let relay = relay.timed_by(self.with.metrics.chunks_of(self.upstream));
        let response = Response::from_parts(parts, relay.boxed_unsync());
        Ok(match error {
            None => {
                self.with.metrics.first_token(&self.call);
                served(response)
            }
            Some(signal) => stream_error(response, &signal),
        })
    }

    /// Holds the stream's beginning until content shows in it, or an error, which is given.
    async fn read_prefix(
        &self,
        body: &mut AnswerBody,
        prefix: &mut Prefix,
    ) -> Result<Option<ErrorSignal>, Failure> {
        let hold = self.call.route.policy.stream.hold_preamble;
        let is_wanted = |meaning: &Meaning| hold.is_zero() || !meaning.is_preamble();
        let mut until = self.timer.at;
        loop {
            let Ok(frame) = timeout_at(until, body.frame()).await else {
                if prefix.len == 0 {
                    return Err(self.timer.failure());
                }
                return Ok(None); // held long enough
            };
            let data = match frame {
                None if prefix.watch.is_some() || prefix.len == 0 => {
                    return Err(failed(Transport::BodyCut, Cause::EmptyStream));
                }
                None => return Ok(None),
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
            let watch = prefix.watch.as_mut().filter(|watch| !watch.is_blind());
            match watch.map(|watch| watch.find(&data, is_wanted)) {
                Some(None) if has_room => {}
                Some(Some(Meaning::Error(signal) | Meaning::End(End::Failed(signal)))) => {
                    return Ok(Some(signal));
                }
                Some(_) | None => return Ok(None),
            }
        }
    }

    /// When the preamble leaves, content or not. Before a notice is given it is the better word: it has the real head.
    fn release_at(&self, held_until: Instant) -> Instant {
        let is_begun = self.call.journal().begun;
        let begins = self.call.late.filter(|_| !is_begun).map(|plan| plan.at);
        begins.map_or(held_until, |at| held_until.min(at))
    }
}

/// An error where content should be: triaged as if the status had said it.
fn stream_error(response: Response<Body>, signal: &ErrorSignal) -> Answer {
    let verdict = triage(&Outcome::StreamError {
        signal: signal_of(signal.kind),
    });
    Answer {
        hint: hint_of(response.headers(), Some(signal)),
        response,
        verdict,
        whole: None,
    }
}

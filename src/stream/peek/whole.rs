//! Plain answers: short, useless in part, and so held until they are whole.

use std::{collections::VecDeque, time::Duration};

use http::{HeaderValue, Response, StatusCode, response::Parts};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use tokio::time::{Instant, timeout_at};

use super::{Arrived, Judging, failed, served};
use crate::{
    attempt::{Answer, Attempted, Cause, Whole},
    body,
    config::OnTruncated,
    dialect::{Endpoint, Reading},
    headers::is_of_type,
    retry::triage::Transport,
    stream::skim::Skim,
};

/// The largest plain answer that is held until it is whole.
const MAX_WHOLE: usize = 1024 * 1024;

/// How long a plain answer is held after its head. Some vendors keep long calls alive with white
/// space; holding that back for ever would undo it.
const WHOLE_TIME: Duration = Duration::from_secs(20);

impl Judging<'_> {
    pub(super) fn should_be_whole(&self, arrived: &Arrived) -> bool {
        let small = arrived.body.size_hint().lower() <= MAX_WHOLE as u64;
        small && self.costs_tokens(&arrived.parts)
    }

    /// Whether this is the plain answer of an endpoint that counts in tokens.
    fn costs_tokens(&self, parts: &Parts) -> bool {
        !matches!(self.call.dialect.endpoint(), Endpoint::Other)
            && self.call.method == http::Method::POST
            && parts.status == StatusCode::OK
            && is_of_type(&parts.headers, "application/json")
    }

    /// Reads what a plain answer tells of itself, where it is one that does.
    fn skim(&self, parts: &Parts) -> Option<Skim> {
        let reads_compressed = self.call.route.policy.answers.read_compressed;
        self.costs_tokens(parts)
            .then(|| Skim::new(self.call.dialect, &parts.headers, reads_compressed))
            .flatten()
    }

    /// What a whole answer tells is known before its head leaves. One that its token limit has cut is
    /// marked: it looks like any other, and is not one.
    fn note_whole(&self, parts: &mut Parts, skim: Option<&Skim>) -> Option<Reading> {
        let reading = skim?.reading();
        let marks = self.call.route.policy.answers.on_truncated != OnTruncated::Ignore;
        if marks && reading.is_truncated() {
            parts
                .headers
                .insert("x-surgetank-truncated", HeaderValue::from_static("true"));
        }
        self.call.note_answer(reading);
        Some(reading)
    }

    /// Passes an answer on as it comes.
    pub(super) fn passing(&self, arrived: Arrived) -> Answer {
        let Arrived { parts, body } = arrived;
        let skim = self.skim(&parts);
        let relay = self
            .relay(body, VecDeque::new(), None, None)
            .skimmed_by(skim);
        served(Response::from_parts(parts, relay.boxed_unsync()))
    }

    /// Holds a plain answer until it is whole, so that one that is cut can be retried.
    pub(super) async fn whole(&self, mut arrived: Box<Arrived>) -> Attempted {
        let commit_at = self.timer.at.min(Instant::now() + WHOLE_TIME);
        let (mut reserved, mut held, mut len) = (self.with.budget.open(), VecDeque::new(), 0);
        let mut skim = self.skim(&arrived.parts);
        loop {
            // Too slow to hold on: the caller gets what there is.
            let Ok(frame) = timeout_at(commit_at, arrived.body.frame()).await else {
                break;
            };
            match frame {
                None => {
                    let bytes = body::joined(held);
                    let reading = self.note_whole(&mut arrived.parts, skim.as_ref());
                    let response = Response::from_parts(arrived.parts, body::full(bytes.clone()));
                    return Ok(Answer {
                        whole: reading.map(|reading| Whole { bytes, reading }),
                        ..served(response)
                    });
                }
                Some(Err(_)) => return Err(failed(Transport::BodyCut, Cause::Cut)),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => {
                        len += data.len();
                        if let Some(skim) = &mut skim {
                            skim.see(&data);
                        }
                        let fits = len <= MAX_WHOLE && reserved.grow(data.len());
                        held.push_back(data);
                        if !fits {
                            break;
                        }
                    }
                    // Trailers need the framing they came in.
                    Err(trailers) => {
                        self.note_whole(&mut arrived.parts, skim.as_ref());
                        let data = body::joined(held);
                        let whole =
                            body::with_trailers(data, trailers.into_trailers().unwrap_or_default());
                        return Ok(served(Response::from_parts(arrived.parts, whole)));
                    }
                },
            }
        }
        let Arrived { parts, body } = *arrived;
        let relay = self
            .relay(body, held, Some(reserved), None)
            .skimmed_by(skim);
        Ok(served(Response::from_parts(parts, relay.boxed_unsync())))
    }
}

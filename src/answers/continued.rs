//! Going on with a plain answer that its token limit has cut, where the route asks for that.
//!
//! The rest is another request, like any other, and so billed, prompt and all. The first answer is kept until the rest is
//! there, whole: if that fails, the caller gets what there is, marked as cut.

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderValue;
use tokio::time::Instant;
use tower::{Service, ServiceExt as _};

use super::{AnswersLayer, CONTINUED, Source, TRUNCATED, by, goes_on_freely, with_bytes};
use crate::{
    attempt::{Answer, Failure},
    body,
    budget::Reservation,
    call::{Attempt, Call, Sequel},
    dialect::{
        Finish, Reading,
        continuation::{Unfit, joined_plain, next_plain_request},
    },
    retry::triage::Class,
    stream::coding,
};

/// As metrics and marks name what is continued here.
const WHY: &str = "truncated";

impl AnswersLayer {
    /// The answer with its rest, as far as it can be had.
    pub(super) async fn or_continued<S>(
        &self,
        inner: S,
        call: &Arc<Call>,
        source: &Source,
        mut answer: Answer,
    ) -> Answer
    where
        S: Service<Attempt, Response = Answer, Error = Failure, Future: Send> + Clone,
    {
        // All parts stay held until the last one is there.
        let mut reserved = self.budget.open();
        for part in 0..call.route.policy.answers.max_continuations {
            let Some(first) = clear_and_cut(call, &answer) else {
                break;
            };
            // It lets go of everything but its bytes before the next request queues.
            let bytes = answer.whole.as_ref().map(|whole| whole.bytes.clone());
            answer.response = answer
                .response
                .map(|_| body::full(bytes.unwrap_or_default()));
            let longer = longer(inner.clone(), call, source, &first, &mut reserved).await;
            let outcome = longer
                .as_ref()
                .map_or_else(|reason| *reason, |_| "continued");
            // After a first continuation, that there is no further one is no second failure.
            if part == 0 || outcome != "spent" {
                let labels = [call.route.name(), WHY, outcome];
                self.metrics.continued.with_label_values(&labels).inc();
            }
            let Ok((bytes, reading)) = longer else { break };
            with_bytes(&mut answer, bytes, reading);
            let headers = answer.response.headers_mut();
            headers.insert(CONTINUED, HeaderValue::from_static(WHY));
            if !reading.is_truncated() {
                headers.remove(TRUNCATED);
            }
        }
        answer
    }
}

/// `first` with its rest and how that ended, or why there is none.
async fn longer<S>(
    inner: S,
    call: &Arc<Call>,
    source: &Source,
    first: &Bytes,
    reserved: &mut Reservation,
) -> Result<(Bytes, Reading), &'static str>
where
    S: Service<Attempt, Response = Answer, Error = Failure, Future: Send>,
{
    if call.attempts_left() == 0 || call.deadline.end_by() <= Instant::now() {
        return Err("spent");
    }
    let request = call.payload.bytes().ok_or("memory")?;
    let body = next_plain_request(call.dialect, &request, first, by(call));
    let body: Bytes = body.map_err(Unfit::as_str)?.into();
    if !reserved.grow(first.len() + body.len()) {
        return Err("memory");
    }
    let sequel = Sequel {
        target: None,
        body,
        retries: 1,
    };
    let before = call.journal().clone();
    let attempt = Attempt::new(call.clone(), source.upstream.clone(), source.lane.clone());
    let rest = inner.oneshot(attempt.with(Some(Arc::new(sequel)))).await;
    let joined = joined(call, first, rest.ok());
    if joined.is_err() {
        call.journal().is_served_by(before);
    }
    joined
}

/// The parts as one, if the second came whole and well.
fn joined(
    call: &Call,
    first: &Bytes,
    rest: Option<Answer>,
) -> Result<(Bytes, Reading), &'static str> {
    let served = rest.filter(|rest| rest.verdict.class == Class::Served);
    let (response, whole) = served
        .and_then(|rest| Some((rest.response, rest.whole?)))
        .ok_or("failed")?;
    let clear = coding::decode_whole(response.headers(), &whole.bytes).ok_or("unreadable")?;
    let joined = joined_plain(call.dialect, first, &clear).map_err(Unfit::as_str)?;
    Ok((joined.into(), whole.reading))
}

/// The bytes of an answer that its token limit has cut, without their coding, where they may be gone on with.
fn clear_and_cut(call: &Call, answer: &Answer) -> Option<Bytes> {
    let whole = answer.whole.as_ref()?;
    let is_cut = whole.reading.finish == Some(Finish::Length);
    if !is_cut || call.ask.stream || !goes_on_freely(call) {
        return None;
    }
    coding::decode_whole(answer.response.headers(), &whole.bytes)
}

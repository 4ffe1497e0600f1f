//! Answers that came, and are not what they should be: cut by their token limit, or in a Markdown fence.
//!
//! Whatever is done to an answer here makes it another than the vendor gave. So nothing is done unless
//! the route asks for it; what is done is narrow and marked; and wherever a doubt is left, the answer
//! stays as it came.
//!
//! The layer stands outside retry, because what it asks for in addition is a request like any other:
//! it waits for its turn, is judged, and holds nothing while it waits.

mod continued;
mod joined;
mod larger;
mod unwrap;

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderValue, header};
use tokio::time::Instant;
use tower::{Layer, Service};

use crate::{
    attempt::{Answer, Attempted, Failure, Whole},
    body,
    budget::Budget,
    call::{Attempt, Call},
    config::{self, ContinueBy, OnBroken, OnTruncated},
    dialect::{Reading, Structured, continuation::By},
    lane::Lane,
    retry::triage::Class,
    stacked::Stacked,
    telemetry::Metrics,
    upstream::Upstream,
};

/// Says that an answer is two joined together, and why.
const CONTINUED: &str = "x-surgetank-continued";

/// Says that an answer was cut.
const TRUNCATED: &str = "x-surgetank-truncated";

/// What an answer's head says of bytes that are no longer the same.
const OF_THE_BYTES: [&str; 5] = [
    "content-encoding",
    "content-digest",
    "digest",
    "content-md5",
    "etag",
];

/// Adds the treatment of unsatisfactory answers to a service of attempts.
#[derive(Clone, Debug)]
pub struct AnswersLayer {
    /// Memory for answers that are held.
    pub budget: Budget,
    /// Counts what is done.
    pub metrics: Arc<Metrics>,
}

impl<S: Clone> Layer<S> for AnswersLayer {
    type Service = Answers<S>;

    fn layer(&self, inner: S) -> Answers<S> {
        Answers(Stacked::new(self.clone(), inner))
    }
}

/// Gives an attempt's answer, or what was made of it.
#[derive(Clone, Debug)]
pub struct Answers<S>(Stacked<AnswersLayer, S>);

impl<S> Service<Attempt> for Answers<S>
where
    S: Service<Attempt, Response = Answer, Error = Failure, Future = BoxFuture<'static, Attempted>>
        + Clone
        + Send
        + Sync
        + 'static,
{
    type Response = Answer;
    type Error = Failure;
    type Future = BoxFuture<'static, Attempted>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, attempt: Attempt) -> Self::Future {
        if !is_anything_done(&attempt.call.route.policy.answers) {
            return self.0.below().call(attempt);
        }
        Box::pin(answer(self.0.clone(), attempt))
    }
}

/// Whether the route asks for any of the treatments: by default it does not.
fn is_anything_done(policy: &config::Answers) -> bool {
    policy.unwrap_json
        || policy.on_broken == OnBroken::Continue
        || matches!(
            policy.on_truncated,
            OnTruncated::RetryLarger | OnTruncated::Continue
        )
}

/// Where an answer came from, so that more can be asked for there.
struct Source {
    upstream: Arc<Upstream>,
    lane: Arc<Lane>,
    /// When the first attempt was begun.
    began: Instant,
}

async fn answer<S>(with: Stacked<AnswersLayer, S>, attempt: Attempt) -> Attempted
where
    S: Service<Attempt, Response = Answer, Error = Failure, Future: Send> + Clone + Send + 'static,
{
    let call = attempt.call.clone();
    let source = Source {
        upstream: attempt.upstream.clone(),
        lane: attempt.lane.clone(),
        began: Instant::now(),
    };
    let mut answer = with.below().call(attempt).await?;
    if answer.verdict.class == Class::Served {
        let policy = &call.route.policy.answers;
        answer = match policy.on_truncated {
            OnTruncated::RetryLarger => with.or_larger(with.below(), &call, &source, answer).await,
            OnTruncated::Continue => {
                with.or_continued(with.below(), &call, &source, answer)
                    .await
            }
            OnTruncated::Mark | OnTruncated::Ignore => answer,
        };
        if policy.unwrap_json && unwrap::unwrap(&call, &mut answer).is_some() {
            let labels = [call.route.name()];
            with.metrics.unwrapped.with_label_values(&labels).inc();
        }
    }
    Ok(with.or_joined(with.below(), &call, source, answer))
}

/// Puts other bytes in the place of a whole answer's, in clear text.
fn with_bytes(answer: &mut Answer, bytes: Bytes, reading: Reading) {
    let headers = answer.response.headers_mut();
    for name in OF_THE_BYTES {
        headers.remove(name);
    }
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(bytes.len()));
    *answer.response.body_mut() = body::full(bytes.clone());
    answer.whole = Some(Whole { bytes, reading });
}

/// Whether a second request can go on with this one's answer: neither with JSON nor with a state at the vendor, and not
/// where nobody knows whether it is about either.
fn goes_on_freely(call: &Call) -> bool {
    call.ask.is_understood && call.ask.structured == Structured::No && !call.ask.chained
}

/// How the route wants a model to be asked to go on.
fn by(call: &Call) -> By {
    match call.route.policy.answers.continue_by {
        ContinueBy::Message => By::Message,
        ContinueBy::Prefill => By::Prefill,
    }
}

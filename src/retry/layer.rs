//! Retry as a tower layer: a thin shell around [`super::plan`].
//!
//! It stands outside everything that belongs to one attempt. While it waits, the failed attempt is
//! already gone: its body is dropped, its connection closed or returned, no permit held.

use std::{
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::future::BoxFuture;
use tokio::time::Instant;
use tower::{Layer, Service};

use super::{
    plan::{self, Plan, Situation, StopReason, WaitCause},
    triage::Class,
    tries::Tries,
};
use crate::{
    attempt::{Answer, Attempted, Cause, Failure, verdict_of},
    call::{Attempt, Call, FailedTry, Sequel},
    lane::{Lane, RetryClass, RetryRight},
    stacked::Stacked,
    stream::late::{Retry as Number, What},
    telemetry::Metrics,
    upstream::Upstream,
};

/// Adds retries to a service of attempts.
#[derive(Clone, Debug)]
pub struct RetryLayer {
    /// Attempts and the reasons for no further one.
    pub metrics: Arc<Metrics>,
}

impl<S: Clone> Layer<S> for RetryLayer {
    type Service = Retry<S>;

    fn layer(&self, inner: S) -> Retry<S> {
        Retry(Stacked::new(self.clone(), inner))
    }
}

/// Repeats failed attempts on one upstream.
#[derive(Clone, Debug)]
pub struct Retry<S>(Stacked<RetryLayer, S>);

impl<S> Service<Attempt> for Retry<S>
where
    S: Service<Attempt, Response = Answer, Error = Failure, Future: Send>
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
        Box::pin(repeat(self.0.clone(), attempt))
    }
}

async fn repeat<S>(with: Stacked<RetryLayer, S>, mut attempt: Attempt) -> Attempted
where
    S: Service<Attempt, Response = Answer, Error = Failure, Future: Send> + Clone + Send + 'static,
{
    let mut course = Course::begin(&with.metrics, &attempt);
    loop {
        let attempted = with.below().call(attempt).await;
        course.note_result(&attempted);
        match course.next(&attempted) {
            Err(reason) => {
                course.note_stop(reason);
                return attempted;
            }
            Ok((wait, cause, right)) => {
                // Gone before the wait begins: nothing is held while nothing happens.
                drop(attempted);
                Box::pin(course.pause(wait, cause)).await;
                attempt = course.again(right);
            }
        }
    }
}

/// One request's attempts on one upstream.
struct Course<'a> {
    metrics: &'a Metrics,
    call: Arc<Call>,
    upstream: Arc<Upstream>,
    lane: Arc<Lane>,
    sequel: Option<Arc<Sequel>>,
    tries: Tries,
    is_retry: bool,
}

impl<'a> Course<'a> {
    fn begin(metrics: &'a Metrics, first: &Attempt) -> Self {
        // Another upstream's retries are no news any more.
        first.call.journal().awaiting.retry = None;
        Self {
            metrics,
            call: first.call.clone(),
            upstream: first.upstream.clone(),
            lane: first.lane.clone(),
            tries: Tries::new(match &first.sequel {
                Some(sequel) => sequel.retries,
                None => first.call.wishes.retries,
            }),
            sequel: first.sequel.clone(),
            is_retry: false,
        }
    }

    fn note_result(&self, attempted: &Attempted) {
        let class = verdict_of(attempted).class;
        // What the lane held back was no attempt.
        let held_back = matches!(
            attempted,
            Err(Failure {
                cause: Cause::Refused(_),
                ..
            })
        );
        self.note_class(class, held_back);
        if !held_back {
            self.call.note_judged(class);
            self.metrics
                .judged(&self.upstream, &self.lane, class, self.is_retry);
        }
    }

    fn note_class(&self, class: Class, held_back: bool) {
        let mut journal = self.call.journal();
        journal.class = Some(class);
        // A request that is held back has failed for what its last real try met.
        let is_news = !held_back || journal.failed.is_none();
        if class != Class::Served && is_news {
            journal.failed = Some(FailedTry {
                upstream: self.upstream.name.clone(),
                class,
                status: journal.upstream_status.filter(|_| !held_back),
            });
        }
    }

    /// How long to wait for the next attempt and for what, and the right to it; or why there is none.
    fn next(
        &mut self,
        attempted: &Attempted,
    ) -> Result<(Duration, WaitCause, RetryRight), StopReason> {
        if verdict_of(attempted).class == Class::Served {
            // The plan would say the same; most requests need no further look.
            return Err(StopReason::NotRetryable);
        }
        let situation = self.situation(attempted);
        // The random source belongs to its thread and must not live across an await.
        let plan = self.call.route.retry.plan(&situation, &mut rand::rng());
        let (wait, cause) = match plan {
            Plan::Stop(reason) => return Err(reason),
            Plan::RetryAfter { wait, cause } => (wait, cause),
        };
        // The right is drawn before the wait and held through it: a wait without one would be in vain.
        let class = situation.verdict.class;
        let right = self
            .lane
            .may_retry(kind_of(class))
            .ok_or(StopReason::Quota)?;
        self.tries.note(&plan);
        self.call.journal().awaiting.retry = Some(Number {
            number: self.tries.attempts() - 1,
            of: self.tries.allowed() + u32::from(self.tries.is_free_used()),
        });
        tracing::debug!(
            request_id = self.call.id.as_str(),
            upstream = self.upstream.name.as_ref(),
            class = class.as_str(),
            cause = cause.as_str(),
            wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
            "an attempt failed and will be repeated"
        );
        Ok((wait, cause, right))
    }

    fn situation(&self, attempted: &Attempted) -> Situation {
        let (call, now) = (&self.call, Instant::now());
        Situation {
            verdict: verdict_of(attempted),
            hint: attempted.as_ref().ok().and_then(|answer| answer.hint),
            tries: self.tries,
            attempts_left: call.attempts_left(),
            // A sequel has its own body, also after the caller's was let go.
            replayable: self.sequel.is_some() || call.payload.is_replayable(),
            idempotent: plan::is_idempotent(call.method.as_str()),
            patience_left: call.patience(now),
            deadline_left: Some(call.deadline.remaining(now)),
        }
    }

    fn note_stop(&self, reason: StopReason) {
        // "Not retryable" is the fate of every served request; only a denied retry is news.
        if reason != StopReason::NotRetryable {
            let lane = self.lane.label().as_str();
            let labels = [self.upstream.name.as_ref(), lane, reason.as_str()];
            self.metrics.retries_denied.with_label_values(&labels).inc();
            self.call.journal().gave_up = Some(reason.as_str());
        }
    }

    async fn pause(&self, wait: Duration, cause: WaitCause) {
        if wait.is_zero() {
            return;
        }
        let began = Instant::now();
        self.call.journal().awaiting.what = What::Pause(began + wait);
        tokio::time::sleep(wait).await;
        let waited = began.elapsed();
        let mut journal = self.call.journal();
        journal.waited += waited;
        let (reason, sum) = match cause {
            WaitCause::Hint(_) => ("hint", &mut journal.hint_waits),
            WaitCause::Backoff | WaitCause::Immediate => ("backoff", &mut journal.backoff_waits),
        };
        *sum += waited;
        self.metrics.waited(reason, waited);
    }

    fn again(&mut self, right: RetryRight) -> Attempt {
        self.is_retry = true;
        let (call, upstream) = (self.call.clone(), self.upstream.clone());
        let attempt = Attempt::new(call, upstream, self.lane.clone()).with(self.sequel.clone());
        self.metrics.resent_bytes.inc_by(attempt.body_len() as u64);
        Attempt {
            right: Some(right),
            ..attempt
        }
    }
}

/// What a retry after this kind of failure costs the lane's quota of retries.
pub(crate) fn kind_of(class: Class) -> RetryClass {
    match class {
        Class::Unsent => RetryClass::Unsent,
        Class::Throttled => RetryClass::Throttle,
        Class::Overloaded => RetryClass::Overload,
        _ => RetryClass::Failure,
    }
}

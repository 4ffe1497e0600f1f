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
use tower::{Layer, Service, ServiceExt as _};

use super::{
    plan::{self, Plan, Policy, Situation, StopReason},
    triage::Class,
    tries::Tries,
};
use crate::{
    attempt::{Answer, Attempted, Cause, Failure},
    call::{Attempt, Call},
    lane::RetryClass,
    telemetry::Metrics,
};

/// Adds retries to a service of attempts.
#[derive(Clone, Debug)]
pub struct RetryLayer {
    /// Attempts and the reasons for no further one.
    pub metrics: Arc<Metrics>,
}

impl<S> Layer<S> for RetryLayer {
    type Service = Retry<S>;

    fn layer(&self, inner: S) -> Retry<S> {
        Retry {
            inner,
            metrics: self.metrics.clone(),
        }
    }
}

/// Repeats failed attempts on one upstream.
#[derive(Clone, Debug)]
pub struct Retry<S> {
    inner: S,
    metrics: Arc<Metrics>,
}

impl<S> Service<Attempt> for Retry<S>
where
    S: Service<Attempt, Response = Answer, Error = Failure, Future: Send> + Clone + Send + 'static,
{
    type Response = Answer;
    type Error = Failure;
    type Future = BoxFuture<'static, Attempted>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        // Each attempt makes its own clone ready: readiness won now could be stale after a wait.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, attempt: Attempt) -> Self::Future {
        let (inner, metrics) = (self.inner.clone(), self.metrics.clone());
        Box::pin(repeat(inner, metrics, attempt))
    }
}

async fn repeat<S>(inner: S, metrics: Arc<Metrics>, first: Attempt) -> Attempted
where
    S: Service<Attempt, Response = Answer, Error = Failure, Future: Send> + Clone + Send + 'static,
{
    let (call, upstream, lane) = (
        first.call.clone(),
        first.upstream.clone(),
        first.lane.clone(),
    );
    let policy = call.route.retry;
    let mut tries = Tries::new(call.wishes.retries);
    let mut attempt = first;
    let mut is_retry = false;
    loop {
        if is_retry {
            metrics
                .resent_bytes
                .inc_by(call.payload.bytes().map_or(0, |bytes| bytes.len() as u64));
        }
        let attempted = inner.clone().oneshot(attempt).await;
        let (verdict, hint) = match &attempted {
            Ok(answer) => (answer.verdict, answer.hint),
            Err(failure) => (failure.verdict, None),
        };
        if was_sent(&attempted) {
            let kind = if is_retry { "retry" } else { "first" };
            metrics
                .attempts
                .with_label_values(&[upstream.name.as_ref(), verdict.class.as_str(), kind])
                .inc();
        }
        call.journal().class = Some(verdict.class);

        let now = Instant::now();
        let situation = Situation {
            verdict,
            hint,
            tries,
            replayable: call.payload.is_replayable(),
            idempotent: plan::is_idempotent(call.method.as_str()),
            patience_left: call
                .route
                .policy
                .retry
                .patience
                .saturating_sub(call.journal().waited),
            deadline_left: Some(call.deadline.remaining(now)),
        };
        let (plan, right) = match (decide(&policy, &situation), kind_of(verdict.class)) {
            // The right is drawn before the wait and held through it: a wait without one would be in vain.
            (plan @ Plan::RetryAfter { .. }, kind) => match lane.may_retry(kind) {
                Some(right) => (plan, Some(right)),
                None => (Plan::Stop(StopReason::Quota), None),
            },
            (stop, _) => (stop, None),
        };
        tries.note(&plan);
        match plan {
            Plan::Stop(reason) => {
                note_stop(&call, &upstream.name, &metrics, reason);
                return attempted;
            }
            Plan::RetryAfter { wait, cause } => {
                // Gone before the wait begins: nothing is held while nothing happens.
                drop(attempted);
                tracing::debug!(
                    request_id = call.id.as_str(),
                    upstream = upstream.name.as_ref(),
                    class = verdict.class.as_str(),
                    cause = cause.as_str(),
                    wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
                    "an attempt failed and will be repeated"
                );
                pause(&call, &metrics, wait).await;
                attempt = Attempt {
                    right,
                    ..Attempt::new(call.clone(), upstream.clone(), lane.clone())
                };
                is_retry = true;
            }
        }
    }
}

/// The random source must not live across an await: it belongs to its thread.
fn decide(policy: &Policy, situation: &Situation) -> Plan {
    policy.plan(situation, &mut rand::rng())
}

/// What a retry after this kind of failure costs the lane's quota of retries.
fn kind_of(class: Class) -> RetryClass {
    match class {
        Class::Unsent => RetryClass::Unsent,
        Class::Throttled => RetryClass::Throttle,
        _ => RetryClass::Failure,
    }
}

/// What the lane held back was no attempt.
fn was_sent(attempted: &Attempted) -> bool {
    !matches!(
        attempted,
        Err(Failure {
            cause: Cause::Refused(_),
            ..
        })
    )
}

fn note_stop(call: &Call, upstream: &str, metrics: &Metrics, reason: StopReason) {
    // "Not retryable" is the fate of every served request; only a denied retry is news.
    if reason != StopReason::NotRetryable {
        metrics
            .retries_denied
            .with_label_values(&[upstream, reason.as_str()])
            .inc();
        call.journal().gave_up = Some(reason.as_str());
    }
}

async fn pause(call: &Call, metrics: &Metrics, wait: Duration) {
    if wait.is_zero() {
        return;
    }
    let began = Instant::now();
    tokio::time::sleep(wait).await;
    let waited = began.elapsed();
    metrics.waited("retry", waited);
    call.journal().waited += waited;
}

//! A user's own limit as a tower layer: the shell around [`super::table`].
//!
//! It stands before everything that costs the upstream something. The permit travels in the answer's
//! body, so a request counts as running until its last byte, not until its head.

use std::{
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use tokio::time::Instant;
use tower::{Layer, Service, ServiceExt as _};

use super::{
    fields,
    gcra::{Rule, RuleError},
    standing::{Denied, DeniedBy, Limits, Standing},
    table::{Admission, Table},
};
use crate::{
    attempt::Failure,
    body,
    call::Call,
    config::{self, WhenExceeded},
    fallback::Finished,
    rescue::Stop,
    stream::late::What,
    telemetry::Metrics,
};

/// A waiter for a place among the concurrent requests looks again after this time: which request
/// ends next, and when, is not known.
const CONCURRENCY_LOOK: Duration = Duration::from_millis(50);

/// The limits of all users of one or several routes, and what those users have used.
#[derive(Debug)]
pub struct Limiter {
    table: Table,
    /// How long a request above the limit may wait for its turn; zero refuses at once.
    max_wait: Duration,
}

impl Limiter {
    /// Starts with users who have used nothing.
    ///
    /// # Errors
    /// When the rate cannot be counted exactly; the text says why.
    pub fn new(
        limits: &config::PerUser,
        max_users: usize,
        now: Instant,
    ) -> Result<Self, RuleError> {
        let rate = |rate: config::Rate| {
            let count = u32::try_from(rate.count).unwrap_or(u32::MAX);
            Rule::new(count, rate.per, limits.burst().unwrap_or(rate.count))
        };
        let rules = Limits {
            rate: limits.requests.map(rate).transpose()?,
            concurrent: limits.concurrent,
        };
        let max_wait = match limits.when_exceeded {
            WhenExceeded::Reject => Duration::ZERO,
            WhenExceeded::Wait => limits.max_wait,
        };
        Ok(Self {
            table: Table::new(rules, max_users, now),
            max_wait,
        })
    }

    /// Users that are remembered now.
    #[must_use]
    pub fn users(&self) -> usize {
        self.table.stats().users
    }

    /// Admits the call's user, after a wait where that is allowed and in time.
    async fn admit(&self, call: &Call, metrics: &Metrics) -> Result<Admission, OverLimit> {
        let began = Instant::now();
        let longest = call.wait_of(self.max_wait);
        let give_up = call.deadline.answer_by().min(began + longest);
        loop {
            let now = Instant::now();
            let denied = match self.table.admit(call.user, now) {
                Ok(admission) => return Ok(admission),
                Err(denied) => denied,
            };
            let pause = match denied.by {
                DeniedBy::Rate => denied.retry_after,
                DeniedBy::Concurrency => CONCURRENCY_LOOK,
            };
            // A wait that cannot succeed is not begun.
            if now + pause > give_up {
                metrics
                    .limited
                    .with_label_values(&[denied.by.as_str()])
                    .inc();
                return Err(OverLimit(denied));
            }
            call.journal().awaiting.what = What::Limit(now + pause);
            tokio::time::sleep(pause).await;
            metrics.waited("limit", pause);
            let mut journal = call.journal();
            journal.waited += pause;
            journal.limit_waits += pause;
        }
    }
}

/// A user asks for more than its limit.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct OverLimit(Denied);

impl OverLimit {
    /// When to come back, in every form that SDKs read.
    pub fn fields(&self, headers: &mut HeaderMap) {
        headers.insert(
            header::RETRY_AFTER,
            HeaderValue::from(fields::retry_after(self.0.retry_after)),
        );
        standing_fields(&self.0.standing, headers);
    }
}

fn standing_fields(standing: &Standing, headers: &mut HeaderMap) {
    let mut append = |name: &'static str, value: Option<String>| {
        if let Some(value) = value.and_then(|value| HeaderValue::try_from(value).ok()) {
            // Appended: the vendor's own fields of this name stay (they are lists).
            headers.append(HeaderName::from_static(name), value);
        }
    };
    append("ratelimit-policy", fields::policy(standing));
    append("ratelimit", fields::state(standing));
}

/// Adds the limits of the call's route.
#[derive(Clone, Debug)]
pub struct LimitLayer {
    /// Counts refusals and waits.
    pub metrics: Arc<Metrics>,
}

impl<S> Layer<S> for LimitLayer {
    type Service = Limit<S>;

    fn layer(&self, inner: S) -> Limit<S> {
        Limit {
            inner,
            metrics: self.metrics.clone(),
        }
    }
}

/// Refuses, or lets wait, who asks for too much.
#[derive(Clone, Debug)]
pub struct Limit<S> {
    inner: S,
    metrics: Arc<Metrics>,
}

impl<S> Service<Arc<Call>> for Limit<S>
where
    S: Service<Arc<Call>, Response = Finished, Error = Failure, Future: Send>
        + Clone
        + Send
        + 'static,
{
    type Response = Finished;
    type Error = Stop;
    type Future = BoxFuture<'static, Result<Finished, Stop>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Stop>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: Arc<Call>) -> Self::Future {
        let (inner, metrics) = (self.inner.clone(), self.metrics.clone());
        Box::pin(async move {
            let Some(limiter) = call.route.limiter.clone() else {
                return Ok(inner.oneshot(call).await?);
            };
            let Admission { permit, standing } = limiter.admit(&call, &metrics).await?;
            let Finished {
                mut response,
                outcome,
            } = inner.oneshot(call).await?;
            standing_fields(&standing, response.headers_mut());
            Ok(Finished {
                response: response.map(|body| body::holding(body, permit)),
                outcome,
            })
        })
    }
}

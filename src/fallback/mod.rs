//! What the caller gets when the upstream has failed and further tries are spent or useless.
//!
//! The chain of the route is tried in order: another upstream, then a friendly reply in the caller's
//! own dialect. What the caller did wrong is never covered up by it, and an account without money is
//! never covered up by a reply: somebody has to see that. A chain without a usable link passes the
//! upstream's own answer on as it came, and tells the SDK above not to try again.

mod reply;

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::future::BoxFuture;
use http::{HeaderName, HeaderValue, Response};
use tower::{Layer, Service, ServiceExt as _};

use crate::{
    attempt::{Answer, Attempted, Failure, verdict_of},
    body::Body,
    call::{Attempt, Call, FallbackWish},
    lane::layer::Lanes,
    retry::triage::{Class, Verdict},
    route::Link,
    telemetry::{Metrics, Outcome},
};

const X_SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// An answer that may leave, and what it means.
#[derive(Debug)]
pub struct Finished {
    /// The message.
    pub response: Response<Body>,
    /// What it means if it arrives whole.
    pub outcome: Outcome,
}

/// Adds the chain to a service of attempts.
#[derive(Clone, Debug)]
pub struct FallbackLayer {
    /// Where attempts find the lane they have to pass.
    pub lanes: Lanes,
    /// Counts substitutions.
    pub metrics: Arc<Metrics>,
}

impl<S> Layer<S> for FallbackLayer {
    type Service = Fallback<S>;

    fn layer(&self, inner: S) -> Fallback<S> {
        Fallback {
            inner,
            with: self.clone(),
        }
    }
}

/// Tries the route's upstream, then its chain.
#[derive(Clone, Debug)]
pub struct Fallback<S> {
    inner: S,
    with: FallbackLayer,
}

impl<S> Service<Arc<Call>> for Fallback<S>
where
    S: Service<Attempt, Response = Answer, Error = Failure, Future: Send> + Clone + Send + 'static,
{
    type Response = Finished;
    type Error = Failure;
    type Future = BoxFuture<'static, Result<Finished, Failure>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        // Every target is made ready when it is tried; which ones that are is not known before.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: Arc<Call>) -> Self::Future {
        let chain = Chain {
            service: self.inner.clone(),
            with: self.with.clone(),
            call,
        };
        Box::pin(async move {
            let call = chain.call.clone();
            let finished = chain.run().await;
            // No further attempt can follow. Whoever needs the body beyond this point takes a clone before.
            call.payload.release();
            finished
        })
    }
}

/// One request on its way down the chain.
struct Chain<S> {
    service: S,
    with: FallbackLayer,
    call: Arc<Call>,
}

impl<S> Chain<S>
where
    S: Service<Attempt, Response = Answer, Error = Failure, Future: Send> + Clone + Send + 'static,
{
    async fn run(self) -> Result<Finished, Failure> {
        let mut tried = self.attempt(&self.call.route.upstream).await;
        let first = verdict_of(&tried);
        if !fails(first) || self.call.wishes.fallback == FallbackWish::None {
            return passed_on(tried);
        }
        for link in &self.call.route.fallback {
            match link {
                Link::Upstream(_) if self.call.wishes.fallback == FallbackWish::Reply => {}
                Link::Upstream(upstream) => {
                    if !self.call.payload.is_replayable() {
                        continue;
                    }
                    tried = self.attempt(upstream).await;
                    if !fails(verdict_of(&tried)) {
                        self.substituted("upstream", first);
                        return passed_on(tried);
                    }
                }
                // Money that has run out is not "high demand": the operator has to see it.
                Link::Reply(_) if verdict_of(&tried).class == Class::Exhausted => {}
                Link::Reply(text) => {
                    if let Some(response) = reply::render(&self.call, text) {
                        self.substituted("reply", first);
                        return Ok(Finished {
                            response,
                            outcome: Outcome::Substituted,
                        });
                    }
                }
                Link::Error => break,
            }
        }
        passed_on(tried)
    }

    fn attempt(
        &self,
        upstream: &Arc<crate::upstream::Upstream>,
    ) -> impl Future<Output = Attempted> + Send + use<S> {
        let lane = self.with.lanes.of(&self.call, upstream);
        self.service
            .clone()
            .oneshot(Attempt::new(self.call.clone(), upstream.clone(), lane))
    }

    fn substituted(&self, kind: &'static str, first: Verdict) {
        self.with
            .metrics
            .fallbacks
            .with_label_values(&[kind, first.class.as_str()])
            .inc();
        self.call.journal().substituted = Some(kind);
    }
}

/// Whether a fallback may take the answer's place.
fn fails(verdict: Verdict) -> bool {
    match verdict.class {
        Class::Unsent | Class::Throttled | Class::Overloaded | Class::Faulty | Class::Exhausted => {
            true
        }
        Class::Served | Class::Refused | Class::Broken | Class::Abandoned => false,
    }
}

fn passed_on(tried: Attempted) -> Result<Finished, Failure> {
    let Answer {
        mut response,
        verdict,
        ..
    } = tried?;
    let outcome = match verdict.class {
        Class::Served => Outcome::Served,
        Class::Exhausted => Outcome::Exhausted,
        Class::Refused => Outcome::Refused,
        _ => Outcome::Failed,
    };
    // An SDK would try these statuses again, in vain or on top of our own attempts.
    let status = response.status().as_u16();
    let sdk_repeats = matches!(status, 408 | 409 | 429) || status >= 500;
    if fails(verdict) || verdict.retryable || (verdict.class == Class::Refused && sdk_repeats) {
        response
            .headers_mut()
            .insert(X_SHOULD_RETRY, HeaderValue::from_static("false"));
    }
    Ok(Finished { response, outcome })
}

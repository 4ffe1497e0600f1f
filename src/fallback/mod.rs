//! What the caller gets when the upstream has failed and further tries are spent or useless.
//!
//! The chain of the route is tried in order: another upstream or model, the queue, a friendly reply in the caller's
//! own dialect. Which links are there for which failure is `condition`. What the caller did wrong is never covered
//! up, and an account without money is never covered up by a reply: somebody has to see that. A chain without a
//! usable link passes the upstream's own answer on as it came, and tells the SDK above not to try again.
//!
//! A chain multiplies load where retries already do, so what bounds retries bounds it too: one number of attempts for
//! the whole request, the caller's time and patience, and the retry quota of the lane that is asked next. A lane gives
//! the right to a second chance back when it serves it, so a healthy fallback takes over an outage of any length, and
//! one that fails as well is soon left alone.
//!
//! An upstream whose lane's breaker is shut is passed over without a wait as long as another follows; when a probe is
//! due, the next request is that probe, and the traffic returns with it.

mod chain;
pub mod condition;
mod end;
mod language;
pub mod reply;

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::future::BoxFuture;
use http::Response;
use tower::{Layer, Service};

use self::chain::Chain;
use crate::{
    attempt::{Answer, Failure},
    body::Body,
    call::{Attempt, Call},
    lane::layer::Lanes,
    queue::Queue,
    stacked::Stacked,
    telemetry::{Metrics, Outcome},
};

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
    /// Where requests are kept that are carried out later.
    pub queue: Option<Queue>,
}

impl<S: Clone> Layer<S> for FallbackLayer {
    type Service = Fallback<S>;

    fn layer(&self, inner: S) -> Fallback<S> {
        Fallback(Stacked::new(self.clone(), inner))
    }
}

/// Tries the route's upstream, then its chain.
#[derive(Clone, Debug)]
pub struct Fallback<S>(Stacked<FallbackLayer, S>);

/// What stands below: all tries of a call on one upstream.
trait Tries:
    Service<Attempt, Response = Answer, Error = Failure, Future: Send> + Clone + Send + Sync + 'static
{
}

impl<S> Tries for S where
    S: Service<Attempt, Response = Answer, Error = Failure, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static
{
}

impl<S: Tries> Service<Arc<Call>> for Fallback<S> {
    type Response = Finished;
    type Error = Failure;
    type Future = BoxFuture<'static, Result<Finished, Failure>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: Arc<Call>) -> Self::Future {
        let chain = Chain {
            with: self.0.clone(),
            call,
        };
        Box::pin(async move {
            let finished = chain.run().await;
            // No further attempt can follow. Whoever needs the body beyond this point takes a clone before.
            chain.call.release();
            finished
        })
    }
}

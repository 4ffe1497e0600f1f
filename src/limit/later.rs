//! Charging what a queued request uses to the user who queued it.
//!
//! Its user's limits were asked when it was taken in, and it was acknowledged then: it is carried out whatever its user
//! has used since. So nothing is reserved, nothing is refused and nothing waits here. What it has used in the end is
//! charged afterwards, even if that leaves a debt, and holds up what the same user asks for next.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::future::BoxFuture;
use tower::{Layer, Service};

use super::{layer::estimate, tab::Tab};
use crate::{
    attempt::Failure, call::Call, fallback::Finished, stacked::Stacked, telemetry::Outcome,
};

/// Charges the tokens of each try of a queued request to its user.
#[derive(Clone, Copy, Debug)]
pub struct ChargeLayer;

impl<S: Clone> Layer<S> for ChargeLayer {
    type Service = Charge<S>;

    fn layer(&self, inner: S) -> Charge<S> {
        Charge(Stacked::new(*self, inner))
    }
}

/// Lets every call pass, and charges what it has used.
#[derive(Clone, Debug)]
pub struct Charge<S>(Stacked<ChargeLayer, S>);

impl<S> Service<Arc<Call>> for Charge<S>
where
    S: Service<Arc<Call>, Response = Finished, Error = Failure, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static,
{
    type Response = Finished;
    type Error = Failure;
    type Future = BoxFuture<'static, Result<Finished, Failure>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: Arc<Call>) -> Self::Future {
        let mut inner = self.0.below();
        Box::pin(async move {
            let Some(limiter) = call.route.limiter.clone() else {
                return inner.call(call).await;
            };
            let mut tab = Tab::later(call.clone(), estimate(&limiter, &call));
            let finished = inner.call(call).await;
            tab.answered(
                finished
                    .as_ref()
                    .map_or(Outcome::Failed, |finished| finished.outcome),
            );
            let Finished { response, outcome } = finished?;
            Ok(Finished {
                response: response.map(|body| tab.until_end_of(body)),
                outcome,
            })
        })
    }
}

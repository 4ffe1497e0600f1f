//! The way of a request, on one page.
//!
//! A worker builds this stack once; every request passes it from the first layer to the last and
//! back. [`stack`] is the map: read it from top to bottom as the request meets it.

use std::{
    net::IpAddr,
    sync::{Arc, OnceLock},
};

use http::Request;
use hyper::body::Incoming;
use tokio::time::Instant;
use tower::{Service, ServiceBuilder};

use crate::{
    answers::AnswersLayer,
    attempt::Failure,
    budget::Budget,
    call::{Call, CallId},
    dialect::Dialect,
    fallback::{FallbackLayer, Finished},
    lane::layer::{LaneLayer, Lanes},
    limit::{later::ChargeLayer, layer::LimitLayer},
    queue::{Queue, drain::BeginLayer},
    reception::ReceptionLayer,
    rescue::RescueLayer,
    retry::layer::RetryLayer,
    rules::RulesInForce,
    server::{Edge, Lifecycle},
    stream::{late::LateLayer, peek::PeekLayer},
    telemetry::{Metrics, Traces},
    upstream::Pool,
};

/// A request as it comes off the wire.
pub struct Arrival {
    /// The message; its body is still arriving.
    pub request: Request<Incoming>,
    /// Who sent it; absent over a Unix socket.
    pub peer: Option<IpAddr>,
}

/// Shows nothing that came from the caller: the fields carry its credential.
impl std::fmt::Debug for Arrival {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Arrival").finish_non_exhaustive()
    }
}

/// A request that has an id and a report.
pub struct Inbound {
    /// See [`Arrival::request`].
    pub request: Request<Incoming>,
    /// See [`Arrival::peer`].
    pub peer: Option<IpAddr>,
    /// Its id.
    pub id: CallId,
    /// When its head was complete.
    pub arrived: Instant,
    /// How its caller speaks, and so how an error must be told.
    pub dialect: Dialect,
    /// Whether a trace will tell of it.
    pub is_traced: bool,
    /// Set once the request is understood, for the report.
    pub understood: Arc<OnceLock<Arc<Call>>>,
}

/// As [`Arrival`]'s.
impl std::fmt::Debug for Inbound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inbound")
            .field("id", &self.id)
            .field("dialect", &self.dialect)
            .finish_non_exhaustive()
    }
}

/// What all requests of all workers share.
#[derive(Clone, Debug)]
pub struct Shared {
    /// Where requests go, and how they are treated on the way.
    pub rules: RulesInForce,
    /// What callers of one quota have learned together.
    pub lanes: Lanes,
    /// Memory for bodies.
    pub budget: Budget,
    /// Whether the process is ending.
    pub lifecycle: Lifecycle,
    /// What the operator sees.
    pub metrics: Arc<Metrics>,
    /// Where spans are sent.
    pub traces: Traces,
    /// Where requests are kept that are carried out later, if anywhere.
    pub queue: Option<Queue>,
}

/// The stack, outermost layer first. Retry stands outside everything that belongs to one attempt, so
/// that a request holds nothing while it waits.
#[must_use]
pub fn stack(shared: &Shared, pool: Pool) -> impl Edge + use<> {
    let Shared {
        rules,
        lanes,
        budget,
        lifecycle,
        metrics,
        traces,
        queue,
    } = shared.clone();
    ServiceBuilder::new()
        // Gives the request an id and a report; below, errors become responses; nothing fails above.
        .layer(RescueLayer {
            rules: rules.clone(),
            lifecycle: lifecycle.clone(),
            metrics: metrics.clone(),
            traces,
        })
        // Refuses ambiguous heads, finds the route, holds the body, learns what is asked and by whom.
        .layer(ReceptionLayer {
            rules,
            budget: budget.clone(),
            lifecycle: lifecycle.clone(),
            metrics: metrics.clone(),
            queue: queue.clone(),
        })
        // Begins an answer that is awaited too long, tells its caller so, and goes on within it.
        .layer(LateLayer {
            lifecycle: lifecycle.clone(),
            metrics: metrics.clone(),
        })
        // Refuses a user above their own limit, before anything is spent upstream.
        .layer(LimitLayer {
            metrics: metrics.clone(),
        })
        // Walks the chain of targets; at its end, the queue or the friendly reply.
        .layer(FallbackLayer {
            lanes,
            metrics: metrics.clone(),
            queue,
        })
        // Asks on for what came cut, takes JSON out of its fence: where the route wants that.
        .layer(AnswersLayer {
            budget: budget.clone(),
            metrics: metrics.clone(),
        })
        // Repeats failed attempts on one target: triage, backoff, the server's hints, the caller's deadline.
        .layer(RetryLayer {
            metrics: metrics.clone(),
        })
        // Waits for the turn that callers of one quota give each other: fair, paced, gated.
        .layer(LaneLayer {
            metrics: metrics.clone(),
        })
        // Waits for the first byte that counts, and judges the answer by it.
        .layer(PeekLayer {
            budget,
            lifecycle,
            metrics,
        })
        // Sends the request, once.
        .service(pool)
}

/// The same for a queued request, which was received, limited and acknowledged before: the layers that belong to the
/// chain and below, and one more.
#[must_use]
pub fn background(
    shared: &Shared,
    pool: Pool,
    begin: BeginLayer,
) -> impl Service<Arc<Call>, Response = Finished, Error = Failure, Future: Send> + use<> {
    let Shared {
        lanes,
        budget,
        lifecycle,
        metrics,
        ..
    } = shared.clone();
    ServiceBuilder::new()
        // Charges its user's tokens with what it comes to; that it may be sent was decided when it was taken in.
        .layer(ChargeLayer)
        // Walks the chain's upstreams; there is nobody to give a reply to, and it is in the queue already.
        .layer(FallbackLayer {
            lanes,
            metrics: metrics.clone(),
            queue: None,
        })
        .layer(AnswersLayer {
            budget: budget.clone(),
            metrics: metrics.clone(),
        })
        // One try: the queue has waits of its own.
        .layer(RetryLayer {
            metrics: metrics.clone(),
        })
        // Waits until no caller waits.
        .layer(LaneLayer {
            metrics: metrics.clone(),
        })
        // Writes down that it is about to be sent.
        .layer(begin)
        .layer(PeekLayer {
            budget,
            lifecycle,
            metrics,
        })
        .service(pool)
}

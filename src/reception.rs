//! Understanding a request: from a head and bytes to a [`Call`].
//!
//! The body is read before the user is known, because the user may be named in it; what that may
//! cost is bounded by the budget for all held bodies.

mod wishes;

use std::{
    future::ready,
    net::IpAddr,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::future::BoxFuture;
use http::{HeaderMap, Uri, request::Parts, uri::PathAndQuery};
use hyper::body::Incoming;
use tokio::time::Instant;
use tower::{Layer, Service};

use crate::{
    app::Inbound,
    auth::Tokens,
    budget::Budget,
    call::{Call, CallId, Circumstances, Wishes},
    deadline::Deadline,
    dialect::{Ask, Dialect},
    fallback::Finished,
    identity::Identity,
    lane::Priority,
    payload::Payload,
    queue::{self, Owner, Queue, desk},
    rescue::Stop,
    retry::deadline::{self, caller_budget},
    route::Route,
    rules::{Rules, RulesInForce},
    server::{Lifecycle, guard},
    stacked::Stacked,
    stream::late,
    telemetry::{Metrics, Outcome},
    upstream::forward::via,
};

/// What it takes to understand a request.
#[derive(Clone, Debug)]
pub struct ReceptionLayer {
    /// Where requests go; asked once for each.
    pub rules: RulesInForce,
    /// Memory for bodies.
    pub budget: Budget,
    /// Tells how long a request may wait while the process ends.
    pub lifecycle: Lifecycle,
    /// Counts bodies that could not be held.
    pub metrics: Arc<Metrics>,
    /// Where the answers of queued requests are.
    pub queue: Option<Queue>,
}

impl<S: Clone> Layer<S> for ReceptionLayer {
    type Service = Reception<S>;

    fn layer(&self, inner: S) -> Reception<S> {
        Reception(Stacked::new(self.clone(), inner))
    }
}

/// Turns a message into a call.
#[derive(Clone, Debug)]
pub struct Reception<S>(Stacked<ReceptionLayer, S>);

impl<S> Service<Inbound> for Reception<S>
where
    S: Service<Arc<Call>, Response = Finished, Error = Stop, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static,
{
    type Response = Finished;
    type Error = Stop;
    type Future = BoxFuture<'static, Result<Finished, Stop>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Stop>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, inbound: Inbound) -> Self::Future {
        let with = self.0.clone();
        if inbound.request.uri().path().starts_with(queue::OWN_PATHS) {
            return Box::pin(async move { with.own(inbound).await });
        }
        let understood = inbound.understood.clone();
        // Only the body is waited for. The head is looked at here, so that the future does not hold the whole message.
        let (begun, body) = match with.begin(inbound) {
            Ok(begun) => begun,
            Err(stop) => return Box::pin(ready(Err(stop))),
        };
        Box::pin(async move {
            let (at_most, by) = (begun.treatment.hold_at_most, begun.body_by());
            let payload = Payload::read(body, at_most, &with.budget, by).await?;
            if !payload.is_replayable() {
                with.metrics.unprotected.inc();
            }
            let call = Arc::new(with.understood(begun, payload));
            // Set once, here: the report has one request.
            let _ = understood.set(call.clone());
            with.below().call(call).await
        })
    }
}

/// What the rules say of one request, before its body is read.
struct Treatment {
    route: Arc<Route>,
    hold_at_most: usize,
    callers: Option<Arc<Tokens>>,
}

/// From where a request came, and when.
#[derive(Clone, Copy)]
struct Who {
    peer: Option<IpAddr>,
    arrived: Instant,
}

/// A request of which everything is known but its body.
struct Begun {
    parts: Parts,
    who: Who,
    id: CallId,
    dialect: Dialect,
    is_traced: bool,
    treatment: Treatment,
    /// How long its caller waits, if it said so.
    budget: Option<deadline::Budget>,
}

impl Begun {
    /// When its body has to be there.
    fn body_by(&self) -> Instant {
        let total = self.treatment.route.upstream.timeouts.total;
        Deadline::new(self.who.arrived, total, self.budget).answer_by()
    }
}

impl ReceptionLayer {
    /// Looks at the rules in force, for the one time in a request's life.
    fn treatment(&self, parts: &Parts, who: Who) -> Result<Treatment, Stop> {
        let rules = self.rules.now();
        let callers = self.admit(&rules, &parts.headers, who)?;
        let route = rules.routes.find(parts.uri.path(), &parts.headers);
        Ok(Treatment {
            route: route.ok_or(Stop::NoRoute)?.clone(),
            hold_at_most: rules.hold_at_most,
            callers,
        })
    }

    /// Answers a request to one of our own paths, which no vendor ever sees.
    async fn own(&self, inbound: Inbound) -> Result<Finished, Stop> {
        let who = Who {
            peer: inbound.peer,
            arrived: inbound.arrived,
        };
        let request = inbound.request;
        guard::check(&request)?;
        let callers = self.admit(&self.rules.now(), request.headers(), who)?;
        let owner = self.owner(request.headers(), callers.as_deref());
        let (method, path) = (request.method(), request.uri().path());
        let response = desk::serve(self.queue.as_ref(), method, path, owner).await?;
        let outcome = Outcome::Served;
        Ok(Finished { response, outcome })
    }

    /// Lets those in who may come in. Tells who that is, where anybody is asked.
    fn admit(
        &self,
        rules: &Rules,
        headers: &HeaderMap,
        Who { peer, arrived }: Who,
    ) -> Result<Option<Arc<Tokens>>, Stop> {
        if let Some(callers) = &rules.callers {
            let admitted = callers.admit_from(peer, headers, arrived);
            admitted.inspect_err(|stranger| {
                let labels = [stranger.as_str()];
                self.metrics.strangers.with_label_values(&labels).inc();
            })?;
        }
        Ok(rules.callers.clone())
    }

    /// What a request asks for; to be answered later is no wish where nothing can be kept.
    fn wishes(&self, headers: &HeaderMap, route: &Route) -> Wishes {
        let wishes = wishes::wishes(headers, route.policy.retry.max_retries);
        Wishes {
            respond_async: wishes.respond_async.filter(|_| self.queue.is_some()),
            ..wishes
        }
    }

    /// Whose a request is, where it could be queued.
    fn owner(&self, headers: &HeaderMap, callers: Option<&Tokens>) -> Option<Owner> {
        self.queue.as_ref().map(|_| Owner::of(headers, callers))
    }

    /// Understands a request's head.
    fn begin(&self, inbound: Inbound) -> Result<(Begun, Incoming), Stop> {
        let Inbound {
            request,
            peer,
            id,
            arrived,
            dialect,
            is_traced,
            ..
        } = inbound;
        guard::check(&request)?;
        if via::is_loop(request.headers()) {
            return Err(Stop::Loop);
        }
        let (parts, body) = request.into_parts();
        let who = Who { peer, arrived };
        let begun = Begun {
            treatment: self.treatment(&parts, who)?,
            budget: caller_budget(budget_fields(&parts.headers)),
            parts,
            who,
            id,
            dialect,
            is_traced,
        };
        Ok((begun, body))
    }

    /// Understands the rest.
    fn understood(&self, begun: Begun, payload: Payload) -> Call {
        let Begun {
            parts,
            who: Who { peer, arrived },
            id,
            dialect,
            is_traced,
            treatment: Treatment { route, callers, .. },
            budget,
        } = begun;
        let total = route.upstream.timeouts.total;
        let ask = payload.bytes().map(|bytes| Ask::read(dialect, &bytes));
        let occasion = late::Occasion {
            stream: &route.policy.stream,
            dialect,
            method: &parts.method,
            ask: ask.as_ref(),
            budget,
            arrived,
        };
        let (deadline, late) = timing(&occasion, total);
        let ask = ask.unwrap_or_else(|| Ask::read_beginning(dialect, &payload.known().0));
        let Identity { user, class } = route.identities.of(&parts.headers, &ask, peer);
        let known = Circumstances {
            id,
            arrived,
            wishes: self.wishes(&parts.headers, &route),
            route,
            dialect,
            ask,
            user,
            class,
            owner: self.owner(&parts.headers, callers.as_deref()),
            deadline,
            priority: Priority::Live,
            lifecycle: self.lifecycle.clone(),
            is_traced,
            late,
        };
        call_of(parts, payload, known, callers.as_deref())
    }
}

/// The call without what was for us alone.
fn call_of(
    mut parts: Parts,
    payload: Payload,
    known: Circumstances,
    callers: Option<&Tokens>,
) -> Call {
    if let Some(callers) = callers {
        callers.strip(&mut parts.headers);
    }
    let target = target_of(&parts.uri);
    Call::new(parts, target, payload, known)
}

/// The raw path and query. An empty path is only possible in absolute or asterisk form.
fn target_of(uri: &Uri) -> PathAndQuery {
    let target = uri.path_and_query().cloned();
    target.unwrap_or_else(|| PathAndQuery::from_static("/"))
}

/// Until when the caller waits, and when its answer is begun if it is not there.
fn timing(occasion: &late::Occasion<'_>, total: Duration) -> (Deadline, Option<late::Plan>) {
    let late = late::Plan::of(occasion, Instant::now());
    // Who is kept alive in time waits on.
    let is_met = |budget: &_| late.is_some_and(|plan| plan.meets(budget, occasion.arrived));
    let budget = occasion.budget.filter(|budget| !is_met(budget));
    (Deadline::new(occasion.arrived, total, budget), late)
}

/// The fields that may tell how long the caller waits, as far as they are text. Others are not looked at: most requests
/// have a dozen.
fn budget_fields(headers: &HeaderMap) -> impl Iterator<Item = (&str, &str)> {
    headers
        .iter()
        .filter(|(name, _)| name.as_str().starts_with("x-s"))
        .filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)))
}

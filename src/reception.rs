//! Understanding a request: from a head and bytes to a [`Call`].
//!
//! The body is read before the user is known, because the user may be named in it; what that may
//! cost is bounded by the budget for all held bodies.

use std::{
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::future::BoxFuture;
use http::{HeaderMap, Uri, request::Parts, uri::PathAndQuery};
use hyper::body::Incoming;
use tokio::time::Instant;
use tower::{Layer, Service, ServiceExt as _};

use crate::{
    app::Inbound,
    auth::Tokens,
    budget::Budget,
    call::{Call, Circumstances, FallbackWish, Wishes},
    deadline::Deadline,
    dialect::Ask,
    fallback::Finished,
    identity::Identity,
    lane::Priority,
    payload::Payload,
    rescue::Stop,
    retry::{deadline::caller_budget, tries::allowed_retries},
    route::Route,
    rules::RulesInForce,
    server::{Lifecycle, guard},
    stream::late,
    telemetry::Metrics,
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
}

impl<S> Layer<S> for ReceptionLayer {
    type Service = Reception<S>;

    fn layer(&self, inner: S) -> Reception<S> {
        Reception {
            inner,
            with: self.clone(),
        }
    }
}

/// Turns a message into a call.
#[derive(Clone, Debug)]
pub struct Reception<S> {
    inner: S,
    with: ReceptionLayer,
}

impl<S> Service<Inbound> for Reception<S>
where
    S: Service<Arc<Call>, Response = Finished, Error = Stop, Future: Send> + Clone + Send + 'static,
{
    type Response = Finished;
    type Error = Stop;
    type Future = BoxFuture<'static, Result<Finished, Stop>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Stop>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, inbound: Inbound) -> Self::Future {
        let (inner, with) = (self.inner.clone(), self.with.clone());
        Box::pin(async move {
            let understood = inbound.understood.clone();
            let call = Arc::new(with.understand(inbound).await?);
            // Set once, here: the report has one request.
            let _ = understood.set(call.clone());
            inner.oneshot(call).await
        })
    }
}

/// What the rules say of one request, before its body is read.
struct Treatment {
    route: Arc<Route>,
    hold_at_most: usize,
    callers: Option<Arc<Tokens>>,
}

impl ReceptionLayer {
    /// Looks at the rules in force, for the one time in a request's life.
    fn treatment(&self, parts: &Parts) -> Result<Treatment, Stop> {
        let rules = self.rules.now();
        if let Some(callers) = &rules.callers {
            callers.admit(&parts.headers).inspect_err(|stranger| {
                let labels = [stranger.as_str()];
                self.metrics.strangers.with_label_values(&labels).inc();
            })?;
        }
        let route = rules.routes.find(parts.uri.path(), &parts.headers);
        Ok(Treatment {
            route: route.ok_or(Stop::NoRoute)?.clone(),
            hold_at_most: rules.hold_at_most,
            callers: rules.callers.clone(),
        })
    }

    /// The body as far as it can be held.
    async fn held(&self, body: Incoming, at_most: usize, by: Instant) -> Result<Payload, Stop> {
        let payload = Payload::read(body, at_most, &self.budget, by).await?;
        if !payload.is_replayable() {
            self.metrics.unprotected.inc();
        }
        Ok(payload)
    }

    async fn understand(&self, inbound: Inbound) -> Result<Call, Stop> {
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
        let (mut parts, body) = request.into_parts();
        let Treatment {
            route,
            hold_at_most,
            callers,
        } = self.treatment(&parts)?;
        let total = route.upstream.timeouts.total;
        let budget = caller_budget(text_fields(&parts.headers));
        let by = Deadline::new(arrived, total, budget).answer_by();
        let payload = self.held(body, hold_at_most, by).await?;
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
            wishes: wishes(&parts.headers, route.policy.retry.max_retries),
            route,
            dialect,
            ask,
            user,
            class,
            deadline,
            priority: Priority::Live,
            lifecycle: self.lifecycle.clone(),
            is_traced,
            late,
        };
        if let Some(callers) = callers {
            callers.strip(&mut parts.headers);
        }
        let target = target_of(&parts.uri);
        Ok(Call::new(parts, target, payload, known))
    }
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

/// The fields that are text.
fn text_fields(headers: &HeaderMap) -> impl Iterator<Item = (&str, &str)> {
    headers
        .iter()
        .filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)))
}

/// Reads our own request headers; what cannot be read is as if it were not there.
fn wishes(headers: &HeaderMap, configured_retries: u32) -> Wishes {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let fallback = match text("x-surgetank-fallback").map(str::trim) {
        Some("none") => FallbackWish::None,
        Some("reply") => FallbackWish::Reply,
        _ => FallbackWish::Route,
    };
    let retries = allowed_retries(
        configured_retries,
        text("x-surgetank-max-retries"),
        text("x-stainless-retry-count"),
    );
    Wishes { fallback, retries }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn wishes_are_read_leniently() {
        let mut headers = HeaderMap::new();
        assert_eq!(
            wishes(&headers, 3),
            Wishes {
                fallback: FallbackWish::Route,
                retries: 3
            }
        );
        headers.insert("x-surgetank-fallback", HeaderValue::from_static(" none "));
        headers.insert("x-surgetank-max-retries", HeaderValue::from_static("1"));
        assert_eq!(
            wishes(&headers, 3),
            Wishes {
                fallback: FallbackWish::None,
                retries: 1
            }
        );
        headers.insert("x-surgetank-fallback", HeaderValue::from_static("later"));
        headers.insert("x-surgetank-max-retries", HeaderValue::from_static("-1"));
        assert_eq!(
            wishes(&headers, 3),
            Wishes {
                fallback: FallbackWish::Route,
                retries: 3
            }
        );
        headers.insert("x-stainless-retry-count", HeaderValue::from_static("1"));
        assert_eq!(
            wishes(&headers, 3).retries,
            0,
            "the SDK is already retrying"
        );
    }
}

//! A user's own limit as a tower layer: the shell around [`Limiter`].
//!
//! It stands before everything that costs the upstream something. What a request holds travels in the
//! answer's body, so that it counts as running until its last byte, and not until its head.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use tokio::time::Instant;
use tower::{Layer, Service};

use super::{
    fields,
    limiter::{Grant, Limiter, Refused, Wish},
    standing::{Denied, Standing},
    tab::Tab,
    tokens::Estimate,
    vendor,
};
use crate::{
    attempt::Failure,
    call::Call,
    dialect::Vendor,
    fallback::Finished,
    rescue::Stop,
    stacked::Stacked,
    stream::late::What,
    telemetry::{Metrics, Outcome},
};

/// The longest wait that every SDK obeys. Told of a longer one, some sleep for it in the caller's own thread, and others
/// come back at once: those are told not to try again, beside the truth.
const LONGEST_OBEYED: Duration = Duration::from_secs(60);

const RATELIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const RATELIMIT: HeaderName = HeaderName::from_static("ratelimit");

/// A user asks for more than its limit.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct OverLimit(Denied);

impl OverLimit {
    /// When to come back, in every form that SDKs read.
    pub fn fields(&self, vendor: Vendor, headers: &mut HeaderMap) {
        let wait = self.0.retry_after;
        headers.insert(
            header::RETRY_AFTER,
            HeaderValue::from(fields::retry_after(wait)),
        );
        if wait > LONGEST_OBEYED {
            headers.insert("x-should-retry", HeaderValue::from_static("false"));
        } else {
            // Official SDKs take it before the other, which is in whole seconds.
            headers.insert(
                "retry-after-ms",
                HeaderValue::from(fields::retry_after_ms(wait)),
            );
        }
        for (name, value) in vendor::fields(vendor, &self.0.standing, SystemTime::now()) {
            if let Ok(value) = HeaderValue::try_from(value) {
                headers.insert(name, value);
            }
        }
        standing_fields(&self.0.standing, headers);
    }
}

fn standing_fields(standing: &Standing, headers: &mut HeaderMap) {
    let mut append = |name: HeaderName, value: Option<String>| {
        if let Some(value) = value.and_then(|value| HeaderValue::try_from(value).ok()) {
            // Appended: the vendor's own fields of this name stay (they are lists).
            headers.append(name, value);
        }
    };
    append(RATELIMIT_POLICY, fields::policy(standing));
    append(RATELIMIT, fields::state(standing));
}

/// Adds the limits of the call's route.
#[derive(Clone, Debug)]
pub struct LimitLayer {
    /// Counts refusals and waits.
    pub metrics: Arc<Metrics>,
}

impl<S: Clone> Layer<S> for LimitLayer {
    type Service = Limit<S>;

    fn layer(&self, inner: S) -> Limit<S> {
        Limit(Stacked::new(self.clone(), inner))
    }
}

/// Refuses, or lets wait, who asks for too much.
#[derive(Clone, Debug)]
pub struct Limit<S>(Stacked<LimitLayer, S>);

impl<S> Service<Arc<Call>> for Limit<S>
where
    S: Service<Arc<Call>, Response = Finished, Error = Failure, Future: Send>
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

    fn call(&mut self, call: Arc<Call>) -> Self::Future {
        let with = self.0.clone();
        Box::pin(async move {
            let mut below = with.below();
            let Some(limiter) = call.route.limiter.clone() else {
                return Ok(below.call(call).await?);
            };
            let estimate = estimate(&limiter, &call);
            let Grant { held, standing } = admit(&limiter, &call, estimate, &with.metrics).await?;
            let mut tab = Tab::open(call.clone(), held, estimate);
            let finished = below.call(call).await;
            tab.answered(
                finished
                    .as_ref()
                    .map_or(Outcome::Failed, |finished| finished.outcome),
            );
            let Finished {
                mut response,
                outcome,
            } = finished?;
            if let Some(standing) = &standing {
                standing_fields(standing, response.headers_mut());
            }
            Ok(Finished {
                response: response.map(|body| tab.until_end_of(body)),
                outcome,
            })
        })
    }
}

/// Lets the call go on, and tells how long that took, or why it cannot.
async fn admit(
    limiter: &Limiter,
    call: &Call,
    estimate: Estimate,
    metrics: &Metrics,
) -> Result<Grant, Stop> {
    let began = Instant::now();
    // A process that is ending begins no long waits.
    let wait_until = began + call.wait_of(began, limiter.max_wait(call.class));
    let wish = Wish {
        user: call.user,
        class: call.class,
        tokens: estimate.total(),
        answer_by: call.deadline.answer_by().min(wait_until),
    };
    let has_waited = AtomicBool::new(false);
    let granted = limiter
        .admit(&wish, |until| {
            has_waited.store(true, Ordering::Relaxed);
            call.journal().awaiting.what = What::Limit(until);
        })
        .await;
    if has_waited.into_inner() {
        let waited = began.elapsed();
        metrics.waited("limit", waited);
        let mut journal = call.journal();
        journal.waited += waited;
        journal.limit_waits += waited;
    }
    granted.map_err(|refused| match refused {
        Refused::Limit(denied) => {
            let by = denied.by.as_str();
            metrics.limited.with_label_values(&[by]).inc();
            OverLimit(denied).into()
        }
        Refused::StoreAway => Stop::StoreAway,
    })
}

/// About how many tokens the call will use, where anybody counts them.
pub(super) fn estimate(limiter: &Limiter, call: &Call) -> Estimate {
    if call.method != Method::POST || !limiter.counts_tokens(call.class) {
        return Estimate::default();
    }
    let (known, length) = call.payload.known();
    Estimate::of(call.dialect.endpoint(), &call.ask, &known, length)
}

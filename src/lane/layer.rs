//! Admission as a tower layer: the shell around [`Lane`].
//!
//! It stands inside retry, so that every attempt queues again and nothing is held between two of
//! them. The permit travels in the answer's body: an answer is under way until its last byte.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::future::BoxFuture;
use http::{HeaderMap, header};
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;
use tower::{Layer, Service};

use super::{Lane, LaneKey, LaneSettings, LaneTable, Outcome, Permit, QuotaReport, Refused, Request, UserKey};
use crate::{
    attempt::{Answer, Attempted, Cause, Failure},
    body,
    call::{Attempt, Call},
    retry::{hints::Hint, reports, triage::{Class, Verdict}},
    telemetry::Metrics,
    upstream::Upstream,
};

/// The lanes of the process, and how a call finds its own.
#[derive(Clone, Debug, Default)]
pub struct Lanes(Arc<LaneTable>);

impl Lanes {
    /// The lane of one call on one upstream: the vendor counts by credential and model.
    #[must_use]
    pub fn of(&self, call: &Call, upstream: &Upstream) -> Arc<Lane> {
        let key = LaneKey { upstream: upstream.index, credential: credential(call, upstream), model: model(call, upstream) };
        self.0.lane(key, &settings(call, upstream))
    }

    /// All of them, for the operator.
    #[must_use]
    pub fn table(&self) -> &LaneTable {
        &self.0
    }
}

/// A fingerprint of the credential that the upstream will see. A configured one is the upstream's
/// own, so the upstream's index says it all.
fn credential(call: &Call, upstream: &Upstream) -> u128 {
    if upstream.credential.is_some() {
        return 0;
    }
    let mut digest = Sha256::new();
    for name in [header::AUTHORIZATION.as_str(), "x-api-key", "api-key", "x-goog-api-key"] {
        for value in call.headers.get_all(name) {
            digest.update(value.as_bytes());
            digest.update([0]);
        }
    }
    digest.finalize().iter().take(16).fold(0, |print, byte| print << 8 | u128::from(*byte))
}

fn model(call: &Call, upstream: &Upstream) -> u64 {
    let mut hasher = DefaultHasher::new();
    upstream.model.as_deref().or(call.ask.model.as_deref()).hash(&mut hasher);
    hasher.finish()
}

/// The lane's waits keep the proportions of the route's backoff, whose defaults they have by default.
fn settings(call: &Call, upstream: &Upstream) -> LaneSettings {
    let retry = &call.route.policy.retry;
    LaneSettings {
        hint_cap: retry.hint_cap,
        quota_share: upstream.quota_share,
        cooldown: retry.base,
        cooldown_max: retry.cap * 2,
        ..LaneSettings::default()
    }
}

/// Adds admission to a service of attempts.
#[derive(Clone, Debug)]
pub struct LaneLayer {
    /// Counts waits and refusals.
    pub metrics: Arc<Metrics>,
}

impl<S> Layer<S> for LaneLayer {
    type Service = Admit<S>;

    fn layer(&self, inner: S) -> Admit<S> {
        Admit { inner, metrics: self.metrics.clone() }
    }
}

/// Lets an attempt go when its lane does.
#[derive(Clone, Debug)]
pub struct Admit<S> {
    inner: S,
    metrics: Arc<Metrics>,
}

impl<S> Service<Attempt> for Admit<S>
where
    S: Service<Attempt, Response = Answer, Error = Failure, Future: Send> + Clone + Send + 'static,
{
    type Response = Answer;
    type Error = Failure;
    type Future = BoxFuture<'static, Attempted>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, attempt: Attempt) -> Self::Future {
        // The clone takes the readiness that was won; the original stays for the next attempt.
        let fresh = self.inner.clone();
        let inner = std::mem::replace(&mut self.inner, fresh);
        Box::pin(admitted(inner, self.metrics.clone(), attempt))
    }
}

async fn admitted<S>(mut inner: S, metrics: Arc<Metrics>, mut attempt: Attempt) -> Attempted
where
    S: Service<Attempt, Response = Answer, Error = Failure, Future: Send> + Send + 'static,
{
    let call = attempt.call.clone();
    let permit = attempt.lane.admit(request(&call, &mut attempt)).await.map_err(|refused| refusal(&attempt, &metrics, refused))?;
    note_wait(&call, &metrics, permit.waited());
    call.note_attempt(&attempt);
    match inner.call(attempt).await {
        Ok(answer) => {
            report(&permit, &answer.verdict, answer.hint, &quota_reports(answer.response.headers()));
            Ok(Answer { response: answer.response.map(|inner| body::holding(inner, permit)), ..answer })
        }
        Err(failure) => {
            report(&permit, &failure.verdict, None, &[]);
            Err(failure)
        }
    }
}

fn request(call: &Call, attempt: &mut Attempt) -> Request {
    let patience = call.route.policy.retry.patience.saturating_sub(call.journal().waited);
    let [first, ..] = [call.user.low_64()];
    Request {
        user: UserKey(first),
        retry: attempt.right.take(),
        patience_until: Instant::now() + patience,
        deadline: Some(call.deadline.answer_by()),
        cost: 1,
    }
}

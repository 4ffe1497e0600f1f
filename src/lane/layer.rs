//! Admission as a tower layer: the shell around [`Lane`].
//!
//! It stands inside retry, so that every attempt queues again and nothing is held between two of
//! them. The permit travels in the answer's body: an answer is under way until its last byte.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    pin::pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::future::BoxFuture;
use http::header;
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;
use tower::{Layer, Service};

use super::{
    Lane, LaneKey, LaneSettings, LaneTable, Outcome, Permit, QuotaReport, RefuseReason, Refused,
    Request, UserKey, headers::quota_reports, shown_name,
};
use crate::{
    attempt::{Answer, Attempted, Cause, Failure},
    body,
    call::{Attempt, Call},
    config,
    retry::{
        hints::Hint,
        triage::{Class, Verdict},
    },
    route::Route,
    rules::{self, Rules},
    stream::late::What,
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
        let key = LaneKey {
            upstream: upstream.number,
            credential: credential(call, upstream),
            model: model(call, upstream),
        };
        let name = || model_name(call, upstream).and_then(shown_name);
        let settings = settings(&call.route, upstream);
        self.0.lane_named(key, &settings, name)
    }

    /// Goes on under new rules: what was learned of upstreams that are still there stays, with their new
    /// settings; what was learned of others is forgotten.
    pub fn follow(&self, before: &Rules, now: &Rules) {
        self.0.retain(|key| now.upstream(key.upstream).is_some());
        let old = rules::lane_settings(before);
        for (number, settings) in rules::lane_settings(now) {
            if old.get(&number) != Some(&settings) {
                self.0.retune(number, &settings);
            }
        }
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
    for name in [
        header::AUTHORIZATION.as_str(),
        "x-api-key",
        "api-key",
        "x-goog-api-key",
    ] {
        for value in call.headers.get_all(name) {
            digest.update(value.as_bytes());
            digest.update([0]);
        }
    }
    digest
        .finalize()
        .iter()
        .take(16)
        .fold(0, |print, byte| print << 8 | u128::from(*byte))
}

fn model(call: &Call, upstream: &Upstream) -> u64 {
    let mut hasher = DefaultHasher::new();
    model_name(call, upstream).hash(&mut hasher);
    hasher.finish()
}

fn model_name<'a>(call: &'a Call, upstream: &'a Upstream) -> Option<&'a str> {
    upstream.model.as_deref().or(call.ask.model.as_deref())
}

/// The lane's waits keep the proportions of the route's backoff, whose defaults they have by default.
pub(crate) fn settings(route: &Route, upstream: &Upstream) -> LaneSettings {
    let retry = &route.policy.retry;
    LaneSettings {
        hint_cap: retry.hint_cap,
        quota_share: upstream.quota_share,
        tempo: retry.base.as_secs_f64() / config::Retry::default().base.as_secs_f64(),
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
        Admit {
            inner,
            metrics: self.metrics.clone(),
        }
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
    let asked = request(&call, &mut attempt);
    let admitted = {
        let mut admitting = pin!(attempt.lane.admit(asked));
        match futures_util::poll!(&mut admitting) {
            Poll::Ready(admitted) => admitted,
            Poll::Pending => {
                call.journal().awaiting.what = What::Turn(attempt.lane.clone());
                admitting.await
            }
        }
    };
    let permit = admitted.map_err(|refused| refusal(&attempt, &metrics, refused))?;
    note_wait(&call, &metrics, permit.waited());
    let tokens = tokens_of(&call);
    call.note_attempt(&attempt.upstream);
    match inner.call(attempt).await {
        Ok(answer) => {
            let reports = quota_reports(answer.response.headers(), tokens);
            report(&permit, answer.verdict.class, answer.hint, false, &reports);
            Ok(Answer {
                response: answer.response.map(|inner| body::holding(inner, permit)),
                ..answer
            })
        }
        Err(failure) => {
            let timed_out = matches!(failure.cause, Cause::FirstByte(_));
            report(&permit, failure.verdict.class, None, timed_out, &[]);
            Err(failure)
        }
    }
}

fn request(call: &Call, attempt: &mut Attempt) -> Request {
    let patience = call
        .route
        .policy
        .retry
        .patience
        .saturating_sub(call.journal().waited);
    Request {
        user: UserKey(short(&call.user)),
        retry: attempt.right.take(),
        patience_until: Instant::now() + patience,
        deadline: Some(call.deadline.answer_by()),
        cost: 1,
    }
}

/// Half of the fingerprint: enough to take turns by, and two users who share it only share a turn.
fn short(user: &crate::limit::identity::UserKey) -> u64 {
    user.as_bytes()
        .iter()
        .take(8)
        .fold(0, |print, byte| print << 8 | u64::from(*byte))
}

fn refusal(attempt: &Attempt, metrics: &Metrics, refused: Refused) -> Failure {
    let (call, reason) = (&attempt.call, refused.reason);
    metrics
        .lane_refused
        .with_label_values(&[attempt.upstream.name.as_ref(), reason.as_str()])
        .inc();
    tracing::info!(
        request_id = call.id.as_str(),
        upstream = attempt.upstream.name.as_ref(),
        reason = reason.as_str(),
        retry_after_s = refused.retry_after.as_secs(),
        "a request was not let through: its wait would be in vain"
    );
    let class = if reason == RefuseReason::Exhausted {
        Class::Exhausted
    } else {
        Class::Throttled
    };
    Failure {
        verdict: Verdict::final_of(class),
        cause: Cause::Refused(refused),
    }
}

fn note_wait(call: &Call, metrics: &Metrics, waited: Duration) {
    if !waited.is_zero() {
        metrics.waited("lane", waited);
        call.journal().waited += waited;
    }
}

/// Tells the lane what became of the attempt, in its own words.
fn report(
    permit: &Permit,
    class: Class,
    hint: Option<Hint>,
    timed_out: bool,
    reports: &[QuotaReport],
) {
    let hint = hint
        .filter(|hint| hint.source.is_binding())
        .map(|hint| hint.wait);
    let outcome = match class {
        Class::Served => Outcome::Served,
        Class::Throttled => Outcome::Throttled { hint },
        Class::Overloaded => Outcome::Overloaded { hint },
        Class::Faulty => Outcome::Faulty { timed_out },
        Class::Unsent => Outcome::ConnectFailed,
        Class::Exhausted => Outcome::Exhausted,
        Class::Refused => Outcome::Refused,
        Class::Broken | Class::Abandoned => Outcome::Abandoned,
    };
    permit.report(outcome, reports);
}

/// What a request takes of a quota on tokens, roughly: a vendor counts the prompt and what is asked
/// for. Four bytes a token is the vendors' own rule of thumb for English.
fn tokens_of(call: &Call) -> f64 {
    let prompt = call.payload.bytes().map_or(0, bytes::Bytes::len) / 4;
    prompt as f64 + call.ask.max_output.unwrap_or(0) as f64
}

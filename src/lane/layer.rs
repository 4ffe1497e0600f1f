//! Admission as a tower layer: the shell around [`Lane`].
//!
//! It stands inside retry, so that every attempt queues again and nothing is held between two of
//! them. The permit travels in the answer's body: an answer is under way until its last byte.

use std::{
    hash::{BuildHasher, Hash as _, Hasher as _, RandomState},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::future::BoxFuture;
use http::{HeaderName, StatusCode, header};
use tokio::time::Instant;
use tower::{Layer, Service};

use super::{
    Asked, Label, Lane, LaneKey, LaneSettings, LaneTable, Outcome, Request, UserKey,
    headers::quota_reports, notes::Notes,
};
use crate::{
    attempt::{Answer, Attempted, Cause, Failure},
    body,
    call::{Attempt, Call},
    config,
    retry::{hints::Hint, triage::Class},
    route::Route,
    rules::{self, Rules},
    stacked::Stacked,
    stream::late::What,
    telemetry::{Metrics, ModelNames},
    upstream::Upstream,
};

/// Where callers put their credential.
static CREDENTIALS: [HeaderName; 4] = [
    header::AUTHORIZATION,
    HeaderName::from_static("x-api-key"),
    HeaderName::from_static("api-key"),
    HeaderName::from_static("x-goog-api-key"),
];

/// A request whose patience is spent still passes an open door: a fallback that need not wait is worth it.
const LEAST_PATIENCE: Duration = Duration::from_millis(10);

/// The lanes of the process, and how a call finds its own.
#[derive(Clone, Debug, Default)]
pub struct Lanes {
    table: Arc<LaneTable>,
    names: ModelNames,
    keys: Arc<Keys>,
}

/// What fingerprints are made with, drawn when the process starts.
#[derive(Debug, Default)]
struct Keys(RandomState, RandomState);

impl Lanes {
    /// No lanes yet; they will be called as `names` allows.
    #[must_use]
    pub fn new(names: ModelNames) -> Self {
        Self {
            names,
            ..Self::default()
        }
    }

    /// The lane of one call on one upstream: the vendor counts by credential and model.
    #[must_use]
    pub fn of(&self, call: &Call, upstream: &Upstream) -> Arc<Lane> {
        let model = upstream.model.as_deref().or(call.ask.model.as_deref());
        let key = LaneKey {
            upstream: upstream.number,
            credential: credential(call, upstream, &self.keys),
            model: model.map_or(0, |model| self.keys.0.hash_one(model)),
        };
        self.table.lane(key, || {
            let label = Label::new(self.names.clone(), model);
            (settings(&call.route, upstream), label)
        })
    }

    /// Goes on under new rules: what was learned of upstreams that are still there stays, with their new
    /// settings; what was learned of others is forgotten.
    pub fn follow(&self, before: &Rules, now: &Rules) {
        self.table
            .retain(|key| now.upstream(key.upstream).is_some());
        let old = rules::lane_settings(before);
        for (number, settings) in rules::lane_settings(now) {
            if old.get(&number) != Some(&settings) {
                self.table.retune(number, &settings);
            }
        }
    }

    /// All of them, for the operator.
    #[must_use]
    pub fn table(&self) -> &LaneTable {
        &self.table
    }
}

/// A fingerprint of the credential that the upstream will see. A configured one is the upstream's
/// own, so the upstream's index says it all.
///
/// It lives no longer than the process and is shared with nobody. So a keyed hash does, whose keys nobody knows: it is a
/// small part of the work of one that could be published.
fn credential(call: &Call, upstream: &Upstream, keys: &Keys) -> u128 {
    if upstream.credential.is_some() {
        return 0;
    }
    let [mut high, mut low] = [&keys.0, &keys.1].map(BuildHasher::build_hasher);
    let head = call.head();
    for name in &CREDENTIALS {
        for value in head.iter().flat_map(|head| head.headers.get_all(name)) {
            for hasher in [&mut high, &mut low] {
                value.as_bytes().hash(hasher);
            }
        }
    }
    u128::from(high.finish()) << 64 | u128::from(low.finish())
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

impl<S: Clone> Layer<S> for LaneLayer {
    type Service = Admit<S>;

    fn layer(&self, inner: S) -> Admit<S> {
        Admit(Stacked::new(self.clone(), inner))
    }
}

/// Lets an attempt go when its lane does.
#[derive(Clone, Debug)]
pub struct Admit<S>(Stacked<LaneLayer, S>);

impl<S> Service<Attempt> for Admit<S>
where
    S: Service<Attempt, Response = Answer, Error = Failure, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static,
{
    type Response = Answer;
    type Error = Failure;
    type Future = BoxFuture<'static, Attempted>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, attempt: Attempt) -> Self::Future {
        Box::pin(admitted(self.0.clone(), attempt))
    }
}

async fn admitted<S>(with: Stacked<LaneLayer, S>, mut attempt: Attempt) -> Attempted
where
    S: Service<Attempt, Response = Answer, Error = Failure, Future: Send> + Clone + Send + 'static,
{
    let call = attempt.call.clone();
    let began = Instant::now();
    let mut notes = Notes::begin(&with.metrics, &attempt, began);
    let asked = request(&call, &mut attempt, began);
    let admitted = match attempt.lane.ask(began, asked) {
        Ok(Asked::Now(permit)) => Ok(permit),
        Ok(Asked::Later(mut turn)) => match futures_util::poll!(&mut turn) {
            Poll::Ready(admitted) => admitted,
            Poll::Pending => {
                call.journal().awaiting.what = What::Turn(attempt.lane.clone());
                turn.await
            }
        },
        Err(refused) => Err(refused),
    };
    let permit = admitted.map_err(|refused| notes.refused(refused))?;
    notes.admitted(&permit);
    call.note_attempt(&attempt);
    match with.below().call(attempt).await {
        Ok(answer) => {
            let (class, hint) = (answer.verdict.class, binding(answer.hint));
            let reports = quota_reports(answer.response.headers(), tokens_of(&call));
            let change = permit.report(outcome(class, hint, false), &reports);
            notes.told(class, hint, change);
            if answer.response.status() == StatusCode::SWITCHING_PROTOCOLS {
                // A tunnel rests most of its life: it takes nobody's place in the window.
                return Ok(answer);
            }
            Ok(Answer {
                response: answer.response.map(|inner| body::holding(inner, permit)),
                ..answer
            })
        }
        Err(failure) => {
            let (class, timed_out) = (
                failure.verdict.class,
                matches!(failure.cause, Cause::FirstByte(_)),
            );
            let change = permit.report(outcome(class, None, timed_out), &[]);
            notes.told(class, None, change);
            Err(failure)
        }
    }
}

fn request(call: &Call, attempt: &mut Attempt, now: Instant) -> Request {
    Request {
        user: UserKey(short(&call.user)),
        retry: attempt.right.take(),
        patience_until: now + call.patience(now).max(LEAST_PATIENCE),
        deadline: Some(call.deadline.answer_by()),
        cost: 1,
        priority: call.priority,
    }
}

/// Half of the fingerprint: enough to take turns by, and two users who share it only share a turn.
fn short(user: &crate::limit::identity::UserKey) -> u64 {
    user.as_bytes()
        .iter()
        .take(8)
        .fold(0, |print, byte| print << 8 | u64::from(*byte))
}

/// What the attempt came to, in the lane's own words.
fn outcome(class: Class, hint: Option<Duration>, timed_out: bool) -> Outcome {
    match class {
        Class::Served => Outcome::Served,
        Class::Throttled => Outcome::Throttled { hint },
        Class::Overloaded => Outcome::Overloaded { hint },
        Class::Faulty => Outcome::Faulty { timed_out },
        Class::Unsent => Outcome::ConnectFailed,
        Class::Exhausted => Outcome::Exhausted,
        Class::Refused => Outcome::Refused,
        Class::Broken | Class::Abandoned => Outcome::Abandoned,
    }
}

fn binding(hint: Option<Hint>) -> Option<Duration> {
    hint.filter(|hint| hint.source.is_binding())
        .map(|hint| hint.wait)
}

/// What a request takes of a quota on tokens, roughly: a vendor counts the prompt and what is asked
/// for. Four bytes a token is the vendors' own rule of thumb for English.
fn tokens_of(call: &Call) -> f64 {
    let prompt = call.payload.held_len().unwrap_or(0) / 4;
    prompt as f64 + call.ask.max_output.unwrap_or(0) as f64
}

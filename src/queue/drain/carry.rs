//! One entry, from the store to an upstream and back.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use tokio::{sync::Notify, time::Instant};
use tower::ServiceExt as _;

use super::{
    BeginLayer, Tools,
    ending::{Came, Entry, INSIST_EVERY},
};
use crate::{
    app,
    attempt::{Cause, Failure},
    body::{Body, BodyError, Chunks},
    call::{Call, CallId, Circumstances, FallbackWish, Wishes},
    deadline::Deadline,
    dialect::{Ask, Dialect},
    fallback::Finished,
    lane::Priority,
    limit::identity::UserKey,
    payload::Payload,
    queue::{
        QueueRules, message,
        seal::{Part, Unreadable},
    },
    retry::triage::Class,
    route::Route,
    server::Stage,
    store::jobs::{JobId, Millis, Taken},
    telemetry::Outcome,
};

/// When an entry is looked at again that this configuration cannot carry out.
const UNUSABLE: Duration = Duration::from_secs(60);

/// What became of an entry that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Carried {
    /// It was tried.
    Tried,
    /// It was not sent, and is back in its place.
    Back,
}

/// Why an entry could not be tried.
#[derive(Debug)]
struct Unusable(String);

/// Carries one entry out, or puts it back.
pub(super) async fn carry(tools: Arc<Tools>, taken: Taken) -> Carried {
    let rules = tools.queue.rules();
    let (id, attempts, queued) = (taken.id, taken.attempts, taken.queued);
    let call = match tools.call(taken, &rules) {
        Ok(call) => Arc::new(call),
        Err(Unusable(why)) => {
            tracing::error!(queue_id = %id, reason = why, "a queued request cannot be carried out under this configuration; it waits");
            return tools.give_back(id, UNUSABLE).await;
        }
    };
    let shut = tools.shut_for(&call);
    if !shut.is_zero() {
        return tools.give_back(id, shut).await;
    }
    let begin = BeginLayer::new(tools.queue.store().clone(), id);
    let came = tools.run(&call, &begin).await;
    let entry = Entry {
        id,
        attempts: attempts + 1,
        queued,
        call: &call,
        rules: &rules,
    };
    match came {
        // Whatever went wrong before that, nothing was sent.
        Some(Came::Unsent(wait)) if !begin.is_begun() => tools.give_back(id, wait).await,
        Some(_) if !begin.is_begun() => tools.give_back(id, INSIST_EVERY).await,
        Some(came) => {
            tools.finish(&entry, came).await;
            Carried::Tried
        }
        None => Carried::Tried,
    }
}

impl Tools {
    /// The request as it was.
    fn call(&self, taken: Taken, queue: &QueueRules) -> Result<Call, Unusable> {
        let unreadable = |error: Unreadable| Unusable(error.to_string());
        let head = queue
            .keys
            .open(taken.id, Part::RequestHead, taken.head)
            .map_err(unreadable)?;
        let body = queue
            .keys
            .open(taken.id, Part::RequestBody, taken.body)
            .map_err(unreadable)?;
        let head = message::read_request(&head)
            .ok_or_else(|| Unusable("its head is damaged".to_owned()))?;
        let route = self.route(&taken.route, &head)?;
        let dialect = Dialect::detect(
            head.target.path(),
            head.headers.contains_key("anthropic-version"),
        );
        let (arrived, body) = (Instant::now(), Bytes::from(body));
        let mut request = Request::new(());
        *request.method_mut() = head.method;
        *request.headers_mut() = head.headers;
        let known = Circumstances {
            id: CallId::random(&mut rand::rng()),
            arrived,
            deadline: Deadline::new(arrived, route.upstream.timeouts.total, None),
            dialect,
            ask: Ask::read(dialect, &body),
            user: UserKey::from_fingerprint(taken.user),
            class: head.class.map_or(0, |name| route.class_named(&name)),
            route,
            owner: None,
            wishes: Wishes {
                fallback: FallbackWish::Upstreams,
                retries: 0,
                respond_async: None,
            },
            priority: Priority::Background,
            lifecycle: self.shared.lifecycle.clone(),
            is_traced: false,
            late: None,
        };
        let (parts, ()) = request.into_parts();
        Ok(Call::new(parts, head.target, Payload::kept(body), known))
    }

    /// The route that it was queued on, or the one that takes it now.
    fn route(&self, name: &str, head: &message::RequestHead) -> Result<Arc<Route>, Unusable> {
        let rules = self.shared.rules.now();
        let by_name = rules.routes.all().find(|route| route.name() == name);
        let route = by_name.or_else(|| rules.routes.find(head.target.path(), &head.headers));
        let route = route.ok_or_else(|| Unusable("no route takes it".to_owned()))?;
        if route.upstream.credential.is_none() {
            let why = format!("the upstream `{}` has no credential", route.upstream.name);
            return Err(Unusable(why));
        }
        Ok(route.clone())
    }

    /// How long all lanes that it could take are known to be shut; nothing where one is not.
    fn shut_for(&self, call: &Call) -> Duration {
        let waits = call.route.targets().map(|upstream| {
            let lane = self.shared.lanes.of(call, upstream);
            if lane.is_failing() {
                lane.snapshot().closed_for.max(INSIST_EVERY)
            } else {
                Duration::ZERO
            }
        });
        waits.min().unwrap_or_default()
    }

    /// Sends it; nothing where it was cancelled meanwhile.
    async fn run(&self, call: &Arc<Call>, begin: &BeginLayer) -> Option<Came> {
        let id = begin.id();
        let cancelled = Arc::new(Notify::new());
        self.queue.carried().insert(id, cancelled.clone());
        let stack = app::background(&self.shared, self.pool.clone(), begin.clone());
        let most = self.shared.rules.now().hold_at_most;
        let call = call.clone();
        let trying = async move {
            match stack.oneshot(call).await {
                Ok(finished) => answered(finished, most).await,
                Err(failure) => failed(&failure),
            }
        };
        let came = tokio::select! {
            came = AssertUnwindSafe(trying).catch_unwind() => Some(came),
            () = cancelled.notified() => None,
            // Who waits for a turn need not hold the process up.
            () = self.stopped_before(begin) => Some(Ok(Came::Unsent(Duration::ZERO))),
        };
        self.queue.carried().remove(&id);
        came.map(|came| {
            came.unwrap_or_else(|_| {
                self.shared.metrics.panics.inc();
                tracing::error!(queue_id = %id, "a queued request ended in a panic of surgetank's");
                Came::Failed {
                    note: "surgetank failed on it".to_owned(),
                    may_have_run: true,
                    answered: false,
                }
            })
        })
    }

    /// Waits for the stop of the process; for ever, once the entry is begun, or is about to be.
    async fn stopped_before(&self, begin: &BeginLayer) {
        self.shared.lifecycle.reached(Stage::Settling).await;
        if !begin.shut() {
            std::future::pending::<()>().await;
        }
    }

    async fn give_back(&self, id: JobId, wait: Duration) -> Carried {
        let due = Millis::now().after(wait);
        self.insist(|| self.queue.store().give_back(id, due)).await;
        Carried::Back
    }
}

/// What an answer is worth, read to its end.
async fn answered(finished: Finished, most: usize) -> Came {
    let Finished { response, outcome } = finished;
    let status = response.status().as_u16();
    if matches!(outcome, Outcome::Failed | Outcome::Exhausted) {
        return Came::Failed {
            note: format!("the upstream answered {status}"),
            may_have_run: false,
            answered: true,
        };
    }
    let (parts, body) = Response::into_parts(response);
    match collect(body, most).await {
        Ok(Some(body)) => Came::Answer(parts, body),
        Ok(None) => Came::TooLarge,
        Err(error) => Came::Failed {
            note: error.for_caller().to_owned(),
            may_have_run: true,
            answered: false,
        },
    }
}

async fn collect(mut body: Body, most: usize) -> Result<Option<Bytes>, BodyError> {
    let mut chunks = Chunks::default();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            if chunks.len() + data.len() > most {
                return Ok(None);
            }
            chunks.push(data);
        }
    }
    Ok(Some(chunks.into_bytes()))
}

/// What it means that there is no answer.
fn failed(failure: &Failure) -> Came {
    match failure.cause {
        Cause::Refused(refused) => Came::Unsent(refused.retry_after),
        Cause::LeftAlone | Cause::NotBegun => Came::Unsent(INSIST_EVERY),
        _ => Came::Failed {
            note: failure.to_string(),
            may_have_run: failure.verdict.class != Class::Unsent,
            answered: false,
        },
    }
}

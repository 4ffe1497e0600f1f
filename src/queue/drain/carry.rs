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
    again::{Failed, Next, Terms, next},
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
    queue::{QueueRules, message, seal::Part},
    retry::triage::Class,
    route::Route,
    store::jobs::{End, JobId, Millis, StoreError, Stored, Taken},
    telemetry::Outcome,
};

/// When an entry is looked at again that this configuration cannot carry out.
const UNUSABLE: Duration = Duration::from_secs(60);

/// When the store is asked again for what it must not miss.
const INSIST_EVERY: Duration = Duration::from_secs(1);

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
        Some(Came::Unsent(wait)) if !begin.is_begun() => tools.give_back(id, wait).await,
        Some(came) => {
            tools.finish(&entry, came).await;
            Carried::Tried
        }
        None => Carried::Tried,
    }
}

/// An entry that was begun.
struct Entry<'a> {
    id: JobId,
    attempts: u32,
    queued: Millis,
    call: &'a Call,
    rules: &'a QueueRules,
}

/// What a try came to.
enum Came {
    /// An answer to be kept.
    Answer(http::response::Parts, Bytes),
    /// Nothing was sent; it is worth another look after this.
    Unsent(Duration),
    /// No answer.
    Failed {
        note: String,
        may_have_run: bool,
        answered: bool,
    },
    /// An answer that cannot be kept.
    TooLarge,
}

impl Tools {
    /// The request as it was.
    fn call(&self, taken: Taken, queue: &QueueRules) -> Result<Call, Unusable> {
        let unreadable = |error: crate::queue::seal::Unreadable| Unusable(error.to_string());
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
            route,
            dialect,
            ask: Ask::read(dialect, &body),
            user: UserKey::from_fingerprint(taken.user),
            class: 0,
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

    /// Writes down how a try ended.
    async fn finish(&self, entry: &Entry<'_>, came: Came) {
        let now = Millis::now();
        let expires = now.after(entry.rules.settings.keep);
        let given_up = |note: &str, may_have_run| {
            let note = note.to_owned();
            if may_have_run {
                (End::Uncertain { note, expires }, "uncertain")
            } else {
                (End::Failed { note, expires }, "failed")
            }
        };
        let (end, outcome) = match came {
            Came::Answer(parts, body) => {
                let (id, keys) = (entry.id, &entry.rules.keys);
                let head = keys.seal(id, Part::AnswerHead, &message::answer_head(&parts));
                let body = keys.seal(id, Part::AnswerBody, &body);
                (
                    End::Done {
                        head,
                        body,
                        expires,
                    },
                    "done",
                )
            }
            Came::TooLarge => given_up("its answer is larger than `replay.per_request`", false),
            Came::Unsent(_) => given_up("it could not be begun", false),
            Came::Failed {
                note,
                may_have_run,
                answered,
            } => match self.next(entry, may_have_run, answered) {
                Next::Again(wait) => {
                    let due = now.after(wait);
                    let uncertain = may_have_run;
                    (End::Again { due, uncertain }, "again")
                }
                Next::GiveUp => given_up(&note, false),
                Next::Unsure => given_up(&note, true),
            },
        };
        let id = entry.id;
        let is_kept = self
            .insist(|| self.queue.store().end(id, end.clone(), now))
            .await;
        if is_kept == Some(true) {
            self.tell(entry, outcome);
        }
    }

    fn next(&self, entry: &Entry<'_>, may_have_run: bool, answered: bool) -> Next {
        let call = entry.call;
        let lane = self.shared.lanes.of(call, &call.route.upstream);
        let failed = Failed {
            attempts: entry.attempts,
            may_have_run,
            answered,
            closed_for: lane.snapshot().closed_for,
        };
        let settings = &entry.rules.settings;
        let terms = Terms {
            max_attempts: settings.max_attempts,
            base: settings.retry_base,
            cap: settings.retry_cap,
            post: call.route.retry.post,
        };
        next(&failed, &terms, rand::random())
    }

    fn tell(&self, entry: &Entry<'_>, outcome: &'static str) {
        let call = entry.call;
        self.queue.ended(call.route.name(), outcome, entry.queued);
        let (used, upstream, status) = {
            let journal = call.journal();
            (
                journal.used,
                journal.upstream.clone(),
                journal.upstream_status,
            )
        };
        let model = upstream
            .as_ref()
            .and_then(|upstream| upstream.model.as_deref());
        if let Some(used) = used {
            let metrics = &self.shared.metrics;
            let model = metrics.models.label(model.or(call.ask.model.as_deref()));
            metrics.used(call.route.name(), model, &used);
        }
        tracing::info!(
            queue_id = %entry.id,
            request_id = call.id.as_str(),
            route = call.route.name(),
            upstream = upstream.as_ref().map(|upstream| upstream.name.as_ref()),
            upstream_status = status,
            outcome,
            attempts = entry.attempts,
            queued_ms = u64::try_from(Millis::now().since(entry.queued).as_millis()).unwrap_or(u64::MAX),
            "a queued request was tried"
        );
    }

    async fn give_back(&self, id: JobId, wait: Duration) -> Carried {
        let due = Millis::now().after(wait);
        self.insist(|| self.queue.store().give_back(id, due)).await;
        Carried::Back
    }

    /// Asks the store until it has done it: what was acknowledged must not get lost because a disk was full for a moment.
    /// The process may end meanwhile; then the entry is found as it was.
    async fn insist<T>(&self, ask: impl Fn() -> Stored<T>) -> Option<T> {
        loop {
            match ask().await {
                Ok(done) => return Some(done),
                Err(StoreError::Full(_) | StoreError::Busy | StoreError::Down(_)) => {
                    tokio::time::sleep(INSIST_EVERY).await;
                }
            }
        }
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

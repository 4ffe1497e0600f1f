//! Taking a request in: what can be queued, how it is written, and what its caller is told.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Response, StatusCode, header};
use tokio::runtime::Handle;

use super::{LOOK_AGAIN, Queue, QueueRules, location, message, owner::key_of, seal::Part};
use crate::{
    body::{self, Body},
    call::{Call, FallbackWish, Head},
    config::Values,
    fallback::reply,
    store::jobs::{JobId, Millis, NewJob, Put, Record, State, StoreError},
};

/// No caller waits longer than this for the disk.
const PATIENCE: Duration = Duration::from_secs(5);

/// The longest wait that a caller is told of.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Names the webhook that is told of the end.
static WEBHOOK: HeaderName = HeaderName::from_static("x-surgetank-webhook");

/// Why a request was not taken in. The chain goes on to its next link.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotQueued {
    /// Nothing of the kind can be kept, or no answer in its form would be honest.
    #[error("this request cannot be queued")]
    Unfit,
    /// It cannot be carried out without its caller.
    #[error("its upstream has no configured credential")]
    NoCredential,
    /// The storage does not take it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The storage does not answer.
    #[error("the queue's storage does not answer")]
    Slow,
    /// Another request has its idempotency key.
    #[error("its idempotency key belongs to another request")]
    KeyReused,
    /// It was carried out before, perhaps.
    #[error("nobody knows whether it was carried out before")]
    Unsure,
}

impl NotQueued {
    /// A word from a closed set, for a metric's label.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Unfit => "unfit",
            Self::NoCredential => "no_credential",
            Self::Store(error) => error.as_str(),
            Self::Slow => "slow",
            Self::KeyReused => "key_reused",
            Self::Unsure => "unsure",
        }
    }
}

impl Queue {
    /// Whether the webhook that a request names, if it names one, is not there.
    #[must_use]
    pub fn lacks_webhook_of(&self, call: &Call) -> bool {
        let head = call.head();
        let wish = head.as_ref().and_then(|head| webhook_wish(head));
        wish.is_some_and(|name| self.rules().webhook(name).is_none())
    }

    /// Keeps a request, and gives what its caller is told. It is on the disk when this returns.
    ///
    /// # Errors
    /// When it is not kept; then it never will be.
    pub async fn offer(&self, call: &Call, wait: Duration) -> Result<Response<Body>, NotQueued> {
        let offered = self.take_in(call, wait).await;
        let result = match &offered {
            Ok((_, result)) => result,
            Err(refused) => refused.as_str(),
        };
        let labels = [call.route.name(), result];
        self.metrics()
            .queue
            .offered
            .with_label_values(&labels)
            .inc();
        match offered {
            Ok((response, _)) => Ok(response),
            Err(refused) => {
                if !matches!(refused, NotQueued::Unfit | NotQueued::NoCredential) {
                    tracing::warn!(
                        request_id = call.id.as_str(),
                        route = call.route.name(),
                        reason = %refused,
                        "a request was not queued; its chain goes on"
                    );
                }
                Err(refused)
            }
        }
    }

    async fn take_in(
        &self,
        call: &Call,
        wait: Duration,
    ) -> Result<(Response<Body>, &'static str), NotQueued> {
        let rules = self.rules();
        let body = fit_body(call)?;
        let id = JobId::random(&mut rand::rng());
        // Rendered before it is kept: what could not be told would be carried out for nobody.
        let response = accepted(call, id, wait, &rules).ok_or(NotQueued::Unfit)?;
        let job = job(call, id, &body, &rules)?;
        let (print, now) = (job.print, job.now);
        // One with an idempotency key is found by whoever repeats it, and may have been already.
        let unknown = job.key.is_none().then_some(id);
        let untold = Untold {
            queue: self,
            call,
            id: unknown,
        };
        let put = tokio::time::timeout(PATIENCE, self.store().put(job)).await;
        untold.disarm();
        let Ok(put) = put else {
            // It may be kept later all the same; nobody would know of it.
            if let Some(id) = unknown {
                self.withdraw(id);
            }
            return Err(NotQueued::Slow);
        };
        let (id, response, result) = match put? {
            Put::Kept => (id, response, "kept"),
            Put::Known(known) if known.print != print => return Err(NotQueued::KeyReused),
            Put::Known(known) => {
                self.revive(&known, now, &rules).await?;
                let response = accepted(call, known.id, wait, &rules).ok_or(NotQueued::Unfit)?;
                (known.id, response, "known")
            }
        };
        call.journal().queued = Some(id);
        self.0.bell.notify_one();
        Ok((response, result))
    }

    /// Takes an entry back that nobody was told of, if it is kept after all.
    fn withdraw(&self, id: JobId) {
        // Without a runtime the process is at its end.
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        let (queue, now) = (self.clone(), Millis::now());
        // Asked for at once, so that it stands right behind the writing.
        let removing = self.store().remove(id, now, now);
        runtime.spawn(async move {
            match removing.await {
                Ok(_) => queue.stop_carrying(id),
                Err(error) => {
                    tracing::warn!(queue_id = %id, reason = %error, "a request whose caller was not told that it is queued could not be taken back; it may be carried out for nobody");
                }
            }
        });
    }

    /// A repeat of what was given up asks for it once more.
    async fn revive(
        &self,
        known: &Record,
        now: Millis,
        rules: &QueueRules,
    ) -> Result<(), NotQueued> {
        if known.state == State::Failed {
            let expires = now.after(rules.settings.ttl);
            if !self.store().retry(known.id, now, expires).await? {
                // Its time was over in this moment, or somebody else has asked for it.
                let current = self.store().look(known.id).await?;
                return match current.map(|record| record.state) {
                    None | Some(State::Gone | State::Failed) => Err(NotQueued::Slow),
                    Some(_) => Ok(()),
                };
            }
        }
        Ok(())
    }
}

/// An entry that is being written. Its caller may leave before it is told its id; then nobody could ever read the answer,
/// and the entry is taken back.
struct Untold<'a> {
    queue: &'a Queue,
    call: &'a Call,
    /// Nothing, once it is over, and where the caller can find the entry without being told.
    id: Option<JobId>,
}

impl Untold<'_> {
    /// The storage has said what became of it.
    fn disarm(mut self) {
        self.id = None;
    }
}

impl Drop for Untold<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.id.take() {
            let labels = [self.call.route.name(), "left"];
            let offered = &self.queue.metrics().queue.offered;
            offered.with_label_values(&labels).inc();
            self.queue.withdraw(id);
        }
    }
}

/// The request as it is written.
fn job(call: &Call, id: JobId, body: &Bytes, rules: &QueueRules) -> Result<NewJob, NotQueued> {
    let owner = call.owner.ok_or(NotQueued::Unfit)?;
    let head = call.head().ok_or(NotQueued::Unfit)?;
    let (key, print) = match key_of(call, &owner, body) {
        Some((key, print)) => (Some(key), print),
        None => (None, [0; 32]),
    };
    let webhook = rules.webhook_for(webhook_wish(&head));
    let now = Millis::now();
    Ok(NewJob {
        id,
        owner: *owner.as_bytes(),
        user: *call.user.as_bytes(),
        key,
        print,
        route: call.route.name().to_owned(),
        head: rules
            .keys
            .seal(id, Part::RequestHead, &message::request_head(call, &head)),
        body: rules.keys.seal(id, Part::RequestBody, body),
        webhook: webhook.map(|webhook| webhook.name.clone()),
        now,
        expires: now.after(rules.settings.ttl),
    })
}

/// The name of the webhook that the caller wishes to be told, where it names one.
fn webhook_wish(head: &Head) -> Option<&str> {
    let wish = head.headers.get(&WEBHOOK)?;
    Some(wish.to_str().unwrap_or_default())
}

/// The body, where the request is one that can be carried out without its caller.
fn fit_body(call: &Call) -> Result<Bytes, NotQueued> {
    if call.route.upstream.credential.is_none() {
        return Err(NotQueued::NoCredential);
    }
    let is_fit = call.method == Method::POST && !call.payload.has_trailers();
    let body = call.payload.bytes().filter(|_| is_fit);
    body.ok_or(NotQueued::Unfit)
}

/// Whether the caller itself has asked for the queue, and so knows what such an answer is.
fn was_asked_for(call: &Call) -> bool {
    call.wishes.fallback == FallbackWish::Queue || call.wishes.respond_async.is_some()
}

/// What the caller of a queued request gets: a body that its SDK takes for an answer. Where no such body would be
/// honest, who asked for the queue gets a plain one, and nobody else anything.
pub(super) fn accepted(
    call: &Call,
    id: JobId,
    wait: Duration,
    rules: &Arc<QueueRules>,
) -> Option<Response<Body>> {
    let (name, location) = (id.to_string(), location(id));
    let wait = wait.clamp(LOOK_AGAIN, LONGEST_WAIT);
    let text = rules.settings.text.0.render(&Values {
        wait,
        request_id: call.id.as_str(),
        queue_id: &name,
        location: &location,
    });
    let plain = || was_asked_for(call).then(|| plain(id, State::Pending, false, &text));
    let mut response = reply::response(call, &text, None).or_else(plain)?;
    *response.status_mut() = StatusCode::ACCEPTED;
    let headers = response.headers_mut();
    headers.insert(header::LOCATION, HeaderValue::try_from(location).ok()?);
    headers.insert(
        header::RETRY_AFTER,
        HeaderValue::from(wait.as_secs().max(1)),
    );
    headers.insert(
        HeaderName::from_static("x-surgetank-queue-id"),
        HeaderValue::try_from(name).ok()?,
    );
    if call.wishes.respond_async.is_some() {
        headers.insert(
            HeaderName::from_static("preference-applied"),
            HeaderValue::from_static("respond-async"),
        );
    }
    Some(response)
}

/// What is known of an entry, as JSON.
pub(super) fn plain(id: JobId, state: State, uncertain: bool, text: &str) -> Response<Body> {
    let told = serde_json::json!({
        "object": "surgetank.queued_request",
        "id": id.to_string(),
        "status": state.as_str(),
        "uncertain": uncertain,
        "location": location(id),
        "message": text,
    });
    let mut response = Response::new(body::full(told.to_string()));
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    response
}

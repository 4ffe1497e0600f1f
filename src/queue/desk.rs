//! Giving answers out: `GET` and `DELETE` of `/_surgetank/queue/{id}` at the application's port.
//!
//! An entry exists only for who queued it: to everybody else its id is as unknown as any other.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt as _;

use super::{
    ANSWERS, LOOK_AGAIN, Owner, Queue, message,
    offer::plain,
    seal::{Part, Unreadable},
};
use crate::{
    body::{self, Body, BodyError},
    dialect::ErrorKind,
    store::jobs::{EXPIRED, JobId, Millis, Record, State, StoreError},
};

const STATE: HeaderName = HeaderName::from_static("x-surgetank-queue-state");
const QUEUE_ID: HeaderName = HeaderName::from_static("x-surgetank-queue-id");
const UNCERTAIN: HeaderName = HeaderName::from_static("x-surgetank-queue-uncertain");
const FALLBACK: HeaderName = HeaderName::from_static("x-surgetank-fallback");

/// Why somebody gets no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Turned {
    /// There is nothing of that name, or nothing of this caller's.
    #[error("there is no queued request of this id for the credential that was shown")]
    Unknown,
    /// There was.
    #[error("this queued request has expired, was cancelled, or its answer was read and removed")]
    Gone,
    /// That cannot be done with an answer.
    #[error("a queued request can be read by GET and cancelled by DELETE")]
    Method,
    /// It was given up.
    #[error("this queued request was given up: {0}")]
    Failed(String),
    /// Nobody knows what became of it.
    #[error("this queued request may have been carried out, but its answer was lost: {0}")]
    Uncertain(String),
    /// Its answer cannot be read.
    #[error("the answer of this queued request cannot be read: {0}")]
    Unreadable(#[from] Unreadable),
    /// The storage does not work.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Turned {
    /// How this is told.
    #[must_use]
    pub fn told(&self) -> (StatusCode, ErrorKind) {
        match self {
            Self::Unknown => (StatusCode::NOT_FOUND, ErrorKind::NotFound),
            Self::Gone => (StatusCode::GONE, ErrorKind::NotFound),
            Self::Method => (StatusCode::METHOD_NOT_ALLOWED, ErrorKind::Invalid),
            Self::Failed(_) | Self::Uncertain(_) => {
                (StatusCode::BAD_GATEWAY, ErrorKind::ServerError)
            }
            Self::Unreadable(_) => (StatusCode::INTERNAL_SERVER_ERROR, ErrorKind::ServerError),
            Self::Store(_) => (StatusCode::SERVICE_UNAVAILABLE, ErrorKind::Overloaded),
        }
    }

    /// Fields beside the error's body.
    pub fn fields(&self, headers: &mut HeaderMap) {
        let state = match self {
            Self::Gone => State::Gone,
            Self::Failed(_) => State::Failed,
            Self::Uncertain(_) => State::Uncertain,
            Self::Method => {
                let methods = HeaderValue::from_static("GET, HEAD, DELETE");
                headers.insert(header::ALLOW, methods);
                return;
            }
            Self::Store(_) => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from(LOOK_AGAIN.as_secs()));
                return;
            }
            Self::Unknown | Self::Unreadable(_) => return,
        };
        headers.insert(STATE, HeaderValue::from_static(state.as_str()));
        // What is over stays so.
        let never = HeaderValue::from_static("false");
        headers.insert(HeaderName::from_static("x-should-retry"), never);
    }
}

/// The entry that a path below [`super::OWN_PATHS`] names.
fn entry_in(path: &str) -> Result<JobId, Turned> {
    let id = path.strip_prefix(ANSWERS).ok_or(Turned::Unknown)?;
    id.parse().map_err(|_| Turned::Unknown)
}

/// Serves a request to one of our own paths.
///
/// # Errors
/// When there is nothing to give out.
pub async fn serve(
    queue: Option<&Queue>,
    method: &Method,
    path: &str,
    owner: Option<Owner>,
) -> Result<Response<Body>, Turned> {
    let id = entry_in(path)?;
    let (Some(queue), Some(owner)) = (queue, owner) else {
        return Err(Turned::Unknown);
    };
    let record = queue
        .store()
        .look(id)
        .await?
        .filter(|record| owner.owns(&record.owner));
    let record = record.ok_or(Turned::Unknown)?;
    match *method {
        Method::GET => {
            let response = queue.result(&record).await?;
            Ok(queue.removed_when_read(&record, response))
        }
        Method::HEAD => queue.result(&record).await,
        Method::DELETE => queue.cancel(&record).await,
        _ => Err(Turned::Method),
    }
}

impl Queue {
    /// What an entry has come to so far.
    pub(super) async fn result(&self, record: &Record) -> Result<Response<Body>, Turned> {
        let note = || {
            record
                .note
                .clone()
                .unwrap_or_else(|| "nobody wrote down why".to_owned())
        };
        match record.state {
            State::Pending | State::Running => Ok(pending(record)),
            State::Done => self.answer(record).await,
            State::Failed if record.note.as_deref() == Some(EXPIRED) => Err(Turned::Gone),
            State::Failed => Err(Turned::Failed(note())),
            State::Uncertain => Err(Turned::Uncertain(note())),
            State::Gone => Err(Turned::Gone),
        }
    }

    async fn answer(&self, record: &Record) -> Result<Response<Body>, Turned> {
        let (id, keys) = (record.id, &self.rules().keys);
        let (head, body) = self.store().answer(id).await?.ok_or(Turned::Gone)?;
        let head = keys.open(id, Part::AnswerHead, head)?;
        let body = keys.open(id, Part::AnswerBody, body)?;
        let mut answer = message::read_answer(&head, body).ok_or(Unreadable::Damaged)?;
        let headers = answer.headers_mut();
        mark(headers, record);
        headers.insert(FALLBACK, HeaderValue::from_static("queue"));
        Ok(answer.map(body::full))
    }

    /// Ends an entry for good, whatever it is at.
    async fn cancel(&self, record: &Record) -> Result<Response<Body>, Turned> {
        let (id, now) = (record.id, Millis::now());
        let forget = now.after(self.rules().settings.keep);
        match self.store().remove(id, now, forget).await? {
            None => return Err(Turned::Unknown),
            Some(State::Gone) => return Err(Turned::Gone),
            Some(_) => {}
        }
        self.stop_carrying(id);
        if !record.state.is_final() {
            self.ended(&record.route, "cancelled", record.queued);
        }
        let mut response = Response::new(body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        Ok(response)
    }

    fn removed_when_read(&self, record: &Record, response: Response<Body>) -> Response<Body> {
        if record.state != State::Done || !self.rules().is_removed_when_read() {
            return response;
        }
        let forget = Millis::now().after(self.rules().settings.keep);
        let removal = Removal {
            queue: self.clone(),
            id: record.id,
            forget,
        };
        response.map(|body| ReadOnce::new(body, removal).boxed_unsync())
    }
}

fn pending(record: &Record) -> Response<Body> {
    let text = "This request waits for its turn; look again later.";
    let mut response = plain(record.id, record.state, record.uncertain, text);
    *response.status_mut() = StatusCode::ACCEPTED;
    let headers = response.headers_mut();
    mark(headers, record);
    headers.insert(header::RETRY_AFTER, HeaderValue::from(LOOK_AGAIN.as_secs()));
    response
}

/// Says which entry it is and where that stands.
fn mark(headers: &mut HeaderMap, record: &Record) {
    if let Ok(id) = HeaderValue::try_from(record.id.to_string()) {
        headers.insert(QUEUE_ID, id);
    }
    headers.insert(STATE, HeaderValue::from_static(record.state.as_str()));
    if record.uncertain {
        headers.insert(UNCERTAIN, HeaderValue::from_static("true"));
    }
}

/// What is done with an answer once it has left.
struct Removal {
    queue: Queue,
    id: JobId,
    forget: Millis,
}

impl Removal {
    fn begin(self) {
        let removing = self
            .queue
            .store()
            .remove(self.id, Millis::now(), self.forget);
        tokio::spawn(async move {
            if let Err(error) = removing.await {
                tracing::warn!(reason = %error, "an answer that was read could not be removed; it goes when its time is over");
            }
        });
    }
}

/// A body that is removed from the store when its last byte has left.
struct ReadOnce {
    body: Body,
    removal: Option<Removal>,
}

impl ReadOnce {
    fn new(body: Body, removal: Removal) -> Self {
        let mut once = Self {
            body,
            removal: Some(removal),
        };
        // Nobody asks a body without bytes for its end.
        once.look();
        once
    }

    fn look(&mut self) {
        if self.body.is_end_stream()
            && let Some(removal) = self.removal.take()
        {
            removal.begin();
        }
    }
}

impl http_body::Body for ReadOnce {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.body).poll_frame(cx);
        this.look();
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

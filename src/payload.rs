//! The request's body as something that can be sent more than once.
//!
//! Most gateways stop retrying where a body outgrows a small fixed buffer, silently, and prompts
//! with images or long documents are exactly the ones that outgrow it. Here a body is held up to
//! `replay.per_request` under one budget for all (`Budget`); what does not fit is passed through
//! once, and marked, so that nobody believes in a retry that cannot happen.

mod arriving;

use std::{
    fmt, io,
    pin::Pin,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::{Instant, timeout_at};

use self::arriving::Arriving;
use crate::{
    body::{self, Body, BodyError, Chunks},
    budget::{Budget, Reservation},
};

/// How long a caller may pause in the middle of its body before the request is given up.
const STALL: Duration = Duration::from_secs(60);

/// How much of a body that is too large to be held is looked at before it is passed on.
const BEGINNING: usize = 64 * 1024;

/// A request's body.
#[derive(Debug)]
pub enum Payload {
    /// The whole body, in memory: can be sent any number of times. `None` once it was released.
    Held(Mutex<Option<Held>>),
    /// Too large to hold: can be sent once. `None` after that.
    Passing(Mutex<Option<Passing>>),
}

/// A body that is wholly in memory. Its bytes carry their part of the budget with them, so it is given
/// back with the last of them, also where an upload still has some.
pub struct Held {
    bytes: Bytes,
    trailers: Option<HeaderMap>,
}

/// What was read before the body proved too large, and the rest, still on the wire.
pub struct Passing {
    read: Bytes,
    rest: Arriving,
}

/// The caller did not deliver the body.
#[derive(Debug, thiserror::Error)]
pub enum PayloadError {
    /// Nothing came for `STALL`.
    #[error("the request body stopped arriving for {} s", STALL.as_secs())]
    Stalled,
    /// It came so slowly that no time is left for an answer.
    #[error("the time of this request was used up before its body had arrived")]
    Late,
    /// The caller closed its connection, or reset its stream.
    #[error("the caller left before its request body was complete")]
    Left,
    /// What came is not framed as HTTP demands.
    #[error("the request body could not be read: {0}")]
    Broken(#[source] hyper::Error),
}

impl From<hyper::Error> for PayloadError {
    /// Broken framing is the only fault of a body that its caller stays for.
    fn from(error: hyper::Error) -> Self {
        let mut cause = std::error::Error::source(&error);
        while let Some(link) = cause {
            let kind = link.downcast_ref::<io::Error>().map(io::Error::kind);
            if let Some(io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData) = kind {
                return Self::Broken(error);
            }
            cause = link.source();
        }
        Self::Left
    }
}

impl Payload {
    /// Reads `incoming` into memory if it fits into `cap` bytes and into `budget`. It has to be there `by`
    /// then.
    pub async fn read(
        incoming: Incoming,
        cap: usize,
        budget: &Budget,
        by: Instant,
    ) -> Result<Self, PayloadError> {
        if incoming.is_end_stream() {
            return Ok(Self::held(Bytes::new(), None));
        }
        // Of a declared length that cannot be held only the beginning is waited for, where the user may be named.
        let declared = usize::try_from(incoming.size_hint().lower()).unwrap_or(usize::MAX);
        let cap = if declared > cap {
            cap.min(BEGINNING)
        } else {
            cap
        };
        let (mut arriving, mut reserved) = (Arriving::new(incoming), budget.open());
        let (mut read, mut trailers) = (Chunks::default(), None);
        loop {
            let frame = match timeout_at(by, arriving.frame()).await {
                Err(_) => return Err(PayloadError::Late),
                Ok(None) => break,
                Ok(Some(frame)) => frame?,
            };
            match frame.into_data() {
                Ok(data) => {
                    let fits = read.len() + data.len() <= cap && reserved.grow(data.len());
                    read.push(data);
                    if !fits {
                        return Ok(Self::passing(read.into_bytes(), arriving));
                    }
                }
                Err(other) => trailers = other.into_trailers().ok(),
            }
        }
        let bytes = Reserved {
            bytes: read.into_bytes(),
            _reserved: reserved,
        };
        Ok(Self::held(Bytes::from_owner(bytes), trailers))
    }

    /// A body that is in memory already, on somebody else's account.
    pub(crate) fn kept(bytes: Bytes) -> Self {
        Self::held(bytes, None)
    }

    fn held(bytes: Bytes, trailers: Option<HeaderMap>) -> Self {
        Self::Held(Mutex::new(Some(Held { bytes, trailers })))
    }

    fn passing(read: Bytes, rest: Arriving) -> Self {
        Self::Passing(Mutex::new(Some(Passing { read, rest })))
    }

    /// The bytes, where all of them are in memory. A clone keeps them there.
    #[must_use]
    pub fn bytes(&self) -> Option<Bytes> {
        match self {
            Self::Held(held) => lock(held).as_ref().map(|held| held.bytes.clone()),
            Self::Passing(_) => None,
        }
    }

    /// How many bytes those are.
    #[must_use]
    pub fn held_len(&self) -> Option<usize> {
        match self {
            Self::Held(held) => lock(held).as_ref().map(|held| held.bytes.len()),
            Self::Passing(_) => None,
        }
    }

    /// What is known of the body, and how long it is at least.
    #[must_use]
    pub fn known(&self) -> (Bytes, u64) {
        match self {
            Self::Held(held) => lock(held).as_ref().map_or((Bytes::new(), 0), |held| {
                (held.bytes.clone(), held.bytes.len() as u64)
            }),
            Self::Passing(passing) => lock(passing).as_ref().map_or((Bytes::new(), 0), |it| {
                (it.read.clone(), http_body::Body::size_hint(it).lower())
            }),
        }
    }

    /// Whether a further attempt can send it.
    #[must_use]
    pub fn is_replayable(&self) -> bool {
        matches!(self, Self::Held(held) if lock(held).is_some())
    }

    /// Whether the message has trailers, and so needs chunked framing.
    #[must_use]
    pub fn has_trailers(&self) -> bool {
        let with_trailers =
            |held: &Option<Held>| held.as_ref().is_some_and(|held| held.trailers.is_some());
        matches!(self, Self::Held(held) if with_trailers(&lock(held)))
    }

    /// The body for one attempt; `None` when it was already spent, or released.
    #[must_use]
    pub fn send(&self) -> Option<Body> {
        match self {
            Self::Held(held) => {
                let held = lock(held);
                let Held { bytes, trailers } = held.as_ref()?;
                Some(match trailers {
                    None => body::full(bytes.clone()),
                    Some(trailers) => body::with_trailers(bytes.clone(), trailers.clone()),
                })
            }
            Self::Passing(passing) => lock(passing).take().map(BodyExt::boxed_unsync),
        }
    }

    /// Lets a held body go: no further attempt will need it. An answer may last for many minutes, and a
    /// prompt that stayed with it would take the memory of those who still may need theirs.
    pub fn release(&self) {
        if let Self::Held(held) = self {
            lock(held).take();
        }
    }
}

/// The lock guards a `take` or a clone, neither of which can panic halfway.
fn lock<T>(slot: &Mutex<Option<T>>) -> MutexGuard<'_, Option<T>> {
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Bytes with their part of the budget.
struct Reserved {
    bytes: Bytes,
    _reserved: Reservation,
}

impl AsRef<[u8]> for Reserved {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Shows no byte of the prompt.
impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held")
            .field("len", &self.bytes.len())
            .finish_non_exhaustive()
    }
}

/// Shows no byte of the prompt.
impl fmt::Debug for Passing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Passing")
            .field("read", &self.read.len())
            .finish_non_exhaustive()
    }
}

impl http_body::Body for Passing {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if !self.read.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.read)))));
        }
        Pin::new(&mut self.rest)
            .poll_frame(cx)
            .map_err(BodyError::Caller)
    }

    fn is_end_stream(&self) -> bool {
        self.read.is_empty() && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        body::longer(self.rest.size_hint(), self.read.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(text: &'static str, trailers: Option<HeaderMap>, budget: &Budget) -> Payload {
        let mut reserved = budget.open();
        assert!(reserved.grow(text.len()));
        let bytes = Reserved {
            bytes: Bytes::from_static(text.as_bytes()),
            _reserved: reserved,
        };
        Payload::held(Bytes::from_owner(bytes), trailers)
    }

    #[tokio::test]
    async fn a_held_body_with_trailers_is_sent_with_them_every_time() {
        let mut trailers = HeaderMap::new();
        trailers.insert("x-checksum", http::HeaderValue::from_static("7"));
        let payload = held("data", Some(trailers.clone()), &Budget::new(10));
        assert!(payload.has_trailers());
        for _ in 0..2 {
            let sent = payload
                .send()
                .expect("held")
                .collect()
                .await
                .expect("no error");
            assert_eq!(sent.trailers(), Some(&trailers));
            assert_eq!(sent.to_bytes(), "data");
        }
    }

    #[tokio::test]
    async fn a_released_body_is_gone_as_soon_as_nobody_sends_it() {
        let budget = Budget::new(10);
        let payload = held("a prompt", None, &budget);
        let sending = payload.send().expect("held");
        payload.release();
        assert!(!payload.is_replayable());
        assert!(payload.send().is_none() && payload.bytes().is_none());
        assert_eq!(budget.used(), 8, "an upload still has it");
        let sent = sending.collect().await.expect("no error").to_bytes();
        assert_eq!(sent, "a prompt");
        drop(sent);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn no_prompt_is_shown_for_debugging() {
        let shown = format!("{:?}", held("CANARY", None, &Budget::new(10)));
        assert!(!shown.contains("CANARY") && shown.contains('6'), "{shown}");
    }
}

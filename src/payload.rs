//! The request's body as something that can be sent more than once.
//!
//! Most gateways stop retrying where a body outgrows a small fixed buffer, silently, and prompts
//! with images or long documents are exactly the ones that outgrow it. Here a body is held up to
//! `replay.per_request` under one budget for all (`Budget`); what does not fit is passed through
//! once, and marked, so that nobody believes in a retry that cannot happen.

use std::{
    pin::Pin,
    sync::Mutex,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;

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
    /// The whole body, in memory: can be sent any number of times.
    Held(Held),
    /// Too large to hold: can be sent once. `None` after that.
    Passing(Mutex<Option<Passing>>),
}

/// A body that is wholly in memory.
#[derive(Debug)]
pub struct Held {
    bytes: Bytes,
    trailers: Option<HeaderMap>,
    _reserved: Reservation,
}

/// What was read before the body proved too large, and the rest, still on the wire.
#[derive(Debug)]
pub struct Passing {
    read: Bytes,
    rest: Incoming,
}

/// The caller did not deliver the body.
#[derive(Debug, thiserror::Error)]
pub enum PayloadError {
    /// Nothing came for `STALL`.
    #[error("the request body stopped arriving for {} s", STALL.as_secs())]
    Stalled,
    /// The connection or its framing broke.
    #[error("the request body could not be read: {0}")]
    Broken(#[source] hyper::Error),
}

impl Payload {
    /// Reads `incoming` into memory if it fits into `cap` bytes and into `budget`.
    pub async fn read(
        incoming: Incoming,
        cap: usize,
        budget: &Budget,
    ) -> Result<Self, PayloadError> {
        let mut reserved = budget.open();
        if incoming.is_end_stream() {
            return Ok(Self::Held(Held {
                bytes: Bytes::new(),
                trailers: None,
                _reserved: reserved,
            }));
        }
        // Of a declared length that cannot be held only the beginning is waited for, where the user may be named.
        let declared = usize::try_from(incoming.size_hint().lower()).unwrap_or(usize::MAX);
        let cap = if declared > cap {
            cap.min(BEGINNING)
        } else {
            cap
        };
        let (mut incoming, mut read, mut trailers) = (incoming, Chunks::default(), None);
        loop {
            let frame = match tokio::time::timeout(STALL, incoming.frame()).await {
                Err(_) => return Err(PayloadError::Stalled),
                Ok(None) => break,
                Ok(Some(frame)) => frame.map_err(PayloadError::Broken)?,
            };
            match frame.into_data() {
                Ok(data) => {
                    let fits = read.len() + data.len() <= cap && reserved.grow(data.len());
                    read.push(data);
                    if !fits {
                        return Ok(Self::passing(read.into_bytes(), incoming));
                    }
                }
                Err(other) => trailers = other.into_trailers().ok(),
            }
        }
        Ok(Self::Held(Held {
            bytes: read.into_bytes(),
            trailers,
            _reserved: reserved,
        }))
    }

    fn passing(read: Bytes, rest: Incoming) -> Self {
        Self::Passing(Mutex::new(Some(Passing { read, rest })))
    }

    /// The bytes, where all of them are in memory.
    #[must_use]
    pub fn bytes(&self) -> Option<&Bytes> {
        match self {
            Self::Held(held) => Some(&held.bytes),
            Self::Passing(_) => None,
        }
    }

    /// What is known of the body, and how long it is at least.
    #[must_use]
    pub fn known(&self) -> (Bytes, u64) {
        match self {
            Self::Held(held) => (held.bytes.clone(), held.bytes.len() as u64),
            Self::Passing(passing) => {
                let passing = passing
                    .lock()
                    .unwrap_or_else(std::sync::PoisonError::into_inner);
                passing.as_ref().map_or((Bytes::new(), 0), |passing| {
                    let length = http_body::Body::size_hint(passing).lower();
                    (passing.read.clone(), length)
                })
            }
        }
    }

    /// Whether a further attempt can send it.
    #[must_use]
    pub fn is_replayable(&self) -> bool {
        matches!(self, Self::Held(_))
    }

    /// Whether the message has trailers, and so needs chunked framing.
    #[must_use]
    pub fn has_trailers(&self) -> bool {
        matches!(self, Self::Held(held) if held.trailers.is_some())
    }

    /// The body for one attempt; `None` when it was already spent.
    #[must_use]
    pub fn send(&self) -> Option<Body> {
        match self {
            Self::Held(Held {
                bytes,
                trailers: None,
                ..
            }) => Some(body::full(bytes.clone())),
            Self::Held(Held {
                bytes,
                trailers: Some(trailers),
                ..
            }) => Some(body::with_trailers(bytes.clone(), trailers.clone())),
            Self::Passing(passing) => {
                // A poisoned lock only means that another attempt panicked before it took the body.
                let taken = passing
                    .lock()
                    .unwrap_or_else(std::sync::PoisonError::into_inner)
                    .take();
                taken.map(BodyExt::boxed_unsync)
            }
        }
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

    #[tokio::test]
    async fn a_held_body_with_trailers_is_sent_with_them_every_time() {
        let mut trailers = HeaderMap::new();
        trailers.insert("x-checksum", http::HeaderValue::from_static("7"));
        let held = Held {
            bytes: Bytes::from_static(b"data"),
            trailers: Some(trailers.clone()),
            _reserved: Budget::new(10).open(),
        };
        let payload = Payload::Held(held);
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
}

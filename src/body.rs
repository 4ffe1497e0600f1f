//! The bodies that pass through surgetank, and the ways in which one can break.
//!
//! A body that breaks must never look finished: every error here makes hyper abort the connection
//! (or reset the HTTP/2 stream) instead of writing the final chunk.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use http_body_util::{BodyExt as _, Full, combinators::UnsyncBoxBody};

use crate::{payload::PayloadError, upstream::ReadError};

/// What every part of the stack hands on as a message body.
pub type Body = UnsyncBoxBody<Bytes, BodyError>;

/// Why a body ended before its end. The text is for logs; a caller sees an aborted connection.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The upstream's connection failed or its framing was violated.
    #[error("the upstream's answer broke off: {0}")]
    Upstream(#[source] ReadError),
    /// The upstream ended the message properly but the answer inside lacks its terminator.
    #[error("the upstream ended its stream before the answer was complete")]
    Incomplete,
    /// The answer was compressed, had to be unpacked because its head had left without saying so, and could not be.
    #[error("the upstream's compressed answer could not be unpacked")]
    Packed,
    /// Nothing arrived for longer than `timeouts.idle`.
    #[error("the upstream sent nothing for {} s", .0.as_secs_f32())]
    Idle(Duration),
    /// The request's total time was used up.
    #[error("the request's total time of {} s was used up", .0.as_secs_f32())]
    Deadline(Duration),
    /// surgetank is stopping and the time to drain is over.
    #[error("surgetank stopped before the answer was complete")]
    Stopping,
    /// The request has failed, and its caller was told so within the answer that had been begun for it.
    #[error("the request failed after its answer had been begun; its caller was told so")]
    Told,
    /// The upstream's side of a tunnel failed.
    #[error("the upstream's side of the tunnel broke off: {0}")]
    Tunnel(#[source] std::io::Error),
    /// The caller's own request body failed while it was passed on.
    #[error("{0}")]
    Caller(#[source] PayloadError),
}

impl BodyError {
    /// What a caller is told, from a fixed vocabulary: the error's own text may quote what came over
    /// the wire.
    #[must_use]
    pub fn for_caller(&self) -> &'static str {
        match self {
            Self::Upstream(_) | Self::Tunnel(_) => {
                "The connection to the upstream was lost before the answer was complete."
            }
            Self::Incomplete => "The upstream ended its stream before the answer was complete.",
            Self::Packed => "The upstream's compressed answer could not be unpacked.",
            Self::Idle(_) => "The upstream fell silent before the answer was complete.",
            Self::Deadline(_) => {
                "The time of this request was used up before the answer was complete."
            }
            Self::Stopping => "The proxy was stopped before the answer was complete.",
            Self::Told => "The request has failed.",
            Self::Caller(_) => "The request could not be read to its end.",
        }
    }

    /// A word from a closed set, for metric labels.
    #[must_use]
    pub fn cause(&self) -> &'static str {
        match self {
            Self::Upstream(_) | Self::Tunnel(_) => "cut",
            Self::Incomplete => "incomplete",
            Self::Packed => "packed",
            Self::Idle(_) => "idle",
            Self::Deadline(_) => "deadline",
            Self::Stopping => "stopping",
            Self::Told => "told",
            Self::Caller(_) => "caller",
        }
    }
}

/// A body of known bytes.
#[must_use]
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// A body without bytes.
#[must_use]
pub fn empty() -> Body {
    http_body_util::Empty::new()
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// A body of known bytes with trailers behind them.
#[must_use]
pub fn with_trailers(data: Bytes, trailers: HeaderMap) -> Body {
    WithTrailers {
        data: Some(data),
        trailers: Some(trailers),
    }
    .boxed_unsync()
}

/// A body that keeps `guard` until it has ended or is dropped.
#[must_use]
pub fn holding(body: Body, guard: impl Send + 'static) -> Body {
    Holding {
        body,
        _guard: guard,
    }
    .boxed_unsync()
}

pin_project_lite::pin_project! {
    struct Holding<G> {
        #[pin]
        body: Body,
        _guard: G,
    }
}

impl<G> http_body::Body for Holding<G> {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.project().body.poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The size of a body that has `held` bytes in front of what `hint` tells of.
pub(crate) fn longer(mut hint: SizeHint, held: usize) -> SizeHint {
    let held = held as u64;
    if let Some(upper) = hint.upper() {
        hint.set_upper(upper + held);
    }
    hint.set_lower(hint.lower() + held);
    hint
}

/// The pieces as one.
#[must_use]
pub fn joined(pieces: impl IntoIterator<Item = Bytes>) -> Bytes {
    let mut chunks = Chunks::default();
    pieces.into_iter().for_each(|piece| chunks.push(piece));
    chunks.into_bytes()
}

/// Data collected without a copy as long as it is one chunk, which most prompts are.
#[derive(Default)]
pub(crate) struct Chunks {
    first: Bytes,
    joined: BytesMut,
}

impl Chunks {
    pub(crate) fn len(&self) -> usize {
        self.first.len() + self.joined.len()
    }

    pub(crate) fn push(&mut self, data: Bytes) {
        if self.len() == 0 {
            self.first = data;
            return;
        }
        if self.joined.is_empty() {
            self.joined.reserve(self.first.len() + data.len());
            self.joined
                .extend_from_slice(&std::mem::take(&mut self.first));
        }
        self.joined.extend_from_slice(&data);
    }

    pub(crate) fn into_bytes(self) -> Bytes {
        if self.joined.is_empty() {
            self.first
        } else {
            self.joined.freeze()
        }
    }
}

struct WithTrailers {
    data: Option<Bytes>,
    trailers: Option<HeaderMap>,
}

impl http_body::Body for WithTrailers {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let data = self
            .data
            .take()
            .filter(|data| !data.is_empty())
            .map(Frame::data);
        Poll::Ready(
            data.or_else(|| self.trailers.take().map(Frame::trailers))
                .map(Ok),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_chunk_is_not_copied_and_many_are_joined_in_order() {
        let mut chunks = Chunks::default();
        let only = Bytes::from_static(b"one chunk");
        chunks.push(only.clone());
        assert_eq!(chunks.into_bytes().as_ptr(), only.as_ptr());

        let mut chunks = Chunks::default();
        for part in ["a", "", "bc", "d"] {
            chunks.push(Bytes::from_static(part.as_bytes()));
        }
        assert_eq!(chunks.len(), 4);
        assert_eq!(chunks.into_bytes(), "abcd");
    }
}

//! The body of an upstream's answer, however it is read.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::h1::{BrokenChunks, Interest, Plain, Stream, Switched};

/// Why a body ended before its end. The text may quote what came over the wire, and is for the log.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The connection failed or its framing was violated, as hyper says it.
    #[error(transparent)]
    Hyper(#[from] hyper::Error),
    /// The connection failed.
    #[error("the connection failed: {0}")]
    Connection(#[from] io::Error),
    /// The framing was violated.
    #[error(transparent)]
    Chunks(#[from] BrokenChunks),
}

/// The body of an answer. Dropped before its end, it ends what the upstream still sends.
#[derive(Debug)]
pub struct AnswerBody(Kind);

#[derive(Debug)]
enum Kind {
    /// Its connection is a task of its own: HTTP/2, a long upload.
    Apart {
        incoming: Incoming,
        _interest: Option<Interest>,
    },
    /// It moves its connection on.
    Plain(Plain),
    /// It is read from its connection without hyper.
    Stream(Stream),
    /// There is none: another protocol follows.
    Switched(Switched),
}

impl AnswerBody {
    pub(super) fn apart(incoming: Incoming, interest: Option<Interest>) -> Self {
        Self(Kind::Apart {
            incoming,
            _interest: interest,
        })
    }

    pub(super) fn plain(plain: Plain) -> Self {
        Self(Kind::Plain(plain))
    }

    pub(super) fn stream(stream: Stream) -> Self {
        Self(Kind::Stream(stream))
    }

    pub(super) fn switched(switched: Switched) -> Self {
        Self(Kind::Switched(switched))
    }

    /// The connection itself, where the answer was a switch of protocols.
    #[must_use]
    pub fn into_switched(self) -> Option<Switched> {
        match self.0 {
            Kind::Switched(switched) => Some(switched),
            _ => None,
        }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = ReadError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ReadError>>> {
        match &mut self.get_mut().0 {
            Kind::Apart { incoming, .. } => Pin::new(incoming)
                .poll_frame(cx)
                .map(|next| next.map(|frame| frame.map_err(ReadError::Hyper))),
            Kind::Plain(plain) => plain.poll_frame(cx),
            Kind::Stream(stream) => stream.poll_frame(cx),
            Kind::Switched(_) => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Apart { incoming, .. } => incoming.is_end_stream(),
            Kind::Plain(plain) => plain.incoming().is_end_stream(),
            Kind::Stream(stream) => stream.is_over(),
            Kind::Switched(_) => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Apart { incoming, .. } => incoming.size_hint(),
            Kind::Plain(plain) => plain.incoming().size_hint(),
            Kind::Stream(_) => SizeHint::default(),
            Kind::Switched(_) => SizeHint::with_exact(0),
        }
    }
}

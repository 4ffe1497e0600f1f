//! An answer's body where it meets its caller's connection.
//!
//! Above this line a body is only pieces and an end; here is what the connection makes of them.
//! hyper writes what it holds when a body is pending and throws it away when a body fails, so a
//! failure is held back until everything before it, the error event above all, has left.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{Response, StatusCode, Version, header};
use http_body::{Body as _, Frame, SizeHint};

use super::{
    EndBy,
    clock::{ConnectionClock, InFlight},
    streams::StreamClock,
};
use crate::body::{self, Body, BodyError};

/// The longest piece that one HTTP/2 stream is given at once (its usual frame). hyper comes back for
/// the next one when this one has found room in the caller's window, so that is how much of an answer
/// lies before a caller who does not read, and how soon it shows.
const H2_PIECE: usize = 16 * 1024;

/// The answer's body as the connection polls it.
#[derive(Debug)]
pub(super) struct EdgeBody {
    body: Body,
    connection: Arc<ConnectionClock>,
    /// Of the stream, where the caller speaks HTTP/2.
    stream: Option<Arc<StreamClock>>,
    /// What is left of a piece that was too long for one frame.
    rest: Bytes,
    failing: Option<Failing>,
    /// The length that a 304 tells of a body that it does not have.
    told_length: Option<u64>,
    _in_flight: InFlight,
}

/// A body that has failed, while what came before the failure leaves.
#[derive(Debug)]
struct Failing {
    error: BodyError,
    /// How often the connection had given everything away by then.
    flushes: u64,
}

/// Puts `response` on `connection`, to a caller that speaks `version`.
pub(super) fn put(
    mut response: Response<Body>,
    version: Version,
    connection: Arc<ConnectionClock>,
    in_flight: InFlight,
) -> Response<EdgeBody> {
    let stream = StreamClock::current();
    if let Some(EndBy(end)) = response.extensions_mut().remove() {
        match &stream {
            Some(stream) => stream.answer_began(end),
            None => connection.answer_began(end),
        }
    }
    if version == Version::HTTP_10 && response.body().size_hint().exact().is_none() {
        connection.answer_ends_by_closing();
    }
    if let Some(stream) = stream.as_ref().filter(|_| !response.body().is_end_stream()) {
        // The head is one too: hyper asks for the body only once its caller grants a window at all.
        stream.gave();
    }
    let told_length = told_length(&response);
    response.map(|body| EdgeBody {
        body,
        connection,
        stream,
        rest: Bytes::new(),
        failing: None,
        told_length,
        _in_flight: in_flight,
    })
}

/// A 304 has no body and may tell the length that it would have (RFC 9110 §8.6); hyper drops the field
/// unless the body claims that length.
fn told_length(response: &Response<Body>) -> Option<u64> {
    if response.status() != StatusCode::NOT_MODIFIED || !response.body().is_end_stream() {
        return None;
    }
    let length = response.headers().get(header::CONTENT_LENGTH)?;
    length.to_str().ok()?.parse().ok()
}

impl EdgeBody {
    /// Gives the failure as soon as everything before it has left for the kernel. How long that may take is
    /// bounded by the clocks: a peer that takes nothing is dropped.
    fn poll_failure(&mut self, cx: &mut Context<'_>) -> Poll<Option<BodyError>> {
        if let Some(failing) = &self.failing
            && failing.flushes == self.connection.flushes()
        {
            self.connection.wake_on_flush(cx);
            return Poll::Pending;
        }
        Poll::Ready(self.failing.take().map(|failing| failing.error))
    }

    /// As much of a piece as the connection takes at once.
    fn cut(&mut self, mut data: Bytes) -> Frame<Bytes> {
        if let Some(stream) = &self.stream {
            stream.gave();
            self.rest = data.split_off(data.len().min(H2_PIECE));
        }
        Frame::data(data)
    }

    fn fail(&mut self, error: BodyError) {
        // What the answer held, the upstream's connection and its turn, goes now.
        self.body = body::empty();
        self.failing = Some(Failing {
            error,
            flushes: self.connection.flushes(),
        });
        // Waiting for it counts as not being read.
        if let Some(stream) = &self.stream {
            stream.gave();
        }
    }
}

impl http_body::Body for EdgeBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if this.failing.is_some() {
            return this.poll_failure(cx).map(|error| error.map(Err));
        }
        if let Some(stream) = &this.stream {
            stream.asked();
        }
        if !this.rest.is_empty() {
            let rest = std::mem::take(&mut this.rest);
            return Poll::Ready(Some(Ok(this.cut(rest))));
        }
        match ready!(Pin::new(&mut this.body).poll_frame(cx)) {
            None => Poll::Ready(None),
            Some(Ok(frame)) => Poll::Ready(Some(Ok(match frame.into_data() {
                Ok(data) => this.cut(data),
                Err(other) => other,
            }))),
            Some(Err(error)) => {
                this.fail(error);
                this.poll_failure(cx).map(|error| error.map(Err))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
            && self.failing.is_none()
            && self.told_length.is_none()
            && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match self.told_length {
            Some(length) => SizeHint::with_exact(length),
            None => body::longer(self.body.size_hint(), self.rest.len()),
        }
    }
}

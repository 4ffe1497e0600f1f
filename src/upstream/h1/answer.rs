//! The body of an answer, which moves the connection on that it comes over, and gives it back at its end.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
};

use bytes::Bytes;
use http::{Response, StatusCode, Version, header};
use http_body::{Body as _, Frame};
use hyper::body::Incoming;

use super::{
    chunks::{Chunks, Piece},
    link::Link,
    pool::Pool,
    socket::Socket,
    switched::Switched,
};
use crate::{
    headers::{has_token, is_of_type},
    upstream::answer::{AnswerBody, ReadError},
    wake::Bell,
};

type Polled = Poll<Option<Result<Frame<Bytes>, ReadError>>>;

/// How much of an unread body is taken from a connection, in pieces, so that it can carry another request.
const DRAINED: usize = 4;

/// What is left of a connection after the head of `response`, as its body.
pub(super) fn body_of(
    response: Response<Incoming>,
    link: Option<Box<Link>>,
    home: &Arc<Pool>,
) -> Response<AnswerBody> {
    let Some(link) = link else {
        return response.map(|incoming| AnswerBody::apart(incoming, None));
    };
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return response.map(|_| AnswerBody::switched(Switched::new(link.into_socket())));
    }
    if !link.valve.is_flushed() {
        // Answered early: the rest of the request must not wait for whoever reads the answer.
        let interest = link.drive_apart();
        return response.map(|incoming| AnswerBody::apart(incoming, Some(interest)));
    }
    if is_stream(&response) {
        let is_kept = !has_token(response.headers(), &header::CONNECTION, "close");
        let (head, _) = response.into_parts(); // nothing of the body has been read
        let body = Stream {
            socket: Some(link.into_socket()),
            chunks: Chunks::new(),
            home: is_kept.then(|| home.clone()),
        };
        return Response::from_parts(head, AnswerBody::stream(body));
    }
    link.valve.open();
    // hyper would go on in HTTP/1.0 with a peer that has answered in it, and knows no chunks there.
    let home = (response.version() != Version::HTTP_10).then(|| home.clone());
    response.map(|incoming| {
        let mut reading = Reading {
            incoming,
            link: Some(link),
            home,
        };
        reading.settle();
        let bell = Bell::new();
        AnswerBody::plain(Plain { reading, bell })
    })
}

/// Whether an answer's body is a stream of events in chunks, which is read without hyper: it may last for hours, and
/// hyper would keep 25 KiB for it.
fn is_stream(response: &Response<Incoming>) -> bool {
    !response.body().is_end_stream()
        && response.version() == Version::HTTP_11
        && response.headers().contains_key(header::TRANSFER_ENCODING)
        && is_of_type(response.headers(), "text/event-stream")
}

/// A body that hyper reads.
#[derive(Debug)]
pub(in crate::upstream) struct Plain {
    reading: Reading,
    /// hyper wakes whoever polls the connection for each piece of the body that is taken: the very task that takes it.
    bell: Bell,
}

#[derive(Debug)]
struct Reading {
    incoming: Incoming,
    /// Until the body or the connection is over.
    link: Option<Box<Link>>,
    /// Where the connection goes to, if it may be used again.
    home: Option<Arc<Pool>>,
}

impl Plain {
    pub(in crate::upstream) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Polled {
        let Self { reading, bell } = self;
        bell.poll(cx, |cx| reading.poll_frame(cx))
    }

    pub(in crate::upstream) fn incoming(&self) -> &Incoming {
        &self.reading.incoming
    }
}

impl Reading {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Polled {
        // What comes, comes while the connection is polled: nothing else has to wake the reader.
        let mut unheard = Context::from_waker(Waker::noop());
        let mut next = Pin::new(&mut self.incoming).poll_frame(&mut unheard);
        if next.is_pending() {
            if let Some(link) = &mut self.link
                && link.poll(cx).is_ready()
            {
                self.link = None;
            }
            next = Pin::new(&mut self.incoming).poll_frame(&mut unheard);
        }
        match ready!(next) {
            Some(Ok(frame)) => {
                self.settle();
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => {
                self.link = None;
                Poll::Ready(Some(Err(ReadError::Hyper(error))))
            }
            None => {
                self.give_back();
                Poll::Ready(None)
            }
        }
    }

    /// Gives the connection back as soon as nothing more comes.
    fn settle(&mut self) {
        if self.incoming.is_end_stream() {
            self.give_back();
        }
    }

    fn give_back(&mut self) {
        if let (Some(link), Some(home)) = (self.link.take(), self.home.take()) {
            link.valve.expect_head();
            home.take_back(link);
        }
    }
}

/// The rest of a body that nobody wants may be there already.
impl Drop for Reading {
    fn drop(&mut self) {
        let mut unheard = Context::from_waker(Waker::noop());
        for _ in 0..DRAINED {
            if self.link.is_none()
                || !matches!(self.poll_frame(&mut unheard), Poll::Ready(Some(Ok(_))))
            {
                return;
            }
        }
    }
}

/// A stream in chunks, read from the socket itself.
#[derive(Debug)]
pub(in crate::upstream) struct Stream {
    /// Until the stream is over.
    socket: Option<Box<Socket>>,
    chunks: Chunks,
    /// Where the connection goes to, if it may be used again.
    home: Option<Arc<Pool>>,
}

impl Stream {
    pub(in crate::upstream) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Polled {
        let Some(socket) = &mut self.socket else {
            return Poll::Ready(None);
        };
        loop {
            match self.chunks.next(socket.ahead()) {
                Ok(Some(Piece::Data(data))) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Ok(Some(Piece::Trailers(trailers))) => {
                    self.give_back();
                    return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
                }
                Ok(Some(Piece::End)) => {
                    self.give_back();
                    return Poll::Ready(None);
                }
                Ok(None) => {}
                Err(broken) => return self.fail(broken.into()),
            }
            let Poll::Ready(read) = socket.poll_fill(cx) else {
                socket.rest();
                return Poll::Pending;
            };
            match read {
                Ok(0) => return self.fail(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                Ok(_) => {}
                Err(error) => return self.fail(error.into()),
            }
        }
    }

    fn fail(&mut self, error: ReadError) -> Polled {
        self.socket = None;
        Poll::Ready(Some(Err(error)))
    }

    fn give_back(&mut self) {
        let (socket, home) = (self.socket.take(), self.home.take());
        if let (Some(socket), Some(home)) = (socket, home)
            && let Some(link) = Link::over(socket)
        {
            home.take_back(link);
        }
    }

    pub(in crate::upstream) fn is_over(&self) -> bool {
        self.socket.is_none()
    }
}

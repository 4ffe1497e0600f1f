//! One connection of HTTP/1.1, with both of hyper's ends of it in one hand: whoever waits for an answer moves the
//! connection on. There is no task between the socket and the request, and nothing to wake it with.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use futures_util::FutureExt as _;
use http::{Request, Response, StatusCode};
use hyper::{
    body::Incoming,
    client::conn::http1::{self, Connection, SendRequest},
};
use tokio::task::unconstrained;

use super::{
    super::{MAX_HEAD, SendError},
    apart::{self, Interest},
    socket::{Socket, Valve},
};
use crate::body::Body;

/// A connection that carries one request at a time.
#[derive(Debug)]
pub(super) struct Link {
    sender: SendRequest<Body>,
    connection: Connection<Box<Socket>, Body>,
    pub(super) valve: Arc<Valve>,
    /// It has waited for this request: that it fails now says nothing of the server, which most often has just closed
    /// it for idleness.
    has_waited: bool,
}

impl Link {
    /// Over a socket on which nothing has been said, or all of it.
    pub(super) fn over(socket: Box<Socket>) -> Option<Box<Self>> {
        let valve = socket.valve().clone();
        valve.expect_head();
        let (sender, connection) = http1::Builder::new()
            .preserve_header_case(true)
            .max_buf_size(MAX_HEAD)
            .handshake(socket)
            .now_or_never()? // there is nothing in it to wait for
            .ok()?;
        Some(Box::new(Self {
            sender,
            connection,
            valve,
            has_waited: false,
        }))
    }

    /// Whether it can take a request: nothing is under way on it, and its peer has not closed it or spoken unasked.
    pub(super) fn is_usable(&mut self) -> bool {
        // Not held up by the budget of the task that asks: what it could not look at would pass for usable.
        let looked = unconstrained(poll_fn(|cx| self.poll(cx))).now_or_never();
        looked.is_none() && self.sender.is_ready()
    }

    /// Notes that it has waited for whoever takes it now.
    pub(super) fn after_waiting(mut self: Box<Self>) -> Box<Self> {
        self.has_waited = true;
        self
    }

    /// Moves on what is under way. Ready when the connection is over, and not to be asked again.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // What went wrong is told to whom it went wrong for.
        Pin::new(&mut self.connection).poll(cx).map(drop)
    }

    /// Sends `request`, whose body is at hand, and waits for the head of its answer. The connection comes with it,
    /// unless it is over; one on which another protocol follows is hyper's no more.
    pub(super) async fn send(
        mut self: Box<Self>,
        request: Box<Request<Body>>,
    ) -> Result<(Response<Incoming>, Option<Box<Self>>), SendError> {
        // The answer comes while the connection is polled, and at no other time: its own wake-up would be one too many.
        // Without a waker it must not be held up by the task's budget.
        let mut answer = Box::pin(unconstrained(self.sender.send_request(*request)));
        let (answered, is_over) = poll_fn(|cx| {
            let mut unheard = Context::from_waker(Waker::noop());
            let is_over = Pin::new(&mut self.connection).poll(cx).is_ready();
            match answer.as_mut().poll(&mut unheard) {
                Poll::Ready(answered) => Poll::Ready((Some(answered), is_over)),
                Poll::Pending if is_over => Poll::Ready((None, true)),
                Poll::Pending => Poll::Pending,
            }
        })
        .await;
        match answered {
            Some(Ok(response)) => {
                let goes_on = !is_over || response.status() == StatusCode::SWITCHING_PROTOCOLS;
                Ok((response, goes_on.then_some(self)))
            }
            Some(Err(error)) => Err(SendError::exchanging(&error, self.has_waited)),
            None => {
                // With the connection goes the request, if it was never taken up.
                let has_waited = self.has_waited;
                drop(self);
                match answer.now_or_never() {
                    Some(Err(error)) if error.is_canceled() => {
                        Err(SendError::exchanging(&error, has_waited))
                    }
                    _ => Err(SendError::lost(has_waited)),
                }
            }
        }
    }

    /// Sends `request` while a task of its own moves the connection on: for a body that is still coming, and must not
    /// wait for whoever reads the answer. Carries nothing else after it.
    pub(super) async fn send_apart(
        mut self: Box<Self>,
        request: Request<Body>,
    ) -> Result<(Response<Incoming>, Interest), SendError> {
        let (has_waited, valve) = (self.has_waited, self.valve.clone());
        let answer = self.sender.send_request(request);
        let interest = apart::drive(self.connection);
        let answered = answer.await;
        valve.open_and_wake();
        let response = answered.map_err(|error| SendError::exchanging(&error, has_waited))?;
        Ok((response, interest))
    }

    /// Goes on in a task of its own.
    pub(super) fn drive_apart(self) -> Interest {
        let interest = apart::drive(self.connection);
        self.valve.open_and_wake();
        interest
    }

    /// The socket. hyper has read nothing of what comes after the head.
    pub(super) fn into_socket(self) -> Box<Socket> {
        let http1::Parts {
            mut io, read_buf, ..
        } = self.connection.into_parts();
        io.put_before(&read_buf);
        io
    }
}

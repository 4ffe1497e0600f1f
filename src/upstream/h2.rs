//! HTTP/2, for upstreams that ask for it: one connection for many requests, kept by hyper-util's client.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures_util::future::BoxFuture;
use http::{Request, Response, Uri};
use hyper::{
    body::Incoming,
    rt::{Read, ReadBufCursor, Write},
};
use hyper_util::{
    client::legacy::{
        self,
        connect::{Connected, Connection},
    },
    rt::{TokioExecutor, TokioTimer},
};
use tower::Service;

use super::{
    POOL_IDLE, SendError,
    connect::{Connector, Stream},
    interim::Interim,
};
use crate::body::Body;

/// How often a connection with live streams is asked for a sign of life: one that has died without
/// a word would take all of them, and every new one, with it until their own timers ran out.
const PING_EVERY: Duration = Duration::from_secs(10);

/// How long the sign of life may take.
const PING_TIMEOUT: Duration = Duration::from_secs(5);

/// The connections to one upstream.
#[derive(Debug)]
pub(super) struct Client(legacy::Client<Dialer, Body>);

impl Client {
    pub(super) fn new(connector: Connector) -> Self {
        let client = legacy::Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(POOL_IDLE)
            .retry_canceled_requests(false) // every attempt is ours to count
            .set_host(false)
            .http2_only(true)
            .http2_keep_alive_interval(PING_EVERY)
            .http2_keep_alive_timeout(PING_TIMEOUT)
            .build(Dialer(connector));
        Self(client)
    }

    /// Sends `request`, whose target names scheme and host, and waits for the head of its answer.
    pub(super) async fn send(
        &self,
        mut request: Request<Body>,
    ) -> Result<Response<Incoming>, SendError> {
        let interim = Interim::watch(&mut request);
        let answered = tokio::select! {
            biased;
            answered = self.0.request(request) => answered,
            () = interim.flood() => return Err(SendError::malformed()),
        };
        match answered {
            // They and the answer may come in one piece.
            Ok(_) if interim.is_flood() => Err(SendError::malformed()),
            Ok(response) => {
                if let Some(connection) = response.extensions().get::<Reused>() {
                    connection.answered();
                }
                Ok(response)
            }
            Err(error) if error.is_connect() => Err(SendError::connecting(&error)),
            Err(error) => Err(SendError::exchanging(&error, was_reused(&error))),
        }
    }
}

/// A connection's extras survive in the errors of the requests on it.
fn was_reused(error: &legacy::Error) -> bool {
    let mut extras = http::Extensions::new();
    if let Some(connection) = error.connect_info() {
        connection.get_extras(&mut extras);
    }
    extras.get::<Reused>().is_some_and(Reused::is_reused)
}

/// Whether a connection had carried an earlier request. A failure on such a connection most often
/// means that the server had just closed it for idleness, so it says nothing about the server.
#[derive(Clone, Debug, Default)]
struct Reused(Arc<AtomicBool>);

impl Reused {
    fn is_reused(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// An answer has come over this connection: whatever follows on it is a reuse.
    fn answered(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The connector as hyper-util's client wants it.
#[derive(Clone, Debug)]
struct Dialer(Connector);

impl Service<Uri> for Dialer {
    type Response = Marked;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Marked>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let opening = self.0.open(uri);
        Box::pin(async move {
            Ok(Marked {
                stream: opening.await?,
                reused: Reused::default(),
            })
        })
    }
}

/// A connection that carries [`Reused`] into the answers and errors of its requests.
#[derive(Debug)]
struct Marked {
    stream: Stream,
    reused: Reused,
}

impl Connection for Marked {
    fn connected(&self) -> Connected {
        self.stream.connected().extra(self.reused.clone())
    }
}

impl Read for Marked {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl Write for Marked {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

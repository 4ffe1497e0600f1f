//! Connecting, TLS included, within one timeout; and knowing whether a connection had served before.

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
use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::{
    client::legacy::connect::{Connected, Connection, HttpConnector},
    rt::TokioIo,
};
use tokio::{
    net::TcpStream,
    time::{Sleep, sleep},
};
use tower::Service;

use super::Names;

/// How long to try one address family before the other is tried beside it (RFC 8305).
const HAPPY_EYEBALLS: Duration = Duration::from_millis(250);

/// TCP keep-alive probes: a vendor that vanished without a FIN is noticed while a stream is silent.
const TCP_KEEPALIVE: Duration = Duration::from_secs(60);

/// How long a peer is heard out that takes nothing more. All that it said is on its way or there.
const HEARD_OUT: Duration = Duration::from_secs(2);

type Stream = MaybeHttpsStream<TokioIo<TcpStream>>;

/// Opens connections to one upstream.
#[derive(Clone, Debug)]
pub(super) struct Connector {
    https: HttpsConnector<HttpConnector<Names>>,
    http2: bool,
    timeout: Duration,
}

impl Connector {
    pub(super) fn new(
        tls: &Arc<rustls::ClientConfig>,
        names: Names,
        h2: bool,
        timeout: Duration,
    ) -> Self {
        let mut dialer = HttpConnector::new_with_resolver(names);
        dialer.enforce_http(false);
        dialer.set_nodelay(true);
        dialer.set_keepalive(Some(TCP_KEEPALIVE));
        dialer.set_happy_eyeballs_timeout(Some(HAPPY_EYEBALLS));
        let builder = HttpsConnectorBuilder::new()
            .with_tls_config(tls.as_ref().clone())
            .https_or_http();
        let https = if h2 {
            builder.enable_http2().wrap_connector(dialer)
        } else {
            builder.enable_http1().wrap_connector(dialer)
        };
        Self {
            https,
            http2: h2,
            timeout,
        }
    }
}

impl Service<Uri> for Connector {
    type Response = Marked;
    type Error = io::Error;
    type Future = BoxFuture<'static, Result<Marked, io::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), io::Error>> {
        self.https.poll_ready(cx).map_err(io::Error::other)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let (connecting, timeout) = (self.https.call(uri), self.timeout);
        let hears_out = !self.http2;
        Box::pin(async move {
            match tokio::time::timeout(timeout, connecting).await {
                Ok(connected) => connected
                    .map(|stream| Marked {
                        stream,
                        reused: Reused::default(),
                        hears_out,
                        hung_up: None,
                    })
                    .map_err(io::Error::other),
                Err(_) => Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "connecting took longer than `timeouts.connect`",
                )),
            }
        })
    }
}

/// Whether a connection had carried an earlier request. A failure on such a connection most often
/// means that the server had just closed it for idleness, so it says nothing about the server.
#[derive(Clone, Debug, Default)]
pub(super) struct Reused(Arc<AtomicBool>);

impl Reused {
    pub(super) fn is_reused(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// An answer has come over this connection: whatever follows on it is a reuse.
    pub(super) fn answered(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A connection that carries [`Reused`] into the answers and errors of its requests.
///
/// A server that answers early (a 413, a 429) and closes does not take the rest of the upload. That a write has
/// failed then comes before its answer is read, and hyper would throw the answer away. So a peer that has hung up
/// merely takes nothing more: what it said, and that it is gone, is found by reading.
#[derive(Debug)]
pub(super) struct Marked {
    stream: Stream,
    reused: Reused,
    /// HTTP/2 tells of its end in frames, and needs none of this.
    hears_out: bool,
    /// Since a write has failed: how long what the peer has said may still be read.
    hung_up: Option<Pin<Box<Sleep>>>,
}

impl Marked {
    fn written(
        &mut self,
        written: Poll<io::Result<usize>>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        use io::ErrorKind::{BrokenPipe, ConnectionReset};
        match written {
            Poll::Ready(Err(error))
                if self.hears_out && matches!(error.kind(), BrokenPipe | ConnectionReset) =>
            {
                let time = self.hung_up.get_or_insert_with(|| {
                    cx.waker().wake_by_ref(); // to read once more
                    Box::pin(sleep(HEARD_OUT))
                });
                time.as_mut().poll(cx).map(|()| Err(error))
            }
            other => other,
        }
    }
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
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.written(written, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.written(written, cx)
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

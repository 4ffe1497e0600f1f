//! A caller's socket, telling its connection's clock what happens on it.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Buf as _, Bytes};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
};
use tokio_rustls::server::TlsStream;

use super::clock::ConnectionClock;

/// What a caller connects by.
pub(super) trait Transport: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// Makes the close that follows tell the peer that something went wrong.
    fn reset_on_close(&self);
}

impl Transport for TcpStream {
    fn reset_on_close(&self) {
        // Refused only by a socket that has gone already, and that needs no reset.
        let _ = socket2::SockRef::from(self).set_linger(Some(Duration::ZERO));
    }
}

impl Transport for TlsStream<TcpStream> {
    fn reset_on_close(&self) {
        self.get_ref().0.reset_on_close();
    }
}

impl Transport for UnixStream {
    /// A Unix socket has no reset: its peer cannot tell a break from an end by the connection alone.
    fn reset_on_close(&self) {}
}

/// The socket, and what was read of it before it was known how to read it.
#[derive(Debug)]
pub(super) struct Socket<S: Transport> {
    stream: S,
    unread: Bytes,
    clock: Arc<ConnectionClock>,
}

impl<S: Transport> Socket<S> {
    pub(super) fn new(stream: S, clock: Arc<ConnectionClock>) -> Self {
        Self {
            stream,
            unread: Bytes::new(),
            clock,
        }
    }

    /// Gives back `bytes` before it reads on.
    pub(super) fn unread(&mut self, bytes: Bytes) {
        self.unread = bytes;
    }
}

impl<S: Transport> AsyncRead for Socket<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = if self.unread.is_empty() {
            Pin::new(&mut self.stream).poll_read(cx, buf)
        } else {
            let take = self.unread.len().min(buf.remaining());
            buf.put_slice(&self.unread[..take]);
            self.unread.advance(take);
            if self.unread.is_empty() {
                // Lets the allocation go: the connection may live for hours.
                self.unread = Bytes::new();
            }
            Poll::Ready(Ok(()))
        };
        let bytes = buf.filled().len() - before;
        self.clock.read(polled.is_ready().then_some(bytes));
        polled
    }
}

impl<S: Transport> AsyncWrite for Socket<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.clock.wrote(polled.is_pending());
        polled
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.clock.wrote(polled.is_pending());
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// hyper calls this when it has given away everything that it held.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(cx);
        if polled.is_ready() {
            self.clock.flushed();
        }
        polled
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.clock.shutting_down();
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl<S: Transport> Drop for Socket<S> {
    fn drop(&mut self) {
        if self.clock.must_reset() {
            self.stream.reset_on_close();
        }
    }
}

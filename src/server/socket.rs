//! A caller's socket, telling its connection's clock what happens on it.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Buf as _, Bytes};
use futures_util::FutureExt as _;
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf, Ready},
    net::{TcpStream, UnixStream},
};
use tokio_rustls::server::TlsStream;

use super::clock::ConnectionClock;

/// What a caller connects by.
pub(super) trait Transport: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// Makes the close that follows tell the peer that something went wrong.
    fn reset_on_close(&self);

    /// Whether the peer has closed or broken the connection, as far as the kernel knows: also where bytes from before that
    /// are still to be read.
    fn has_left(&self) -> bool;
}

impl Transport for TcpStream {
    fn reset_on_close(&self) {
        // Refused only by a socket that has gone already, and that needs no reset.
        let _ = socket2::SockRef::from(self).set_linger(Some(Duration::ZERO));
    }

    fn has_left(&self) -> bool {
        is_closed(self.ready(Interest::READABLE))
    }
}

impl Transport for TlsStream<TcpStream> {
    fn reset_on_close(&self) {
        self.get_ref().0.reset_on_close();
    }

    fn has_left(&self) -> bool {
        self.get_ref().0.has_left()
    }
}

impl Transport for UnixStream {
    /// A Unix socket has no reset: its peer cannot tell a break from an end by the connection alone.
    fn reset_on_close(&self) {}

    fn has_left(&self) -> bool {
        is_closed(self.ready(Interest::READABLE))
    }
}

/// What is known already of a socket's readiness; nothing is waited for.
fn is_closed(ready: impl Future<Output = io::Result<Ready>>) -> bool {
    matches!(ready.now_or_never(), Some(Ok(ready)) if ready.is_read_closed())
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
        let had_unread = !self.unread.is_empty();
        if had_unread {
            let take = self.unread.len().min(buf.remaining());
            buf.put_slice(&self.unread[..take]);
            self.unread.advance(take);
            if self.unread.is_empty() {
                // Lets the allocation go: the connection may live for hours.
                self.unread = Bytes::new();
            }
        }
        // Together with what follows it: asked twice for one head, hyper makes its buffer twice as large, and keeps that.
        let polled = if buf.remaining() == 0 {
            Poll::Ready(Ok(()))
        } else {
            Pin::new(&mut self.stream).poll_read(cx, buf)
        };
        let polled = match polled {
            // An error is met again by who reads on.
            Poll::Pending | Poll::Ready(Err(_)) if had_unread => Poll::Ready(Ok(())),
            polled => polled,
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

    /// hyper calls this when it has given away everything that it held, and whenever the connection is polled.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.clock.takes_look() && self.stream.has_left() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
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

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
        time::timeout,
    };

    use super::*;

    /// Our end of a connection whose peer has said something that nobody reads, and the peer.
    async fn unread() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let mut peer = TcpStream::connect(address).await.expect("it listens");
        let (ours, _) = listener.accept().await.expect("a peer");
        peer.write_all(b"an upload").await.expect("there is room");
        ours.readable().await.expect("it comes");
        (ours, peer)
    }

    #[tokio::test]
    async fn what_was_read_before_comes_together_with_what_follows() {
        let (ours, _peer) = unread().await;
        let mut socket = Socket::new(ours, ConnectionClock::start());
        let mut before = [0; 3];
        socket.read_exact(&mut before).await.expect("it is there");
        socket.unread(Bytes::copy_from_slice(&before));
        let mut seen = [0; 64];
        for (room, expected) in [(2, "an"), (3, " up"), (64, "load")] {
            let read = socket.read(&mut seen[..room]).await.expect("there is more");
            assert_eq!(&seen[..read], expected.as_bytes());
        }
    }

    #[tokio::test]
    async fn a_peer_that_goes_is_seen_behind_what_is_unread() {
        for resets in [false, true] {
            let (ours, peer) = unread().await;
            assert!(!ours.has_left());
            if resets {
                peer.reset_on_close();
            }
            drop(peer);
            let left = async {
                while !ours.has_left() {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            };
            timeout(Duration::from_secs(10), left).await.expect("seen");
        }
    }
}

//! The connection below hyper's: it gives hyper the head of an answer, and nothing of what follows until it
//! is known who reads that.

use std::{
    cell::Cell,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf as _, BytesMut};
use futures_util::task::AtomicWaker;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead as _, ReadBuf},
    time::{Sleep, sleep},
};

use super::heads::Heads;
use crate::upstream::connect::Stream;

/// How long a peer is heard out that takes nothing more. All that it said is on its way or there.
const HEARD_OUT: Duration = Duration::from_secs(2);

/// How much is read at once.
const PIECE: usize = 16 * 1024;

thread_local! {
    /// Where all connections of a worker read to. Each keeps what was read and no room for what may come: there are
    /// thousands of them, and most wait.
    static ROOM: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// What hyper may read.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Reads {
    /// Up to the end of the answer's head.
    Head,
    /// Nothing: the head has been given.
    Nothing,
    /// All that comes.
    All,
}

/// Says from outside what hyper may read, once it has the socket.
#[derive(Debug, Default)]
pub(super) struct Valve {
    reads: AtomicU8,
    /// hyper has nothing to write that it could not.
    is_flushed: AtomicBool,
    /// Whoever drives the connection, where that is a task of its own.
    driver: AtomicWaker,
}

impl Valve {
    /// The next thing to come is a head.
    pub(super) fn expect_head(&self) {
        self.driver.take(); // or it would outlive its request here
        self.reads.store(Reads::Head as u8, Ordering::Release);
    }

    /// hyper reads the body, too; whoever calls this drives the connection.
    pub(super) fn open(&self) {
        self.driver.take(); // it needs no waking
        self.reads.store(Reads::All as u8, Ordering::Release);
    }

    /// The same where the connection is driven by a task of its own.
    pub(super) fn open_and_wake(&self) {
        self.reads.store(Reads::All as u8, Ordering::Release);
        self.driver.wake();
    }

    /// Whether all that hyper was given to write has been taken.
    pub(super) fn is_flushed(&self) -> bool {
        self.is_flushed.load(Ordering::Acquire)
    }

    fn is(&self, reads: Reads) -> bool {
        self.reads.load(Ordering::Acquire) == reads as u8
    }
}

/// The connection.
///
/// A server that answers early (a 413, a 429) and closes does not take the rest of the upload. That a write has
/// failed then comes before its answer is read, and hyper would throw the answer away. So a peer that has hung up
/// merely takes nothing more: what it said, and that it is gone, is found by reading.
#[derive(Debug)]
pub(super) struct Socket {
    stream: TokioIo<Stream>,
    valve: Arc<Valve>,
    heads: Heads,
    /// What has been read and not been given on.
    ahead: BytesMut,
    /// How much of it belongs to heads.
    of_heads: usize,
    /// Those bytes are the last ones of a head.
    ends_head: bool,
    /// Since a write has failed: how long what the peer has said may still be read.
    hung_up: Option<Pin<Box<Sleep>>>,
}

impl Socket {
    pub(super) fn new(stream: Stream) -> Self {
        Self {
            stream: TokioIo::new(stream),
            valve: Arc::default(),
            heads: Heads::default(),
            ahead: BytesMut::new(),
            of_heads: 0,
            ends_head: false,
            hung_up: None,
        }
    }

    pub(super) fn valve(&self) -> &Arc<Valve> {
        &self.valve
    }

    /// What has been read and not been given on, for whoever reads on in hyper's place.
    pub(super) fn ahead(&mut self) -> &mut BytesMut {
        &mut self.ahead
    }

    /// Puts what hyper had and did not use before what is [`ahead`](Self::ahead).
    pub(super) fn put_before(&mut self, unused: &[u8]) {
        if !unused.is_empty() {
            let behind = std::mem::replace(&mut self.ahead, BytesMut::from(unused));
            self.ahead.extend_from_slice(&behind);
        }
    }

    /// Reads on behind what is [`ahead`](Self::ahead). 0 at the connection's end.
    pub(super) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut room = ROOM.take();
        room.resize(PIECE, 0); // the first time only
        let mut read = ReadBuf::new(&mut room);
        let polled = Pin::new(&mut self.stream).poll_read(cx, &mut read);
        let polled = polled.map_ok(|()| {
            self.ahead.extend_from_slice(read.filled());
            read.filled().len()
        });
        ROOM.set(room);
        polled
    }

    /// Lets the memory go while nothing comes.
    pub(super) fn rest(&mut self) {
        if self.ahead.is_empty() {
            self.ahead = BytesMut::new();
        }
    }

    fn give(&mut self, most: usize, buf: &mut ReadBufCursor<'_>) -> usize {
        let given = most.min(buf.remaining());
        buf.put_slice(&self.ahead[..given]);
        self.ahead.advance(given);
        given
    }

    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if self.of_heads == 0 {
            if self.ahead.is_empty() && ready!(self.poll_fill(cx))? == 0 {
                return Poll::Ready(Ok(()));
            }
            let end = self.heads.read(&self.ahead);
            let end = end.map_err(|flood| io::Error::new(io::ErrorKind::InvalidData, flood))?;
            (self.of_heads, self.ends_head) = (end.unwrap_or(self.ahead.len()), end.is_some());
        }
        self.of_heads -= self.give(self.of_heads, buf);
        self.rest();
        if self.of_heads == 0 && self.ends_head {
            self.ends_head = false;
            self.valve
                .reads
                .store(Reads::Nothing as u8, Ordering::Release);
        }
        Poll::Ready(Ok(()))
    }

    /// What came of writing, unless the peer has hung up and is still heard out.
    fn written<T>(
        &mut self,
        written: Poll<io::Result<T>>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        use io::ErrorKind::{BrokenPipe, ConnectionReset};
        match written {
            Poll::Ready(Err(error)) if matches!(error.kind(), BrokenPipe | ConnectionReset) => {
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

impl Read for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.valve.is(Reads::Head) {
            return this.poll_head(cx, &mut buf);
        }
        if this.valve.is(Reads::Nothing) {
            this.valve.driver.register(cx.waker());
            // It may have been opened in this moment.
            if this.valve.is(Reads::Nothing) {
                return Poll::Pending;
            }
        }
        if this.ahead.is_empty() {
            return Pin::new(this.stream.inner_mut()).poll_read(cx, buf);
        }
        this.give(this.ahead.len(), &mut buf);
        this.rest();
        Poll::Ready(Ok(()))
    }
}

impl Write for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.valve.is_flushed.store(false, Ordering::Release);
        let written = Pin::new(self.stream.inner_mut()).poll_write(cx, buf);
        self.written(written, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.valve.is_flushed.store(false, Ordering::Release);
        let written = Pin::new(self.stream.inner_mut()).poll_write_vectored(cx, bufs);
        self.written(written, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.inner().is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(self.stream.inner_mut()).poll_flush(cx);
        // Under TLS what was written may fail only here.
        ready!(self.written(flushed, cx))?;
        self.valve.is_flushed.store(true, Ordering::Release);
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.stream.inner_mut()).poll_shutdown(cx)
    }
}

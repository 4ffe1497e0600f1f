//! What a connection is waiting for, and since when.
//!
//! hyper's own head timer sets one timer a request and counts the pause between two requests as a
//! slow head, so a short head timeout would close idle keep-alive connections under the callers'
//! hands. This clock only notes the moment in which something began; the connection's task looks
//! at it a few times a minute. That costs two stores a request and no timer.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};

use super::Limits;

const IDLE: u8 = 0;
const READING_HEAD: u8 = 1;

/// Shared by the socket wrapper, the service and the connection's task, all on one thread; the
/// atomics are only there to satisfy `Send`.
#[derive(Debug)]
pub(super) struct ConnectionClock {
    born: Instant,
    phase: AtomicU8,
    /// Milliseconds since `born` at which `phase` began.
    phase_since: AtomicU64,
    /// Requests whose answer has not ended.
    in_flight: AtomicU32,
    /// Milliseconds since `born` (plus one) at which the peer stopped taking bytes; 0 while it takes them.
    write_blocked_since: AtomicU64,
}

/// What the connection's task has to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    /// Nothing is overdue.
    Fine,
    /// Close politely: the connection idles.
    Retire,
    /// Drop at once: the peer is stalling.
    Drop,
}

impl ConnectionClock {
    pub(super) fn start() -> Arc<Self> {
        Arc::new(Self {
            born: Instant::now(),
            // Until the first byte the peer owes us a request, as if it were in the middle of one.
            phase: AtomicU8::new(READING_HEAD),
            phase_since: AtomicU64::new(0),
            in_flight: AtomicU32::new(0),
            write_blocked_since: AtomicU64::new(0),
        })
    }

    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn enter(&self, phase: u8) {
        self.phase.store(phase, Ordering::Relaxed);
        self.phase_since.store(self.elapsed_ms(), Ordering::Relaxed);
    }

    fn bytes_arrived(&self) {
        if self.in_flight.load(Ordering::Relaxed) == 0 && self.phase.load(Ordering::Relaxed) == IDLE
        {
            self.enter(READING_HEAD);
        }
    }

    /// A request's head is complete; the returned guard is dropped when its answer has ended.
    pub(super) fn request_began(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        self.phase.store(IDLE, Ordering::Relaxed);
        InFlight(self.clone())
    }

    fn write_result(&self, pending: bool) {
        if !pending {
            if self.write_blocked_since.load(Ordering::Relaxed) != 0 {
                self.write_blocked_since.store(0, Ordering::Relaxed);
            }
        } else if self.write_blocked_since.load(Ordering::Relaxed) == 0 {
            self.write_blocked_since
                .store(self.elapsed_ms() + 1, Ordering::Relaxed);
        }
    }

    pub(super) fn judge(&self, limits: &Limits) -> Judgement {
        let now = self.elapsed_ms();
        let overdue = |since: u64, limit: Duration| {
            u128::from(now.saturating_sub(since)) >= limit.as_millis()
        };
        let blocked = self.write_blocked_since.load(Ordering::Relaxed);
        if blocked != 0 && overdue(blocked - 1, limits.write_idle) {
            return Judgement::Drop;
        }
        if self.in_flight.load(Ordering::Relaxed) > 0 {
            return Judgement::Fine;
        }
        let since = self.phase_since.load(Ordering::Relaxed);
        match self.phase.load(Ordering::Relaxed) {
            READING_HEAD if overdue(since, limits.head_timeout) => Judgement::Drop,
            IDLE if overdue(since, limits.keepalive_idle) => Judgement::Retire,
            _ => Judgement::Fine,
        }
    }
}

/// Lives as long as a request's answer.
#[derive(Debug)]
pub(super) struct InFlight(Arc<ConnectionClock>);

impl Drop for InFlight {
    fn drop(&mut self) {
        if self.0.in_flight.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.0.enter(IDLE);
        }
    }
}

/// The socket, telling the clock what happens on it.
#[derive(Debug)]
pub(super) struct Clocked<S> {
    stream: S,
    clock: Arc<ConnectionClock>,
}

impl<S> Clocked<S> {
    pub(super) fn new(stream: S, clock: Arc<ConnectionClock>) -> Self {
        Self { stream, clock }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Clocked<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.clock.bytes_arrived();
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Clocked<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.clock.write_result(polled.is_pending());
        polled
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.clock.write_result(polled.is_pending());
        polled
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

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits {
            head_timeout: Duration::from_secs(10),
            keepalive_idle: Duration::from_secs(75),
            write_idle: Duration::from_secs(60),
            max_head: 1,
            max_headers: 1,
            max_connections: 1,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_head_is_dropped_but_an_idle_connection_lives_longer() {
        let clock = ConnectionClock::start();
        tokio::time::advance(Duration::from_secs(9)).await;
        assert_eq!(clock.judge(&limits()), Judgement::Fine);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(
            clock.judge(&limits()),
            Judgement::Drop,
            "no complete head after 10 s"
        );

        let answer = clock.request_began();
        tokio::time::advance(Duration::from_secs(600)).await;
        assert_eq!(
            clock.judge(&limits()),
            Judgement::Fine,
            "an answer may take its time"
        );
        drop(answer);
        tokio::time::advance(Duration::from_secs(74)).await;
        assert_eq!(clock.judge(&limits()), Judgement::Fine, "keep-alive");
        clock.bytes_arrived();
        tokio::time::advance(Duration::from_secs(9)).await;
        assert_eq!(
            clock.judge(&limits()),
            Judgement::Fine,
            "the head's time starts at its first byte"
        );
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(clock.judge(&limits()), Judgement::Drop);
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_is_retired_and_a_stalled_reader_dropped() {
        let clock = ConnectionClock::start();
        drop(clock.request_began());
        tokio::time::advance(Duration::from_secs(75)).await;
        assert_eq!(clock.judge(&limits()), Judgement::Retire);

        let _answer = clock.request_began();
        clock.write_result(true);
        tokio::time::advance(Duration::from_secs(59)).await;
        clock.write_result(true);
        assert_eq!(clock.judge(&limits()), Judgement::Fine);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(
            clock.judge(&limits()),
            Judgement::Drop,
            "blocked for 60 s without one byte taken"
        );
        clock.write_result(false);
        assert_eq!(clock.judge(&limits()), Judgement::Fine, "it reads again");
    }
}

//! The upstream's side of a tunnel: what comes from it is a body, what goes to it is a sink.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::{Response, StatusCode};
use http_body::Frame;
use http_body_util::BodyExt as _;
use prometheus::{IntCounter, IntGauge};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf},
    time::{Instant, Sleep},
};

use crate::{
    body::{Body, BodyError},
    server::Lifecycle,
    telemetry::Metrics,
    upstream::{AnswerBody, Switched, Upstream},
};

/// How much is read at once. A tunnel that rests holds two of these, one a direction.
pub(super) const PIECE: usize = 8 * 1024;

/// When something last passed, in either direction.
#[derive(Debug)]
struct Pulse {
    born: Instant,
    /// Milliseconds since `born`.
    at: AtomicU64,
}

impl Pulse {
    fn beat(&self) {
        let since = u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.at.store(since, Ordering::Relaxed);
    }

    fn latest(&self) -> Instant {
        self.born + Duration::from_millis(self.at.load(Ordering::Relaxed))
    }
}

/// Counts an open tunnel for as long as it lives.
struct Open(IntGauge);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// What comes from the upstream.
struct Downlink {
    upstream: ReadHalf<Switched>,
    piece: BytesMut,
    pulse: Arc<Pulse>,
    idle: Duration,
    timer: Pin<Box<Sleep>>,
    lifecycle: Lifecycle,
    bytes: IntCounter,
    is_over: bool,
    _open: Open,
}

/// What goes to the upstream. Travels in the extensions of the 101, and is taken out of it once.
#[derive(Clone)]
pub struct Uplink(Arc<Mutex<Option<Sink>>>);

impl std::fmt::Debug for Uplink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Uplink").finish_non_exhaustive()
    }
}

/// The sink itself.
pub(super) struct Sink {
    upstream: WriteHalf<Switched>,
    pulse: Arc<Pulse>,
    bytes: IntCounter,
}

/// Takes over the connection on which an upstream has granted a handshake. The answer's body is what comes
/// from the upstream from now on; the way to it is an [`Uplink`] among its extensions.
///
/// `None` when `response` is no switch of protocols.
pub fn open(
    response: Response<AnswerBody>,
    upstream: &Upstream,
    lifecycle: Lifecycle,
    metrics: &Metrics,
) -> Option<Response<Body>> {
    let (mut parts, body) = response.into_parts();
    let (read, write) = tokio::io::split(body.into_switched()?);
    let idle = upstream.timeouts.tunnel_idle;
    let counted = |direction| {
        let labels = [upstream.name.as_ref(), direction];
        metrics.tunnel_bytes.with_label_values(&labels)
    };
    let pulse = Arc::new(Pulse {
        born: Instant::now(),
        at: AtomicU64::new(0),
    });
    metrics.tunnels.inc();
    let down = Downlink {
        upstream: read,
        piece: BytesMut::new(),
        pulse: pulse.clone(),
        idle,
        timer: Box::pin(tokio::time::sleep(idle)),
        lifecycle,
        bytes: counted("down"),
        is_over: false,
        _open: Open(metrics.tunnels.clone()),
    };
    let up = Sink {
        upstream: write,
        pulse,
        bytes: counted("up"),
    };
    super::handshake::put(&mut parts.headers);
    parts
        .extensions
        .insert(Uplink(Arc::new(Mutex::new(Some(up)))));
    Some(Response::from_parts(parts, down.boxed_unsync()))
}

impl Uplink {
    /// Takes the sink out of a response that switches protocols.
    pub(super) fn of(response: &mut Response<Body>) -> Option<Sink> {
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return None;
        }
        let uplink: Self = response.extensions_mut().remove()?;
        uplink
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }
}

impl Sink {
    /// Passes on what `bytes` has, all of it: while the upstream takes nothing, nothing more is read.
    pub(super) async fn pass(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.upstream.write_all(bytes).await?;
        self.upstream.flush().await?;
        self.bytes.inc_by(bytes.len() as u64);
        self.pulse.beat();
        Ok(())
    }

    /// Tells the upstream that nothing more comes.
    pub(super) async fn end(&mut self) -> io::Result<()> {
        self.upstream.shutdown().await
    }
}

impl Downlink {
    /// Waits until nothing has passed for too long, either way.
    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<BodyError> {
        loop {
            ready!(self.timer.as_mut().poll(cx));
            let over = self.pulse.latest() + self.idle;
            if Instant::now() >= over {
                return Poll::Ready(BodyError::Idle(self.idle));
            }
            self.timer.as_mut().reset(over);
        }
    }
}

impl http_body::Body for Downlink {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if this.is_over {
            return Poll::Ready(None);
        }
        if this.lifecycle.is_ending() {
            this.is_over = true;
            return Poll::Ready(Some(Err(BodyError::Stopping)));
        }
        this.piece.reserve(PIECE);
        let mut room = bytes::BufMut::limit(&mut this.piece, PIECE);
        let read = std::pin::pin!(this.upstream.read_buf(&mut room)).poll(cx);
        let ended = match read {
            Poll::Pending => Err(ready!(this.poll_idle(cx))),
            Poll::Ready(Ok(0)) => Ok(()),
            Poll::Ready(Ok(length)) => {
                this.pulse.beat();
                this.bytes.inc_by(length as u64);
                return Poll::Ready(Some(Ok(Frame::data(this.piece.split().freeze()))));
            }
            Poll::Ready(Err(error)) => Err(BodyError::Tunnel(error)),
        };
        this.is_over = true;
        Poll::Ready(ended.err().map(Err))
    }

    fn is_end_stream(&self) -> bool {
        self.is_over
    }
}

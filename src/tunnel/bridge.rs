//! Joins a tunnel's two sides, in the task of the caller's connection.

use std::{
    io,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::{Request, Response, header};
use http_body_util::BodyExt as _;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf},
    time::timeout,
};

use super::{
    ends::{PIECE, Sink, Uplink},
    frames::{Frames, going_away},
};
use crate::{
    body::{self, Body, BodyError},
    server::{LAST_WORDS, Lifecycle, Stage},
};

/// How long one side has for its last bytes after the other has ended.
const HALF_CLOSED: Duration = Duration::from_secs(10);

/// The way from a request to the tunnel that its connection becomes. One a connection.
#[derive(Clone, Debug, Default)]
pub struct Doorway(Arc<Mutex<Option<Passage>>>);

/// A tunnel that waits for its caller's connection.
struct Passage {
    caller: OnUpgrade,
    down: Body,
    up: Sink,
}

impl std::fmt::Debug for Passage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Passage").finish_non_exhaustive()
    }
}

/// Why the way up has ended before its caller was done.
enum Lost {
    Caller,
    Upstream,
}

/// The caller's side of the switch that a request asks for, if it asks for one. It belongs to the connection
/// and so is not passed on with the request.
pub fn asked<B>(request: &mut Request<B>) -> Option<OnUpgrade> {
    let asks = request.headers().contains_key(header::UPGRADE);
    asks.then(|| request.extensions_mut().remove()).flatten()
}

impl Doorway {
    /// Lets an answer pass; one that opens a tunnel leaves the tunnel behind.
    pub fn pass(&self, caller: Option<OnUpgrade>, mut response: Response<Body>) -> Response<Body> {
        let Some(up) = Uplink::of(&mut response) else {
            return response;
        };
        let (parts, down) = response.into_parts();
        if let Some(caller) = caller {
            let mut passage = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            *passage = Some(Passage { caller, down, up });
        }
        Response::from_parts(parts, body::empty())
    }

    /// Runs the tunnel, if one was opened, now that HTTP is over on the connection. `write_idle` is how long the
    /// caller may take nothing.
    ///
    /// However it ends, the caller's connection is closed: without a close frame before it, every WebSocket
    /// client takes that for a break (code 1006).
    pub async fn run(&self, write_idle: Duration, lifecycle: &Lifecycle) {
        let passage = {
            let mut passage = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            passage.take()
        };
        if let Some(passage) = passage {
            // Boxed, so that connections which never become one do not carry the room for it.
            Box::pin(carry(passage, write_idle, lifecycle)).await;
        }
    }
}

async fn carry(passage: Passage, write_idle: Duration, lifecycle: &Lifecycle) {
    let Passage { caller, down, up } = passage;
    let Ok(caller) = caller.await else { return };
    let (read, write) = tokio::io::split(TokioIo::new(caller));
    let mut down = pin!(to_caller(down, write, write_idle));
    let mut up = pin!(to_upstream(read, up));
    let mut ending = pin!(lifecycle.reached(Stage::Ending));
    let mut told = false;
    let rest = loop {
        tokio::select! {
            biased;
            // Nothing can come back any more; what the caller still says may arrive.
            () = down.as_mut() => break timeout(HALF_CLOSED, up).await.err(),
            sent = up.as_mut() => match sent {
                Err(Lost::Caller) => return,
                // An upstream that takes nothing more may still have said why.
                Ok(()) | Err(Lost::Upstream) => break timeout(HALF_CLOSED, down).await.err(),
            },
            // The next poll lets a silent tunnel say that it ends.
            () = ending.as_mut(), if !told => told = true,
        }
    };
    if rest.is_some() {
        tracing::debug!("one side of a tunnel had ended, and the other did not follow");
    }
}

/// Passes on what comes from the upstream. While the caller does not read, nothing is read for it.
async fn to_caller(mut down: Body, mut caller: WriteHalf<TokioIo<Upgraded>>, write_idle: Duration) {
    let mut frames = Frames::default();
    while let Some(frame) = down.frame().await {
        let bytes = match frame.map(http_body::Frame::into_data) {
            Ok(Ok(bytes)) => bytes,
            Ok(Err(_)) => continue, // a tunnel has no trailers
            Err(error) => {
                let words = last_words(&error).filter(|_| frames.can_take_a_frame());
                if let Some(words) = words {
                    let _ = timeout(LAST_WORDS / 2, pass(&mut caller, &words)).await;
                }
                break;
            }
        };
        frames.see(&bytes);
        if !matches!(
            timeout(write_idle, pass(&mut caller, &bytes)).await,
            Ok(Ok(()))
        ) {
            return;
        }
    }
    let _ = timeout(LAST_WORDS / 2, caller.shutdown()).await;
}

async fn pass(caller: &mut WriteHalf<TokioIo<Upgraded>>, bytes: &[u8]) -> io::Result<()> {
    caller.write_all(bytes).await?;
    caller.flush().await
}

/// A close frame for an end that is ours. Where the upstream broke, no code is true: the caller sees what
/// happened, a connection that was closed without one.
fn last_words(error: &BodyError) -> Option<Bytes> {
    match error {
        BodyError::Stopping => Some(going_away("the proxy is stopping")),
        BodyError::Idle(_) => Some(going_away("nothing was said for too long")),
        _ => None,
    }
}

/// Passes on what comes from the caller, until it has said all.
async fn to_upstream(mut caller: ReadHalf<TokioIo<Upgraded>>, mut up: Sink) -> Result<(), Lost> {
    let mut piece = BytesMut::new();
    loop {
        piece.reserve(PIECE);
        let mut room = bytes::BufMut::limit(&mut piece, PIECE);
        let read = caller.read_buf(&mut room).await;
        if read.map_err(|_| Lost::Caller)? == 0 {
            return up.end().await.map_err(|_| Lost::Upstream);
        }
        up.pass(&piece).await.map_err(|_| Lost::Upstream)?;
        piece.clear();
    }
}

//! One connection: which protocol it speaks, its requests, its end.

use std::{
    convert::Infallible,
    future::poll_fn,
    io,
    net::IpAddr,
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Request, Response, StatusCode, Version, header};
use http_body::Body as _;
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tower::Service;

use super::{
    Lifecycle, Limits, Stage, answer,
    clock::{ConnectionClock, Judgement},
    hearing::Hearing,
    socket::{Socket, Transport},
    streams::Streams,
};
use crate::{
    app::Arrival,
    body::Body,
    tunnel::bridge::{self, Doorway},
};

/// How an HTTP/2 connection with prior knowledge begins (RFC 9113 §3.4).
const H2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How long a caller who has connected when the process began to drain has for its first byte.
const FIRST_BYTES: Duration = Duration::from_secs(1);

/// Fields of a head that hyper takes by itself. It has room for them without being told, and asks for none.
const HYPER_HEADERS: usize = 100;

/// While the process ends, a connection on which no request has begun for this long has none on the way.
const LAST_CALL: Duration = Duration::from_millis(250);

/// A body above this size, or of none that is known, may be too long to be read before it is passed on.
const LONG_BODY: u64 = 64 * 1024;

/// Streams that one HTTP/2 caller may have open at once.
const H2_STREAMS: u32 = 256;

/// What stands behind the sockets: the whole stack, for which every request ends in a response. It is always ready.
pub trait Edge:
    Service<Arrival, Response = Response<Body>, Error = Infallible, Future: Send>
    + Clone
    + Send
    + 'static
{
}

impl<S> Edge for S where
    S: Service<Arrival, Response = Response<Body>, Error = Infallible, Future: Send>
        + Clone
        + Send
        + 'static
{
}

/// Serves `stream` until it ends, a timer of `limits` ends it, or the process drains.
pub(super) async fn serve<S, E>(
    stream: S,
    peer: Option<IpAddr>,
    edge: E,
    limits: Arc<Limits>,
    lifecycle: Lifecycle,
) where
    S: Transport,
    E: Edge,
{
    let clock = ConnectionClock::start();
    let mut socket = Socket::new(stream, clock.clone());
    let Some((prefix, is_h2)) = first_bytes(&mut socket, &limits, &lifecycle).await else {
        return;
    };
    socket.unread(prefix);

    let io = TokioIo::new(socket);
    let doorway = Doorway::default();
    let service = hyper::service::service_fn({
        let (clock, lifecycle, doorway) = (clock.clone(), lifecycle.clone(), doorway.clone());
        move |mut request: Request<Incoming>| {
            let (clock, version) = (clock.clone(), request.version());
            let (lifecycle, doorway) = (lifecycle.clone(), doorway.clone());
            let in_flight = clock.request_began();
            if is_long(request.body()) {
                clock.upload_began();
            }
            let switch = bridge::asked(&mut request);
            let answering = edge.clone().call(Arrival { request, peer });
            async move {
                answering.await.map(|response| {
                    let response = part(doorway.pass(switch, response), version, &lifecycle);
                    answer::put(response, version, clock, in_flight)
                })
            }
        }
    });
    if is_h2 {
        clock.speaks_h2();
        let streams = Streams::new(limits.clone(), lifecycle.clone());
        let connection = http2::Builder::new(streams)
            .timer(TokioTimer::new())
            .max_concurrent_streams(H2_STREAMS)
            .max_header_list_size(u32::try_from(limits.max_head).unwrap_or(u32::MAX))
            .keep_alive_interval(limits.keepalive_idle)
            .serve_connection(io, service);
        let retire = http2::Connection::graceful_shutdown;
        drive(Box::pin(connection), retire, &clock, &limits, &lifecycle).await;
    } else {
        let connection = http1(&limits).serve_connection(io, service).with_upgrades();
        let retire = http1::UpgradeableConnection::graceful_shutdown;
        drive(Box::pin(connection), retire, &clock, &limits, &lifecycle).await;
        doorway.run(limits.write_idle, &lifecycle).await;
    }
}

fn is_long(body: &Incoming) -> bool {
    let length = body.size_hint().exact();
    length.is_none_or(|length| length > LONG_BODY)
}

fn http1(limits: &Limits) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(None) // `ConnectionClock` does this without a timer a request.
        .max_buf_size(limits.max_head.max(8 * 1024)) // hyper accepts nothing smaller
        .preserve_header_case(true);
    if limits.max_headers != HYPER_HEADERS {
        builder.max_headers(limits.max_headers);
    }
    builder
}

/// While the process ends, the caller's next request belongs to somebody who stays.
fn part(mut response: Response<Body>, version: Version, lifecycle: &Lifecycle) -> Response<Body> {
    let switches = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    if lifecycle.is_stopping() && version != Version::HTTP_2 && !switches {
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(header::CONNECTION, close);
    }
    response
}

/// What the peer says first, and whether that is HTTP/2; nothing when it says nothing in time.
async fn first_bytes(
    socket: &mut (impl AsyncRead + Unpin),
    limits: &Limits,
    lifecycle: &Lifecycle,
) -> Option<(Bytes, bool)> {
    tokio::select! {
        sniffed = tokio::time::timeout(limits.head_timeout, sniff(socket)) => sniffed.ok()?.ok(),
        () = given_up(lifecycle) => None,
    }
}

/// Who has connected just before the end is about to say something; who does not is not waited for.
async fn given_up(lifecycle: &Lifecycle) {
    lifecycle.reached(Stage::Draining).await;
    tokio::select! {
        () = tokio::time::sleep(FIRST_BYTES) => {}
        () = lifecycle.reached(Stage::Ending) => {}
    }
}

/// Reads until it is certain whether the peer sent the HTTP/2 preface. Returns what was read.
async fn sniff(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<(Bytes, bool)> {
    let mut seen = BytesMut::with_capacity(H2_PREFACE.len());
    loop {
        let read = stream
            .read_buf(&mut (&mut seen).limit_to(H2_PREFACE.len()))
            .await?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if !H2_PREFACE.starts_with(&seen) {
            return Ok((seen.freeze(), false));
        }
        if seen.len() == H2_PREFACE.len() {
            return Ok((seen.freeze(), true));
        }
    }
}

trait LimitTo {
    fn limit_to(self, len: usize) -> bytes::buf::Limit<Self>
    where
        Self: Sized;
}

impl LimitTo for &mut BytesMut {
    /// Room for what is missing up to `len` bytes in all.
    fn limit_to(self, len: usize) -> bytes::buf::Limit<Self> {
        let missing = len - self.len();
        bytes::BufMut::limit(self, missing)
    }
}

/// While the process ends: waits for the moment in which the caller of this connection is not about to ask again. One whose
/// answer had begun before could not be told that it is the last, and may have its next request on the way already.
async fn last_call(clock: &ConnectionClock, lifecycle: &Lifecycle) {
    tokio::select! {
        () = clock.quiet_for(LAST_CALL) => {}
        () = lifecycle.reached(Stage::Ending) => {}
    }
}

/// Serves a connection to its end. It lies in a box of its own: in the task it would lie twice, here and where it was made,
/// beside one of the other protocol.
async fn drive<C, T>(
    mut connection: Pin<Box<C>>,
    retire: fn(Pin<&mut C>),
    clock: &ConnectionClock,
    limits: &Limits,
    lifecycle: &Lifecycle,
) where
    C: Future<Output = T>,
{
    let mut draining = pin!(lifecycle.reached(Stage::Draining));
    let mut leaving = pin!(last_call(clock, lifecycle));
    let mut ending = pin!(lifecycle.reached(Stage::Ending));
    let (mut hearing, mut drains) = (Hearing::default(), false);
    let (mut retired, mut told) = (false, false);
    let mut looks = tokio::time::interval(limits.look_every());
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    looks.reset();
    loop {
        tokio::select! {
            biased;
            // Errors here are the peer's (a reset, bytes that are not HTTP): hyper has answered what
            // could be answered, and a log line for each would let any peer fill the disk.
            () = poll_fn(|cx| hearing.poll(connection.as_mut(), clock, cx)) => return,
            // Looked at whenever the connection is, so the two that only follow it are not.
            () = draining.as_mut(), if !drains => drains = true,
            () = leaving.as_mut(), if drains && !retired => {
                retired = true;
                retire(connection.as_mut());
            }
            // The next poll of the connection lets an answer whose upstream is silent say that it ends.
            () = ending.as_mut(), if drains && !told => told = true,
            _ = looks.tick() => match clock.judge(limits) {
                Judgement::Fine => {}
                Judgement::Drop => return,
                Judgement::Retire if retired => {}
                Judgement::Retire => {
                    retired = true;
                    retire(connection.as_mut());
                }
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    #[tokio::test]
    async fn sniffing_tells_the_protocols_apart_whatever_the_splits() {
        for (input, is_h2) in [
            (H2_PREFACE, true),
            (b"GET / HTTP/1.1\r\n".as_slice(), false),
            (b"PRI * HTTP/1.1\r\n\r\n", false),
        ] {
            let (mut peer, mut ours) = tokio::io::duplex(1);
            let writing = tokio::spawn(async move { peer.write_all(input).await.map(|()| peer) });
            let (seen, h2) = sniff(&mut ours).await.expect("enough bytes");
            assert_eq!(h2, is_h2, "{input:?}");
            assert!(input.starts_with(&seen));
            drop(ours);
            drop(writing);
        }
    }
}

//! Accepting connections and serving requests on each, one after the other.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::exchange::{exchange, reject};
use super::head::{self, HeadError};
use super::listener::ListenerState;
use super::reply::Ending;
use super::shared::Shared;
use super::wire::{Wire, reset};

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 4096;
/// Pause before the address is taken again, or accepting is tried again after an error.
const PAUSE: Duration = Duration::from_millis(10);

/// Opens the listening socket.
pub(super) fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = if addr.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    // Without it the address could not be taken again while old connections linger.
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    socket.listen(BACKLOG)
}

/// Serves until the other end of `stop` speaks or is dropped; then closes the listener and all connections.
pub(super) async fn serve(
    listener: TcpListener,
    addr: SocketAddr,
    lab: Arc<Shared>,
    stop: oneshot::Receiver<()>,
) {
    let mut connections = JoinSet::new();
    tokio::select! {
        // Told to stop or left alone: either way nobody wants the lab any more.
        _ = stop => {}
        () = accept_all(listener, addr, &lab, &mut connections) => {}
    }
    connections.shutdown().await;
}

async fn accept_all(
    listener: TcpListener,
    addr: SocketAddr,
    lab: &Arc<Shared>,
    connections: &mut JoinSet<()>,
) {
    let slots = Arc::new(Semaphore::new(
        lab.config.limits.connections.min(Semaphore::MAX_PERMITS),
    ));
    let mut listener = Some(listener);
    let mut count = 0;
    loop {
        let (state, changed) = lab.listener_state();
        match state {
            // Closed: whoever connects is refused by the system.
            ListenerState::Closed => listener = None,
            ListenerState::Open | ListenerState::Reset if listener.is_none() => {
                listener = listen(addr).ok();
            }
            ListenerState::Open | ListenerState::Reset => {}
        }
        tokio::select! {
            () = changed => {}
            Some(_) = connections.join_next() => {}
            accepted = accept(listener.as_ref(), state, &slots) => {
                let Ok((stream, slot)) = accepted else {
                    // Out of descriptors, most likely: those that end will free some.
                    sleep(PAUSE).await;
                    continue;
                };
                count += 1;
                admit(connections, lab, stream, slot, count, state);
            }
        }
    }
}

/// The next connection, with its slot, which is taken first: whoever has none waits in the backlog.
async fn accept(
    listener: Option<&TcpListener>,
    state: ListenerState,
    slots: &Arc<Semaphore>,
) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let Some(listener) = listener else {
        if state == ListenerState::Closed {
            std::future::pending::<()>().await;
        }
        // Somebody else has the address for the moment; the caller's loop tries to take it again.
        return Err(io::ErrorKind::AddrInUse.into());
    };
    let slot = Arc::clone(slots)
        .acquire_owned()
        .await
        .map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, slot))
}

fn admit(
    connections: &mut JoinSet<()>,
    lab: &Arc<Shared>,
    stream: TcpStream,
    slot: OwnedSemaphorePermit,
    number: u64,
    state: ListenerState,
) {
    if state == ListenerState::Reset {
        lab.count(|stats| stats.refused_connections += 1);
        return reset(stream);
    }
    // A socket that died meanwhile shows it at the first read.
    let _ = stream.set_nodelay(true);
    let lab = Arc::clone(lab);
    lab.count(|stats| {
        stats.connections += 1;
        stats.live_connections += 1;
    });
    connections.spawn(async move {
        let _live = Live(&lab);
        connection(Wire::new(stream), &lab, number).await;
        drop(slot);
    });
}

/// Counts a connection as live until it is dropped.
struct Live<'a>(&'a Shared);

impl Drop for Live<'_> {
    fn drop(&mut self) {
        self.0
            .count(|stats| stats.live_connections = stats.live_connections.saturating_sub(1));
    }
}

async fn connection(mut wire: Wire, lab: &Shared, number: u64) {
    let limits = &lab.config.limits;
    loop {
        let head = match head::read(&mut wire, limits.head_bytes, limits.idle, limits.read).await {
            Ok(head) => head,
            Err(HeadError::Idle | HeadError::Unfinished) => return,
            Err(HeadError::Refused(malformed)) => {
                reject(&mut wire, lab, malformed).await;
                return wire.close().await;
            }
        };
        match exchange(&mut wire, lab, number, head).await {
            Ending::KeepAlive => {}
            Ending::Close => return wire.close().await,
            Ending::Reset => return wire.reset(),
            Ending::CloseIdle(later) => {
                // Whoever leaves meanwhile is closed all the same.
                let _ = wire.wait(later).await;
                return wire.close().await;
            }
        }
    }
}

//! The acceptor: takes connections from the listeners and hands them to the workers.

use std::{convert::Infallible, io, sync::Arc, time::Duration};

use futures_util::future::{join_all, try_join_all};
use tokio::io::AsyncWriteExt as _;

use super::{Fleet, Lifecycle, Limits, Listener, Stage, listener::Accepted};

/// How long accepting pauses when the process has no descriptors left. Long enough not to spin,
/// short enough to go on as soon as a connection has closed.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

/// What a caller reads when the connection limit is reached. Written without any HTTP machinery:
/// it must cost nothing when everything is full.
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: text/plain\r\ncontent-length: 61\r\n\
retry-after: 1\r\nconnection: close\r\n\r\nsurgetank has reached its connection limit; try again shortly";

/// No caller can be taken any more, or from the beginning.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// A listener failed in a way that waiting does not mend.
    #[error("no more connections can be accepted on {listener}: {error}")]
    Broken {
        /// Its address.
        listener: String,
        /// What the system says.
        #[source]
        error: io::Error,
    },
    /// The listeners cannot speak TLS.
    #[error("TLS could not be set up for the listeners: {0}")]
    Tls(#[from] rustls::Error),
}

/// Accepts on all listeners until the process drains, then closes them.
///
/// # Errors
/// When a listener is broken for good; running out of descriptors is waited out instead.
pub async fn serve(
    listeners: Vec<Listener>,
    fleet: &Fleet,
    limits: &Arc<Limits>,
    lifecycle: &Lifecycle,
) -> Result<(), AcceptError> {
    // The first that fails ends all: half a proxy would look like a whole one to whoever checks the other half.
    let accepting = try_join_all(
        listeners
            .iter()
            .map(|listener| accept_on(listener, fleet, limits)),
    );
    tokio::select! {
        accepted = accepting => return accepted.map(drop),
        () = lifecycle.reached(Stage::Draining) => {}
    }
    close(listeners, fleet).await;
    Ok(())
}

/// Closes all listeners at once; who had connected is still served.
async fn close(listeners: Vec<Listener>, fleet: &Fleet) {
    let closing = listeners
        .into_iter()
        .map(|listener| tokio::task::spawn_blocking(move || listener.close()));
    for closed in join_all(closing).await {
        match closed {
            Ok(Ok(connected)) => {
                for accepted in connected {
                    fleet.hand_over(accepted).await;
                }
            }
            Ok(Err(error)) => tracing::warn!(%error, "a listener could not be closed with care"),
            Err(error) => tracing::error!(%error, "closing a listener has failed inside surgetank"),
        }
    }
}

async fn accept_on(
    listener: &Listener,
    fleet: &Fleet,
    limits: &Limits,
) -> Result<Infallible, AcceptError> {
    let mut told = false;
    loop {
        match listener.accept().await {
            Ok(accepted) if fleet.live() >= limits.max_connections => turn_away(accepted).await,
            Ok(accepted) => {
                told = false;
                fleet.hand_over(accepted).await;
            }
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) if is_exhaustion(&error) => {
                if !std::mem::replace(&mut told, true) {
                    tracing::error!(%error, "no descriptors left for new connections; raise `ulimit -n` or lower `server.max_connections`");
                }
                tokio::time::sleep(EXHAUSTED_PAUSE).await;
            }
            Err(error) => {
                return Err(AcceptError::Broken {
                    listener: listener.to_string(),
                    error,
                });
            }
        }
    }
}

/// The connection was gone before we took it: the next one may be fine. What the network did to it comes
/// out of accept(2), whose manual asks to treat these like "try again".
pub(super) fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(
            libc::ECONNABORTED
                | libc::ECONNRESET
                | libc::EINTR
                | libc::EHOSTDOWN
                | libc::EHOSTUNREACH
                | libc::ENETDOWN
                | libc::ENETUNREACH
                | libc::ENONET
                | libc::ENOPROTOOPT
                | libc::EOPNOTSUPP
                | libc::EPROTO
                | libc::ETIMEDOUT
        )
    )
}

fn is_exhaustion(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM)
    )
}

async fn turn_away(accepted: Accepted) {
    // Within TLS it would be no answer.
    let Accepted::Tcp(stream, _, None) = accepted else {
        return;
    };
    if let Ok(mut stream) = tokio::net::TcpStream::from_std(stream) {
        // An empty send buffer takes these bytes at once; a peer that reset gets nothing.
        let _ = stream.write_all(FULL).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_broken_listener_ends_accepting() {
        let of_one = |code| is_of_one_connection(&io::Error::from_raw_os_error(code));
        let exhausted = |code| is_exhaustion(&io::Error::from_raw_os_error(code));
        // As accept(2) names them.
        for code in [
            libc::ENETDOWN,
            libc::EPROTO,
            libc::ENOPROTOOPT,
            libc::EHOSTDOWN,
            libc::ENONET,
            libc::EHOSTUNREACH,
            libc::EOPNOTSUPP,
            libc::ENETUNREACH,
            libc::ECONNABORTED,
        ] {
            assert!(of_one(code) && !exhausted(code), "{code}");
        }
        for code in [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM] {
            assert!(exhausted(code) && !of_one(code), "{code}");
        }
        for code in [libc::EBADF, libc::EINVAL, libc::ENOTSOCK, libc::EFAULT] {
            assert!(!exhausted(code) && !of_one(code), "{code}");
        }
    }

    #[test]
    fn the_full_answer_declares_its_own_length() {
        let text = std::str::from_utf8(FULL).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(
            head.contains(&format!("content-length: {}", body.len())),
            "{head}"
        );
    }
}

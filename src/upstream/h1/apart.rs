//! Connections that are moved on by a task of their own: a request that is still leaving must not wait for whoever reads
//! its answer.

use std::{convert::Infallible, time::Duration};

use hyper::client::conn::http1::Connection;
use tokio::{sync::oneshot, time::timeout};

use super::socket::Socket;
use crate::body::Body;

/// How long a connection may still take over its end once nobody waits for anything from it. A peer that has answered
/// early and takes no more of an upload would keep the upload in memory for as long as it likes.
const FAREWELL: Duration = Duration::from_secs(5);

/// Held by whoever waits for something from a connection that is driven apart.
#[derive(Debug)]
pub(in crate::upstream) struct Interest {
    _lost: oneshot::Sender<Infallible>,
}

/// Moves `connection` on until it is over, or for a few seconds after the interest in it was lost.
pub(super) fn drive(connection: Connection<Box<Socket>, Body>) -> Interest {
    let (interest, lost) = oneshot::channel();
    tokio::spawn(async move {
        let mut connection = Box::pin(connection);
        tokio::select! {
            biased;
            _ = &mut connection => {}
            _ = lost => drop(timeout(FAREWELL, connection).await),
        }
    });
    Interest { _lost: interest }
}

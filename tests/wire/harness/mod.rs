//! What the tests have in common: the proxy in process, a caller and an upstream that see every byte.

mod caller;
mod canary;
#[cfg(feature = "otlp")]
mod collector;
mod folder;
mod h2;
mod log;
mod message;
mod origin;
mod process;
mod requests;
mod rig;
mod tank;
mod wire;

use std::time::Duration;

pub(crate) use caller::Caller;
pub(crate) use canary::{Canary, leaves_no_core, mode_of};
#[cfg(feature = "otlp")]
pub(crate) use collector::{Collector, Span};
pub(crate) use folder::Folder;
pub(crate) use h2::{H2Caller, read as read_h2};
pub(crate) use log::Log;
pub(crate) use message::{Answer, End, Head};
pub(crate) use origin::{Origin, OriginConnection, Play, Seen, Serving, chunked};
pub(crate) use process::Process;
pub(crate) use requests::{Request, Tongue};
pub(crate) use rig::Rig;
pub(crate) use tank::{Recipe, Tank, env};
pub(crate) use wire::{Filled, Wire};

/// The longest wait for anything that should come at once. Long, because a busy machine is no failure.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Waits for `future`, and fails the test by the name of what did not come.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .unwrap_or_else(|_| panic!("{what}: nothing for {PATIENCE:?}"))
}

/// Waits until `met` holds, looking again and again: for conditions that have no event.
pub(crate) async fn until(what: &str, mut met: impl FnMut() -> bool) {
    let looking = async {
        while !met() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    soon(what, looking).await;
}

/// Bytes as text, for messages of failed tests.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Where `needle` stands in `hay`.
pub(crate) fn find(hay: &[u8], needle: &[u8]) -> Option<usize> {
    memchr::memmem::find(hay, needle)
}

//! Holding a running lab.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::config::LabConfig;
use super::fault::{FaultError, Script};
use super::listener::ListenerState;
use super::quota::QuotaConfig;
use super::record::{RequestRecord, Stats};
use super::server;
use super::shared::Shared;

/// Starts labs.
#[derive(Debug, Clone, Copy)]
pub struct Lab;

/// A running lab. Dropping it stops everything: the listener and each connection.
#[derive(Debug)]
pub struct LabHandle {
    addr: SocketAddr,
    lab: Arc<Shared>,
    /// Its drop is what stops the lab.
    stop: oneshot::Sender<()>,
    /// Owns all the lab's tasks; ends once they have.
    task: JoinHandle<()>,
}

impl Lab {
    /// Starts a lab in the current tokio runtime; it listens when this returns.
    ///
    /// Fails if the address cannot be taken.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with I/O and time enabled.
    pub fn start(config: LabConfig) -> io::Result<LabHandle> {
        let listener = server::listen(config.listen)?;
        let addr = listener.local_addr()?;
        let lab = Arc::new(Shared::new(config, Instant::now()));
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(server::serve(listener, addr, Arc::clone(&lab), stopped));
        Ok(LabHandle {
            addr,
            lab,
            stop,
            task,
        })
    }
}

impl LabHandle {
    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// `http://ADDR`, for base URLs.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// The counters.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.lab.stats()
    }

    /// The remembered requests, oldest first.
    #[must_use]
    pub fn requests(&self) -> Vec<RequestRecord> {
        self.lab.requests(None)
    }

    /// The remembered requests whose `x-lab-key` is `key`, oldest first.
    #[must_use]
    pub fn requests_of(&self, key: &str) -> Vec<RequestRecord> {
        self.lab.requests(Some(key))
    }

    /// Waits until `met` holds for the counters.
    ///
    /// After `patience` the counters come back as the error, so that a failed test shows what was counted.
    pub async fn wait_for(
        &self,
        met: impl Fn(&Stats) -> bool,
        patience: Duration,
    ) -> Result<Stats, Stats> {
        self.lab.wait_for(met, patience).await
    }

    /// Lets the next requests meet a script such as `429*2,ok`, whoever sends them, in the order of their arrival.
    ///
    /// Replaces a script that is still being played. Scripts in request headers go before it, rules come after it.
    pub fn script(&self, script: &str) -> Result<(), FaultError> {
        self.play(script.parse()?);
        Ok(())
    }

    /// As [`LabHandle::script`], for the attempts that carry `x-lab-key: KEY`, counted from the next one.
    pub fn script_for(&self, key: &str, script: &str) -> Result<(), FaultError> {
        self.lab.play_for(key, script.parse()?);
        Ok(())
    }

    /// As [`LabHandle::script`], for a script that was put together from faults.
    pub fn play(&self, script: Script) {
        self.lab.play_next(script);
    }

    /// Changes the quota; `None` takes it away. Buckets keep what they hold, as far as it has room.
    pub fn set_quota(&self, quota: Option<QuotaConfig>) {
        self.lab.admission.set(quota, Instant::now());
    }

    /// Orders what callers meet who connect, until the next order; existing connections live on.
    ///
    /// The order is carried out by the lab's task: give it a moment, or wait for its effect.
    pub fn set_listener(&self, state: ListenerState) {
        self.lab.order_listener(state, None);
    }

    /// Begins anew: counters, records, scripts, rules, buckets, and the time that windows are counted from.
    pub fn reset(&self) {
        self.lab.reset();
    }

    /// Stops everything and waits until the listener and all connections are closed.
    pub async fn stop(self) {
        drop(self.stop);
        // Fails only if the runtime is going down, and the lab with it.
        let _ = self.task.await;
    }
}

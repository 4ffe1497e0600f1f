//! Limits that hold for all instances together, and what holds while their store is away.

use std::sync::Arc;

use prometheus::IntCounter;

use crate::{
    config::Fail,
    store::{
        limits::{Answer, Asked, SharedLimits},
        redis::StoreError,
    },
    telemetry::Metrics,
};

/// The accounts of all instances. Clones are the same.
#[derive(Clone, Debug)]
pub struct Shared {
    limits: Arc<dyn SharedLimits>,
    fail: Fail,
    /// Decisions without the store.
    degraded: IntCounter,
}

/// What is done while the store is away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Away {
    /// The request goes on, whatever its user has used.
    Open,
    /// It is refused.
    Closed,
    /// This process decides, as one of so many.
    Local(u32),
}

impl Shared {
    /// Accounts in `limits`; while these are away, what `config` says holds.
    #[must_use]
    pub fn new(limits: Arc<dyn SharedLimits>, fail: Fail, metrics: &Metrics) -> Self {
        let mode = match fail {
            Fail::Local => "local",
            Fail::Open => "open",
            Fail::Closed => "closed",
        };
        Self {
            limits,
            fail,
            degraded: metrics.limiter_degraded.with_label_values(&[mode]),
        }
    }

    /// Asks the store. Where it has no answer, what is done instead.
    pub(super) async fn admit(&self, asked: Asked) -> Result<Answer, Away> {
        let error: StoreError = match self.limits.admit(asked).await {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        tracing::debug!(%error, "a request is decided on without the store");
        Err(self.is_away())
    }

    /// What is done with a request that the store has no answer for.
    pub(super) fn is_away(&self) -> Away {
        self.degraded.inc();
        match self.fail {
            Fail::Open => Away::Open,
            Fail::Closed => Away::Closed,
            Fail::Local => Away::Local(self.limits.instances()),
        }
    }

    /// The store itself.
    pub(super) fn limits(&self) -> &Arc<dyn SharedLimits> {
        &self.limits
    }
}

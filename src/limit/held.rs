//! What a request that was let in holds until it has ended: places in accounts, here and in a store.

use std::sync::Arc;

use tokio::time::Instant;

use super::table::Permit;
use crate::store::limits::{Ending, Lease, SharedLimits};

/// What a running request holds. Dropped unsettled, it counts as ended and stays charged as it was estimated.
#[derive(Debug, Default)]
pub struct Held {
    user: Option<Permit>,
    total: Option<Permit>,
    lease: Option<Leased>,
}

/// A place in a store.
#[derive(Debug)]
struct Leased {
    lease: Option<Lease>,
    limits: Arc<dyn SharedLimits>,
}

impl Held {
    /// Places in the accounts of this process.
    pub(super) fn here(user: Option<Permit>, total: Option<Permit>) -> Self {
        Self {
            user,
            total,
            lease: None,
        }
    }

    /// And one in a store.
    pub(super) fn and_there(self, lease: Lease, limits: Arc<dyn SharedLimits>) -> Self {
        Self {
            lease: Some(Leased {
                lease: Some(lease),
                limits,
            }),
            ..self
        }
    }

    /// The request has ended and has used so many tokens.
    pub fn settle(mut self, used: u64) {
        let now = Instant::now();
        for permit in [self.user.take(), self.total.take()].into_iter().flatten() {
            permit.settle(used, now);
        }
        if let Some(mut leased) = self.lease.take() {
            leased.end(Ending::Used(used));
        }
    }
}

impl Leased {
    fn end(&mut self, ending: Ending) {
        if let Some(lease) = self.lease.take() {
            self.limits.settle(lease, ending);
        }
    }
}

/// A grant that nobody took, because its caller has left meanwhile.
impl Drop for Leased {
    fn drop(&mut self) {
        self.end(Ending::Undone);
    }
}

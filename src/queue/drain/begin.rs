//! The last step before an entry is sent: that it is about to be is on the disk.
//!
//! The layer stands below the lane, so that an entry waits for its turn as one that was not begun. What is forced to the
//! disk here, within the lane's permit, is one small row.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use futures_util::future::BoxFuture;
use tower::{Layer, Service};

use crate::{
    attempt::{Answer, Attempted, Cause, Failure},
    call::Attempt,
    retry::triage::{Class, Verdict},
    stacked::Stacked,
    store::jobs::{JobId, Jobs, Millis},
};

/// Begins one entry.
#[derive(Clone, Debug)]
pub struct BeginLayer {
    store: Arc<dyn Jobs>,
    id: JobId,
    begun: Arc<AtomicBool>,
}

impl BeginLayer {
    /// For the entry of this name, which is held.
    pub(super) fn new(store: Arc<dyn Jobs>, id: JobId) -> Self {
        Self {
            store,
            id,
            begun: Arc::default(),
        }
    }

    /// The entry.
    pub(super) const fn id(&self) -> JobId {
        self.id
    }

    /// Whether it was begun: from then on it may have been carried out.
    pub(super) fn is_begun(&self) -> bool {
        self.begun.load(Ordering::Acquire)
    }

    async fn begin(&self) -> Result<(), Failure> {
        // The further attempts of a chain belong to the same try.
        if self.is_begun() {
            return Ok(());
        }
        match self.store.begin(self.id, Millis::now()).await {
            Ok(true) => {
                self.begun.store(true, Ordering::Release);
                Ok(())
            }
            // Cancelled meanwhile, or the storage does not work and says so itself.
            Ok(false) | Err(_) => Err(Failure {
                verdict: Verdict::final_of(Class::Abandoned),
                cause: Cause::NotBegun,
            }),
        }
    }
}

impl<S: Clone> Layer<S> for BeginLayer {
    type Service = Begin<S>;

    fn layer(&self, inner: S) -> Begin<S> {
        Begin(Stacked::new(self.clone(), inner))
    }
}

/// Sends an attempt once its entry is begun.
#[derive(Clone, Debug)]
pub struct Begin<S>(Stacked<BeginLayer, S>);

impl<S> Service<Attempt> for Begin<S>
where
    S: Service<Attempt, Response = Answer, Error = Failure, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static,
{
    type Response = Answer;
    type Error = Failure;
    type Future = BoxFuture<'static, Attempted>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, attempt: Attempt) -> Self::Future {
        let with = self.0.clone();
        Box::pin(async move {
            with.begin().await?;
            with.below().call(attempt).await
        })
    }
}

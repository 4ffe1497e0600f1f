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

impl<S> Layer<S> for BeginLayer {
    type Service = Begin<S>;

    fn layer(&self, inner: S) -> Begin<S> {
        Begin {
            inner,
            with: self.clone(),
        }
    }
}

/// Sends an attempt once its entry is begun.
#[derive(Clone, Debug)]
pub struct Begin<S> {
    inner: S,
    with: BeginLayer,
}

impl<S> Service<Attempt> for Begin<S>
where
    S: Service<Attempt, Response = Answer, Error = Failure, Future: Send> + Clone + Send + 'static,
{
    type Response = Answer;
    type Error = Failure;
    type Future = BoxFuture<'static, Attempted>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, attempt: Attempt) -> Self::Future {
        // The clone takes the readiness that was won; the original stays for the next attempt.
        let fresh = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, fresh);
        let with = self.with.clone();
        Box::pin(async move {
            with.begin().await?;
            inner.call(attempt).await
        })
    }
}

//! A layer and everything below it, as one handle.
//!
//! Every request takes the service of each layer with it, to be free of the stack while it waits. A service that had the
//! one below it by value would take all below it along each time: with nine layers that were some fifty atomic
//! increments a request, and as many decrements. So a clone is one.
//!
//! No service of the stack is ever asked whether it is ready: each of them always is, and what it has to wait for it
//! waits for in its future. A readiness that was won could be stale after a wait.

use std::{ops::Deref, sync::Arc};

/// What a service of the stack is made of: its layer, to which this dereferences, and the service below.
#[derive(Debug)]
pub(crate) struct Stacked<L, S>(Arc<Parts<L, S>>);

#[derive(Debug)]
struct Parts<L, S> {
    layer: L,
    below: S,
}

impl<L, S: Clone> Stacked<L, S> {
    pub(crate) fn new(layer: L, below: S) -> Self {
        Self(Arc::new(Parts { layer, below }))
    }

    /// The service below, to be called.
    pub(crate) fn below(&self) -> S {
        self.0.below.clone()
    }
}

impl<L, S> Clone for Stacked<L, S> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<L, S> Deref for Stacked<L, S> {
    type Target = L;

    fn deref(&self) -> &L {
        &self.0.layer
    }
}

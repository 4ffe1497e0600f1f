//! One try of a call.

use std::sync::Arc;

use bytes::Bytes;
use http::uri::PathAndQuery;

use super::Call;
use crate::{
    lane::{Lane, RetryRight},
    upstream::{
        Upstream,
        upload::{Upload, WATCHED_FROM},
    },
};

/// One try of a call on one upstream.
#[derive(Debug)]
pub struct Attempt {
    /// The call.
    pub call: Arc<Call>,
    /// Where to send it.
    pub upstream: Arc<Upstream>,
    /// Its progress, where it is long enough to be watched.
    pub upload: Option<Upload>,
    /// The lane that it has to pass.
    pub lane: Arc<Lane>,
    /// For a retry, the right to it.
    pub right: Option<RetryRight>,
    /// What is sent in place of the caller's request.
    pub sequel: Option<Arc<Sequel>>,
}

/// A request of ours on behalf of a caller who has an answer already, or a part of one.
pub struct Sequel {
    /// Where it goes, if not where the caller's request went; then it is a `GET`.
    pub target: Option<PathAndQuery>,
    /// Its body; every field of the caller's message goes with it but the length.
    pub body: Bytes,
    /// Retries that it may have.
    pub retries: u32,
}

/// Tells the size, not the text: it has the prompt in it.
impl std::fmt::Debug for Sequel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sequel")
            .field("elsewhere", &self.target.is_some())
            .field("len", &self.body.len())
            .field("retries", &self.retries)
            .finish_non_exhaustive()
    }
}

impl Attempt {
    /// Sends `call` to `upstream` once.
    #[must_use]
    pub fn new(call: Arc<Call>, upstream: Arc<Upstream>, lane: Arc<Lane>) -> Self {
        Self {
            upload: watched(call.payload.held_len().unwrap_or(usize::MAX)),
            call,
            upstream,
            lane,
            right: None,
            sequel: None,
        }
    }

    /// The same with another request.
    #[must_use]
    pub fn with(mut self, sequel: Option<Arc<Sequel>>) -> Self {
        if let Some(sequel) = &sequel {
            self.upload = watched(sequel.body.len());
        }
        self.sequel = sequel;
        self
    }

    /// Bytes of the body that it sends; 0 for one that only passes.
    #[must_use]
    pub fn body_len(&self) -> usize {
        match &self.sequel {
            Some(sequel) => sequel.body.len(),
            None => self.call.payload.held_len().unwrap_or(0),
        }
    }
}

/// The progress of a body of `len` bytes, where it takes long enough to be watched.
fn watched(len: usize) -> Option<Upload> {
    (len > WATCHED_FROM).then(Upload::begin)
}

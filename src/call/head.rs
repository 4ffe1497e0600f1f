//! A request's head, for as long as somebody may need it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::{Extensions, HeaderMap, request::Parts, uri::PathAndQuery};

/// What a caller has sent before the body, as far as it is sent on.
///
/// All of it lies in the buffer that it was read into, and keeps that buffer.
pub struct Head {
    /// Raw: not one byte of it is ever normalised.
    pub target: PathAndQuery,
    /// The caller's fields, all of them; what is not forwarded is left out when an attempt is built.
    pub headers: HeaderMap,
    /// hyper keeps the original spelling of the field names here.
    pub extensions: Extensions,
}

/// Shows nothing: a field may hold a credential, and so may the target.
impl std::fmt::Debug for Head {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Head").finish_non_exhaustive()
    }
}

impl Head {
    /// The target is what `parts` names, in the form that goes to an upstream.
    pub(super) fn new(parts: Parts, target: PathAndQuery) -> Self {
        Self {
            target,
            headers: parts.headers,
            extensions: parts.extensions,
        }
    }
}

/// A head that can be let go while its call lives on.
pub(super) struct Kept(Mutex<Option<Arc<Head>>>);

impl Kept {
    pub(super) fn new(head: Head) -> Self {
        Self(Mutex::new(Some(Arc::new(head))))
    }

    pub(super) fn get(&self) -> Option<Arc<Head>> {
        self.lock().clone()
    }

    pub(super) fn release(&self) {
        self.lock().take();
    }

    /// The lock guards a clone or a `take`, neither of which can panic halfway.
    fn lock(&self) -> MutexGuard<'_, Option<Arc<Head>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

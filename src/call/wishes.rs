//! What a caller wants differently from its route.

use std::time::Duration;

/// What the caller's `x-surgetank-*` headers ask for.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Wishes {
    /// `x-surgetank-fallback`.
    pub fallback: FallbackWish,
    /// Retries that this request may have: the route's number, or what `x-surgetank-max-retries` asks
    /// for, or none where the SDK above us is itself retrying (`x-stainless-retry-count`).
    pub retries: u32,
    /// `Prefer: respond-async`: how long the caller would rather wait for the answer than be told where it will be;
    /// nothing, where it does not say so.
    pub respond_async: Option<Duration>,
}

/// Values of `x-surgetank-fallback`.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum FallbackWish {
    /// As the route says.
    #[default]
    Route,
    /// Pass the last answer on as it came.
    None,
    /// Only the friendly reply.
    Reply,
    /// The queue, and the friendly reply where that cannot take it.
    Queue,
    /// Other upstreams and models, and nothing of our own: for who is in the queue already.
    Upstreams,
}

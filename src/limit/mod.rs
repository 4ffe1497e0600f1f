//! Per-user limits: one user must not starve the rest.
//!
//! A limit is only worth its name if it holds: never more than the burst plus the rate times the
//! time, over any window, whatever the pattern of arrivals; and if nobody who keeps to it is ever
//! turned away. A counter per fixed window breaks the first promise at its borders (twice the limit
//! in a moment), so the rate is a GCRA ([`gcra`]), exact to the last unit. Its state is one moment
//! a user, which keeps a million users cheap and moves to a shared store without a change.
//!
//! The decisions here know no HTTP types, no clock and no randomness; `now` is an argument.
//!
//! | module | its idea |
//! |---|---|
//! | [`identity`] | who a user is: a fingerprint, never the name itself |
//! | [`gcra`] | the arithmetic of a rate with bursts and variable cost |
//! | [`standing`] | the limits, what is left of them, and a denial |
//! | [`table`] | what is known of each user, bounded; and the permit of a running request |
//! | [`fields`] | what a caller is told: `RateLimit`, `RateLimit-Policy`, `Retry-After` |

pub mod fields;
pub mod gcra;
pub mod identity;
pub mod layer;
pub mod standing;
pub mod table;

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
//! | [`plan`] | the rates and the number of running requests that hold together |
//! | [`account`] | one account under its plan: what a request takes, and what is put right at its end |
//! | [`standing`] | what is left of a plan, and a denial |
//! | [`table`] | what is known of each user, bounded; and the permit of a running request |
//! | [`tokens`] | how many tokens a request is taken to use, before and after |
//! | [`lines`] | in which order requests wait |
//! | [`limiter`] | whether a request may go on: its user's limits, and those of all together |
//! | [`ledger`] | the accounts of some plans, and how a shared store is asked for them |
//! | [`shared`] | limits of all instances together, and who decides while their store is away |
//! | [`held`] | what a running request holds in accounts |
//! | [`later`] | what a queued request uses, charged afterwards |
//! | [`fields`], [`vendor`] | what a caller is told: `RateLimit`, `Retry-After`, and the vendors' own |

pub mod account;
mod estimate_text;
pub mod fields;
pub mod gcra;
pub mod held;
pub mod identity;
pub mod later;
pub mod layer;
pub mod ledger;
pub mod limiter;
pub mod lines;
pub mod plan;
pub mod settings;
pub mod shared;
pub mod standing;
mod tab;
pub mod table;
pub mod tokens;
pub mod vendor;

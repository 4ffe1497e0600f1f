//! Retries: what happened, whether trying again can help, and how long to wait first.
//!
//! A retry is a bet that the next try meets a better moment. It is worth making only when the
//! failure was of the moment (too many at once, a machine that broke, a connection that died) and
//! never when it was of the request (malformed, too large, not allowed) or of the account (no
//! money left): repeating those spends quota, hides the reason from the caller and feeds the storm.
//! So every attempt is first given one [`triage::Class`], and all the rest follows from it.
//!
//! The decisions here are plain functions and structs. They know no HTTP types, no vendor, no clock
//! and no global randomness: statuses are numbers, headers are pairs of strings, `now` and the
//! random source are arguments.
//!
//! | module | the question it answers |
//! |---|---|
//! | [`triage`] | What kind of failure was this, and could another try help? |
//! | [`backoff`] | With nothing said by the server, when may the next try begin? |
//! | [`hints`] | What did the server say about when to come back? |
//! | [`deadline`] | Until when does the caller wait for us? |
//! | [`tries`] | How many tries may a request have? |
//! | [`plan`] | All of it together: wait so long and try again, or stop, and why. |

pub mod backoff;
pub mod deadline;
pub mod hints;
pub mod layer;
pub mod plan;
pub mod triage;
pub mod tries;

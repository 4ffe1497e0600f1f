//! What is kept beyond one process: shared by several, or needed again after a crash.
//!
//! The store is a help and never a condition. What surgetank does for a caller it must also do while
//! the store is away, so every use of it has a bound in time and an answer for the case that it fails.

pub mod jobs;
pub mod redis;
pub mod sqlite;

//! Limits and a queue that several instances share, against real Redis servers.
//!
//! Not among the tests that `cargo test` runs, because it needs `redis-server`, `redis-cli` and `openssl`:
//! `cargo test --test redis`, or `tests/run redis`, which installs them. Each test has servers of its own,
//! on free ports and in temporary directories, and ends them by their process ids.
#![allow(
    clippy::panic,
    clippy::similar_names,
    clippy::too_many_lines,
    reason = "a harness that fails a test does so by panicking; a story is told in one piece"
)]

#[path = "../wire/harness/mod.rs"]
#[allow(
    dead_code,
    unused_imports,
    clippy::format_collect,
    reason = "shared with the tests of the wire, which use all of it"
)]
mod harness;

mod away;
mod connection;
mod hold;
mod hostile;
mod jobs;
mod limits;
mod queue;
mod replicas;
mod same;
mod secrets;
mod server;
mod slow;

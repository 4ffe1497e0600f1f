//! Limits that several instances share, against real Redis servers.
//!
//! Not among the tests that `cargo test` runs, because it needs `redis-server`, `redis-cli` and `openssl`:
//! `cargo test --test redis`, or `tests/run redis`, which installs them. Each test has servers of its own,
//! on free ports and in temporary directories, and ends them by their process ids.
#![allow(
    clippy::panic,
    clippy::too_many_lines,
    reason = "a harness that fails a test does so by panicking; a story is told in one piece"
)]

mod connection;
mod limits;
mod same;
mod server;
mod slow;

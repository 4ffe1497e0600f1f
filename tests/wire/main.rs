//! surgetank on real sockets: one binary, one file a behaviour.
//!
//! Each test starts the proxy in process on a port of its own, in front of the lab or of an upstream that the test
//! plays byte by byte, and speaks to it over TCP. Times are real and short; every wait is for an event and has a bound.
#![allow(
    clippy::panic,
    clippy::needless_pass_by_value,
    clippy::format_collect,
    clippy::too_many_lines,
    reason = "a harness that fails a test does so by panicking, and reads best when it takes values; a table is as long as its rows"
)]

mod harness;

mod alive;
mod auth;
mod cancel;
mod chain;
mod channels;
mod connections;
mod continued;
mod crash;
mod cuts;
mod faults;
mod floods;
mod guard;
mod hostile;
mod lane;
mod larger;
mod late;
mod life;
mod limits;
mod many;
mod outage;
mod page;
mod preamble;
mod pressure;
mod queue;
mod queue_edges;
mod quotas;
mod readers;
mod reload;
mod reply;
mod retry;
mod rolling;
mod rollout;
#[cfg(feature = "otlp")]
mod secrets;
#[cfg(feature = "otlp")]
mod secrets_kept;
mod series;
mod stop;
mod storm;
mod stream;
mod stuck_log;
mod tls;
#[cfg(feature = "otlp")]
mod traces;
mod transparency;
mod truncated;
mod tunnel;
mod unwrap;
mod uploads;
mod usage;
mod vendor_headers;

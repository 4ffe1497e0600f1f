//! surgetank: a reverse proxy beside an application that keeps its AI API calls alive.
//!
//! An API that answers 429, falls over or cuts its streams is the normal case at the moment an
//! application becomes popular. What a caller should then do is known, and almost no caller does it.
//! surgetank does it once, for any application, in the place of a base URL.
//!
//! # The map
//!
//! [`app`] holds the way of a request on one page; start there. Outermost first:
//!
//! | module | what it is |
//! |---|---|
//! | [`server`] | listeners, workers, connections and their timers, the guard against ambiguous heads |
//! | [`rescue`] | the edge: everything below it may fail, everything above it is a response |
//! | [`auth`], [`reception`], [`route`], [`identity`], [`payload`], [`deadline`] | from a message to a [`call::Call`] |
//! | [`limit`] | a user's own limits |
//! | [`fallback`] | the chain of targets and the friendly reply |
//! | [`answers`] | what is done to answers that came cut, or in a fence, where a route asks for it |
//! | [`retry`] | triage, backoff, hints and the layer that repeats attempts |
//! | [`lane`] | what callers of one quota learn together |
//! | [`stream`] | judging an answer by its first event, relaying it, ending it honestly |
//! | [`tunnel`] | a `WebSocket`, from the handshake to the end of the last byte |
//! | [`store`] | what several instances share, or what outlives one |
//! | [`queue`] | what must not be lost: kept on a disk, carried out later, given out to whom it belongs |
//! | [`upstream`] | the only place that opens connections outward |
//! | [`dialect`] | how the vendors speak: errors, replies, ends, what a request asks for |
//! | [`telemetry`], [`admin`] | what the operator sees |
//! | [`config`], [`cli`], [`proxy`] | from a file and a command line to a running process |
//! | [`rules`], [`reload`] | what changes while it runs, and when |
//! | [`lab`] | the fake AI API that all of this is tested and demonstrated against |
//!
//! # What is absent
//!
//! - Decision files (`retry::plan`, `limit::gcra`, everything in `lane` but its shell) know no HTTP,
//!   no clock and no global randomness: `now` and the random source are arguments.
//! - `dialect` knows nothing of retries; `retry` knows no vendor.
//! - Only `rescue` makes an error into a response. Only `upstream`, and `store` to the shared store,
//!   open connections outward. Only `telemetry` names a metric.
//! - Nothing sleeps while it holds a permit. Nothing between the two sockets buffers without a bound.
#![forbid(unsafe_code)]

pub mod admin;
pub mod answers;
pub mod app;
pub mod attempt;
pub mod auth;
pub mod body;
pub mod budget;
pub mod call;
pub mod cli;
pub mod config;
pub mod deadline;
pub mod dialect;
pub mod fallback;
pub mod framing;
pub mod headers;
pub mod identity;
pub mod lab;
pub mod lane;
pub mod limit;
pub mod payload;
pub mod proxy;
pub mod queue;
pub mod reception;
pub mod reload;
pub mod rescue;
pub mod retry;
pub mod route;
pub mod rules;
pub mod server;
mod stacked;
pub mod store;
pub mod stream;
pub mod telemetry;
pub mod tunnel;
pub mod upstream;
mod wake;

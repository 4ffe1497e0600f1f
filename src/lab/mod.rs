//! The lab: a fake AI API that misbehaves on demand.
//!
//! Whoever builds on an AI API must know what happens when it fails, and cannot ask the vendor to fail.
//! The lab speaks Anthropic Messages, OpenAI Chat and OpenAI Responses well enough for the official SDKs, as JSON and as
//! streams, has a quota like a vendor's, and plays every fault that callers have reported: statuses, silences, resets,
//! cuts, lies about lengths, errors inside a 200. The same code serves surgetank's own tests in process, its demo, and
//! users who drill their application with `surgetank lab`.
//!
//! It stands on raw TCP, with its own small HTTP/1.1 server, because no server library would send what it must send.
//! Towards requests it is strict: what is ambiguous is refused and counted, so that it also judges the proxy before it.
//!
//! # Which fault is played
//!
//! The first of these that has an opinion decides:
//! 1. the request header `x-lab-script`, one entry per attempt with the same `x-lab-key`; or `x-lab-fault`;
//! 2. a script that the test gave by [`LabHandle::script`] or [`LabHandle::script_for`];
//! 3. the rules of the scenario ([`LabConfig::rules`]);
//! 4. for what would be a healthy answer, the quota ([`LabConfig::quota`]). Faults cost no quota.
//!
//! [`Fault`] describes all faults. `/echo/…` answers with a report of the request; `/_lab/stats`, `/_lab/requests?key=`,
//! `/_lab/faults` and `POST /_lab/reset` show and reset what the lab knows.
//!
//! # How it is built
//!
//! A fault is a change to a value (`reply::Reply`), not code at the socket: `answer` makes the healthy reply, `stage`
//! and `damage` change it, `perform` plays it, `wire` knows the socket and whether the caller is still there.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//! use surgetank::lab::{Lab, LabConfig};
//!
//! let lab = Lab::start(LabConfig::default())?;
//! lab.script("429;retry-after=1,ok")?;
//! // … call lab.url() twice …
//! lab.wait_for(|stats| stats.answered == 2, Duration::from_secs(5)).await.map_err(|stats| format!("{stats:?}"))?;
//! # Ok(())
//! # }
//! ```

mod admission;
mod answer;
mod api;
mod body;
mod config;
mod control;
mod damage;
mod echo;
mod errors;
mod exchange;
mod fault;
mod gzip;
mod handle;
mod head;
mod json;
mod listener;
mod perform;
mod quota;
mod record;
mod reply;
mod scenario;
mod scripts;
mod server;
mod shared;
mod speech;
pub mod spike;
mod stage;
mod units;
mod wire;

pub use config::{AnswerConfig, LabConfig, LimitsConfig, RecordConfig, ScenarioError};
pub use fault::{CATALOGUE, Entry, Fault, FaultError, FaultSpec, Script};
pub use handle::{Lab, LabHandle};
pub use listener::{ListenerState, ListenerWindow};
pub use quota::{Bucket, Hints, Level, Per, QuotaConfig, Verdict};
pub use record::{Outcome, Phase, RequestRecord, Stats};
pub use scenario::{Match, Rule};

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks a mutex whose holder may have panicked: the lab's state is valid between any two statements.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

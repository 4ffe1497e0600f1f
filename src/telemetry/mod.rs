//! What the operator sees: metrics and the log. Only this module names a metric.
//!
//! A failure is told once, where it is handled. A user, a prompt or a credential is never a label
//! and never a field.

mod access;
mod families;
mod json_lines;
pub mod labels;
pub mod lanes;
mod log_queue;
pub mod logs;
pub mod metrics;
mod models;
#[cfg(feature = "otlp")]
mod otlp;
#[cfg(test)]
mod promised;
mod queue;
#[cfg(test)]
mod reference;
mod series;
pub mod totals;
mod trace_parent;
pub mod traces;
pub mod trouble;

pub use access::{Observed, Outcome, Report, Telling};
pub use families::Family;
pub use metrics::{ChunkTimes, Metrics};
pub use models::ModelNames;
pub use queue::QueueFamilies;
pub use series::{LaneSeries, RouteSeries};
pub use totals::Totals;
pub use trace_parent::TraceParent;
pub use traces::{MOST_TRIES, Traces, TracesError};

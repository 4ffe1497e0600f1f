//! The lane.

pub mod breaker;
pub mod core;
pub mod gate;
mod meter;
mod outcome;
pub mod pace;
pub mod patience;
pub mod queue;
pub mod quota;
pub mod report;
mod settings;
mod snapshot;
mod time;
pub mod window;

pub use self::core::{Admission, LaneCore, Next, Release, SendId, Ticket};
pub use outcome::{Outcome, RefuseReason, Refused, WaitReason};
pub use queue::{MAX_COST, TicketId, UserKey};
pub use quota::{RetryClass, RetryToken};
pub use report::QuotaReport;
pub use settings::LaneSettings;
pub use snapshot::{Counters, Snapshot};

//! The lane: callers of one quota share what each has learned.
//!
//! A request that waits for itself, as in every client library and gateway, learns alone: in a storm each caller finds
//! out for itself that the quota is spent, retries into it, and where refusals count against the quota, those retries eat
//! what would have served somebody. Backoff and retry budgets change how much is wasted, not who is served.
//!
//! A lane is all requests that share one quota: one upstream, one credential, one model.
//! One refusal speaks for all of them; one request goes to see; the rest follow at the rate that the quota was seen to
//! refill, as many at a time as the upstream was seen to hold, fairly across users, and those who would wait in vain are
//! told at once.
//!
//! The parts are plain state machines. None does I/O, reads a clock or draws a random number by itself, and none knows
//! HTTP; each file opens with the argument for its policy:
//!
//! | part | answers | learns from |
//! |---|---|---|
//! | [`gate`] | may anybody go at all? | refusals and their hints |
//! | [`breaker`] | is the upstream alive? | failures and answers |
//! | [`pace`] and [`report`] | how many a second? | what is accepted between two refusals; headers |
//! | [`window`] | how many at a time? | what the upstream takes and holds |
//! | [`queue`] | who is next? | users, and what nobody waits for |
//! | [`patience`] | is it worth the wait? | the others |
//! | [`quota`] | may this be tried again? | successes |
//!
//! [`core`](mod@core) joins them into one machine, [`Lane`] puts that behind a lock for tasks, [`LaneTable`] keeps the lanes.
//! The scenarios in `tests/scenarios/` try the whole on storms; `docs/decisions/` tells where the constants come from.
//!
//! ```
//! # use std::{sync::Arc, time::Duration};
//! # use surgetank::lane::{Label, Lane, LaneSettings, Outcome, Request, UserKey};
//! # use tokio::time::Instant;
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), surgetank::lane::Refused> {
//! let lane = Arc::new(Lane::new(LaneSettings::default(), Label::shared()));
//! let patience_until = Instant::now() + Duration::from_secs(60);
//! let request = Request { user: UserKey(7), retry: None, patience_until, deadline: None, cost: 1,
//! #     priority: surgetank::lane::Priority::Live };
//! let permit = lane.admit(request).await?;
//! // Send it; when the answer begins:
//! permit.report(Outcome::Served, &[]);
//! // The permit stays with the response body until that has ended.
//! drop(permit);
//! # Ok(()) }
//! ```

pub mod breaker;
pub mod core;
mod curve;
pub mod gate;
pub mod headers;
pub mod label;
pub mod layer;
mod meter;
mod notes;
mod outcome;
pub mod pace;
pub mod patience;
mod priority;
pub mod queue;
pub mod quota;
pub mod report;
mod seats;
mod settings;
mod settling;
mod shell;
mod snapshot;
mod table;
mod time;
mod view;
mod waits;
pub mod window;

pub use self::core::{Admission, LaneCore, Next, Release, SendId, Ticket};
pub use label::Label;
pub use outcome::{Change, ChangeKind, Outcome, RefuseReason, Refused, WaitReason};
pub use priority::Priority;
pub use queue::{MAX_COST, TicketId, UserKey};
pub use quota::{RetryClass, RetryToken};
pub use report::{Measure, QuotaLeft, QuotaReport};
pub use settings::LaneSettings;
pub use shell::{Asked, Lane, Permit, Request, RetryRight};
pub use snapshot::{Counters, Snapshot};
pub use table::{LaneKey, LaneTable};
pub use view::{View, Waiter, shown_name};
pub use waits::Waits;

//! The words between a lane and its neighbours: what became of a request, and why one waits or is turned away.
//!
//! All are closed enums, so that logs and metric labels have a known, small set of values.

use std::time::Duration;

use super::quota::RetryToken;
use super::waits::Waits;

/// What became of one request that was sent upstream.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Outcome {
    /// The answer began: a 2xx or 3xx whose first event is not an error.
    Served,
    /// The quota said no: 429, or 503 with a `Retry-After`.
    Throttled {
        /// The server's own wait, if it named a usable one.
        hint: Option<Duration>,
    },
    /// The service said that it is too busy: 529, or 503 without a hint.
    Overloaded {
        /// The server's own wait, if it named a usable one.
        hint: Option<Duration>,
    },
    /// The service broke: 500, 502, 504, 408, a reset or a timeout before the first byte.
    Faulty {
        /// True when the first byte did not come in time, which speaks of load and not only of a defect.
        timed_out: bool,
    },
    /// The request was never sent, because no connection could be made.
    ConnectFailed,
    /// The account has no money or no right left; waiting will not help.
    Exhausted,
    /// The request itself was at fault (any other 4xx): the upstream is alive and took it.
    Refused,
    /// The caller left before there was anything to learn.
    Abandoned,
}

/// Why a request is not released at this moment. At most one reason holds: the outermost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WaitReason {
    /// Nothing waits.
    Idle,
    /// The upstream failed repeatedly and is left alone for a while.
    Breaker,
    /// The quota said no, and its time has not come yet.
    Gate,
    /// One request is out to see whether the upstream takes it; the others wait for its verdict.
    Probe,
    /// The next turn at the learned rate has not come yet.
    Pace,
    /// As many responses are live as the upstream is known to hold.
    Window,
}

/// Why a request was turned away, on arrival or while it waited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RefuseReason {
    /// The user has too many requests waiting already.
    UserQueueFull,
    /// The lane has too many requests waiting already.
    LaneQueueFull,
    /// The estimated wait exceeds what is left of the request's patience, or the patience ran out while it waited.
    Patience,
    /// The same, for the request's own deadline.
    Deadline,
    /// The account behind this lane is out of money or rights; the vendor said so moments ago.
    Exhausted,
    /// The lane is closing: the process shuts down.
    Draining,
}

/// A change in what a lane lets through, for the log.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Change {
    /// Which.
    pub kind: ChangeKind,
    /// How long nobody will be let through.
    pub held_for: Duration,
    /// The rate after that, in requests a second, if one is set.
    pub pace: Option<f64>,
    /// How many are waiting.
    pub waiting: usize,
}

/// What changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ChangeKind {
    /// The quota said no: the gate closed, or stays closed after a probe.
    GateClosed,
    /// The upstream failed: the breaker shut, or stays shut after a probe.
    BreakerShut,
    /// The upstream works again.
    Recovered,
}

/// A request that the lane will not serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    /// Why.
    pub reason: RefuseReason,
    /// What it was waiting for, or would have had to.
    pub waiting_for: WaitReason,
    /// How long it waited, and for what.
    pub waits: Waits,
    /// When a new attempt would likely be served: fit for a `retry-after`, from one second to the hint cap.
    pub retry_after: Duration,
    /// The retry token that the ticket carried. It has been returned to the quota already;
    /// the field tells the retry layer that this refusal ended a retry and not a first try.
    pub retry: Option<RetryToken>,
}

impl WaitReason {
    /// Every reason to wait, in the order of [`WaitReason::index`].
    pub const ALL: [Self; 5] = [
        Self::Breaker,
        Self::Gate,
        Self::Probe,
        Self::Pace,
        Self::Window,
    ];

    /// The position in [`WaitReason::ALL`]; nothing for [`WaitReason::Idle`], for which nobody waits.
    #[must_use]
    pub const fn index(self) -> Option<usize> {
        match self {
            Self::Idle => None,
            Self::Breaker => Some(0),
            Self::Gate => Some(1),
            Self::Probe => Some(2),
            Self::Pace => Some(3),
            Self::Window => Some(4),
        }
    }

    /// The value for logs and metric labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Breaker => "breaker",
            Self::Gate => "gate",
            Self::Probe => "probe",
            Self::Pace => "pace",
            Self::Window => "window",
        }
    }
}

impl ChangeKind {
    /// The value for logs and metric labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::GateClosed => "gate_closed",
            Self::BreakerShut => "breaker_shut",
            Self::Recovered => "recovered",
        }
    }
}

impl RefuseReason {
    /// Every reason, in the order of [`RefuseReason::index`].
    pub const ALL: [Self; 6] = [
        Self::UserQueueFull,
        Self::LaneQueueFull,
        Self::Patience,
        Self::Deadline,
        Self::Exhausted,
        Self::Draining,
    ];

    /// The value for logs and metric labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UserQueueFull => "user_queue_full",
            Self::LaneQueueFull => "lane_queue_full",
            Self::Patience => "patience",
            Self::Deadline => "deadline",
            Self::Exhausted => "exhausted",
            Self::Draining => "draining",
        }
    }

    /// The position in [`RefuseReason::ALL`]: a small number for counters.
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let why = match self.reason {
            RefuseReason::UserQueueFull => "this user has too many requests waiting",
            RefuseReason::LaneQueueFull => "too many requests wait for this upstream",
            RefuseReason::Patience => "the wait would be longer than the request's patience",
            RefuseReason::Deadline => "the wait would be longer than the request's deadline",
            RefuseReason::Exhausted => "the vendor reports that the account is exhausted",
            RefuseReason::Draining => "the proxy is shutting down",
        };
        write!(f, "{why}; try again in {} s", self.retry_after.as_secs())
    }
}

impl std::error::Error for Refused {}

//! What goes into the core and what comes out of it.

use tokio::time::Instant;

use super::super::outcome::{RefuseReason, Refused, WaitReason};
use super::super::priority::Priority;
use super::super::queue::{Place, TicketId};
use super::super::quota::RetryToken;
use super::super::waits::Waits;

/// What a request brings to the lane.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ticket {
    /// For a repeated attempt, the right to it, from [`super::LaneCore::may_retry`]. What it follows decides its [`Place`].
    pub retry: Option<RetryToken>,
    /// The end of the request's patience: it is not released at or after this instant.
    pub patience_until: Instant,
    /// The end of the caller's own time, if it named one. Not released at or after this either.
    pub deadline: Option<Instant>,
    /// What it costs its user's turn, from 1 (usual) to [`crate::lane::MAX_COST`].
    pub cost: u8,
    /// Whether somebody waits for the answer.
    pub priority: Priority,
}

/// A request that may be sent now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Release {
    /// Which one; nothing when it never waited.
    pub ticket: Option<TicketId>,
    /// Its name from now on.
    pub send: SendId,
    /// True when all others wait for what becomes of it.
    pub probe: bool,
    /// What it waited for.
    pub waits: Waits,
}

/// A request that was released and has not ended. Never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SendId {
    pub(super) index: usize,
    pub(super) serial: u64,
}

/// The answer to [`super::LaneCore::poll`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Next {
    /// Send this one, and poll again.
    Release(Release),
    /// This one's time ran out while it waited; tell its caller, and poll again.
    Expired(TicketId, Refused),
    /// Nothing to do until `until` (if anything can happen by itself at all), or until something is reported.
    Wait {
        /// When to poll again.
        until: Option<Instant>,
        /// What everybody is waiting for.
        reason: WaitReason,
    },
}

/// The answer to [`super::LaneCore::admit`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Admission {
    /// Nobody was waiting and all doors were open.
    Released(Release),
    /// It waits; the core will name the ticket in a later [`Next`].
    Queued(TicketId),
}

impl Ticket {
    pub(super) fn place(&self) -> Place {
        match self.retry {
            None => Place::End,
            Some(token) if token.class.keeps_turn() => Place::Owed,
            Some(_) => Place::Front,
        }
    }

    /// It is not released at or after this instant.
    #[must_use]
    pub fn gives_up(&self) -> Instant {
        self.deadline.map_or(self.patience_until, |deadline| {
            deadline.min(self.patience_until)
        })
    }

    pub(super) fn gives_up_for(&self) -> RefuseReason {
        match self.deadline {
            Some(deadline) if deadline < self.patience_until => RefuseReason::Deadline,
            _ => RefuseReason::Patience,
        }
    }
}

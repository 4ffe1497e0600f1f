//! Who wakes whom: the seats of those who wait for a lane.
//!
//! Every waiting request has a seat with its own [`Notify`]; a verdict is put into the seat and its owner woken, on
//! whatever runtime it lives. Time needs one alarm, not one for each seat: one of those who wait is the *driver* and sleeps
//! until the core's next instant; when it is served or leaves, it hands the duty to another.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::core::{LaneCore, Next, Release};
use super::outcome::Refused;
use super::queue::TicketId;

pub(super) struct Seats {
    pub(super) core: LaneCore,
    taken: HashMap<TicketId, Seat>,
    /// The waiting request that sleeps for all.
    driver: Option<TicketId>,
    /// When the core wants to be polled next.
    wake: Option<Instant>,
}

struct Seat {
    verdict: Option<Result<Release, Refused>>,
    notify: Arc<Notify>,
}

impl Seats {
    pub(super) fn new(core: LaneCore) -> Self {
        Self {
            core,
            taken: HashMap::new(),
            driver: None,
            wake: None,
        }
    }

    /// A ticket's owner sits down to wait.
    pub(super) fn seat(&mut self, ticket: TicketId, notify: &Arc<Notify>) {
        self.taken.insert(
            ticket,
            Seat {
                verdict: None,
                notify: Arc::clone(notify),
            },
        );
    }

    /// The verdict on a ticket, if there is one: its owner leaves with it.
    pub(super) fn look(
        &mut self,
        ticket: TicketId,
        now: Instant,
    ) -> Option<Result<Release, Refused>> {
        if *self.driver.get_or_insert(ticket) == ticket {
            self.pump(now);
        }
        let has_verdict = self
            .taken
            .get(&ticket)
            .is_some_and(|seat| seat.verdict.is_some());
        if has_verdict {
            self.leave(ticket)
        } else {
            None
        }
    }

    /// How long this ticket's owner may sleep unless woken: for ever, but for the driver.
    pub(super) fn alarm(&self, ticket: TicketId) -> Option<Instant> {
        self.wake.filter(|_| self.driver == Some(ticket))
    }

    /// True when nobody sits here.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.taken.is_empty() && self.driver.is_none()
    }

    /// Does what the core says until it says to wait.
    pub(super) fn pump(&mut self, now: Instant) {
        let wake = loop {
            match self.core.poll(now, &mut rand::rng()) {
                Next::Release(release) => self.deliver(release.ticket, Ok(release)),
                Next::Expired(ticket, refused) => self.deliver(Some(ticket), Err(refused)),
                Next::Wait { until, .. } => break until,
            }
        };
        if std::mem::replace(&mut self.wake, wake) != wake {
            self.wake_driver();
        }
    }

    fn deliver(&mut self, ticket: Option<TicketId>, verdict: Result<Release, Refused>) {
        if let Some(seat) = ticket.and_then(|ticket| self.taken.get_mut(&ticket)) {
            seat.verdict = Some(verdict);
            seat.notify.notify_one();
        }
    }

    /// The driver sleeps until another instant than the one that counts now.
    fn wake_driver(&self) {
        if let Some(seat) = self.driver.and_then(|driver| self.taken.get(&driver)) {
            seat.notify.notify_one();
        }
    }

    /// Takes a seat away. If it was the driver's, the duty goes to anyone who still waits.
    pub(super) fn leave(&mut self, ticket: TicketId) -> Option<Result<Release, Refused>> {
        let verdict = self.taken.remove(&ticket).and_then(|seat| seat.verdict);
        if self.driver == Some(ticket) {
            self.driver = self
                .taken
                .iter()
                .find(|(_, seat)| seat.verdict.is_none())
                .map(|(ticket, _)| *ticket);
            self.wake_driver();
        }
        verdict
    }
}

//! The lane as tasks see it: the core behind one short lock.
//!
//! No task is spawned and no runtime is assumed, because callers live on different current-thread runtimes; `seats.rs`
//! tells how they wake each other. A healthy lane has no seats, no alarm and no allocation: three short locks a request.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::core::{Admission, LaneCore, Release, SendId, Ticket};
use super::label::Label;
use super::outcome::{Change, Outcome, Refused};
use super::priority::Priority;
use super::queue::{TicketId, UserKey};
use super::quota::{RetryClass, RetryToken};
use super::report::QuotaReport;
use super::seats::Seats;
use super::settings::LaneSettings;
use super::snapshot::Snapshot;
use super::view::View;
use super::waits::Waits;

/// A lane that tasks share. The contract with the layer around it:
///
/// 1. [`Lane::admit`] (or [`Lane::ask`]) for every attempt, retries too; drop the future to leave the queue.
/// 2. [`Permit::report`] as soon as the outcome is known: status, headers and first event seen, or failure.
/// 3. Keep the [`Permit`] in the response body and drop it at its end; for a failed attempt drop it at once.
/// 4. Before a retry, [`Lane::may_retry`]; sleep the backoff holding the right and nothing else, then ask again with it.
pub struct Lane {
    label: Label,
    inner: Mutex<Seats>,
}

/// What one attempt asks of the lane.
#[derive(Debug)]
pub struct Request {
    /// Whose turn it takes.
    pub user: UserKey,
    /// For a repeated attempt, the right to it.
    pub retry: Option<RetryRight>,
    /// The end of the request's patience: its first arrival and the route's patience. The same for all its attempts.
    pub patience_until: Instant,
    /// The end of the caller's own time, if known.
    pub deadline: Option<Instant>,
    /// What it costs its user's turn: 1, or more for a request known to be dear.
    pub cost: u8,
    /// Whether somebody waits for the answer.
    pub priority: Priority,
}

/// The right to send one attempt, to be held until its response body has ended.
pub struct Permit {
    lane: Arc<Lane>,
    send: SendId,
    probe: bool,
    waited: Duration,
    waits: Waits,
}

/// What becomes of who asks to be let go.
#[must_use]
pub enum Asked {
    /// Its turn at once.
    Now(Permit),
    /// Its turn when this is ready. Cancel safe, as [`Lane::admit`] is.
    Later(BoxFuture<'static, Result<Permit, Refused>>),
}

/// The right to one retry. Dropped unused, it returns to the lane's quota.
pub struct RetryRight {
    lane: Arc<Lane>,
    token: Option<RetryToken>,
}

/// A seat's owner. Leaves the queue, or gives the place back, when dropped before it took its verdict.
struct Waiting {
    lane: Arc<Lane>,
    ticket: TicketId,
    asked: Ticket,
    notify: Arc<Notify>,
    seated: bool,
}

enum Look {
    Verdict(Result<Release, Refused>),
    /// Wait to be woken, and as driver no longer than until then.
    Wait(Option<Instant>),
}

impl Lane {
    /// A lane that knows nothing.
    #[must_use]
    pub fn new(settings: LaneSettings, label: Label) -> Self {
        let core = LaneCore::new(settings);
        Self {
            label,
            inner: Mutex::new(Seats::new(core)),
        }
    }

    /// What it is called in metrics and in the log.
    #[must_use]
    pub fn label(&self) -> &Label {
        &self.label
    }

    /// Waits for this attempt's turn.
    ///
    /// Returns at once when the lane is healthy, or when the wait would be in vain. Cancel safe: a dropped future leaves
    /// neither a ticket nor a permit behind, and whoever is next is woken.
    pub async fn admit(self: &Arc<Self>, request: Request) -> Result<Permit, Refused> {
        match self.ask(Instant::now(), request)? {
            Asked::Now(permit) => Ok(permit),
            Asked::Later(permit) => permit.await,
        }
    }

    /// The same, for a caller who has looked at the clock and makes no room for a wait before there is one.
    pub fn ask(self: &Arc<Self>, now: Instant, request: Request) -> Result<Asked, Refused> {
        Ok(match self.enter(now, request)? {
            Ok(release) => Asked::Now(self.permit(&release, Duration::ZERO)),
            Err(waiting) => {
                let lane = Arc::clone(self);
                Asked::Later(Box::pin(async move {
                    let release = waiting.verdict().await?;
                    let waited = Instant::now().saturating_duration_since(now);
                    Ok(lane.permit(&release, waited))
                }))
            }
        })
    }

    fn permit(self: &Arc<Self>, release: &Release, waited: Duration) -> Permit {
        Permit {
            lane: Arc::clone(self),
            send: release.send,
            probe: release.probe,
            waited,
            waits: release.waits,
        }
    }

    /// Draws the right to one retry; nothing when the lane's retry quota is spent and the failure must be final.
    pub fn may_retry(self: &Arc<Self>, class: RetryClass) -> Option<RetryRight> {
        let token = self.lock().core.may_retry(Instant::now(), class)?;
        Some(RetryRight {
            lane: Arc::clone(self),
            token: Some(token),
        })
    }

    /// Charges a user for what its request cost beyond (or below) what its ticket said.
    pub fn correct_cost(&self, priority: Priority, user: UserKey, extra: i64) {
        self.lock().core.correct_cost(priority, user, extra);
    }

    /// Takes new settings and keeps what it has learned; see [`LaneCore::retune`].
    pub fn retune(&self, settings: &LaneSettings) {
        self.tell(|core, _| core.retune(settings.clone()));
    }

    /// Refuses all who wait and all who come; live responses go on.
    pub fn drain(&self) {
        let mut inner = self.lock();
        inner.core.drain();
        inner.pump(Instant::now());
    }

    /// A copy of the lane's state.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.lock().core.snapshot(Instant::now())
    }

    /// True while the upstream is known to fail and no probe is due: whoever has another upstream should ask that one.
    #[must_use]
    pub fn is_failing(&self) -> bool {
        self.lock().core.is_failing(Instant::now())
    }

    /// How long gate, breaker and probes kept everybody out since this was last taken, by reason.
    #[must_use]
    pub fn take_closed(&self) -> Waits {
        self.lock().core.take_closed(Instant::now())
    }

    /// The lane as people see it, with at most `waiters` of its users.
    #[must_use]
    pub fn view(&self, waiters: usize) -> View {
        let view = self.lock().core.view(Instant::now(), waiters);
        View {
            name: self.label.shown(),
            ..view
        }
    }

    /// True when nothing waits and nothing is under way.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.lock().core.is_idle()
    }

    /// True when a refusal or an outage has taught this lane something that a new one would have to find out again.
    #[must_use]
    pub fn has_learned(&self) -> bool {
        self.lock().core.has_learned()
    }

    fn enter(
        self: &Arc<Self>,
        now: Instant,
        request: Request,
    ) -> Result<Result<Release, Waiting>, Refused> {
        let Request {
            user,
            retry,
            patience_until,
            deadline,
            cost,
            priority,
        } = request;
        // The lane takes the right's token over, and returns it itself if this attempt is never sent.
        let retry = retry.and_then(|mut right| right.token.take());
        let ticket = Ticket {
            retry,
            patience_until,
            deadline,
            cost,
            priority,
        };
        let mut inner = self.lock();
        let asked = ticket;
        let ticket = match inner.core.admit(now, user, asked, &mut rand::rng())? {
            Admission::Released(release) => return Ok(Ok(release)),
            Admission::Queued(ticket) => ticket,
        };
        let notify = Arc::new(Notify::new());
        inner.seat(ticket, &notify);
        inner.pump(now);
        Ok(Err(Waiting {
            lane: Arc::clone(self),
            ticket,
            asked,
            notify,
            seated: true,
        }))
    }

    /// Runs a report through the core, and wakes whom it lets go.
    fn tell<T>(&self, report: impl FnOnce(&mut LaneCore, Instant) -> T) -> T {
        let now = Instant::now();
        let mut inner = self.lock();
        let told = report(&mut inner.core, now);
        if inner.core.waiting() > 0 {
            inner.pump(now);
        }
        told
    }

    /// A poisoned lock is used on: every change to the core is complete when it returns, and there is nothing better.
    fn lock(&self) -> MutexGuard<'_, Seats> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    async fn verdict(mut self) -> Result<Release, Refused> {
        loop {
            match self.look() {
                Look::Verdict(verdict) => return verdict,
                Look::Wait(None) => self.notify.notified().await,
                Look::Wait(Some(until)) => tokio::select! {
                    () = self.notify.notified() => {}
                    () = sleep_until(until) => {}
                },
            }
        }
    }

    fn look(&mut self) -> Look {
        let now = Instant::now();
        let lane = Arc::clone(&self.lane);
        let mut inner = lane.lock();
        let Some(verdict) = inner.look(self.ticket, now) else {
            return Look::Wait(inner.alarm(self.ticket));
        };
        self.seated = false;
        let verdict = match verdict {
            // A busy runtime may wake its tasks late.
            Ok(release) if now >= self.asked.gives_up() => {
                let refused = inner.core.too_late(now, &release, &self.asked);
                inner.pump(now);
                Err(refused)
            }
            Ok(release) => {
                inner.core.on_sent(now, release.send);
                Ok(release)
            }
            Err(refused) => Err(refused),
        };
        Look::Verdict(verdict)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if !self.seated {
            return;
        }
        let now = Instant::now();
        let mut inner = self.lane.lock();
        match inner.leave(self.ticket) {
            Some(Ok(release)) => inner.core.release(now, release.send),
            Some(Err(_)) => {}
            None => {
                inner.core.cancel(now, self.ticket);
            }
        }
        inner.pump(now);
    }
}

impl Permit {
    /// Reports what became of the attempt, with the quota told by its headers. Only the first report counts.
    /// Returns what changes by it for everybody in the lane.
    #[expect(
        clippy::must_use_candidate,
        reason = "the report is the point; the change is for who keeps a log"
    )]
    pub fn report(&self, outcome: Outcome, reports: &[QuotaReport]) -> Option<Change> {
        if outcome == Outcome::Served {
            self.lane.label.served();
        }
        self.lane
            .tell(|core, now| core.on_result(now, self.send, outcome, reports, &mut rand::rng()))
    }

    /// The lane that gave it.
    #[must_use]
    pub fn lane(&self) -> &Arc<Lane> {
        &self.lane
    }

    /// True when all others wait for this attempt's verdict.
    #[must_use]
    pub fn is_probe(&self) -> bool {
        self.probe
    }

    /// How long the attempt waited for its turn.
    #[must_use]
    pub fn waited(&self) -> Duration {
        self.waited
    }

    /// What it waited for. The sum may fall short of [`Permit::waited`] by what it took its task to be woken.
    #[must_use]
    pub fn waits(&self) -> &Waits {
        &self.waits
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.lane.tell(|core, now| core.release(now, self.send));
    }
}

impl Drop for RetryRight {
    fn drop(&mut self) {
        if let Some(token) = self.token.take() {
            self.lane.lock().core.return_retry(token);
        }
    }
}

impl fmt::Debug for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lane").finish_non_exhaustive()
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit")
            .field("send", &self.send)
            .field("probe", &self.probe)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Now(permit) => f.debug_tuple("Now").field(permit).finish(),
            Self::Later(_) => f.debug_tuple("Later").finish_non_exhaustive(),
        }
    }
}

impl fmt::Debug for RetryRight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryRight")
            .field("token", &self.token)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "shell_stress.rs"]
mod stress;
#[cfg(test)]
#[path = "shell_tests.rs"]
mod tests;

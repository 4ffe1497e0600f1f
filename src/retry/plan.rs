//! The plan: after a failed attempt, wait so long and try again, or stop, and why.
//!
//! Everything that speaks for or against another try meets here, in one pure function, so that the
//! order of the arguments is written down once and the reason for every refusal has a name:
//!
//! 1. Can another try help at all? (the verdict of [`super::triage`])
//! 2. Can the request be sent once more? (its body is still there; its method, or the operator's
//!    policy for methods that are not idempotent, allows it)
//! 3. Is a try left, of this upstream's retries and of all attempts that the request may make?
//! 4. Does the wait fit? It begins no earlier than the backoff *and* the server's hint, and has to
//!    end within the patience and before the caller's deadline. If it cannot, we stop at once:
//!    sleeping first and giving up then would cost the caller the time as well as the answer.
//!
//! A hint longer than the cap ends the request too. Cutting it short would be a try that the server
//! has already refused; the caller gets the hint instead and can do better with it.
//!
//! One retry of a request is free: the first after a failure that a new connection cures, such as a
//! pooled connection that the upstream had just closed. It waits for nothing and is not counted.

use std::time::Duration;

use rand::Rng;

use super::backoff::{Backoff, Window};
use super::hints::{Hint, HintSource};
use super::triage::{Class, Delivery, Verdict};
use super::tries::Tries;

#[cfg(test)]
mod tests;

/// A try that would begin with less than this left before the deadline is not begun: it could not
/// bring an answer any more.
pub const SHORTEST_TRY: Duration = Duration::from_millis(10);

/// What the operator decided about retries.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Policy {
    /// Retries after the first try, unless the caller says otherwise ([`allowed_retries`](super::tries::allowed_retries)).
    pub max_retries: u32,
    /// The waits between them.
    pub backoff: Backoff,
    /// A binding hint longer than this ends the request. (A reset time longer than this is ignored
    /// instead: see [`HintSource::is_binding`].)
    pub hint_cap: Duration,
    /// Which failures of requests that are not idempotent are retried.
    pub post: PostPolicy,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            max_retries: 3,
            backoff: Backoff::default(),
            hint_cap: Duration::from_mins(1),
            post: PostPolicy::default(),
        }
    }
}

/// Which failures of a request with a method that is not idempotent (POST, PATCH) are retried.
///
/// A proxy must not repeat such a request on its own authority (RFC 9110 §9.2.2), for it may be
/// carried out, and billed, twice. surgetank does so as the application's agent, and this is where
/// its operator says how far that goes. Idempotent methods are not concerned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum PostPolicy {
    /// Any retryable failure, also one that leaves open whether the request ran: what the official
    /// SDKs do.
    #[default]
    Always,
    /// Only where the upstream answered with an error, or the request never reached it.
    Answered,
    /// Only where the request never reached the upstream.
    Unsent,
}

impl PostPolicy {
    /// Whether a failure with this knowledge of the request's fate may be retried.
    #[must_use]
    pub const fn allows(self, delivery: Delivery) -> bool {
        match self {
            Self::Always => true,
            Self::Answered => !matches!(delivery, Delivery::Unknown),
            Self::Unsent => matches!(delivery, Delivery::Never),
        }
    }
}

/// Whether a method is idempotent by RFC 9110 §9.2.2. Unknown methods are not.
#[must_use]
pub fn is_idempotent(method: &str) -> bool {
    matches!(
        method,
        "GET" | "HEAD" | "OPTIONS" | "TRACE" | "PUT" | "DELETE"
    )
}

/// All that bears on one decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Situation {
    /// How the last attempt ended.
    pub verdict: Verdict,
    /// What the server said about when to come back.
    pub hint: Option<Hint>,
    /// The tries used up.
    pub tries: Tries,
    /// The attempts that the request may still make, on this upstream and all others together.
    pub attempts_left: u32,
    /// Whether the request's body can be sent once more.
    pub replayable: bool,
    /// Whether the request's method is idempotent ([`is_idempotent`]).
    pub idempotent: bool,
    /// What is left of the time for deliberate waiting.
    pub patience_left: Duration,
    /// The time until the caller's deadline, if it has one.
    pub deadline_left: Option<Duration>,
}

/// What to do after a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Try again after `wait`.
    RetryAfter {
        /// How long to wait from now; drawn once, to be kept.
        wait: Duration,
        /// What the wait comes from.
        cause: WaitCause,
    },
    /// Make no further try.
    Stop(StopReason),
}

/// What decided on the length of a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WaitCause {
    /// The free retry on a new connection.
    Immediate,
    /// Our own backoff.
    Backoff,
    /// The server's hint, which was later than our backoff.
    Hint(HintSource),
}

impl WaitCause {
    /// The name in metrics and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Immediate => "immediate",
            Self::Backoff => "backoff",
            Self::Hint(source) => source.as_str(),
        }
    }
}

/// Why there is no further try.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StopReason {
    /// Another try could not help.
    NotRetryable,
    /// Part of the answer has gone to the caller already.
    Committed,
    /// The body was not kept, being too large or of unknown length.
    BodyNotReplayable,
    /// The request may have been carried out, and the policy forbids to risk it twice.
    PostPolicy,
    /// All tries are used up.
    Attempts,
    /// The server asks for a longer wait than the cap on hints.
    HintTooLong,
    /// The lane's quota of retries is spent: one more would feed the storm.
    Quota,
    /// The wait would outlast the time for deliberate waiting.
    Patience,
    /// The wait would outlast the caller's deadline.
    Deadline,
}

impl StopReason {
    /// The name in metrics and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotRetryable => "not_retryable",
            Self::Committed => "committed",
            Self::BodyNotReplayable => "body",
            Self::PostPolicy => "post_policy",
            Self::Attempts => "attempts",
            Self::HintTooLong => "hint",
            Self::Quota => "quota",
            Self::Patience => "patience",
            Self::Deadline => "deadline",
        }
    }
}

impl Policy {
    /// Decides what to do after a failed attempt.
    ///
    /// For an attempt that was served, or whose caller left, the plan is to stop.
    pub fn plan(&self, situation: &Situation, rng: &mut impl Rng) -> Plan {
        let decision = self
            .objection(situation)
            .map_or_else(|| self.next_window(situation), Err)
            .and_then(|(window, cause)| Ok((fitted(window, situation)?, cause)));
        match decision {
            Ok((window, cause)) => Plan::RetryAfter {
                wait: window.draw(rng),
                cause,
            },
            Err(reason) => Plan::Stop(reason),
        }
    }

    /// What forbids any further try, whenever it were made.
    fn objection(&self, situation: &Situation) -> Option<StopReason> {
        let verdict = situation.verdict;
        if verdict.class == Class::Broken {
            Some(StopReason::Committed)
        } else if !verdict.retryable {
            Some(StopReason::NotRetryable)
        } else if !situation.replayable {
            Some(StopReason::BodyNotReplayable)
        } else if !situation.idempotent && !self.post.allows(verdict.delivery) {
            Some(StopReason::PostPolicy)
        } else if situation.attempts_left == 0 {
            Some(StopReason::Attempts)
        } else {
            None
        }
    }

    /// When the next try may begin, patience and deadline left aside.
    fn next_window(&self, situation: &Situation) -> Result<(Window, WaitCause), StopReason> {
        if has_free_retry(situation) {
            return Ok((Window::NOW, WaitCause::Immediate));
        }
        let tries = situation.tries;
        if tries.counted() >= tries.allowed() {
            return Err(StopReason::Attempts);
        }
        let backoff = self.backoff.window(tries.counted());
        match situation.hint {
            Some(hint) if hint.wait > self.hint_cap => {
                if hint.source.is_binding() {
                    Err(StopReason::HintTooLong)
                } else {
                    Ok((backoff, WaitCause::Backoff))
                }
            }
            Some(hint) => {
                let told = self.backoff.window_after_hint(hint.wait);
                let cause = if told.floor > backoff.floor {
                    WaitCause::Hint(hint.source)
                } else {
                    WaitCause::Backoff
                };
                Ok((backoff.later_of(told), cause))
            }
            None => Ok((backoff, WaitCause::Backoff)),
        }
    }
}

/// Whether the free retry is due.
///
/// A caller who allows no retries wants at most one execution, so it gets the free one only where
/// the request certainly reached nobody.
fn has_free_retry(situation: &Situation) -> bool {
    let Situation { verdict, tries, .. } = situation;
    verdict.immediate
        && !tries.is_free_used()
        && (tries.allowed() > 0 || verdict.delivery == Delivery::Never)
}

/// The part of the window that patience and deadline leave, or the tighter of the two as a reason.
fn fitted(window: Window, situation: &Situation) -> Result<Window, StopReason> {
    let patient = window
        .within(situation.patience_left)
        .ok_or(StopReason::Patience);
    let Some(left) = situation.deadline_left else {
        return patient;
    };
    let room = left.checked_sub(SHORTEST_TRY).ok_or(StopReason::Deadline)?;
    if room < situation.patience_left {
        window.within(room).ok_or(StopReason::Deadline)
    } else {
        patient
    }
}

//! What has happened to a call so far.

use std::{
    sync::{Arc, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::{Attempt, Call};
use crate::{
    dialect::{Reading, Usage},
    lane::{Lane, Waits},
    retry::triage::Class,
    store::jobs::JobId,
    stream::late::{Awaiting, What},
    telemetry::{MOST_TRIES, Outcome},
    upstream::Upstream,
};

/// What has happened to a call so far. Told to the caller in headers and to the operator in the log.
#[derive(Clone, Debug, Default)]
pub struct Journal {
    /// Requests that were started towards an upstream.
    pub attempts: u32,
    /// Those of them that asked for more than an answer that was there already.
    pub sequels: u32,
    /// Time spent waiting on purpose: the sum of the four below.
    pub waited: Duration,
    /// For the user's own limit.
    pub limit_waits: Duration,
    /// Between attempts, by our own backoff.
    pub backoff_waits: Duration,
    /// Between attempts, because the server said so.
    pub hint_waits: Duration,
    /// In lanes, by reason.
    pub lane_waits: Waits,
    /// The upstream of the latest attempt.
    pub upstream: Option<Arc<Upstream>>,
    /// The lane that let the latest attempt go.
    pub lane: Option<Arc<Lane>>,
    /// The triage class of the latest attempt.
    pub class: Option<Class>,
    /// The latest try that was not served, also when a later one was.
    pub failed: Option<FailedTry>,
    /// Why the latest failure was not retried.
    pub gave_up: Option<&'static str>,
    /// What was put in the place of the upstream's answer.
    pub substituted: Option<&'static str>,
    /// The entry that it was queued as.
    pub queued: Option<JobId>,
    /// The status of the latest attempt's answer, where there was one.
    pub upstream_status: Option<u16>,
    /// What is known of the answer that the caller gets; of one that is under way, what it has told when
    /// its body was dropped.
    pub answer: Reading,
    /// Tokens of all answers to this call that told them, also of those that the caller did not get.
    pub used: Option<Usage>,
    /// From arrival to the first byte of the answer.
    pub first_byte: Option<Duration>,
    /// What it waits for now.
    pub awaiting: Awaiting,
    /// Whether the answer was begun before it was there: its status is given.
    pub begun: bool,
    /// What such an answer means, once that is known.
    pub outcome: Option<Outcome>,
    /// The tries so far, where the request is traced.
    pub tries: Vec<Try>,
}

/// One try, for the trace.
#[derive(Clone, Debug)]
pub struct Try {
    /// Where it went.
    pub upstream: Arc<Upstream>,
    /// When it was let go.
    pub began: Instant,
    /// When it was judged, or the next one began, unless its answer is the caller's: that one ends with the request.
    pub ended: Option<Instant>,
    /// What it came to.
    pub class: Option<Class>,
    /// The status of the answer, where there was one.
    pub status: Option<u16>,
}

/// One try that was not served.
#[derive(Clone, Debug)]
pub struct FailedTry {
    /// The upstream's name.
    pub upstream: Arc<str>,
    /// What it came to.
    pub class: Class,
    /// The status of the answer, where there was one.
    pub status: Option<u16>,
}

impl Journal {
    /// Whether an answer came of a further try.
    #[must_use]
    pub const fn was_tried_again(&self) -> bool {
        self.attempts - self.sequels > 1
    }

    /// A later request for the same caller has failed, and it gets the earlier answer: what was noted of
    /// that one counts again. What was spent stays spent.
    pub fn is_served_by(&mut self, earlier: Self) {
        self.upstream = earlier.upstream;
        self.lane = earlier.lane;
        self.upstream_status = earlier.upstream_status;
        self.class = earlier.class;
        self.gave_up = earlier.gave_up;
        self.answer = earlier.answer;
    }
}

impl Call {
    /// An attempt is about to be sent.
    pub fn note_attempt(&self, attempt: &Attempt) {
        let mut journal = self.journal();
        journal.attempts += 1;
        journal.sequels += u32::from(attempt.sequel.is_some());
        journal.upstream = Some(attempt.upstream.clone());
        journal.lane = Some(attempt.lane.clone());
        journal.upstream_status = None;
        journal.awaiting.what = What::Answer;
        journal.gave_up = None;
        if self.is_traced && journal.tries.len() < MOST_TRIES {
            let now = Instant::now();
            // The answer of the one before is held here, or gone.
            if let Some(before) = journal.tries.last_mut() {
                before.ended.get_or_insert(now);
            }
            journal.tries.push(Try {
                upstream: attempt.upstream.clone(),
                began: now,
                ended: None,
                class: None,
                status: None,
            });
        }
    }

    /// The latest attempt has come to this.
    pub fn note_judged(&self, class: Class) {
        let mut journal = self.journal();
        let status = journal.upstream_status;
        if let Some(latest) = journal.tries.last_mut() {
            latest.class = Some(class);
            latest.status = status;
            let is_over = class != Class::Served;
            latest.ended = is_over.then(Instant::now);
        }
    }

    /// Attempts that may still be made, retries and fallbacks together.
    #[must_use]
    pub fn attempts_left(&self) -> u32 {
        let made = self.journal().attempts;
        self.route.policy.retry.max_attempts.saturating_sub(made)
    }

    /// An answer to this call has ended, or broken off, or was dropped, and told this much of itself.
    ///
    /// An answer's body says so when it is dropped at the latest. What holds that body from outside
    /// (`body::holding`) is dropped after it, and then finds the figures in the journal.
    pub fn note_answer(&self, reading: Reading) {
        let mut journal = self.journal();
        if let Some(usage) = reading.usage {
            *journal.used.get_or_insert_default() += usage;
        }
        // One that was given up for another may be dropped after it.
        if reading.finish.is_some() || journal.answer.finish.is_none() {
            journal.answer = reading;
        }
    }

    /// The journal, for reading or writing. Never held across an await.
    pub fn journal(&self) -> MutexGuard<'_, Journal> {
        // A panic while the journal was held leaves plain numbers behind; they are still true.
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

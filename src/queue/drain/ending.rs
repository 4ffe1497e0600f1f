//! How a try of an entry is written down.

use std::time::Duration;

use bytes::Bytes;

use super::{
    Tools,
    again::{Failed, Next, Terms, next},
};
use crate::{
    call::Call,
    queue::{QueueRules, message, seal::Part},
    store::jobs::{End, JobId, Millis, StoreError, Stored},
};

/// When the store is asked again for what it must not miss.
pub(super) const INSIST_EVERY: Duration = Duration::from_secs(1);

/// An entry that was begun.
pub(super) struct Entry<'a> {
    pub(super) id: JobId,
    pub(super) attempts: u32,
    pub(super) queued: Millis,
    pub(super) call: &'a Call,
    pub(super) rules: &'a QueueRules,
}

/// What a try came to.
pub(super) enum Came {
    /// An answer to be kept.
    Answer(http::response::Parts, Bytes),
    /// Nothing was sent; it is worth another look after this.
    Unsent(Duration),
    /// No answer.
    Failed {
        note: String,
        may_have_run: bool,
        answered: bool,
    },
    /// An answer that cannot be kept.
    TooLarge,
}

impl Came {
    /// The same for an entry that was begun: where another upstream of the chain was to be asked and was not, what the one
    /// before it said counts.
    fn begun(self, call: &Call) -> Self {
        if !matches!(self, Self::Unsent(_)) {
            return self;
        }
        let failed = call.journal().failed.clone();
        let answered = failed.is_some_and(|failed| failed.status.is_some());
        Self::Failed {
            note: "no upstream of the chain has served it".to_owned(),
            may_have_run: !answered,
            answered,
        }
    }
}

impl Tools {
    /// Writes down how a try ended.
    pub(super) async fn finish(&self, entry: &Entry<'_>, came: Came) {
        let now = Millis::now();
        let expires = now.after(entry.rules.settings.keep);
        let given_up = |note: &str, may_have_run| {
            let note = note.to_owned();
            if may_have_run {
                (End::Uncertain { note, expires }, "uncertain")
            } else {
                (End::Failed { note, expires }, "failed")
            }
        };
        let again = |wait, uncertain| {
            let due = now.after(wait);
            (End::Again { due, uncertain }, "again")
        };
        let (end, outcome) = match came.begun(entry.call) {
            Came::Answer(parts, body) => {
                let (id, keys) = (entry.id, &entry.rules.keys);
                let head = keys.seal(id, Part::AnswerHead, &message::answer_head(&parts));
                let body = keys.seal(id, Part::AnswerBody, &body);
                (
                    End::Done {
                        head,
                        body,
                        expires,
                    },
                    "done",
                )
            }
            Came::TooLarge => given_up("its answer is larger than `replay.per_request`", false),
            Came::Unsent(_) => given_up("it could not be sent", false),
            Came::Failed {
                note,
                may_have_run,
                answered,
            } => match self.next(entry, may_have_run, answered) {
                Next::Again(wait) => again(wait, may_have_run),
                Next::GiveUp => given_up(&note, false),
                Next::Unsure => given_up(&note, true),
            },
        };
        let id = entry.id;
        let is_kept = self
            .insist(|| self.queue.store().end(id, end.clone(), now))
            .await;
        if is_kept == Some(true) {
            self.tell(entry, outcome);
        }
    }

    fn next(&self, entry: &Entry<'_>, may_have_run: bool, answered: bool) -> Next {
        let call = entry.call;
        let lane = self.shared.lanes.of(call, &call.route.upstream);
        let failed = Failed {
            attempts: entry.attempts,
            may_have_run,
            answered,
            closed_for: lane.snapshot().closed_for,
        };
        let settings = &entry.rules.settings;
        let terms = Terms {
            max_attempts: settings.max_attempts,
            base: settings.retry_base,
            cap: settings.retry_cap,
            post: call.route.retry.post,
        };
        next(&failed, &terms, rand::random())
    }

    fn tell(&self, entry: &Entry<'_>, outcome: &'static str) {
        let call = entry.call;
        self.queue.ended(call.route.name(), outcome, entry.queued);
        let (used, upstream, status) = {
            let journal = call.journal();
            (
                journal.used,
                journal.upstream.clone(),
                journal.upstream_status,
            )
        };
        let model = upstream
            .as_ref()
            .and_then(|upstream| upstream.model.as_deref());
        if let Some(used) = used {
            let metrics = &self.shared.metrics;
            let model = metrics.models.label(model.or(call.ask.model.as_deref()));
            metrics.used(call.route.name(), model, &used);
        }
        tracing::info!(
            queue_id = %entry.id,
            request_id = call.id.as_str(),
            route = call.route.name(),
            upstream = upstream.as_ref().map(|upstream| upstream.name.as_ref()),
            upstream_status = status,
            outcome,
            attempts = entry.attempts,
            queued_ms = u64::try_from(Millis::now().since(entry.queued).as_millis()).unwrap_or(u64::MAX),
            "a queued request was tried"
        );
    }

    /// Asks the store until it has done it: what was acknowledged must not get lost because a disk was full for a moment.
    /// The process may end meanwhile; then the entry is found as it was.
    pub(super) async fn insist<T>(&self, ask: impl Fn() -> Stored<T>) -> Option<T> {
        loop {
            match ask().await {
                Ok(done) => return Some(done),
                Err(StoreError::Full(_) | StoreError::Busy | StoreError::Down(_)) => {
                    tokio::time::sleep(INSIST_EVERY).await;
                }
            }
        }
    }
}

//! What a running request holds, and owes: kept until the last byte of its answer, then settled.
//!
//! A request ends in many ways: its answer ends, breaks, is dropped halfway, or never comes. All of
//! them drop the tab, so there is one place where its tokens are settled, and no way around it.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt as _;

use super::{
    held::Held,
    tokens::{Estimate, Known, spent},
};
use crate::{
    body::{Body, BodyError},
    call::Call,
    telemetry::Outcome,
};

/// A request that was let in. Dropping it settles it.
#[derive(Debug)]
pub(super) struct Tab {
    call: Arc<Call>,
    /// What it holds; nothing where it is charged afterwards.
    held: Option<Held>,
    estimate: Estimate,
    outcome: Option<Outcome>,
    ended: AtomicBool,
}

impl Tab {
    /// For a request that holds a place in these accounts, and `estimate` in each of them.
    pub(super) fn open(call: Arc<Call>, held: Held, estimate: Estimate) -> Self {
        Self {
            call,
            held: Some(held),
            estimate,
            outcome: None,
            ended: AtomicBool::new(false),
        }
    }

    /// For a request that was let in before, holds nothing, and is charged with what it has used; `estimate` stands for
    /// what nobody tells.
    pub(super) fn later(call: Arc<Call>, estimate: Estimate) -> Self {
        Self {
            call,
            held: None,
            estimate,
            outcome: None,
            ended: AtomicBool::new(false),
        }
    }

    /// What the caller gets is known.
    pub(super) fn answered(&mut self, outcome: Outcome) {
        self.outcome = Some(outcome);
    }

    /// The body with which the tab ends.
    pub(super) fn until_end_of(self, body: Body) -> Body {
        Tabbed { body, tab: self }.boxed_unsync()
    }

    fn spent(&self) -> u64 {
        let journal = self.call.journal();
        spent(&Known {
            estimate: self.estimate,
            outcome: self.outcome,
            was_sent: journal.attempts > 0,
            ended: self.ended.load(Ordering::Relaxed),
            used: journal.used,
            answer: journal.answer,
        })
    }
}

impl Drop for Tab {
    fn drop(&mut self) {
        let spent = self.spent();
        match (self.held.take(), &self.call.route.limiter) {
            (Some(held), _) => held.settle(spent),
            (None, Some(limiter)) => limiter.charge(self.call.user, self.call.class, spent),
            (None, None) => {}
        }
    }
}

pin_project_lite::pin_project! {
    /// The body stands first, so that it is dropped first: it writes what it has read into the journal.
    struct Tabbed {
        #[pin]
        body: Body,
        tab: Tab,
    }
}

impl http_body::Body for Tabbed {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.project();
        let polled = this.body.poll_frame(cx);
        if matches!(polled, Poll::Ready(None)) {
            this.tab.ended.store(true, Ordering::Relaxed);
        }
        polled
    }

    /// Asked by hyper in the place of a last poll.
    fn is_end_stream(&self) -> bool {
        let ended = self.body.is_end_stream();
        if ended {
            self.tab.ended.store(true, Ordering::Relaxed);
        }
        ended
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

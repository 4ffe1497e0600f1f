//! The body of an answer that was begun before it was there.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http_body::Frame;
use tokio::time::{Instant, Sleep, sleep_until};

use super::{
    Awaiting, Form, LateLayer, Plan, Running,
    failure::{Next, Resolved, resolve},
};
use crate::{
    body::{Body, BodyError},
    call::Call,
    dialect::{ErrorKind, errors},
    stream::keepalive,
};

/// The mark that may stand before the first character of a document, and nowhere else.
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// White space, which JSON allows before a document.
const WHITE_SPACE: &[u8] = b" ";

/// Keeps its caller alive until the stack has come to something, and goes on with that.
pub(super) struct Begun {
    call: Arc<Call>,
    plan: Plan,
    with: LateLayer,
    /// What is said before anything else happens.
    queue: VecDeque<Bytes>,
    state: State,
}

enum State {
    /// The stack is still at work; it goes on whenever this body is polled.
    Waiting(Wait),
    /// The answer's own bytes. Nothing has come of it yet while `is_fresh`.
    Joined {
        body: Body,
        is_fresh: bool,
    },
    /// Everything is said.
    Flushing(BodyError),
    /// The connection has had a turn to write what it holds.
    Aborting(BodyError),
    Ended,
}

struct Wait {
    work: BoxFuture<'static, Resolved>,
    /// What the caller knows.
    told: Option<Awaiting>,
    /// When it hears from us again, at the latest.
    timer: Pin<Box<Sleep>>,
}

/// What a look at the work brings.
enum Look {
    Done(Resolved),
    /// It goes on, and the caller is to hear of it.
    Speak(Awaiting),
}

impl Wait {
    fn poll_look(&mut self, cx: &mut Context<'_>, call: &Call, plan: &Plan) -> Poll<Look> {
        if let Poll::Ready(resolved) = self.work.as_mut().poll(cx) {
            return Poll::Ready(Look::Done(resolved));
        }
        // The work has noted what it waits for.
        let awaiting = call.journal().awaiting.clone();
        let is_news = match &self.told {
            None => true,
            Some(told) => plan.tells && !told.is_same(&awaiting),
        };
        if !is_news {
            ready!(self.timer.as_mut().poll(cx));
        }
        self.timer.as_mut().reset(Instant::now() + plan.every);
        self.told = Some(awaiting.clone());
        Poll::Ready(Look::Speak(awaiting))
    }
}

impl Begun {
    pub(super) fn new(call: Arc<Call>, plan: Plan, running: Running, with: LateLayer) -> Self {
        let wait = Wait {
            work: Box::pin(resolve(call.clone(), plan.form, running)),
            told: None,
            timer: Box::pin(sleep_until(Instant::now() + plan.every)),
        };
        Self {
            call,
            plan,
            with,
            queue: VecDeque::new(),
            state: State::Waiting(wait),
        }
    }

    fn resolved(&mut self, Resolved { fields, next }: Resolved) -> State {
        if self.plan.form == Form::Events {
            self.queue.push_back(keepalive::comment(&fields));
        }
        match next {
            Next::Join(body) => {
                self.count("joined");
                State::Joined {
                    body,
                    is_fresh: true,
                }
            }
            Next::Fail(error) => {
                self.count("failed");
                self.queue.push_back(error);
                State::Flushing(BodyError::Told)
            }
        }
    }

    fn stopping(&mut self) -> State {
        let error = BodyError::Stopping;
        if self.plan.form == Form::Events {
            let (kind, text) = (ErrorKind::ServerError, error.for_caller());
            let frame = errors::frame(self.call.dialect, kind, text, Some(0));
            self.queue.push_back(frame);
        }
        State::Flushing(error)
    }

    fn say(&self, awaiting: &Awaiting) -> Bytes {
        match self.plan.form {
            Form::Json => Bytes::from_static(WHITE_SPACE),
            Form::Events if self.plan.tells => {
                let notice = &self.call.route.policy.stream.notice;
                keepalive::notice(self.call.dialect, &awaiting.tell(notice, Instant::now()))
            }
            Form::Events => keepalive::sign_of_life(self.call.dialect, false),
        }
    }

    fn count(&self, end: &str) {
        let labels = [self.plan.form.as_str(), end];
        self.with.metrics.begun.with_label_values(&labels).inc();
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        if matches!(self.state, State::Waiting(_)) {
            self.count("abandoned");
        }
    }
}

impl http_body::Body for Begun {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        loop {
            if let Some(piece) = this.queue.pop_front() {
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
            match std::mem::replace(&mut this.state, State::Ended) {
                State::Waiting(_) if this.with.lifecycle.is_ending() => {
                    this.state = this.stopping();
                }
                State::Waiting(mut wait) => {
                    let look = wait.poll_look(cx, &this.call, &this.plan);
                    this.state = match look {
                        Poll::Ready(Look::Done(resolved)) => this.resolved(resolved),
                        Poll::Ready(Look::Speak(awaiting)) => {
                            let said = this.say(&awaiting);
                            this.queue.push_back(said);
                            State::Waiting(wait)
                        }
                        Poll::Pending => {
                            this.state = State::Waiting(wait);
                            return Poll::Pending;
                        }
                    };
                }
                State::Joined { mut body, is_fresh } => {
                    let polled = Pin::new(&mut body).poll_frame(cx);
                    let is_frame = matches!(polled, Poll::Ready(Some(Ok(_))));
                    if is_frame || polled.is_pending() {
                        let is_fresh = is_fresh && !is_frame;
                        this.state = State::Joined { body, is_fresh };
                    }
                    return polled.map_ok(|frame| {
                        if is_fresh {
                            frame.map_data(without_mark)
                        } else {
                            frame
                        }
                    });
                }
                // hyper flushes what it has when a body is pending, and drops it when a body fails.
                State::Flushing(error) => {
                    this.state = State::Aborting(error);
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                State::Aborting(error) => return Poll::Ready(Some(Err(error))),
                State::Ended => return Poll::Ready(None),
            }
        }
    }
}

/// Behind our comments a mark would be a part of the first field's name.
fn without_mark(mut piece: Bytes) -> Bytes {
    if piece.starts_with(BYTE_ORDER_MARK) {
        piece.split_off(BYTE_ORDER_MARK.len())
    } else {
        piece
    }
}

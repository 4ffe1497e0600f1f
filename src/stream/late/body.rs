//! The body of an answer that was begun before it was there.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body as _, Frame};
use tokio::time::{Instant, Sleep, sleep_until};

use super::{
    Awaiting, Form, LateLayer, Plan, Running,
    failure::{Next, Resolved, resolve},
    work::{Panicked, Work},
};
use crate::{
    body::{Body, BodyError},
    call::Call,
    dialect::{ErrorKind, errors},
    stream::{coding::Decoder, keepalive},
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
    /// The stack is still at work.
    Waiting(Wait),
    /// The answer's own bytes.
    Joined(Joined),
    /// Everything is said.
    Aborting(BodyError),
    Ended,
}

struct Joined {
    body: Body,
    decoder: Decoder,
    /// Nothing has come of it yet.
    is_fresh: bool,
}

struct Wait {
    work: Work<Resolved>,
    /// What the caller knows.
    told: Option<Awaiting>,
    /// When it hears from us again, at the latest.
    timer: Pin<Box<Sleep>>,
}

/// What a look at the work brings.
enum Look {
    Done(Result<Resolved, Panicked>),
    /// It goes on, and the caller is to hear of it.
    Speak(Awaiting),
}

impl Wait {
    fn poll_look(&mut self, cx: &mut Context<'_>, call: &Call, plan: &Plan) -> Poll<Look> {
        if let Poll::Ready(resolved) = self.work.poll_done(cx) {
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
            work: Work::begin(resolve(call.clone(), plan.form, running)),
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
            Next::Join(body, decoder) => {
                self.count("joined");
                State::Joined(Joined {
                    body,
                    decoder,
                    is_fresh: true,
                })
            }
            Next::Fail(error) => {
                self.count("failed");
                self.queue.push_back(error);
                State::Aborting(BodyError::Told)
            }
        }
    }

    /// Nothing is left of the work that could say more.
    fn panicked(&self) -> State {
        self.with.metrics.panics.inc();
        self.count("failed");
        State::Aborting(BodyError::Told)
    }

    fn stopping(&mut self) -> State {
        let error = BodyError::Stopping;
        if self.plan.form == Form::Events {
            let (kind, text) = (ErrorKind::ServerError, error.for_caller());
            let frame = errors::frame(self.call.dialect, kind, text, Some(0));
            self.queue.push_back(frame);
        }
        State::Aborting(error)
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
                        Poll::Ready(Look::Done(Ok(resolved))) => this.resolved(resolved),
                        Poll::Ready(Look::Done(Err(Panicked))) => this.panicked(),
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
                State::Joined(mut joined) => {
                    let polled = joined.poll_frame(cx);
                    if polled.is_pending() || matches!(polled, Poll::Ready(Some(Ok(_)))) {
                        this.state = State::Joined(joined);
                    }
                    return polled;
                }
                State::Aborting(error) => return Poll::Ready(Some(Err(error))),
                State::Ended => return Poll::Ready(None),
            }
        }
    }
}

impl Joined {
    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = ready!(Pin::new(&mut self.body).poll_frame(cx));
        Poll::Ready(match polled {
            Some(Ok(frame)) => Some(match frame.into_data() {
                Ok(packed) => self.clear(&packed).map(Frame::data),
                Err(trailers) => Ok(trailers),
            }),
            other => other,
        })
    }

    fn clear(&mut self, packed: &Bytes) -> Result<Bytes, BodyError> {
        let mut clear = self.decoder.decode(packed).ok_or(BodyError::Packed)?;
        // Behind our comments a mark would be a part of the first field's name.
        if std::mem::take(&mut self.is_fresh) && clear.starts_with(BYTE_ORDER_MARK) {
            clear = clear.split_off(BYTE_ORDER_MARK.len());
        }
        Ok(clear)
    }
}

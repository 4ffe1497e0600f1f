//! A stream that goes on behind the place where it stopped.
//!
//! Where a route asks for it, the rest of a text that its token limit has cut, or whose stream broke, is
//! asked for and joined on (`dialect::continuation` says how, and where not). Whole events leave, no half
//! ones: so there is always a place at which another stream can follow, or an honest error.
//!
//! A continuation is a request like any other: it waits for its turn, is judged and may be retried, and
//! the stream before it has let go of everything by then. If it fails, the caller is told what it would
//! have been told without it.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use http::{Response, StatusCode, header, uri::PathAndQuery};
use http_body::Frame;
use http_body_util::BodyExt as _;
use tokio::time::{Instant, Sleep};
use tower::Service;

use super::{AnswersLayer, CONTINUED, Source, by, goes_on_freely};
use crate::{
    attempt::{Answer, Attempted, Failure},
    body::{Body, BodyError},
    budget::Reservation,
    call::{Attempt, Call, Journal, Sequel},
    config::{Answers, OnBroken, OnTruncated},
    dialect::{
        self, Ending, Meaning,
        continuation::{Seen, Thread},
    },
    headers::is_of_type,
    retry::triage::Class,
    stream::{
        keepalive::{comment, sign_of_life},
        relay::{TRUNCATED, error_frame},
        sse::{Event, FrameKind, Framer},
    },
    telemetry::Metrics,
};

/// The longest event that is understood; with a longer one the stream passes as it is.
const MAX_EVENT: usize = 1024 * 1024;

/// The longest silence while a continuation is awaited.
const SIGN_EVERY: Duration = Duration::from_secs(5);

/// Asks for a continuation.
type Ask = Box<dyn Fn(Sequel) -> BoxFuture<'static, Attempted> + Send>;

/// Why a continuation is asked for.
#[derive(Debug)]
enum Why {
    Truncated,
    Broken(BodyError),
}

impl Why {
    fn as_str(&self) -> &'static str {
        match self {
            Self::Truncated => "truncated",
            Self::Broken(_) => "broken",
        }
    }
}

enum State {
    Reading(Body),
    Asking {
        asked: BoxFuture<'static, Attempted>,
        why: Why,
        before: Box<Journal>,
    },
    Failing(BodyError),
    Over,
}

/// The caller's request, for as long as it may be needed again.
struct Prompt {
    body: Bytes,
    _reserved: Reservation,
}

struct Joined {
    call: Arc<Call>,
    metrics: Arc<Metrics>,
    ask: Ask,
    prompt: Option<Prompt>,
    /// What has come of the answer; none where it cannot be continued.
    thread: Option<Thread>,
    ending: Ending,
    framer: Framer,
    /// Bytes that no whole event has taken yet.
    pending: BytesMut,
    out: VecDeque<Bytes>,
    /// Continuations that may still be asked for.
    left: u32,
    /// Events so far, which is the number of the next one where events are numbered.
    events: u64,
    has_ids: bool,
    was_marked: bool,
    sign: Pin<Box<Sleep>>,
    state: State,
}

impl AnswersLayer {
    /// The answer, with a body that goes on where it stops.
    pub(super) fn or_joined<S>(
        &self,
        inner: S,
        call: &Arc<Call>,
        source: Source,
        answer: Answer,
    ) -> Answer
    where
        S: Service<Attempt, Response = Answer, Error = Failure, Future: Send>
            + Clone
            + Send
            + 'static,
    {
        if !(call.continues() && is_plain_stream(&answer.response)) {
            return answer;
        }
        let policy = &call.route.policy.answers;
        let is_served = answer.verdict.class == Class::Served;
        let is_free = goes_on_freely(call);
        let continues_cuts = policy.on_truncated == OnTruncated::Continue;
        let thread = Thread::new(call.dialect, call.ask.background, continues_cuts);
        let asked = call.clone();
        let joined = Joined {
            metrics: self.metrics.clone(),
            ask: Box::new(move |sequel| {
                let (upstream, lane) = (source.upstream.clone(), source.lane.clone());
                let attempt = Attempt::new(asked.clone(), upstream, lane);
                let attempt = attempt.with(Some(Arc::new(sequel)));
                let mut inner = inner.clone();
                Box::pin(async move { inner.call(attempt).await })
            }),
            prompt: self.prompt_of(call),
            thread: thread.filter(|thread| is_served && (is_free || thread.is_run())),
            ending: Ending::new(call.dialect),
            framer: Framer::new(MAX_EVENT),
            pending: BytesMut::new(),
            out: VecDeque::new(),
            left: policy.max_continuations,
            events: 0,
            has_ids: false,
            was_marked: false,
            sign: Box::pin(tokio::time::sleep(SIGN_EVERY)),
            state: State::Over,
            call: call.clone(),
        };
        let mut response = answer.response;
        response.headers_mut().remove(header::CONTENT_LENGTH);
        Answer {
            response: response.map(|body| {
                let state = State::Reading(body);
                Joined { state, ..joined }.boxed_unsync()
            }),
            ..answer
        }
    }

    fn prompt_of(&self, call: &Call) -> Option<Prompt> {
        let body = call.payload.bytes()?;
        let mut reserved = self.budget.open();
        reserved.grow(body.len()).then_some(Prompt {
            body,
            _reserved: reserved,
        })
    }
}

/// Whether it is a stream whose events can be read here.
fn is_plain_stream(response: &Response<Body>) -> bool {
    response.status() == StatusCode::OK
        && is_of_type(response.headers(), "text/event-stream")
        && !response.headers().contains_key(header::CONTENT_ENCODING)
}

impl Joined {
    fn policy(&self) -> &Answers {
        &self.call.route.policy.answers
    }

    fn count(&self, why: &Why, outcome: &str) {
        let labels = [self.call.route.name(), why.as_str(), outcome];
        self.metrics.continued.with_label_values(&labels).inc();
    }

    /// Takes a piece of the present stream. Gives whether the answer has been said and was cut.
    fn take(&mut self, piece: Bytes) -> bool {
        self.pending.extend_from_slice(&piece);
        self.framer.push(piece);
        while let Some(frame) = self.framer.next_frame() {
            let length = frame.raw_len.min(self.pending.len());
            let raw = self.pending.split_to(length).freeze();
            match frame.kind {
                FrameKind::Event(event) => {
                    self.has_ids |= event.has_id();
                    let meaning = dialect::meaning(self.call.dialect, &event);
                    self.ending.observe(&event, &meaning);
                    self.events += 1;
                    self.see(&event, &meaning, raw);
                    let is_end = matches!(meaning, Meaning::End(_));
                    if is_end && self.thread.as_ref().is_some_and(Thread::is_cut) {
                        return true;
                    }
                }
                FrameKind::Oversize => {
                    self.give_up();
                    self.out.push_back(raw);
                }
                _ => self.out.push_back(raw),
            }
        }
        false
    }

    fn see(&mut self, event: &Event, meaning: &Meaning, raw: Bytes) {
        let seen = if let Some(thread) = &mut self.thread {
            thread.see(event, meaning, raw, &mut self.out)
        } else {
            self.out.push_back(raw);
            Seen::Going
        };
        let is_news = !self.was_marked && self.ending.reading().is_truncated();
        if seen == Seen::Going && is_news {
            if self.policy().on_truncated == OnTruncated::Continue {
                self.count(&Why::Truncated, "unfit");
            }
            self.mark(meaning);
        }
    }

    /// Says that the answer is cut, before the last event where that is still possible.
    fn mark(&mut self, meaning: &Meaning) {
        let marks = self.policy().on_truncated != OnTruncated::Ignore;
        if !std::mem::replace(&mut self.was_marked, true) && marks {
            let at = match meaning {
                Meaning::End(_) => self.out.len().saturating_sub(1),
                _ => self.out.len(),
            };
            self.out.insert(at, comment(TRUNCATED));
        }
    }

    /// From here on the stream passes as it is.
    fn give_up(&mut self) {
        if let Some(mut thread) = self.thread.take() {
            thread.release(&mut self.out);
        }
    }

    /// The answer ends as it came: cut, and marked as such.
    fn end_cut(&mut self) {
        if let Some(mut thread) = self.thread.take() {
            self.mark(&Meaning::Other);
            thread.release(&mut self.out);
        }
        self.end();
    }

    fn end(&mut self) {
        self.give_up();
        let rest = self.pending.split().freeze();
        if !rest.is_empty() {
            self.out.push_back(rest);
        }
        self.state = State::Over;
    }

    fn fail(&mut self, error: BodyError) {
        // What was held back would end the answer, and it has not ended.
        self.thread = None;
        let frame = error_frame(self.call.dialect, &error, Some(self.events));
        self.out.push_back(frame);
        self.state = State::Failing(error);
    }

    /// Asks for the rest, or ends as it would have ended without that.
    fn go_on(&mut self, why: Why) {
        match self.next() {
            Ok(sequel) => {
                // It lets go of everything before the next request queues.
                self.state = State::Over;
                self.left -= 1;
                let before = Box::new(self.call.journal().clone());
                let asked = (self.ask)(sequel);
                self.sign.as_mut().reset(Instant::now() + SIGN_EVERY);
                self.state = State::Asking { asked, why, before };
            }
            Err(reason) => {
                self.count(&why, reason);
                self.end_without(why);
            }
        }
    }

    /// The end that there would have been if nothing had been asked for.
    fn end_without(&mut self, why: Why) {
        match why {
            Why::Truncated => self.end_cut(),
            Why::Broken(error) => self.fail(error),
        }
    }

    /// Begins with the rest.
    fn read_on(&mut self, why: &Why, body: Body) {
        if let Some(thread) = &mut self.thread {
            thread.go_on(&mut self.out);
        }
        self.pending.clear();
        self.framer = Framer::new(MAX_EVENT);
        self.ending = Ending::new(self.call.dialect);
        let said = format!("{CONTINUED}: {}", why.as_str());
        self.out.push_back(comment(&said));
        self.state = State::Reading(body);
    }

    /// The stream broke: it is continued where that is wanted and the end is not one of ours.
    fn broken(&mut self, error: BodyError) {
        let is_ours = matches!(error, BodyError::Stopping | BodyError::Deadline(_));
        if is_ours || self.policy().on_broken == OnBroken::Fail {
            self.fail(error);
        } else {
            self.go_on(Why::Broken(error));
        }
    }

    /// The request for the rest, or why there is none.
    fn next(&self) -> Result<Sequel, &'static str> {
        let thread = self.thread.as_ref().ok_or("unfit")?;
        let has_time = self.call.deadline.end_by() > Instant::now();
        if self.left == 0 || self.call.attempts_left() == 0 || !has_time {
            return Err("spent");
        }
        if thread.is_run() {
            let below = thread.next_target().ok_or("empty")?;
            let head = self.call.head().ok_or("spent")?;
            let path = head.target.path().trim_end_matches('/');
            let target = PathAndQuery::try_from(format!("{path}{below}"));
            return Ok(Sequel {
                target: Some(target.map_err(|_| "unreadable")?),
                body: Bytes::new(),
                retries: 1,
            });
        }
        let prompt = self.prompt.as_ref().ok_or("memory")?;
        let body = thread.next_request(&prompt.body, by(&self.call));
        Ok(Sequel {
            target: None,
            body: body.map_err(dialect::continuation::Unfit::as_str)?.into(),
            retries: 1,
        })
    }

    fn poll_asked(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let State::Asking { asked, .. } = &mut self.state else {
            return Poll::Ready(());
        };
        let Poll::Ready(attempted) = asked.as_mut().poll(cx) else {
            ready!(self.sign.as_mut().poll(cx));
            self.sign.as_mut().reset(Instant::now() + SIGN_EVERY);
            let sign = sign_of_life(self.call.dialect, self.has_ids);
            self.out.push_back(sign);
            return Poll::Ready(());
        };
        let State::Asking { why, before, .. } = std::mem::replace(&mut self.state, State::Over)
        else {
            return Poll::Ready(());
        };
        match attempted {
            Ok(answer)
                if answer.verdict.class == Class::Served && is_plain_stream(&answer.response) =>
            {
                self.count(&why, "continued");
                self.read_on(&why, answer.response.into_body());
            }
            _ => {
                self.count(&why, "failed");
                self.call.journal().is_served_by(*before);
                self.end_without(why);
            }
        }
        Poll::Ready(())
    }
}

impl http_body::Body for Joined {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        loop {
            if let Some(piece) = this.out.pop_front() {
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
            match &mut this.state {
                State::Reading(body) => match ready!(Pin::new(body).poll_frame(cx)) {
                    Some(Ok(frame)) => match frame.into_data() {
                        Ok(piece) => {
                            if this.take(piece) {
                                this.go_on(Why::Truncated);
                            }
                        }
                        Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                    },
                    None if this.thread.as_ref().is_some_and(Thread::is_cut) => {
                        this.go_on(Why::Truncated);
                    }
                    None => this.end(),
                    Some(Err(error)) => this.broken(error),
                },
                State::Asking { .. } => ready!(this.poll_asked(cx)),
                State::Failing(_) => {
                    let State::Failing(error) = std::mem::replace(&mut this.state, State::Over)
                    else {
                        continue;
                    };
                    return Poll::Ready(Some(Err(error)));
                }
                State::Over => return Poll::Ready(None),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.out.is_empty() && matches!(self.state, State::Over)
    }
}

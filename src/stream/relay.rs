//! An upstream's answer on its way to the caller: every piece as it arrives, and an honest end.
//!
//! What an answer's end looks like is known for each dialect. A stream that stops in any other way
//! (cut, reset, ended cleanly in the middle, silent for too long) never ends cleanly here: between
//! two events the caller first gets an error event that every SDK raises, and then, always, an
//! aborted connection. Inside an event no frame can be added without making the half event count,
//! so there the connection is aborted at once: parsers drop an event that was never finished.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http_body::{Body as _, Frame, SizeHint};
use tokio::time::{Instant, Sleep};

use super::{keepalive, skim::Skim, watch::Watch};
use crate::{
    body::{self, BodyError},
    budget::Reservation,
    call::Call,
    config::OnTruncated,
    dialect::{Dialect, ErrorKind, errors},
    server::Lifecycle,
    telemetry::ChunkTimes,
    upstream::AnswerBody,
};

/// Says in a stream what the header of this name says of a plain answer.
pub(crate) const TRUNCATED: &str = "x-surgetank-truncated: true";

/// What a body gives when it is polled.
type Polled = Poll<Option<Result<Frame<Bytes>, BodyError>>>;

/// How an answer's body may take its time.
#[derive(Copy, Clone, Debug)]
pub struct Patience {
    /// The longest silence between two pieces.
    pub idle: Duration,
    /// The end of the request's total time.
    pub end_by: Instant,
    /// That total time, for the error's text.
    pub total: Duration,
}

/// The body that the caller reads.
#[derive(Debug)]
pub struct Relay {
    upstream: AnswerBody,
    /// What was read while the answer was judged.
    held: VecDeque<Bytes>,
    /// For what is held.
    reserved: Option<Reservation>,
    watch: Option<Watch>,
    /// Of an answer that is no stream.
    skim: Option<Skim>,
    /// Bytes of the upstream's that were passed on.
    passed: u64,
    /// Whether it may still have to be said that the stream was cut by its token limit.
    may_mark: bool,
    /// Another stream may follow as its rest: whoever joins them says what is to be said of its end.
    is_joined: bool,
    patience: Patience,
    last_piece: Instant,
    /// The time between pieces, for the operator.
    gaps: Option<ChunkTimes>,
    /// Since when the upstream is waited for. While the caller does not read, nobody waits.
    silent_since: Option<Instant>,
    /// How often a sign of life goes into a silent stream; none for what is no stream of a known kind.
    keepalive: Option<Duration>,
    /// When the latest was due.
    spoke: Instant,
    timer: Pin<Box<Sleep>>,
    lifecycle: Lifecycle,
    call: Arc<Call>,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Pieces are passed on.
    Passing,
    /// The error event is out; aborts at the next poll.
    Aborting(BodyError),
    Ended,
}

/// What the timer has fired for.
enum Due {
    /// The stream is given up.
    End(BodyError),
    /// This is said, so that nobody else gives it up.
    SignOfLife(Bytes),
}

impl Relay {
    /// Goes on where judging stopped. `watch` is there for streams whose ends are known, and has
    /// already seen what is `held`.
    #[must_use]
    pub fn new(
        upstream: AnswerBody,
        held: VecDeque<Bytes>,
        reserved: Option<Reservation>,
        watch: Option<Watch>,
        patience: Patience,
        lifecycle: Lifecycle,
        call: Arc<Call>,
    ) -> Self {
        let now = Instant::now();
        let is_joined = call.continues() && watch.as_ref().is_some_and(Watch::is_plain);
        let may_mark = call.route.policy.answers.on_truncated != OnTruncated::Ignore && !is_joined;
        let keepalive = watch.as_ref().and_then(|_| call.keepalive());
        let first_look = keepalive.unwrap_or(patience.idle).min(patience.idle);
        let timer = Box::pin(tokio::time::sleep_until(
            patience.end_by.min(now + first_look),
        ));
        Self {
            upstream,
            held,
            reserved,
            watch,
            skim: None,
            passed: 0,
            may_mark,
            is_joined,
            patience,
            last_piece: now,
            gaps: None,
            silent_since: None,
            keepalive,
            spoke: now,
            timer,
            lifecycle,
            call,
            state: State::Passing,
        }
    }

    /// Notes the time between pieces.
    #[must_use]
    pub fn timed_by(mut self, gaps: ChunkTimes) -> Self {
        self.gaps = Some(gaps);
        self
    }

    /// Goes on reading an answer that is no stream. `skim` has already seen what is held.
    #[must_use]
    pub fn skimmed_by(mut self, skim: Option<Skim>) -> Self {
        self.skim = skim;
        self
    }

    /// The piece as it leaves. All bytes of it are the upstream's, but for the comment that says that the
    /// stream is cut: it stands before the terminator, where SDKs still read.
    fn pass(&mut self, piece: Bytes) -> Frame<Bytes> {
        let (start, len) = (self.passed, piece.len() as u64);
        self.passed += len;
        let cut = self.watch.as_ref().and_then(Watch::cut_at);
        let Some(cut) = cut.filter(|_| self.may_mark) else {
            return Frame::data(piece);
        };
        let at = if cut.before >= start {
            cut.before
        } else {
            cut.behind
        };
        let at = at.checked_sub(start).filter(|at| *at <= len);
        let Some(at) = at.and_then(|at| usize::try_from(at).ok()) else {
            return Frame::data(piece);
        };
        self.may_mark = false;
        let comment = keepalive::comment(TRUNCATED);
        let mut marked = BytesMut::with_capacity(piece.len() + comment.len());
        marked.extend_from_slice(&piece[..at]);
        marked.extend_from_slice(&comment);
        marked.extend_from_slice(&piece[at..]);
        Frame::data(marked.freeze())
    }

    /// The answer broke: says so in the stream where that is possible, and aborts.
    fn break_off(&mut self, error: BodyError) -> Polled {
        tracing::warn!(
            request_id = self.call.id.as_str(),
            cause = error.cause(),
            %error,
            "an answer broke after its first byte had left"
        );
        match &self.watch {
            Some(watch) if watch.can_take_an_event() && !self.is_joined => {
                let frame = error_frame(self.call.dialect, &error, watch.next_sequence());
                self.state = State::Aborting(error);
                Poll::Ready(Some(Ok(Frame::data(frame))))
            }
            _ => {
                self.state = State::Ended;
                Poll::Ready(Some(Err(error)))
            }
        }
    }

    /// Waits until the silence or the whole request has lasted too long, or until the caller should hear something.
    fn poll_due(&mut self, cx: &mut Context<'_>) -> Poll<Due> {
        let since = *self.silent_since.get_or_insert_with(Instant::now);
        loop {
            ready!(self.timer.as_mut().poll(cx));
            let now = Instant::now();
            if now >= self.patience.end_by {
                return Poll::Ready(Due::End(BodyError::Deadline(self.patience.total)));
            }
            let ends = since + self.patience.idle;
            if now >= ends {
                return Poll::Ready(Due::End(BodyError::Idle(self.patience.idle)));
            }
            let speaks = self.keepalive.map(|every| since.max(self.spoke) + every);
            let speaks = speaks.unwrap_or(ends);
            if now < speaks {
                // One timer for the whole stream: pieces do not touch it, and it follows when it fires.
                let first = ends.min(speaks).min(self.patience.end_by);
                self.timer.as_mut().reset(first);
                continue;
            }
            self.spoke = now;
            match &self.watch {
                Some(watch) if watch.can_take_an_event() => {
                    let sign = keepalive::sign_of_life(self.call.dialect, watch.has_ids());
                    return Poll::Ready(Due::SignOfLife(sign));
                }
                _ => {} // Inside an event nothing can be said; the next look comes later.
            }
        }
    }

    fn poll_upstream(&mut self, cx: &mut Context<'_>) -> Polled {
        let is_over = self.watch.as_ref().is_some_and(Watch::has_said_its_end);
        if self.lifecycle.is_ending() {
            if is_over {
                return self.end();
            }
            return self.break_off(BodyError::Stopping);
        }
        let Poll::Ready(next) = Pin::new(&mut self.upstream).poll_frame(cx) else {
            return match ready!(self.poll_due(cx)) {
                Due::SignOfLife(sign) => Poll::Ready(Some(Ok(Frame::data(sign)))),
                // An upstream that lingers after its own end takes nothing away.
                Due::End(_) if is_over => self.end(),
                Due::End(overdue) => self.break_off(overdue),
            };
        };
        match next {
            Some(Ok(frame)) => {
                let now = Instant::now();
                if let Some(gaps) = &self.gaps {
                    let gap = now.saturating_duration_since(self.last_piece);
                    gaps.observe(gap.as_secs_f64());
                }
                self.last_piece = now;
                self.silent_since = None;
                Poll::Ready(Some(Ok(match frame.into_data() {
                    Ok(data) => {
                        self.see(&data);
                        self.pass(data)
                    }
                    Err(trailers) => trailers,
                })))
            }
            // After the answer's own end nothing is lost, however the connection goes.
            Some(Err(_)) if self.watch.as_ref().is_some_and(Watch::has_said_its_end) => self.end(),
            None if self.watch.as_ref().is_some_and(Watch::is_complete) => self.end(),
            Some(Err(error)) => self.break_off(BodyError::Upstream(error)),
            None if self.watch.is_some() => self.break_off(BodyError::Incomplete),
            None => self.end(),
        }
    }

    fn see(&mut self, data: &Bytes) {
        if let Some(watch) = &mut self.watch {
            watch.see(data);
        }
        if let Some(skim) = &mut self.skim {
            skim.see(data);
        }
    }

    fn end(&mut self) -> Polled {
        self.state = State::Ended;
        Poll::Ready(None)
    }
}

impl http_body::Body for Relay {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Polled {
        let this = self.get_mut();
        match std::mem::replace(&mut this.state, State::Ended) {
            State::Passing => {
                this.state = State::Passing;
                if let Some(piece) = this.held.pop_front() {
                    return Poll::Ready(Some(Ok(this.pass(piece))));
                }
                this.reserved = None;
                this.poll_upstream(cx)
            }
            State::Aborting(error) => Poll::Ready(Some(Err(error))),
            State::Ended => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self.state {
            State::Ended => true,
            // A stream whose end is to be judged has not ended before it was.
            State::Passing => {
                self.watch.is_none() && self.held.is_empty() && self.upstream.is_end_stream()
            }
            State::Aborting(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        if self.watch.is_some() || !matches!(self.state, State::Passing) {
            return SizeHint::default(); // an error event may still be added
        }
        let held = self.held.iter().map(Bytes::len).sum();
        body::longer(self.upstream.size_hint(), held)
    }
}

/// However the answer ended, and also if its caller left: what it has told until then is noted.
impl Drop for Relay {
    fn drop(&mut self) {
        let of_stream = self.watch.as_ref().map(Watch::reading);
        let reading = of_stream.or_else(|| self.skim.as_ref().map(Skim::reading));
        if let Some(reading) = reading {
            self.call.note_answer(reading);
        }
    }
}

/// The event that tells a caller why its stream breaks, in a form that every SDK raises.
pub(crate) fn error_frame(dialect: Dialect, error: &BodyError, sequence: Option<u64>) -> Bytes {
    errors::frame(dialect, kind_of(error), error.for_caller(), sequence)
}

/// The kind of error that an SDK shows for a broken stream.
fn kind_of(error: &BodyError) -> ErrorKind {
    match error {
        BodyError::Idle(_) | BodyError::Deadline(_) => ErrorKind::Timeout,
        _ => ErrorKind::ServerError,
    }
}

//! What a connection is waiting for, and since when.
//!
//! hyper's own head timer sets one timer a request and counts the pause between two requests as a
//! slow head, so a short head timeout would close idle keep-alive connections under the callers'
//! hands. This clock only notes the moment in which something began; the connection's task looks
//! at it a few times a minute. That costs two stores a request and no timer.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering},
    },
    task::{Context, Waker},
    time::Duration,
};

use tokio::time::Instant;

use super::{LAST_WORDS, Limits};

const IDLE: u8 = 0;
const READING_HEAD: u8 = 1;

/// No moment: nothing of this kind is awaited.
const NEVER: u64 = u64::MAX;

/// Shared by the socket wrapper, the service and the connection's task, all on one thread; the
/// atomics are only there to satisfy `Send`. Moments are milliseconds since `born`.
#[derive(Debug)]
pub(super) struct ConnectionClock {
    born: Instant,
    phase: AtomicU8,
    phase_since: AtomicU64,
    is_h2: AtomicBool,
    /// Requests whose answer has not ended.
    in_flight: AtomicU32,
    /// When the peer stopped taking bytes.
    write_blocked_since: AtomicU64,
    /// When the answer on an HTTP/1 connection has lasted too long, whether its bytes are taken or not.
    answer_until: AtomicU64,
    /// The latest read found nothing, so whoever reads holds no bytes that it has not used.
    read_is_pending: AtomicBool,
    /// A request is under way whose body may be too long to be read before it is passed on.
    has_upload: AtomicBool,
    /// The socket is to be asked whether its peer has gone.
    must_look: AtomicBool,
    /// How often everything written so far had left for the kernel.
    flushes: AtomicU64,
    /// Who waits for the next of those: answers that have failed, one for each stream at most.
    flush_waiters: Mutex<Vec<Waker>>,
    /// A FIN would tell the peer that its answer is whole.
    ends_by_closing: AtomicBool,
}

/// What the connection's task has to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    /// Nothing is overdue.
    Fine,
    /// Close politely: the connection idles.
    Retire,
    /// Drop at once: the peer is stalling.
    Drop,
}

impl ConnectionClock {
    pub(super) fn start() -> Arc<Self> {
        Arc::new(Self {
            born: Instant::now(),
            // Until the first byte the peer owes us a request, as if it were in the middle of one.
            phase: AtomicU8::new(READING_HEAD),
            phase_since: AtomicU64::new(0),
            is_h2: AtomicBool::new(false),
            in_flight: AtomicU32::new(0),
            write_blocked_since: AtomicU64::new(NEVER),
            answer_until: AtomicU64::new(NEVER),
            read_is_pending: AtomicBool::new(false),
            has_upload: AtomicBool::new(false),
            must_look: AtomicBool::new(false),
            flushes: AtomicU64::new(0),
            flush_waiters: Mutex::default(),
            ends_by_closing: AtomicBool::new(false),
        })
    }

    fn now(&self) -> u64 {
        self.millis(Instant::now())
    }

    fn millis(&self, moment: Instant) -> u64 {
        let since = moment.saturating_duration_since(self.born).as_millis();
        u64::try_from(since).unwrap_or(NEVER - 1)
    }

    fn enter(&self, phase: u8) {
        self.phase.store(phase, Ordering::Relaxed);
        self.phase_since.store(self.now(), Ordering::Relaxed);
    }

    /// The peer speaks HTTP/2: its streams have timers of their own, and bytes between them (a ping, a
    /// window update) begin no request.
    pub(super) fn speaks_h2(&self) {
        self.is_h2.store(true, Ordering::Relaxed);
        self.enter(IDLE);
    }

    /// A read brought this many bytes, or nothing yet.
    pub(super) fn read(&self, bytes: Option<usize>) {
        self.read_is_pending
            .store(bytes.is_none(), Ordering::Relaxed);
        let begins_head = bytes.is_some_and(|bytes| bytes > 0)
            && !self.is_h2.load(Ordering::Relaxed)
            && self.in_flight.load(Ordering::Relaxed) == 0
            && self.phase.load(Ordering::Relaxed) == IDLE;
        if begins_head {
            self.enter(READING_HEAD);
        }
    }

    /// A request's head is complete; the returned guard is dropped when its answer has ended.
    pub(super) fn request_began(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        self.phase.store(IDLE, Ordering::Relaxed);
        InFlight(self.clone())
    }

    /// The request under way has a body that may be too long to be read before it is passed on.
    pub(super) fn upload_began(&self) {
        self.has_upload.store(true, Ordering::Relaxed);
    }

    /// Whether nobody would see that the peer has gone: hyper has read bytes of an upload and reads no more until they are
    /// passed on, and the end of a connection is found by reading.
    pub(super) fn is_deaf(&self) -> bool {
        self.has_upload.load(Ordering::Relaxed)
            && !self.read_is_pending.load(Ordering::Relaxed)
            && !self.is_h2.load(Ordering::Relaxed)
    }

    /// Has the socket asked when the connection is polled next.
    pub(super) fn look(&self) {
        self.must_look.store(true, Ordering::Relaxed);
    }

    /// Whether it is to be asked now.
    pub(super) fn takes_look(&self) -> bool {
        self.must_look.load(Ordering::Relaxed) && self.must_look.swap(false, Ordering::Relaxed)
    }

    /// The only answer on an HTTP/1 connection begins, and has this long. One that is made when its time is
    /// up already (an error that says so) gets a moment to be read.
    pub(super) fn answer_began(&self, end_by: Instant) {
        let until = end_by.max(Instant::now()) + LAST_WORDS;
        self.answer_until
            .store(self.millis(until), Ordering::Relaxed);
    }

    /// The answer that begins is as long as the connection stays open (HTTP/1.0).
    pub(super) fn answer_ends_by_closing(&self) {
        self.ends_by_closing.store(true, Ordering::Relaxed);
    }

    /// Everything has been said: from here on a FIN is the truth.
    pub(super) fn shutting_down(&self) {
        self.ends_by_closing.store(false, Ordering::Relaxed);
    }

    /// Whether closing now must not look like an answer's end.
    pub(super) fn must_reset(&self) -> bool {
        self.ends_by_closing.load(Ordering::Relaxed)
    }

    /// A write was taken by the kernel, or not yet.
    pub(super) fn wrote(&self, pending: bool) {
        if !pending {
            self.write_blocked_since.store(NEVER, Ordering::Relaxed);
        } else if self.write_blocked_since.load(Ordering::Relaxed) == NEVER {
            self.write_blocked_since
                .store(self.now(), Ordering::Relaxed);
        }
    }

    /// Nothing of what was written is left on this side of the kernel.
    pub(super) fn flushed(&self) {
        self.flushes.fetch_add(1, Ordering::Relaxed);
        if self.in_flight.load(Ordering::Relaxed) == 0 {
            self.answer_until.store(NEVER, Ordering::Relaxed);
        }
        for waiter in self.waiters().drain(..) {
            waiter.wake();
        }
    }

    /// How often that has been so.
    pub(super) fn flushes(&self) -> u64 {
        self.flushes.load(Ordering::Relaxed)
    }

    /// Wakes this task when it is so again.
    pub(super) fn wake_on_flush(&self, cx: &Context<'_>) {
        let mut waiters = self.waiters();
        if !waiters.iter().any(|waiter| waiter.will_wake(cx.waker())) {
            waiters.push(cx.waker().clone());
        }
    }

    fn waiters(&self) -> std::sync::MutexGuard<'_, Vec<Waker>> {
        // Nothing that can panic is done while they are held.
        self.flush_waiters
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until no request has been under way for this long, counted from now at the earliest. What HTTP/2 callers may
    /// still send is told to them by the protocol itself, so nothing is waited for there.
    pub(super) async fn quiet_for(&self, time: Duration) {
        let from = self.now();
        while !self.is_h2.load(Ordering::Relaxed) {
            let is_idle = self.in_flight.load(Ordering::Relaxed) == 0
                && self.phase.load(Ordering::Relaxed) == IDLE;
            let since = self.phase_since.load(Ordering::Relaxed).max(from);
            let quiet = Duration::from_millis(self.now().saturating_sub(since));
            if is_idle && quiet >= time {
                return;
            }
            tokio::time::sleep(time / 5).await;
        }
    }

    pub(super) fn judge(&self, limits: &Limits) -> Judgement {
        let now = self.now();
        let overdue = |since: u64, limit: Duration| {
            since != NEVER && u128::from(now.saturating_sub(since)) >= limit.as_millis()
        };
        let blocked_since = self.write_blocked_since.load(Ordering::Relaxed);
        let is_late = now >= self.answer_until.load(Ordering::Relaxed);
        if is_late || overdue(blocked_since, limits.write_idle) {
            return Judgement::Drop;
        }
        if self.in_flight.load(Ordering::Relaxed) > 0 {
            return Judgement::Fine;
        }
        let since = self.phase_since.load(Ordering::Relaxed);
        match self.phase.load(Ordering::Relaxed) {
            READING_HEAD if overdue(since, limits.head_timeout) => Judgement::Drop,
            // It was told to end, and its peer does not take what would end it.
            IDLE if overdue(since, limits.keepalive_idle + limits.write_idle) => Judgement::Drop,
            IDLE if overdue(since, limits.keepalive_idle) => Judgement::Retire,
            _ => Judgement::Fine,
        }
    }
}

/// Lives as long as a request's answer.
#[derive(Debug)]
pub(super) struct InFlight(Arc<ConnectionClock>);

impl Drop for InFlight {
    fn drop(&mut self) {
        let clock = &self.0;
        if clock.in_flight.fetch_sub(1, Ordering::Relaxed) != 1 {
            return;
        }
        clock.has_upload.store(false, Ordering::Relaxed);
        // hyper looks for more bytes while it answers, unless it has some: a head that came with the
        // request before it, and not all of it, or it would be a request already.
        let has_bytes = !clock.read_is_pending.load(Ordering::Relaxed);
        let reads_head = has_bytes && !clock.is_h2.load(Ordering::Relaxed);
        clock.enter(if reads_head { READING_HEAD } else { IDLE });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits {
            head_timeout: Duration::from_secs(10),
            keepalive_idle: Duration::from_secs(75),
            write_idle: Duration::from_secs(60),
            max_head: 1,
            max_headers: 1,
            max_connections: 1,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_head_is_dropped_but_an_idle_connection_lives_longer() {
        let clock = ConnectionClock::start();
        tokio::time::advance(Duration::from_secs(9)).await;
        assert_eq!(clock.judge(&limits()), Judgement::Fine);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(
            clock.judge(&limits()),
            Judgement::Drop,
            "no complete head after 10 s"
        );

        clock.read(Some(1));
        let answer = clock.request_began();
        clock.read(None);
        tokio::time::advance(Duration::from_secs(600)).await;
        assert_eq!(
            clock.judge(&limits()),
            Judgement::Fine,
            "an answer may take its time"
        );
        drop(answer);
        tokio::time::advance(Duration::from_secs(74)).await;
        assert_eq!(clock.judge(&limits()), Judgement::Fine, "keep-alive");
        clock.read(Some(1));
        tokio::time::advance(Duration::from_secs(9)).await;
        assert_eq!(
            clock.judge(&limits()),
            Judgement::Fine,
            "the head's time starts at its first byte"
        );
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(clock.judge(&limits()), Judgement::Drop);
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_is_retired_and_a_stalled_reader_dropped() {
        let clock = ConnectionClock::start();
        clock.read(None);
        drop(clock.request_began());
        tokio::time::advance(Duration::from_secs(75)).await;
        assert_eq!(clock.judge(&limits()), Judgement::Retire);

        let _answer = clock.request_began();
        clock.wrote(true);
        tokio::time::advance(Duration::from_secs(59)).await;
        clock.wrote(true);
        assert_eq!(clock.judge(&limits()), Judgement::Fine);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(
            clock.judge(&limits()),
            Judgement::Drop,
            "blocked for 60 s without one byte taken"
        );
        clock.wrote(false);
        assert_eq!(clock.judge(&limits()), Judgement::Fine, "it reads again");
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_ends_at_its_time_however_busily_its_reader_trickles() {
        let clock = ConnectionClock::start();
        let answer = clock.request_began();
        clock.answer_began(Instant::now() + Duration::from_secs(5));
        clock.read(None);
        for _ in 0..5 {
            tokio::time::advance(Duration::from_secs(1)).await;
            clock.wrote(true);
            clock.wrote(false);
        }
        assert_eq!(
            clock.judge(&limits()),
            Judgement::Fine,
            "its last words are still awaited"
        );
        tokio::time::advance(LAST_WORDS).await;
        assert_eq!(clock.judge(&limits()), Judgement::Drop);
        // hyper has its last byte, and the peer has not.
        drop(answer);
        assert_eq!(clock.judge(&limits()), Judgement::Drop);
        clock.flushed();
        assert_eq!(clock.judge(&limits()), Judgement::Fine);
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_quiet_when_no_request_has_been_under_way_for_a_while() {
        const WHILE: Duration = Duration::from_millis(250);
        let clock = ConnectionClock::start();
        clock.read(None);
        let answer = clock.request_began();
        let began = Instant::now();
        let answering = async {
            tokio::time::sleep(Duration::from_secs(3)).await;
            drop(answer);
            tokio::time::sleep(Duration::from_millis(200)).await;
            drop(clock.request_began());
        };
        tokio::join!(clock.quiet_for(WHILE), answering);
        let waited = began.elapsed();
        let least = Duration::from_millis(3450);
        assert!(waited >= least && waited < least + WHILE, "{waited:?}");

        // However long it has been idle before, a request may have been sent just now.
        tokio::time::advance(Duration::from_secs(60)).await;
        let began = Instant::now();
        clock.quiet_for(WHILE).await;
        assert!(began.elapsed() >= WHILE);
        clock.speaks_h2();
        let began = Instant::now();
        clock.quiet_for(WHILE).await;
        assert!(began.elapsed().is_zero());
    }

    #[tokio::test(start_paused = true)]
    async fn half_a_head_behind_a_request_has_the_time_of_a_head() {
        let clock = ConnectionClock::start();
        clock.read(Some(100));
        // Nothing is read while it is answered: what was read before is not used up.
        drop(clock.request_began());
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(clock.judge(&limits()), Judgement::Drop);
    }

    #[tokio::test(start_paused = true)]
    async fn between_the_streams_of_http2_bytes_begin_nothing() {
        let clock = ConnectionClock::start();
        clock.speaks_h2();
        for _ in 0..7 {
            tokio::time::advance(Duration::from_secs(10)).await;
            clock.read(Some(17));
            assert_eq!(clock.judge(&limits()), Judgement::Fine);
        }
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(
            clock.judge(&limits()),
            Judgement::Retire,
            "pings keep nothing open"
        );
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(clock.judge(&limits()), Judgement::Drop, "and it did not go");
    }
}

//! The streams of an HTTP/2 connection: each ends at its own time, whatever its caller does.
//!
//! A caller that grants no window blocks one stream and no socket: hyper then waits for the window
//! and asks neither the answer's body nor any timer in it. So each stream runs beside a clock, and
//! when it has lasted too long it is dropped, which resets it (`RST_STREAM`, RFC 9113 §6.4). Its
//! neighbours on the connection go on.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use hyper::rt::Executor;
use tokio::time::{Instant, sleep_until};

use super::{LAST_WORDS, Lifecycle, Limits, Stage};

const NEVER: u64 = u64::MAX;

tokio::task_local! {
    /// The clock of the stream whose task this is; absent on an HTTP/1 connection.
    static CLOCK: Arc<StreamClock>;
}

/// What is awaited of one stream's caller. Moments are milliseconds since `born`.
#[derive(Debug)]
pub(super) struct StreamClock {
    born: Instant,
    /// When hyper was given a piece; it comes back for the next one when that has found room.
    given_at: AtomicU64,
    /// When the answer has lasted too long.
    until: AtomicU64,
}

impl StreamClock {
    fn start() -> Self {
        Self {
            born: Instant::now(),
            given_at: AtomicU64::new(NEVER),
            until: AtomicU64::new(NEVER),
        }
    }

    /// The clock of the stream that runs.
    pub(super) fn current() -> Option<Arc<Self>> {
        CLOCK.try_with(Arc::clone).ok()
    }

    fn millis(&self, moment: Instant) -> u64 {
        let since = moment.saturating_duration_since(self.born).as_millis();
        u64::try_from(since).unwrap_or(NEVER - 1)
    }

    /// The answer begins and has this long; see `ConnectionClock::answer_began`.
    pub(super) fn answer_began(&self, end_by: Instant) {
        let until = end_by.max(Instant::now()) + LAST_WORDS;
        self.until.store(self.millis(until), Ordering::Relaxed);
    }

    /// hyper has a piece of the answer.
    pub(super) fn gave(&self) {
        self.given_at
            .store(self.millis(Instant::now()), Ordering::Relaxed);
    }

    /// hyper asks for the next piece.
    pub(super) fn asked(&self) {
        self.given_at.store(NEVER, Ordering::Relaxed);
    }

    /// When the stream is over if nothing changes until then.
    fn ends_at(&self, limits: &Limits) -> Option<Instant> {
        let moment = |millis: u64| {
            (millis != NEVER).then(|| self.born + std::time::Duration::from_millis(millis))
        };
        let unread = moment(self.given_at.load(Ordering::Relaxed));
        let unread = unread.map(|given| given + limits.write_idle);
        let late = moment(self.until.load(Ordering::Relaxed));
        unread.into_iter().chain(late).min()
    }
}

/// Runs a connection's streams.
#[derive(Clone, Debug)]
pub(super) struct Streams {
    limits: Arc<Limits>,
    lifecycle: Lifecycle,
}

impl Streams {
    pub(super) fn new(limits: Arc<Limits>, lifecycle: Lifecycle) -> Self {
        Self { limits, lifecycle }
    }
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Streams {
    fn execute(&self, stream: F) {
        let clock = Arc::new(StreamClock::start());
        let Self { limits, lifecycle } = self.clone();
        let run = run(stream, clock.clone(), limits, lifecycle);
        tokio::spawn(CLOCK.scope(clock, run));
    }
}

async fn run(
    stream: impl Future<Output = ()>,
    clock: Arc<StreamClock>,
    limits: Arc<Limits>,
    lifecycle: Lifecycle,
) {
    let mut stream = pin!(stream);
    let mut ending = pin!(lifecycle.reached(Stage::Ending));
    let mut told = false;
    loop {
        // What the clock is told meanwhile is found at the next look.
        let look = Instant::now() + limits.look_every();
        let look = clock.ends_at(&limits).map_or(look, |end| end.min(look));
        tokio::select! {
            biased;
            () = stream.as_mut() => return,
            // The next poll of the stream lets an answer whose upstream is silent say that it ends.
            () = ending.as_mut(), if !told => told = true,
            () = sleep_until(look) => {
                if clock.ends_at(&limits).is_some_and(|end| Instant::now() >= end) {
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const LIMITS: Limits = Limits {
        head_timeout: Duration::from_secs(10),
        keepalive_idle: Duration::from_secs(75),
        write_idle: Duration::from_secs(60),
        max_head: 1,
        max_headers: 1,
        max_connections: 1,
    };

    /// How many seconds a stream runs that would run for ever, when its clock is told this at its start.
    async fn seconds(tell: impl FnOnce(&StreamClock) + Send + 'static) -> u64 {
        let clock = Arc::new(StreamClock::start());
        let told = clock.clone();
        let stream = async move {
            tell(&told);
            std::future::pending::<()>().await;
        };
        let began = Instant::now();
        run(stream, clock, Arc::new(LIMITS), Lifecycle::default()).await;
        began.elapsed().as_secs()
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_ends_when_its_caller_takes_nothing_or_its_time_is_up() {
        assert_eq!(seconds(StreamClock::gave).await, 60);
        let late = |clock: &StreamClock| {
            clock.gave();
            clock.asked();
            clock.answer_began(Instant::now() + Duration::from_secs(600));
        };
        assert_eq!(seconds(late).await, 601, "and a second for its last words");
        let past = |clock: &StreamClock| clock.answer_began(Instant::now());
        assert_eq!(seconds(past).await, 5, "at the first look");
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_stream_is_asked_once_more_when_the_process_ends() {
        let lifecycle = Lifecycle::default();
        let seen = lifecycle.clone();
        // Like an answer's body: it looks at the stage when it is asked, and nothing wakes it.
        let stream = std::future::poll_fn(move |_| {
            if seen.is_ending() {
                std::task::Poll::Ready(())
            } else {
                std::task::Poll::Pending
            }
        });
        let limits = Arc::new(Limits {
            write_idle: Duration::from_secs(3600 * 24),
            ..LIMITS
        });
        let began = Instant::now();
        let running = run(
            stream,
            Arc::new(StreamClock::start()),
            limits,
            lifecycle.clone(),
        );
        let stopping = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            lifecycle.advance(Stage::Ending);
        };
        tokio::join!(running, stopping);
        assert_eq!(began.elapsed().as_secs(), 1);
    }
}

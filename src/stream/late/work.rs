//! The rest of the stack behind an answer that was begun, and who sees to it that it goes on.
//!
//! A body is polled when its caller takes bytes. What goes on inside it must not depend on that: a request
//! that waits keeps others waiting, by being the first in a line, the one who sleeps for a whole lane, or
//! the probe whose verdict all await. A caller of HTTP/2 that grants no window would stop them all. So the
//! work has a task of its own, which the body only looks at; dropped, the body takes the work with it, at
//! once.

use std::{
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use futures_util::{FutureExt as _, future::BoxFuture, task::AtomicWaker};
use tokio::task::AbortHandle;

/// Work that goes on by itself until this is dropped.
pub(super) struct Work<T> {
    shared: Arc<Shared<T>>,
    driver: AbortHandle,
}

/// It ended in a panic.
#[derive(Debug)]
pub(super) struct Panicked;

struct Shared<T> {
    state: Mutex<State<T>>,
    /// Who looks; woken after each step.
    looker: AtomicWaker,
}

enum State<T> {
    Running(BoxFuture<'static, Result<T, Panicked>>),
    Done(Result<T, Panicked>),
    /// Taken, or given up.
    Gone,
}

impl<T: Send + 'static> Work<T> {
    /// Begins it on the runtime of the caller's task.
    pub(super) fn begin(work: impl Future<Output = T> + Send + 'static) -> Self {
        let caught = AssertUnwindSafe(work).catch_unwind();
        let shared = Arc::new(Shared {
            state: Mutex::new(State::Running(
                caught.map(|done| done.map_err(|_| Panicked)).boxed(),
            )),
            looker: AtomicWaker::new(),
        });
        let shown = shared.clone();
        let driver = tokio::spawn(std::future::poll_fn(move |cx| shown.step(cx)));
        Self {
            shared,
            driver: driver.abort_handle(),
        }
    }

    /// What it came to, once. Until then, whoever asks is woken after each step that it makes.
    pub(super) fn poll_done(&self, cx: &mut Context<'_>) -> Poll<Result<T, Panicked>> {
        self.shared.looker.register(cx.waker());
        let mut state = self.shared.state();
        match std::mem::replace(&mut *state, State::Gone) {
            State::Done(done) => Poll::Ready(done),
            other => {
                *state = other;
                Poll::Pending
            }
        }
    }
}

impl<T> Shared<T> {
    fn step(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state();
        let polled = match &mut *state {
            State::Running(work) => Pin::new(work).poll(cx),
            State::Done(_) | State::Gone => return Poll::Ready(()),
        };
        let stepped = polled.map(|done| *state = State::Done(done));
        drop(state);
        self.looker.wake();
        stepped
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        // A panic of the work is caught within it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Drop for Work<T> {
    fn drop(&mut self) {
        self.driver.abort();
        let given_up = std::mem::replace(&mut *self.shared.state(), State::Gone);
        // What it held is free before whoever drops this goes on; and the lock is not held meanwhile.
        drop(given_up);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        time::Duration,
    };

    use futures_util::poll;

    use super::*;

    async fn done<T: Send + 'static>(work: &Work<T>) -> Result<T, Panicked> {
        std::future::poll_fn(|cx| work.poll_done(cx)).await
    }

    #[tokio::test(start_paused = true)]
    async fn it_goes_on_without_being_looked_at() {
        let steps = Arc::new(AtomicUsize::new(0));
        let made = steps.clone();
        let work = Work::begin(async move {
            for _ in 0..3 {
                tokio::time::sleep(Duration::from_secs(1)).await;
                made.fetch_add(1, Ordering::Relaxed);
            }
            "done"
        });
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(steps.load(Ordering::Relaxed), 3);
        assert_eq!(done(&work).await.unwrap(), "done");
    }

    #[tokio::test(start_paused = true)]
    async fn who_looks_is_woken_by_each_step() {
        let work = Work::begin(async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            tokio::time::sleep(Duration::from_secs(1)).await;
        });
        let mut looks = 0;
        let looking = std::future::poll_fn(|cx| {
            looks += 1;
            work.poll_done(cx)
        });
        looking.await.unwrap();
        assert!(looks >= 3, "{looks} looks");
    }

    #[tokio::test]
    async fn it_is_gone_as_soon_as_it_is_dropped() {
        let held = Arc::new(());
        let inside = held.clone();
        let work = Work::begin(async move {
            std::future::pending::<()>().await;
            drop(inside);
        });
        tokio::task::yield_now().await;
        assert_eq!(Arc::strong_count(&held), 2);
        drop(work);
        assert_eq!(Arc::strong_count(&held), 1);
    }

    #[tokio::test]
    async fn a_panic_of_it_is_told_and_reaches_nobody_else() {
        let work = Work::<()>::begin(async { panic!("on purpose") });
        assert!(done(&work).await.is_err());
        let mut again = Box::pin(done(&work));
        assert!(poll!(&mut again).is_pending(), "it is told once");
    }
}

//! Wake-ups that would be in vain, kept from doing work.
//!
//! hyper wakes a connection's task for every piece of a body that is taken from it, even in the middle of a poll of that very
//! task; and polls all that it has whenever the task runs. Each is right by itself. Together they had a request and its
//! connection polled four times where two things happen to it: it comes, and its answer comes.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use futures_util::task::AtomicWaker;
use pin_project_lite::pin_project;

pin_project! {
    /// A future that is polled only if something it waits for has woken it, whatever else its task is woken for. What
    /// looks at a flag whenever it is polled, and has nobody to wake it, must not lie below.
    #[derive(Debug)]
    pub(crate) struct WhenWoken<F> {
        #[pin]
        inner: F,
        ear: Arc<Ear>,
        waker: Waker,
    }
}

#[derive(Debug)]
struct Ear {
    task: AtomicWaker,
    is_woken: AtomicBool,
}

impl Wake for Ear {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.is_woken.swap(true, Ordering::AcqRel) {
            self.task.wake();
        }
    }
}

impl<F> WhenWoken<F> {
    /// The first poll goes through.
    pub(crate) fn new(inner: F) -> Self {
        let ear = Arc::new(Ear {
            task: AtomicWaker::new(),
            is_woken: AtomicBool::new(true),
        });
        let waker = Waker::from(Arc::clone(&ear));
        Self { inner, ear, waker }
    }
}

impl<F: Future> Future for WhenWoken<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        // In this order: a wake-up between the two is seen by the second.
        this.ear.task.register(cx.waker());
        if !this.ear.is_woken.swap(false, Ordering::AcqRel) {
            return Poll::Pending;
        }
        this.inner.poll(&mut Context::from_waker(this.waker))
    }
}

/// Passes wake-ups on while somebody waits, and none to a task that is just at it: who has been given something
/// asks again before it waits.
#[derive(Debug)]
pub(crate) struct Bell {
    rope: Arc<Rope>,
    waker: Waker,
}

#[derive(Debug, Default)]
struct Rope {
    task: AtomicWaker,
    is_awaited: AtomicBool,
    is_pulled: AtomicBool,
}

impl Wake for Rope {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    // Here what happened is noted and then asked who waits; where somebody begins to wait it is the other way round. In one
    // order for all threads (`SeqCst`), at least one of the two sees the other.
    fn wake_by_ref(self: &Arc<Self>) {
        self.is_pulled.store(true, Ordering::SeqCst);
        if self.is_awaited.swap(false, Ordering::SeqCst) {
            self.task.wake();
        }
    }
}

impl Bell {
    pub(crate) fn new() -> Self {
        let rope = Arc::<Rope>::default();
        let waker = Waker::from(Arc::clone(&rope));
        Self { rope, waker }
    }

    /// Runs `poll`, which may do and wake what it likes. Only if nothing came of it, who called is woken: at once if something
    /// was woken meanwhile, or when something will be.
    pub(crate) fn poll<T>(
        &self,
        cx: &Context<'_>,
        poll: impl FnOnce(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        self.rope.is_awaited.store(false, Ordering::SeqCst);
        // Taken, not overwritten: what happened before the pull that is forgotten here must be seen by the poll.
        self.rope.is_pulled.swap(false, Ordering::SeqCst);
        let polled = poll(&mut Context::from_waker(&self.waker));
        if polled.is_pending() {
            self.rope.task.register(cx.waker());
            self.rope.is_awaited.store(true, Ordering::SeqCst);
            if self.rope.is_pulled.load(Ordering::SeqCst) {
                self.rope.wake_by_ref();
            }
        }
        polled
    }
}

#[cfg(test)]
mod tests;

use std::{future::poll_fn, sync::atomic::AtomicUsize, thread, time::Duration};

use tokio::time::timeout;

use super::*;

/// Far beyond what it takes: only a wake-up that is lost ends here.
const STUCK: Duration = Duration::from_secs(60);

/// A task that counts how often it is woken.
#[derive(Debug, Default)]
struct Task(AtomicUsize);

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Task {
    fn with_waker() -> (Arc<Self>, Waker) {
        let task = Arc::<Self>::default();
        (Arc::clone(&task), Waker::from(task))
    }

    fn woken(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

/// What is polled: counts, keeps the waker it was given, and wakes itself where it is told so.
#[derive(Debug, Default)]
struct Inner {
    polls: usize,
    waker: Option<Waker>,
    wakes_itself: bool,
}

impl Inner {
    fn poll<T>(&mut self, cx: &Context<'_>, polled: Poll<T>) -> Poll<T> {
        self.polls += 1;
        self.waker = Some(cx.waker().clone());
        if self.wakes_itself {
            cx.waker().wake_by_ref();
        }
        polled
    }

    fn wake(&self) {
        self.waker.as_ref().expect("it was polled").wake_by_ref();
    }
}

impl Future for Inner {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        Self::poll(&mut self, cx, Poll::Pending)
    }
}

fn poll(future: &mut WhenWoken<Inner>, waker: &Waker) {
    let polled = Pin::new(future).poll(&mut Context::from_waker(waker));
    assert!(polled.is_pending());
}

#[test]
fn who_was_not_woken_is_not_polled() {
    let (task, waker) = Task::with_waker();
    let mut future = WhenWoken::new(Inner::default());
    for _ in 0..3 {
        poll(&mut future, &waker);
        assert_eq!(future.inner.polls, 1, "the first poll goes through");
    }
    assert_eq!(task.woken(), 0);
    // However often, it is one wake-up and one poll.
    future.inner.wake();
    future.inner.wake();
    assert_eq!(task.woken(), 1);
    for _ in 0..2 {
        poll(&mut future, &waker);
        assert_eq!(future.inner.polls, 2);
    }
}

#[test]
fn who_wakes_itself_is_polled_again() {
    let (task, waker) = Task::with_waker();
    let mut future = WhenWoken::new(Inner {
        wakes_itself: true,
        ..Inner::default()
    });
    for polls in 1..4 {
        poll(&mut future, &waker);
        assert_eq!((future.inner.polls, task.woken()), (polls, polls));
    }
}

#[test]
fn the_task_that_polled_last_is_woken() {
    let ((first, first_waker), (second, second_waker)) = (Task::with_waker(), Task::with_waker());
    let mut future = WhenWoken::new(Inner::default());
    poll(&mut future, &first_waker);
    poll(&mut future, &second_waker);
    assert_eq!(future.inner.polls, 1);
    future.inner.wake();
    assert_eq!((first.woken(), second.woken()), (0, 1));
}

#[test]
fn a_bell_is_silent_for_who_is_given_something() {
    let (task, waker) = Task::with_waker();
    let (bell, cx) = (Bell::new(), Context::from_waker(&waker));
    let mut inner = Inner {
        wakes_itself: true,
        ..Inner::default()
    };
    assert!(
        bell.poll(&cx, |cx| inner.poll(cx, Poll::Ready(())))
            .is_ready()
    );
    inner.wake();
    assert_eq!(task.woken(), 0, "it asks again before it waits");

    assert!(
        bell.poll(&cx, |cx| inner.poll(cx, Poll::<()>::Pending))
            .is_pending()
    );
    assert_eq!(
        task.woken(),
        1,
        "woken in the middle of a poll that gave nothing"
    );
}

#[test]
fn a_bell_wakes_who_waits_once() {
    let (task, waker) = Task::with_waker();
    let (bell, cx) = (Bell::new(), Context::from_waker(&waker));
    let mut inner = Inner::default();
    for times in 1..4 {
        assert!(
            bell.poll(&cx, |cx| inner.poll(cx, Poll::<()>::Pending))
                .is_pending()
        );
        assert_eq!(task.woken(), times - 1);
        inner.wake();
        inner.wake();
        assert_eq!(task.woken(), times);
    }
}

/// A count that another thread raises by one as soon as the last raise was seen.
#[derive(Debug, Default)]
struct Count {
    raised: AtomicUsize,
    seen: AtomicUsize,
    waiter: AtomicWaker,
}

const RAISES: usize = 20_000;

impl Count {
    fn raise_all(&self) {
        for raise in 1..=RAISES {
            self.raised.store(raise, Ordering::SeqCst);
            self.waiter.wake();
            while self.seen.load(Ordering::SeqCst) < raise {
                thread::yield_now();
            }
        }
    }

    /// Takes note of what was raised. Ready when it was raised since that was last done.
    fn poll_raised(&self, cx: &Context<'_>) -> Poll<usize> {
        self.waiter.register(cx.waker());
        let raised = self.raised.load(Ordering::SeqCst);
        if raised == self.seen.swap(raised, Ordering::SeqCst) {
            return Poll::Pending;
        }
        Poll::Ready(raised)
    }
}

/// Sees every one of the raises, by a future that `seeing` makes.
async fn see_all<F: Future<Output = ()>>(seeing: impl FnOnce(Arc<Count>) -> F) {
    let count = Arc::<Count>::default();
    let raising = thread::spawn({
        let count = Arc::clone(&count);
        move || count.raise_all()
    });
    let seen = timeout(STUCK, seeing(Arc::clone(&count))).await;
    seen.expect("no wake-up is lost");
    raising.join().expect("it only counts");
}

#[tokio::test]
async fn a_future_that_must_be_woken_misses_no_wake_up_from_another_thread() {
    see_all(|count| {
        WhenWoken::new(poll_fn(move |cx| match count.poll_raised(cx) {
            Poll::Ready(RAISES) => Poll::Ready(()),
            _ => Poll::Pending,
        }))
    })
    .await;
}

#[tokio::test]
async fn a_bell_misses_no_wake_up_from_another_thread() {
    see_all(|count| async move {
        let bell = Bell::new();
        while poll_fn(|cx| bell.poll(cx, |cx| count.poll_raised(cx))).await < RAISES {}
    })
    .await;
}

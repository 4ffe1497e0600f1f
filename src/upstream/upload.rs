//! Long uploads: the first byte of an answer cannot be expected before the request has left.

use std::{
    pin::{Pin, pin},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt as _;
use tokio::time::{Instant, sleep_until};

use crate::body::{Body, BodyError};

/// Bodies above this size are watched; smaller ones leave in one or two writes.
pub const WATCHED_FROM: usize = 256 * 1024;

/// How the body of one attempt comes along.
#[derive(Clone, Debug)]
pub struct Upload(Arc<Mutex<Progress>>);

#[derive(Copy, Clone, Debug)]
struct Progress {
    /// When a piece last left.
    at: Instant,
    /// The next piece is not there yet: its caller is slow, and not the upstream.
    waits_for_caller: bool,
}

impl Upload {
    /// Begins now.
    #[must_use]
    pub fn begin() -> Self {
        Self(Arc::new(Mutex::new(Progress {
            at: Instant::now(),
            waits_for_caller: false,
        })))
    }

    /// Begins anew: what came before the attempt was sent (a wait in its lane) is no silence.
    pub fn restart(&self) {
        self.progress().at = Instant::now();
    }

    /// Whether it is the caller who keeps the upload waiting.
    #[must_use]
    pub fn waits_for_caller(&self) -> bool {
        self.progress().waits_for_caller
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wraps the body so that each piece that leaves is noted.
    pub(super) fn watch(&self, body: Body) -> Body {
        Watched {
            body,
            upload: self.clone(),
        }
        .boxed_unsync()
    }

    /// Waits for `sending` until the upstream has been silent for `silence`, neither taking a piece nor
    /// answering, or until `at_most`. `None` when that came first.
    pub async fn wait_for<T>(
        &self,
        sending: impl Future<Output = T>,
        silence: Duration,
        at_most: Instant,
    ) -> Option<T> {
        let mut sending = pin!(sending);
        loop {
            let silent_until = self.progress().at + silence;
            let look = at_most.min(silent_until.max(Instant::now() + silence / 8));
            tokio::select! {
                biased;
                sent = &mut sending => return Some(sent),
                () = sleep_until(look) => {
                    let Progress { at, waits_for_caller } = *self.progress();
                    let now = Instant::now();
                    if now >= at_most || (now >= at + silence && !waits_for_caller) {
                        return None;
                    }
                }
            }
        }
    }
}

struct Watched {
    body: Body,
    upload: Upload,
}

impl http_body::Body for Watched {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        let mut progress = self.upload.progress();
        progress.waits_for_caller = polled.is_pending();
        if polled.is_ready() {
            progress.at = Instant::now();
        }
        drop(progress);
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_progressing_upload_may_outlast_the_silence_and_a_stalled_one_may_not() {
        let upload = Upload::begin();
        let (start, silence, far) = (
            Instant::now(),
            Duration::from_secs(10),
            Instant::now() + Duration::from_secs(1000),
        );
        let progressing = async {
            for _ in 0..5 {
                tokio::time::sleep(Duration::from_secs(8)).await;
                upload.restart();
            }
            tokio::time::sleep(Duration::from_secs(9)).await;
            "answered"
        };
        assert_eq!(
            upload.wait_for(progressing, silence, far).await,
            Some("answered")
        );
        assert_eq!(start.elapsed().as_secs(), 49);

        let stalled = Upload::begin();
        let start = Instant::now();
        assert_eq!(
            stalled
                .wait_for(std::future::pending::<()>(), silence, far)
                .await,
            None
        );
        assert_eq!(start.elapsed().as_secs(), 10);
        let start = Instant::now();
        let fresh = Upload::begin();
        assert_eq!(
            fresh
                .wait_for(
                    std::future::pending::<()>(),
                    silence,
                    start + Duration::from_secs(1)
                )
                .await,
            None
        );
        assert_eq!(
            start.elapsed().as_secs(),
            1,
            "never beyond the caller's time"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_of_the_callers_is_no_silence_of_the_upstreams() {
        let (upload, start) = (Upload::begin(), Instant::now());
        let (silence, far) = (Duration::from_secs(8), start + Duration::from_secs(100));
        let pausing = async {
            upload.progress().waits_for_caller = true;
            tokio::time::sleep(Duration::from_secs(50)).await;
            *upload.progress() = Upload::begin().progress().to_owned();
            std::future::pending::<()>().await;
        };
        assert_eq!(upload.wait_for(pausing, silence, far).await, None);
        let waited = start.elapsed().as_secs();
        assert!((58..=59).contains(&waited), "{waited} s");
    }
}

//! The last step before an entry is sent: that it is about to be is on the disk.
//!
//! The layer stands below the lane, so that an entry waits for its turn as one that was not begun. What is forced to the
//! disk here, within the lane's permit, is one small row.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Poll},
};

use futures_util::future::BoxFuture;
use tower::{Layer, Service};

use crate::{
    attempt::{Answer, Attempted, Cause, Failure},
    call::Attempt,
    retry::triage::{Class, Verdict},
    stacked::Stacked,
    store::jobs::{JobId, Jobs, Millis},
};

/// Begins one entry, unless the process was told to stop before.
///
/// The two exclude each other: whichever comes first has it. So nothing is begun once the stop has come, and a try that
/// was writing that it begins is not dropped over it, which would leave an entry marked that was never sent.
#[derive(Clone, Debug)]
pub struct BeginLayer {
    store: Arc<dyn Jobs>,
    id: JobId,
    stage: Arc<AtomicU8>,
}

/// It waits for its turn.
const WAITING: u8 = 0;
/// That it begins is being written.
const ASKED: u8 = 1;
/// It may have been sent.
const BEGUN: u8 = 2;
/// It is not begun any more.
const SHUT: u8 = 3;

impl BeginLayer {
    /// For the entry of this name, which is held.
    pub(super) fn new(store: Arc<dyn Jobs>, id: JobId) -> Self {
        Self {
            store,
            id,
            stage: Arc::new(AtomicU8::new(WAITING)),
        }
    }

    /// The entry.
    pub(super) const fn id(&self) -> JobId {
        self.id
    }

    /// Whether it was begun: from then on it may have been carried out.
    pub(super) fn is_begun(&self) -> bool {
        self.stage.load(Ordering::Acquire) == BEGUN
    }

    /// Sees to it that it is not begun; false where that is too late.
    pub(super) fn shut(&self) -> bool {
        self.moved(WAITING, SHUT).is_ok()
    }

    fn moved(&self, from: u8, to: u8) -> Result<u8, u8> {
        let (success, failure) = (Ordering::AcqRel, Ordering::Acquire);
        self.stage.compare_exchange(from, to, success, failure)
    }

    async fn begin(&self) -> Result<(), Failure> {
        let is_begun = match self.moved(WAITING, ASKED) {
            // Where it is not: cancelled meanwhile, or the storage does not work and says so itself.
            Ok(_) => {
                let begun = self.store.begin(self.id, Millis::now()).await;
                let is_begun = begun == Ok(true);
                let stage = if is_begun { BEGUN } else { SHUT };
                self.stage.store(stage, Ordering::Release);
                is_begun
            }
            // The further attempts of a chain belong to the same try.
            Err(stage) => stage == BEGUN,
        };
        if is_begun {
            return Ok(());
        }
        Err(Failure {
            verdict: Verdict::final_of(Class::Abandoned),
            cause: Cause::NotBegun,
        })
    }
}

impl<S: Clone> Layer<S> for BeginLayer {
    type Service = Begin<S>;

    fn layer(&self, inner: S) -> Begin<S> {
        Begin(Stacked::new(self.clone(), inner))
    }
}

/// Sends an attempt once its entry is begun.
#[derive(Clone, Debug)]
pub struct Begin<S>(Stacked<BeginLayer, S>);

impl<S> Service<Attempt> for Begin<S>
where
    S: Service<Attempt, Response = Answer, Error = Failure, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static,
{
    type Response = Answer;
    type Error = Failure;
    type Future = BoxFuture<'static, Attempted>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, attempt: Attempt) -> Self::Future {
        let with = self.0.clone();
        Box::pin(async move {
            with.begin().await?;
            with.below().call(attempt).await
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::store::{
        jobs::{Bounds, NewJob, OnCrash, Put, State},
        sqlite::{Settings, Sqlite},
    };

    /// A file with one entry that is held, and its folder.
    async fn held() -> (Arc<dyn Jobs>, JobId, std::path::PathBuf) {
        let id = JobId::random(&mut rand::rng());
        let folder = std::env::temp_dir().join(format!("surgetank-begin-{id}"));
        std::fs::create_dir(&folder).unwrap();
        let settings = Settings {
            path: folder.join("queue.db"),
            bounds: Bounds {
                requests: 10,
                bytes: 1_000,
            },
            on_crash: OnCrash::Retry,
            keep: Duration::from_secs(3_600),
        };
        let store: Arc<dyn Jobs> = Arc::new(Sqlite::serve(settings).unwrap());
        let now = Millis::now();
        let job = NewJob {
            id,
            owner: [1; 32],
            user: [1; 16],
            key: None,
            print: [0; 32],
            route: "chat".into(),
            head: Vec::new(),
            body: Vec::new(),
            webhook: None,
            now,
            expires: now.after(Duration::from_secs(60)),
        };
        assert_eq!(store.put(job).await, Ok(Put::Kept));
        assert_eq!(store.take("chat", 1, now).await.unwrap().len(), 1);
        (store, id, folder)
    }

    async fn stands(store: &Arc<dyn Jobs>, id: JobId) -> (State, bool, u32) {
        let record = store.look(id).await.unwrap().unwrap();
        (record.state, record.uncertain, record.attempts)
    }

    #[tokio::test]
    async fn nothing_is_begun_once_the_stop_has_come() {
        let (store, id, folder) = held().await;
        let begin = BeginLayer::new(store.clone(), id);
        assert!(begin.shut());
        let refused = begin.begin().await.unwrap_err();
        assert!(matches!(refused.cause, Cause::NotBegun));
        assert!(!begin.is_begun());
        assert_eq!(stands(&store, id).await, (State::Pending, false, 0));
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[tokio::test]
    async fn a_try_that_is_being_begun_when_the_stop_comes_is_not_dropped() {
        let (store, id, folder) = held().await;
        let begin = BeginLayer::new(store.clone(), id);
        let mut beginning = Box::pin(begin.begin());
        let came = match futures_util::poll!(beginning.as_mut()) {
            Poll::Ready(came) => came,
            Poll::Pending => {
                assert!(!begin.shut(), "it is on its way to the disk");
                beginning.await
            }
        };
        assert!(came.is_ok());
        assert!(begin.is_begun() && !begin.shut());
        assert!(
            begin.begin().await.is_ok(),
            "the next upstream of the chain"
        );
        assert_eq!(stands(&store, id).await, (State::Running, false, 1));
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[tokio::test]
    async fn what_was_begun_and_not_sent_is_as_if_it_were_not_begun() {
        let (store, id, folder) = held().await;
        let now = Millis::now();
        assert_eq!(store.begin(id, now).await, Ok(true));
        assert_eq!(store.give_back(id, now).await, Ok(()));
        assert_eq!(stands(&store, id).await, (State::Pending, false, 0));
        assert_eq!(store.take("chat", 1, now).await.unwrap().len(), 1);
        std::fs::remove_dir_all(folder).unwrap();
    }
}

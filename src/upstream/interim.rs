//! Answers before the answer (1xx, RFC 9110 §15.2): passed over, but not for ever.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use http::Request;
use tokio::sync::Notify;

use super::h1::MOST_INTERIM;

/// Those that have come before one answer.
#[derive(Debug, Default)]
pub(super) struct Interim {
    count: AtomicU32,
    too_many: Notify,
}

impl Interim {
    /// Counts those that will come for `request`.
    pub(super) fn watch<B>(request: &mut Request<B>) -> Arc<Self> {
        let interim = Arc::<Self>::default();
        let counting = interim.clone();
        hyper::ext::on_informational(request, move |_| counting.one());
        interim
    }

    fn one(&self) {
        if self.count.fetch_add(1, Ordering::Relaxed) == MOST_INTERIM {
            self.too_many.notify_one();
        }
    }

    /// Whether there were too many of them.
    pub(super) fn is_flood(&self) -> bool {
        self.count.load(Ordering::Relaxed) > MOST_INTERIM
    }

    /// Waits until there are too many of them.
    pub(super) async fn flood(&self) {
        self.too_many.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use futures_util::poll;

    use super::*;

    #[tokio::test]
    async fn a_hundred_are_borne() {
        let interim = Interim::default();
        let mut flood = Box::pin(interim.flood());
        for _ in 0..MOST_INTERIM {
            interim.one();
            assert!(poll!(&mut flood).is_pending() && !interim.is_flood());
        }
        interim.one();
        assert!(poll!(&mut flood).is_ready() && interim.is_flood());
    }
}

//! Noticing that a caller has gone whose upload is not read.
//!
//! hyper finds the end of a connection by reading, and reads an upload only as fast as it is passed on. While an upstream
//! takes nothing, the socket itself is asked.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Sleep, sleep};

use super::clock::ConnectionClock;

/// How often the socket is asked whether its peer has gone, while an upload is not read.
const LOOK_FOR_PEER: Duration = Duration::from_millis(50);

/// Polls a connection, and sees to it that the end of one whose upload is not read is seen too.
#[derive(Default)]
pub(super) struct Hearing {
    /// Made when there is need of it, which is seldom.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Hearing {
    /// Polls `connection`; whoever polls on is woken for whatever comes first.
    pub(super) fn poll(
        &mut self,
        mut connection: Pin<&mut impl Future>,
        clock: &ConnectionClock,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        while connection.as_mut().poll(cx).is_pending() {
            if self.timer.is_none() && !clock.is_deaf() {
                return Poll::Pending;
            }
            let timer = self
                .timer
                .get_or_insert_with(|| Box::pin(sleep(LOOK_FOR_PEER)));
            ready!(timer.as_mut().poll(cx));
            self.timer = None;
            if !clock.is_deaf() {
                return Poll::Pending;
            }
            // The next poll flushes, and so comes by the socket.
            clock.look();
        }
        Poll::Ready(())
    }
}

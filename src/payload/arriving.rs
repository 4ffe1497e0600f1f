//! A request's body on its way from its caller, who may stop in the middle.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep, sleep_until};

use super::{PayloadError, STALL};

/// Fails when its caller pauses for longer than [`STALL`].
#[derive(Debug)]
pub(super) struct Arriving<B = Incoming> {
    body: B,
    /// Made at the first pause: most bodies are there at once.
    timer: Option<Pin<Box<Sleep>>>,
    is_waiting: bool,
}

impl<B> Arriving<B> {
    pub(super) fn new(body: B) -> Self {
        Self {
            body,
            timer: None,
            is_waiting: false,
        }
    }

    fn poll_stalled(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let stalled_at = Instant::now() + STALL;
        let begins = !std::mem::replace(&mut self.is_waiting, true);
        let timer = match &mut self.timer {
            Some(timer) => {
                if begins {
                    timer.as_mut().reset(stalled_at);
                }
                timer
            }
            none => none.insert(Box::pin(sleep_until(stalled_at))),
        };
        timer.as_mut().poll(cx)
    }
}

impl<B> http_body::Body for Arriving<B>
where
    B: http_body::Body<Data = Bytes, Error: Into<PayloadError>> + Unpin,
{
    type Data = Bytes;
    type Error = PayloadError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, PayloadError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            self.is_waiting = false;
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        ready!(self.poll_stalled(cx));
        Poll::Ready(Some(Err(PayloadError::Stalled)))
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
    use std::time::Duration;

    use http_body_util::{BodyExt as _, StreamBody};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_caller_may_pause_again_and_again_but_not_for_long() {
        let pauses = [59, 59, 61, 1];
        let pieces = futures_util::stream::unfold(0, |piece| {
            Box::pin(async move {
                tokio::time::sleep(Duration::from_secs(*pauses.get(piece)?)).await;
                let frame = Frame::data(Bytes::from_static(b"x"));
                Some((Ok::<_, PayloadError>(frame), piece + 1))
            })
        });
        let mut arriving = Arriving::new(StreamBody::new(pieces));
        for _ in 0..2 {
            let frame = arriving.frame().await.expect("not the end");
            assert!(frame.is_ok());
        }
        let began = Instant::now();
        let frame = arriving.frame().await.expect("not the end");
        assert!(matches!(frame, Err(PayloadError::Stalled)));
        assert_eq!(began.elapsed(), STALL);
    }
}

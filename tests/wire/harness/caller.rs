//! The application's side: sends exact bytes, reads exact bytes.

use std::net::SocketAddr;

use super::{Answer, Filled, Head, Request, Wire};

/// A connection to the proxy.
pub(crate) struct Caller {
    pub(crate) wire: Wire,
}

impl Caller {
    pub(crate) async fn connect(addr: SocketAddr) -> Self {
        Self {
            wire: Wire::connect(addr).await,
        }
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.wire.send(bytes).await;
    }

    /// Sends a request and reads its answer.
    pub(crate) async fn call(&mut self, request: &Request) -> Answer {
        self.send(request.bytes()).await;
        self.answer_to(&request.method).await
    }

    /// As [`Caller::call`], where there may be no answer at all; then the end of the connection.
    pub(crate) async fn try_call(&mut self, request: &Request) -> Result<Answer, Filled> {
        self.send(request.bytes()).await;
        let head = self.wire.head().await?;
        Ok(self.body_of(head, &request.method).await)
    }

    /// The head of the next answer, interim answers left out.
    pub(crate) async fn head(&mut self) -> Head {
        loop {
            let head = self
                .wire
                .head()
                .await
                .unwrap_or_else(|end| panic!("{end:?} instead of an answer"));
            if head.status() >= 200 {
                return head;
            }
        }
    }

    /// The next answer, to a request that is not HEAD.
    pub(crate) async fn answer(&mut self) -> Answer {
        self.answer_to("POST").await
    }

    pub(crate) async fn answer_to(&mut self, method: &str) -> Answer {
        let head = self.head().await;
        self.body_of(head, method).await
    }

    /// The body behind a head that was read before.
    pub(crate) async fn body_of(&mut self, head: Head, method: &str) -> Answer {
        let body = self.wire.body(head.answer_framing(method)).await;
        Answer {
            status: head.status(),
            head,
            body: body.data,
            trailers: body.trailers,
            end: body.end,
        }
    }
}

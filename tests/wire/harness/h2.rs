//! A caller that speaks HTTP/2 and decides itself how much it takes.

use std::net::SocketAddr;

use bytes::Bytes;
use h2::{Ping, PingPong, RecvStream, client::SendRequest};
use tokio::{net::TcpStream, task::JoinHandle};

use super::{Request, soon};

pub(crate) struct H2Caller {
    sender: SendRequest<Bytes>,
    pings: PingPong,
    /// Ends with the connection, in the way in which the proxy ended it.
    pub(crate) driving: JoinHandle<Result<(), h2::Error>>,
}

/// How an answer went on after its head.
#[derive(Debug)]
pub(crate) struct H2Rest {
    pub(crate) data: Vec<u8>,
    /// Why it was reset, if it was.
    pub(crate) reset: Option<h2::Reason>,
}

impl H2Caller {
    /// Connects; each stream may bring `window` bytes before it is given more.
    pub(crate) async fn connect(addr: SocketAddr, window: u32) -> Self {
        let stream = soon("connect", TcpStream::connect(addr))
            .await
            .expect("it listens");
        let handshake = h2::client::Builder::new()
            .initial_window_size(window)
            .handshake(stream);
        let (sender, mut connection) = handshake.await.expect("HTTP/2");
        let pings = connection.ping_pong().expect("taken once");
        Self {
            sender,
            pings,
            driving: tokio::spawn(connection),
        }
    }

    /// Sends a request and waits for its answer's head.
    pub(crate) async fn call(&mut self, request: &Request) -> http::Response<RecvStream> {
        let (head, body) = request.http();
        let mut sender = self.sender.clone().ready().await.expect("it goes on");
        let (answer, mut upload) = sender
            .send_request(head, body.is_empty())
            .expect("a request");
        if !body.is_empty() {
            upload.send_data(body, true).expect("it is sent");
        }
        soon("an answer", answer).await.expect("an answer")
    }

    pub(crate) async fn ping(&mut self) -> Result<(), h2::Error> {
        self.pings.ping(Ping::opaque()).await.map(drop)
    }
}

/// Takes what comes until the stream ends.
pub(crate) async fn read(body: &mut RecvStream) -> H2Rest {
    let mut data = Vec::new();
    while let Some(piece) = soon("a piece", body.data()).await {
        match piece {
            Ok(piece) => {
                data.extend_from_slice(&piece);
                let _ = body.flow_control().release_capacity(piece.len());
            }
            Err(error) => {
                let reset = error.reason();
                return H2Rest {
                    data,
                    reset: Some(reset.expect("a stream ends by a reset")),
                };
            }
        }
    }
    H2Rest { data, reset: None }
}

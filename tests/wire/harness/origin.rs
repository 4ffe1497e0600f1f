//! An upstream that a test plays byte by byte.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{net::TcpListener, task::JoinHandle};

use super::{End, Head, Wire, soon, text};

/// A listening upstream.
pub(crate) struct Origin {
    listener: TcpListener,
    pub(crate) addr: SocketAddr,
}

/// A request as the upstream saw it.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) head: Head,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Vec<(String, Vec<u8>)>,
    pub(crate) end: End,
}

/// What an upstream does with a request.
pub(crate) enum Play {
    /// Answers, and goes on.
    Answer(Vec<u8>),
    /// Sends this, then closes.
    Last(Vec<u8>),
    /// Sends this, then resets the connection.
    Reset(Vec<u8>),
}

/// A connection from the proxy.
pub(crate) struct OriginConnection {
    pub(crate) wire: Wire,
}

impl Origin {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let addr = listener.local_addr().expect("bound");
        Self { listener, addr }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    pub(crate) async fn accept(&self) -> OriginConnection {
        soon("a connection from the proxy", self.accept_at_last()).await
    }

    /// As [`Origin::accept`], however long it takes.
    pub(crate) async fn accept_at_last(&self) -> OriginConnection {
        let (stream, _) = self.listener.accept().await.expect("accepted");
        OriginConnection {
            wire: Wire::new(stream),
        }
    }

    /// Plays by itself from here on: each request on each connection gets what `answer` says, and is noted.
    /// `None` closes the connection instead.
    pub(crate) fn serve(
        self,
        answer: impl Fn(&Seen) -> Option<Vec<u8>> + Send + Sync + 'static,
    ) -> Serving {
        self.play(move |seen| answer(seen).map_or(Play::Last(Vec::new()), Play::Answer))
    }

    /// As [`Origin::serve`], with a choice of endings.
    pub(crate) fn play(self, answer: impl Fn(&Seen) -> Play + Send + Sync + 'static) -> Serving {
        let (seen, answer) = (Arc::new(Mutex::new(Vec::new())), Arc::new(answer));
        let (addr, noted) = (self.addr, seen.clone());
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let Ok((stream, _)) = self.listener.accept().await else {
                    return;
                };
                let (noted, answer) = (noted.clone(), answer.clone());
                connections.spawn(async move {
                    let mut wire = Wire::new(stream);
                    while let Some(request) = next_request(&mut wire).await {
                        let play = answer(&request);
                        noted
                            .lock()
                            .expect("no test panics while it notes")
                            .push(request);
                        let (Play::Answer(bytes) | Play::Last(bytes) | Play::Reset(bytes)) = &play;
                        let gone = wire.try_send(bytes).await.is_err();
                        match play {
                            Play::Answer(_) if !gone => {}
                            Play::Reset(_) => return wire.reset(),
                            _ => return,
                        }
                    }
                });
            }
        });
        Serving { addr, seen, task }
    }
}

/// An upstream that plays by itself, until it is dropped.
pub(crate) struct Serving {
    pub(crate) addr: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    task: JoinHandle<()>,
}

impl Serving {
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// The requests so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen
            .lock()
            .expect("no test panics while it notes")
            .clone()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl OriginConnection {
    /// The next request, or the end of the connection.
    pub(crate) async fn next_request(&mut self) -> Option<Seen> {
        next_request(&mut self.wire).await
    }

    /// The next whole request.
    pub(crate) async fn request(&mut self) -> Seen {
        let seen = next_request(&mut self.wire).await.expect("a request");
        assert_eq!(
            seen.end,
            End::Whole,
            "the request broke off: {}",
            text(&seen.body)
        );
        seen
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.wire.send(bytes).await;
    }

    /// Answers with this body and its length.
    pub(crate) async fn send_json(&mut self, body: &str) {
        let length = body.len();
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
        );
        self.send(head + body).await;
    }

    /// Begins an answer that is a stream of events.
    pub(crate) async fn begin_stream(&mut self) {
        self.send("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n").await;
    }

    /// Sends a piece of a chunked body.
    pub(crate) async fn send_chunk(&mut self, data: impl AsRef<[u8]>) {
        self.send(chunked(data)).await;
    }

    pub(crate) async fn end_chunks(&mut self) {
        self.send("0\r\n\r\n").await;
    }
}

async fn next_request(wire: &mut Wire) -> Option<Seen> {
    let head = wire.head().await.ok()?;
    let body = wire.body(head.request_framing()).await;
    Some(Seen {
        head,
        body: body.data,
        trailers: body.trailers,
        end: body.end,
    })
}

/// A piece of a body in its chunk.
pub(crate) fn chunked(data: impl AsRef<[u8]>) -> Vec<u8> {
    let data = data.as_ref();
    let mut chunk = format!("{:x}\r\n", data.len()).into_bytes();
    chunk.extend_from_slice(data);
    chunk.extend_from_slice(b"\r\n");
    chunk
}

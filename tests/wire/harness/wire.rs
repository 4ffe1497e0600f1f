//! A socket with what was read from it and not yet used.

use std::{io, net::SocketAddr, path::Path};

use bytes::BytesMut;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, UnixStream},
};
use tokio_rustls::client::TlsStream;

use super::{
    End, Head,
    message::{self, Framing},
    soon,
};

/// One end of a connection.
pub(crate) struct Wire {
    stream: Stream,
    /// Received, and not yet taken.
    pub(crate) inbox: BytesMut,
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// What a read brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Filled {
    Bytes,
    Fin,
    Reset,
}

impl Wire {
    pub(crate) async fn connect(addr: SocketAddr) -> Self {
        let stream = soon("connect", TcpStream::connect(addr))
            .await
            .expect("somebody listens");
        Self::new(stream)
    }

    pub(crate) async fn connect_unix(path: &Path) -> Self {
        let stream = soon("connect", UnixStream::connect(path))
            .await
            .expect("somebody listens");
        Self {
            stream: Stream::Unix(stream),
            inbox: BytesMut::new(),
        }
    }

    pub(crate) fn of_tls(stream: TlsStream<TcpStream>) -> Self {
        Self {
            stream: Stream::Tls(Box::new(stream)),
            inbox: BytesMut::new(),
        }
    }

    pub(crate) fn new(stream: TcpStream) -> Self {
        stream.set_nodelay(true).expect("the socket lives");
        Self {
            stream: Stream::Tcp(stream),
            inbox: BytesMut::new(),
        }
    }

    /// The socket itself, for a server that speaks for itself.
    pub(crate) fn into_tcp(self) -> TcpStream {
        assert!(self.inbox.is_empty(), "nothing was read of it");
        match self.stream {
            Stream::Tcp(stream) => stream,
            Stream::Unix(_) | Stream::Tls(_) => panic!("it came over plain TCP"),
        }
    }

    /// Sends all of `bytes`.
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes)
            .await
            .expect("the peer takes the bytes");
    }

    /// Sends `bytes` to a peer that may have gone.
    pub(crate) async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        match &mut self.stream {
            Stream::Tcp(stream) => soon("send", stream.write_all(bytes.as_ref())).await,
            Stream::Unix(stream) => soon("send", stream.write_all(bytes.as_ref())).await,
            Stream::Tls(stream) => soon("send", stream.write_all(bytes.as_ref())).await,
        }
    }

    /// Reads once.
    pub(crate) async fn fill(&mut self) -> Filled {
        let read = match &mut self.stream {
            Stream::Tcp(stream) => {
                soon("bytes from the peer", stream.read_buf(&mut self.inbox)).await
            }
            Stream::Unix(stream) => {
                soon("bytes from the peer", stream.read_buf(&mut self.inbox)).await
            }
            Stream::Tls(stream) => {
                soon("bytes from the peer", stream.read_buf(&mut self.inbox)).await
            }
        };
        match read {
            Ok(0) => Filled::Fin,
            Ok(_) => Filled::Bytes,
            Err(_) => Filled::Reset,
        }
    }

    /// Reads until `needle` has come, and takes everything through its end.
    pub(crate) async fn through(&mut self, needle: &[u8]) -> Vec<u8> {
        loop {
            if let Some(at) = super::find(&self.inbox, needle) {
                return self.inbox.split_to(at + needle.len()).to_vec();
            }
            let filled = self.fill().await;
            let seen = super::text(&self.inbox);
            assert_eq!(
                filled,
                Filled::Bytes,
                "{:?} never came; seen: {seen}",
                super::text(needle)
            );
        }
    }

    /// Reads the next head; `Err` with the end of the connection when none comes.
    pub(crate) async fn head(&mut self) -> Result<Head, Filled> {
        loop {
            if let Some(at) = super::find(&self.inbox, b"\r\n\r\n") {
                return Ok(Head::parse(&self.inbox.split_to(at + 4)));
            }
            match self.fill().await {
                Filled::Bytes => {}
                end => return Err(end),
            }
        }
    }

    /// Reads a body that is framed in this way.
    pub(crate) async fn body(&mut self, framing: Framing) -> message::Body {
        message::read_body(self, framing).await
    }

    /// Everything that still comes, and how it ends.
    pub(crate) async fn rest(&mut self) -> (Vec<u8>, End) {
        loop {
            match self.fill().await {
                Filled::Bytes => {}
                Filled::Fin => return (self.inbox.split().to_vec(), End::Fin),
                Filled::Reset => return (self.inbox.split().to_vec(), End::Reset),
            }
        }
    }

    /// Waits until the peer has closed, whatever it still sends.
    pub(crate) async fn closed(&mut self) -> End {
        self.rest().await.1
    }

    /// Closes with a reset instead of a FIN.
    pub(crate) fn reset(self) {
        if let Stream::Tcp(stream) = self.stream {
            socket2::SockRef::from(&stream)
                .set_linger(Some(std::time::Duration::ZERO))
                .expect("the socket lives");
        }
    }
}

//! One caller's connection: bytes in, bytes out, and the knowledge that the caller has left.
//!
//! Whatever the lab does, it keeps an eye on the reading side, because a caller that leaves must be seen at once, in
//! every phase. A caller that closes only its sending side counts as having left, as it does for most servers.

use std::io;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

/// Bytes that are read at a time.
const READ_STEP: usize = 8 << 10;
/// Most bytes that are read ahead while an answer is being sent; what a caller pipelines beyond it stays in the kernel.
const MOST_AHEAD: usize = 64 << 10;
/// How much, and for how long, is still read from a caller whose connection is being closed.
const LINGER: (usize, Duration) = (64 << 20, Duration::from_secs(1));

/// The caller has closed or reset the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Left;

/// One accepted connection.
#[derive(Debug)]
pub(super) struct Wire {
    stream: TcpStream,
    /// Bytes that were read and not yet used.
    inbox: BytesMut,
}

impl Wire {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            inbox: BytesMut::new(),
        }
    }

    /// Bytes that were read and not yet used.
    pub(super) fn inbox(&mut self) -> &mut BytesMut {
        &mut self.inbox
    }

    /// Waits until more bytes were read.
    pub(super) async fn fill(&mut self) -> Result<(), Left> {
        fill(&self.stream, &mut self.inbox).await
    }

    /// Lets time pass; ends early if the caller leaves.
    pub(super) async fn wait(&mut self, span: Duration) -> Result<(), Left> {
        if span.is_zero() {
            return Ok(());
        }
        tokio::select! {
            biased;
            left = watch(&self.stream, &mut self.inbox) => Err(left),
            () = sleep(span) => Ok(()),
        }
    }

    /// Sends all the bytes; ends early if the caller leaves, also if it merely stopped reading before.
    pub(super) async fn send(&mut self, mut bytes: &[u8]) -> Result<(), Left> {
        while !bytes.is_empty() {
            match self.stream.try_write(bytes) {
                Ok(sent) => bytes.advance(sent),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    tokio::select! {
                        biased;
                        writable = self.stream.writable() => writable.map_err(|_| Left)?,
                        left = watch(&self.stream, &mut self.inbox) => return Err(left),
                    }
                }
                Err(_) => return Err(Left),
            }
        }
        Ok(())
    }

    /// Closes with FIN.
    ///
    /// A socket that is dropped with unread bytes resets the connection, and the reset may overtake the answer;
    /// so what the caller still sends is read for a moment.
    pub(super) async fn close(mut self) {
        let (most, patience) = LINGER;
        if tokio::io::AsyncWriteExt::shutdown(&mut self.stream)
            .await
            .is_err()
        {
            return;
        }
        let mut seen = 0;
        let drained = async {
            while seen <= most && fill(&self.stream, &mut self.inbox).await.is_ok() {
                seen += self.inbox.len();
                self.inbox.clear();
            }
        };
        // Either way the socket is dropped now.
        let _ = timeout(patience, drained).await;
    }

    /// Resets the connection (RST).
    pub(super) fn reset(self) {
        reset(self.stream);
    }
}

/// Resets a connection (RST) instead of closing it.
pub(super) fn reset(stream: TcpStream) {
    // Only a socket that is already dead refuses the option, and then there is nothing left to reset.
    let _ = stream.set_zero_linger();
    drop(stream);
}

async fn fill(stream: &TcpStream, inbox: &mut BytesMut) -> Result<(), Left> {
    loop {
        stream.readable().await.map_err(|_| Left)?;
        inbox.reserve(READ_STEP);
        match stream.try_read_buf(inbox) {
            Ok(0) => return Err(Left),
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return Err(Left),
        }
    }
}

/// Resolves when the caller has left, reading ahead until then.
async fn watch(stream: &TcpStream, inbox: &mut BytesMut) -> Left {
    while inbox.len() < MOST_AHEAD {
        if let Err(left) = fill(stream, inbox).await {
            return left;
        }
    }
    std::future::pending().await
}

//! Playing an answer on the wire.

use std::time::Duration;

use bytes::BytesMut;

use super::fault::Part;
use super::record::Phase;
use super::reply::{Body, Ending, Finish, Piece, Play, Reply, chunk, interim, last_chunk};
use super::wire::{Left, Wire};

/// Bytes that are gathered before they are sent, when no time lies between them.
const GATHER: usize = 16 << 10;

/// Plays an answer; `phase` tells how far it came, also when the caller leaves.
pub(super) async fn perform(
    wire: &mut Wire,
    play: Play,
    phase: &mut Phase,
) -> Result<Ending, Left> {
    match play {
        Play::Silence { lasting, then } => {
            wire.wait(lasting).await?;
            Ok(then)
        }
        Play::Raw { wait, bytes } => {
            wire.wait(wait).await?;
            wire.send(&bytes).await?;
            Ok(Ending::Close)
        }
        Play::Answer(reply) => {
            wire.wait(reply.wait).await?;
            Sender {
                wire,
                out: BytesMut::with_capacity(1024),
                phase,
            }
            .answer(*reply)
            .await
        }
    }
}

struct Sender<'a> {
    wire: &'a mut Wire,
    /// What was gathered and not yet sent.
    out: BytesMut,
    phase: &'a mut Phase,
}

impl Sender<'_> {
    async fn answer(mut self, mut reply: Reply) -> Result<Ending, Left> {
        if let Some((status, count)) = reply.interims {
            for _ in 0..count {
                self.put(interim(status).as_bytes()).await?;
            }
        }
        let head = reply.head();
        if reply.half_head {
            self.out.extend_from_slice(&head[..head.len() / 2]);
            self.flush().await?;
            return Ok(Ending::Close);
        }
        let (head_drip, body_drip) = drips(&reply);
        if let Some(every) = head_drip {
            self.flush().await?;
            self.drip(&head, every).await?;
        } else {
            self.out.extend_from_slice(&head);
        }
        *self.phase = Phase::Body { bytes: 0 };
        if !reply.head_only {
            let (chunked, body) = (reply.is_chunked(), reply.body.take());
            self.body(body, chunked, body_drip).await?;
            if chunked && reply.is_whole() {
                last_chunk(&mut self.out, &reply.framing);
            }
        }
        self.flush().await?;
        self.finish(reply.finish).await
    }

    async fn body(
        &mut self,
        body: Body,
        chunked: bool,
        drip: Option<Duration>,
    ) -> Result<(), Left> {
        for Piece { wait, bytes, .. } in body.into_pieces() {
            if !wait.is_zero() {
                self.flush().await?;
                self.wire.wait(wait).await?;
            }
            if bytes.is_empty() {
                // An empty chunk would be the last one.
                continue;
            }
            if let Some(every) = drip {
                let mut framed = BytesMut::new();
                if chunked {
                    chunk(&mut framed, &bytes);
                } else {
                    framed.extend_from_slice(&bytes);
                }
                self.flush().await?;
                self.drip(&framed, every).await?;
            } else if chunked {
                chunk(&mut self.out, &bytes);
                self.flush_if_large().await?;
            } else {
                self.put(&bytes).await?;
            }
            if let Phase::Body { bytes: sent } = self.phase {
                *sent += bytes.len() as u64;
            }
        }
        Ok(())
    }

    async fn finish(self, finish: Finish) -> Result<Ending, Left> {
        Ok(match finish {
            Finish::KeepAlive => Ending::KeepAlive,
            Finish::Close | Finish::Fin => Ending::Close,
            Finish::Reset => Ending::Reset,
            Finish::CloseIdle(later) => Ending::CloseIdle(later),
            Finish::Hang(lasting) => {
                self.wire.wait(lasting).await?;
                Ending::Close
            }
        })
    }

    async fn put(&mut self, bytes: &[u8]) -> Result<(), Left> {
        if bytes.len() > GATHER {
            self.flush().await?;
            return self.wire.send(bytes).await;
        }
        self.out.extend_from_slice(bytes);
        self.flush_if_large().await
    }

    async fn flush_if_large(&mut self) -> Result<(), Left> {
        if self.out.len() >= GATHER {
            self.flush().await
        } else {
            Ok(())
        }
    }

    async fn flush(&mut self) -> Result<(), Left> {
        self.wire.send(&self.out).await?;
        self.out.clear();
        Ok(())
    }

    async fn drip(&mut self, bytes: &[u8], every: Duration) -> Result<(), Left> {
        for byte in bytes.chunks(1) {
            self.wire.send(byte).await?;
            self.wire.wait(every).await?;
        }
        Ok(())
    }
}

/// The pace of head and body where they drip.
fn drips(reply: &Reply) -> (Option<Duration>, Option<Duration>) {
    match reply.drip {
        None => (None, None),
        Some((every, Part::Head)) => (Some(every), None),
        Some((every, Part::Body)) => (None, Some(every)),
        Some((every, Part::All)) => (Some(every), Some(every)),
    }
}

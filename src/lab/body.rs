//! The body of a request: by length or in chunks, with trailers, within bounds.

use bytes::{Bytes, BytesMut};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use super::config::LimitsConfig;
use super::head::{Framing, Malformed};
use super::wire::{Left, Wire};

/// Bytes that one permit of the budget stands for.
pub(super) const BUDGET_UNIT: usize = 1 << 10;
/// Most bytes of one chunk-size line, and of all trailers together.
const MOST_LINES: usize = 16 << 10;

/// A body that was received whole.
#[derive(Debug)]
pub(super) struct Body<'a> {
    pub(super) bytes: Bytes,
    /// Trailer lines in the order of arrival.
    pub(super) trailers: Vec<Bytes>,
    /// Its part of the lab's memory for bodies.
    _memory: Option<SemaphorePermit<'a>>,
}

impl Body<'_> {
    /// In place of a body that nobody reads.
    pub(super) fn unread() -> Self {
        Self {
            bytes: Bytes::new(),
            trailers: Vec::new(),
            _memory: None,
        }
    }
}

/// Why a body was not received.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum BodyError {
    /// The caller left, or stalled for too long.
    Left,
    /// The body is refused.
    Refused(Malformed),
}

impl From<Left> for BodyError {
    fn from(_: Left) -> Self {
        Self::Left
    }
}

impl From<Malformed> for BodyError {
    fn from(malformed: Malformed) -> Self {
        Self::Refused(malformed)
    }
}

/// Receives a body.
pub(super) async fn read<'a>(
    wire: &mut Wire,
    framing: Framing,
    limits: &LimitsConfig,
    budget: &'a Semaphore,
) -> Result<Body<'a>, BodyError> {
    let mut reader = Reader {
        wire,
        limits,
        budget,
        memory: None,
        held: 0,
    };
    let (bytes, trailers) = match framing {
        Framing::Length(0) => (Bytes::new(), Vec::new()),
        Framing::Length(length) => (reader.exactly(length).await?, Vec::new()),
        Framing::Chunked => reader.chunks().await?,
    };
    Ok(Body {
        bytes,
        trailers,
        _memory: reader.memory,
    })
}

struct Reader<'w, 'a> {
    wire: &'w mut Wire,
    limits: &'w LimitsConfig,
    budget: &'a Semaphore,
    memory: Option<SemaphorePermit<'a>>,
    /// Bytes that `memory` stands for.
    held: usize,
}

impl Reader<'_, '_> {
    async fn exactly(&mut self, length: u64) -> Result<Bytes, BodyError> {
        let length = usize::try_from(length).map_err(|_| Malformed::BodyTooLarge)?;
        self.hold(length)?;
        while self.wire.inbox().len() < length {
            self.fill().await?;
        }
        Ok(self.wire.inbox().split_to(length).freeze())
    }

    async fn chunks(&mut self) -> Result<(Bytes, Vec<Bytes>), BodyError> {
        let mut body = BytesMut::new();
        loop {
            let size = self.chunk_size().await?;
            if size == 0 {
                return Ok((body.freeze(), self.trailers().await?));
            }
            self.hold(
                body.len()
                    .checked_add(size)
                    .ok_or(Malformed::BodyTooLarge)?,
            )?;
            while self.wire.inbox().len() < size + 2 {
                self.fill().await?;
            }
            body.extend_from_slice(&self.wire.inbox().split_to(size));
            if self.wire.inbox().split_to(2).as_ref() != b"\r\n" {
                return Err(Malformed::Chunk.into());
            }
        }
    }

    async fn chunk_size(&mut self) -> Result<usize, BodyError> {
        loop {
            match httparse::parse_chunk_size(self.wire.inbox()) {
                Ok(httparse::Status::Complete((line, size))) => {
                    drop(self.wire.inbox().split_to(line));
                    return usize::try_from(size).map_err(|_| Malformed::BodyTooLarge.into());
                }
                Ok(httparse::Status::Partial) if self.wire.inbox().len() <= MOST_LINES => {
                    self.fill().await?;
                }
                Ok(httparse::Status::Partial) | Err(_) => return Err(Malformed::Chunk.into()),
            }
        }
    }

    /// The lines between the last chunk and the empty line.
    async fn trailers(&mut self) -> Result<Vec<Bytes>, BodyError> {
        let mut lines = Vec::new();
        let mut seen = 0;
        loop {
            let Some(end) = memchr::memchr(b'\n', self.wire.inbox()) else {
                if seen + self.wire.inbox().len() > MOST_LINES {
                    return Err(Malformed::Chunk.into());
                }
                self.fill().await?;
                continue;
            };
            let mut line = self.wire.inbox().split_to(end + 1).freeze();
            seen += line.len();
            if !line.ends_with(b"\r\n") || seen > MOST_LINES {
                return Err(Malformed::Chunk.into());
            }
            line.truncate(line.len() - 2);
            if line.is_empty() {
                return Ok(lines);
            }
            lines.push(line);
        }
    }

    async fn fill(&mut self) -> Result<(), BodyError> {
        match timeout(self.limits.read, self.wire.fill()).await {
            Ok(filled) => Ok(filled?),
            Err(_) => Err(BodyError::Left),
        }
    }

    /// Takes the part of the memory budget that a body of `length` needs, or refuses the body.
    fn hold(&mut self, length: usize) -> Result<(), Malformed> {
        if length > self.limits.body_bytes {
            return Err(Malformed::BodyTooLarge);
        }
        if length <= self.held {
            return Ok(());
        }
        let units = (length - self.held).div_ceil(BUDGET_UNIT);
        let permit = u32::try_from(units)
            .ok()
            .and_then(|units| self.budget.try_acquire_many(units).ok());
        let permit = permit.ok_or(Malformed::Memory)?;
        self.held += units * BUDGET_UNIT;
        match &mut self.memory {
            Some(memory) => memory.merge(permit),
            None => self.memory = Some(permit),
        }
        Ok(())
    }
}

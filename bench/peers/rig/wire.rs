//! Just enough HTTP/1.1 to find where a message ends.

use memchr::memmem;
use tokio::io::{AsyncRead, AsyncReadExt as _};

const HEAD_END: &[u8] = b"\r\n\r\n";
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Bytes that were read and not yet used.
#[derive(Default)]
pub(crate) struct Inbox(Vec<u8>);

/// A whole message.
pub(crate) struct Message {
    /// From the first line to the empty one.
    pub(crate) head: Vec<u8>,
    /// What followed; the chunks' framing is left in.
    pub(crate) body: Vec<u8>,
}

impl Message {
    /// The status of an answer; 0 for anything else.
    pub(crate) fn status(&self) -> u16 {
        let digits = self.head.get(9..12).and_then(|it| str::from_utf8(it).ok());
        digits.and_then(|it| it.parse().ok()).unwrap_or(0)
    }
}

enum Length {
    Fixed(usize),
    Chunked,
}

impl Inbox {
    /// Reads the next message; `None` at the end of the connection.
    pub(crate) async fn message(
        &mut self,
        from: &mut (impl AsyncRead + Unpin),
    ) -> std::io::Result<Option<Message>> {
        let Some(head) = self.head(from).await? else {
            return Ok(None);
        };
        let end = loop {
            let end = match length(&head) {
                Length::Fixed(length) => Some(length),
                Length::Chunked => {
                    memmem::find(&self.0, LAST_CHUNK).map(|at| at + LAST_CHUNK.len())
                }
            };
            match end {
                Some(end) if self.0.len() >= end => break end,
                _ if from.read_buf(&mut self.0).await? == 0 => return Ok(None),
                _ => {}
            }
        };
        let rest = self.0.split_off(end);
        let body = std::mem::replace(&mut self.0, rest);
        Ok(Some(Message { head, body }))
    }

    /// Reads the next head alone.
    pub(crate) async fn head(
        &mut self,
        from: &mut (impl AsyncRead + Unpin),
    ) -> std::io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(at) = memmem::find(&self.0, HEAD_END) {
                let rest = self.0.split_off(at + HEAD_END.len());
                return Ok(Some(std::mem::replace(&mut self.0, rest)));
            }
            if from.read_buf(&mut self.0).await? == 0 {
                return Ok(None);
            }
        }
    }

    /// What is there, and room for more.
    pub(crate) fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }
}

fn length(head: &[u8]) -> Length {
    let head = head.to_ascii_lowercase();
    let Some(at) = memmem::find(&head, b"content-length:") else {
        return match memmem::find(&head, b"transfer-encoding:") {
            Some(_) => Length::Chunked,
            None => Length::Fixed(0),
        };
    };
    let digits = head[at + b"content-length:".len()..]
        .iter()
        .skip_while(|byte| **byte == b' ')
        .take_while(|byte| byte.is_ascii_digit());
    Length::Fixed(digits.fold(0, |sum, digit| sum * 10 + usize::from(digit - b'0')))
}

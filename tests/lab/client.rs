//! A caller that reads raw bytes, because what it reads is often not HTTP.

use std::io::ErrorKind;
use std::time::Duration;

use serde_json::Value;
use surgetank::lab::{Lab, LabConfig, LabHandle};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Longer than anything that is expected to happen takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// How long a silence is observed before it is called one.
pub(crate) const SILENCE: Duration = Duration::from_millis(150);

/// How what was read ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The other side closed.
    Fin,
    /// The other side reset.
    Reset,
    /// Nothing came any more, and the connection is open.
    Silence,
}

/// A lab with a scenario.
pub(crate) fn lab(yaml: &str) -> LabHandle {
    let config = LabConfig::from_yaml(yaml).expect("the test's scenario is valid");
    Lab::start(config).expect("a free port")
}

/// One connection.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    buffer: Vec<u8>,
}

/// A request to one of the vendors' endpoints.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) path: String,
    pub(crate) body: String,
    pub(crate) headers: Vec<String>,
}

impl Call {
    pub(crate) fn new(path: &str, stream: bool) -> Self {
        let body = format!(
            r#"{{"model":"m-1","stream":{stream},"max_tokens":1000,"messages":[],"input":"hi"}}"#
        );
        Self {
            path: path.to_owned(),
            body,
            headers: Vec::new(),
        }
    }

    pub(crate) fn messages(stream: bool) -> Self {
        Self::new("/v1/messages", stream)
    }

    pub(crate) fn chat(stream: bool) -> Self {
        Self::new("/v1/chat/completions", stream)
    }

    pub(crate) fn responses(stream: bool) -> Self {
        Self::new("/v1/responses", stream)
    }

    pub(crate) fn with(mut self, header: impl Into<String>) -> Self {
        self.headers.push(header.into());
        self
    }

    pub(crate) fn fault(self, fault: &str) -> Self {
        self.with(format!("x-lab-fault: {fault}"))
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let lines = self
            .headers
            .iter()
            .flat_map(|header| [header.as_str(), "\r\n"]);
        let headers: String = lines.collect();
        let (path, length) = (&self.path, self.body.len());
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: lab\r\ncontent-length: {length}\r\n{headers}\r\n"
        );
        [head.as_bytes(), self.body.as_bytes()].concat()
    }

    /// Sends it on a connection of its own and reads all there is.
    pub(crate) async fn raw(&self, lab: &LabHandle) -> (Vec<u8>, End) {
        let mut client = Client::connect(lab).await;
        client.send(&self.bytes()).await;
        client.rest(SILENCE).await
    }

    /// Sends it on a connection of its own and reads one whole answer.
    pub(crate) async fn answer(&self, lab: &LabHandle) -> Answer {
        let mut client = Client::connect(lab).await;
        client.send(&self.bytes()).await;
        client.answer().await
    }
}

impl Client {
    pub(crate) async fn connect(lab: &LabHandle) -> Self {
        let stream = TcpStream::connect(lab.addr())
            .await
            .expect("the lab listens");
        Self {
            stream,
            buffer: Vec::new(),
        }
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.expect("the lab reads");
    }

    /// Reads once; `None` at the end.
    async fn more(&mut self) -> Result<(), End> {
        match timeout(PATIENCE, self.stream.read_buf(&mut self.buffer))
            .await
            .expect("within patience")
        {
            Ok(0) => Err(End::Fin),
            Ok(_) => Ok(()),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => Err(End::Reset),
            Err(error) => unreachable!("reading failed: {error}"),
        }
    }

    /// Reads until the connection ends or is silent for so long.
    pub(crate) async fn rest(mut self, silence: Duration) -> (Vec<u8>, End) {
        loop {
            match timeout(silence, self.more()).await {
                Ok(Ok(())) => {}
                Ok(Err(end)) => return (self.buffer, end),
                Err(_) => return (self.buffer, End::Silence),
            }
        }
    }

    /// Reads at least so many bytes, or until the end; does not consume them.
    pub(crate) async fn at_least(&mut self, count: usize) -> &[u8] {
        while self.buffer.len() < count && self.more().await.is_ok() {}
        &self.buffer
    }

    /// Reads the head and at least so many bytes behind it; does not consume them.
    pub(crate) async fn body(&mut self, count: usize) {
        while find(&self.buffer, b"\r\n\r\n").is_none_or(|end| self.buffer.len() < end + 4 + count)
        {
            self.more().await.expect("a body begins");
        }
    }

    /// Reads one whole final answer and leaves what follows.
    pub(crate) async fn answer(&mut self) -> Answer {
        loop {
            if let Some((answer, length)) = Answer::parse(&self.buffer, false) {
                self.buffer.drain(..length);
                return answer;
            }
            if let Err(end) = self.more().await {
                let whole = Answer::parse(&self.buffer, true).filter(|_| end == End::Fin);
                let text = String::from_utf8_lossy(&self.buffer);
                return whole
                    .unwrap_or_else(|| unreachable!("{end:?} after {text:?}"))
                    .0;
            }
        }
    }
}

/// A final answer with its interim ones.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) interims: Vec<u16>,
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Vec<String>,
}

impl Answer {
    /// Parses one answer; `closed` says that no more will come, so that a body may end with the connection.
    fn parse(bytes: &[u8], closed: bool) -> Option<(Self, usize)> {
        let mut interims = Vec::new();
        let mut at = 0;
        loop {
            let mut fields = [httparse::EMPTY_HEADER; 256];
            let mut head = httparse::Response::new(&mut fields);
            let httparse::Status::Complete(length) = head.parse(&bytes[at..]).ok()? else {
                return None;
            };
            at += length;
            let status = head.code?;
            if status < 200 {
                interims.push(status);
                continue;
            }
            let header = |field: &httparse::Header| {
                (
                    field.name.to_ascii_lowercase(),
                    String::from_utf8_lossy(field.value).into_owned(),
                )
            };
            let headers: Vec<_> = head.headers.iter().map(header).collect();
            let mut answer = Self {
                interims,
                status,
                headers,
                body: Vec::new(),
                trailers: Vec::new(),
            };
            let used = answer.read_body(&bytes[at..], closed)?;
            return Some((answer, at + used));
        }
    }

    fn read_body(&mut self, bytes: &[u8], closed: bool) -> Option<usize> {
        if self.header("transfer-encoding").is_some() {
            let (chunks, used) = dechunk(bytes);
            let complete = chunks.complete?;
            (self.body, self.trailers) = (chunks.data, complete);
            return Some(used);
        }
        let length = match self.header("content-length") {
            Some(length) => length.parse().ok()?,
            None if matches!(self.status, 204 | 304) => 0,
            None if closed => bytes.len(),
            None => return None,
        };
        self.body = bytes.get(..length)?.to_vec();
        Some(length)
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.all(name).first().copied()
    }

    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        let named = self.headers.iter().filter(|(field, _)| field == name);
        named.map(|(_, value)| value.as_str()).collect()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| unreachable!("{error}: {:?}", self.text()))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).expect("the body is text")
    }
}

/// A chunked body as far as it came.
#[derive(Debug, Default)]
pub(crate) struct Chunks {
    pub(crate) data: Vec<u8>,
    /// The trailers, if the last chunk was there.
    pub(crate) complete: Option<Vec<String>>,
}

/// Undoes chunking, and says how many bytes were used.
pub(crate) fn dechunk(bytes: &[u8]) -> (Chunks, usize) {
    let mut chunks = Chunks::default();
    let mut at = 0;
    while let Ok(httparse::Status::Complete((line, size))) =
        httparse::parse_chunk_size(&bytes[at..])
    {
        let size = usize::try_from(size).expect("a small chunk");
        if size == 0 {
            let Some(end) = find(&bytes[at + line - 2..], b"\r\n\r\n") else {
                break;
            };
            let lines =
                String::from_utf8_lossy(&bytes[at + line..][..end.saturating_sub(2)]).into_owned();
            chunks.complete = Some(
                lines
                    .split("\r\n")
                    .filter(|line| !line.is_empty())
                    .map(str::to_owned)
                    .collect(),
            );
            return (chunks, at + line - 2 + end + 4);
        }
        let Some(data) = bytes.get(at + line..at + line + size) else {
            break;
        };
        chunks.data.extend_from_slice(data);
        at += line + size + 2;
        if at > bytes.len() {
            break;
        }
    }
    (chunks, at)
}

/// Splits a raw answer behind its head.
pub(crate) fn split(bytes: &[u8]) -> (String, &[u8]) {
    let end = find(bytes, b"\r\n\r\n").expect("a head") + 4;
    (
        String::from_utf8_lossy(&bytes[..end]).into_owned(),
        &bytes[end..],
    )
}

pub(crate) fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

/// The events of a stream: names (empty where there is none) and data.
pub(crate) fn events(body: &[u8]) -> Vec<(String, String)> {
    let text = String::from_utf8(body.to_vec()).expect("the stream is text");
    let event = |block: &str| {
        let field = |name| {
            block
                .lines()
                .find_map(|line| line.strip_prefix(name))
                .unwrap_or_default()
                .to_owned()
        };
        (field("event: "), field("data: "))
    };
    text.split_terminator("\n\n").map(event).collect()
}

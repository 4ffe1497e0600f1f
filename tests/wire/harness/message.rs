//! HTTP/1.1 messages, read strictly: whatever can be read in two ways fails the test.

use super::wire::{Filled, Wire};

/// A message's head.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    /// Request line or status line.
    pub(crate) start: String,
    /// Names as they were spelt and values, in order.
    pub(crate) fields: Vec<(String, Vec<u8>)>,
}

/// How a body is delimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    None,
    Length(usize),
    Chunked,
    UntilClose,
}

/// How a body or a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// As its framing promised.
    Whole,
    /// By a FIN before that.
    Fin,
    /// By a reset before that.
    Reset,
}

/// A body as it came.
#[derive(Debug, Clone)]
pub(crate) struct Body {
    pub(crate) data: Vec<u8>,
    pub(crate) trailers: Vec<(String, Vec<u8>)>,
    pub(crate) end: End,
}

/// A response.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: Head,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Vec<(String, Vec<u8>)>,
    pub(crate) end: End,
}

impl Head {
    /// Parses what stands before and with the empty line.
    pub(crate) fn parse(raw: &[u8]) -> Self {
        let raw = raw
            .strip_suffix(b"\r\n\r\n")
            .expect("a head ends with an empty line");
        let mut lines = Vec::new();
        let mut rest = raw;
        while let Some(at) = super::find(rest, b"\r\n") {
            lines.push(&rest[..at]);
            rest = &rest[at + 2..];
        }
        lines.push(rest);
        for line in &lines {
            let clean = !line.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0));
            assert!(
                clean,
                "a line with a stray CR, LF or NUL: {:?}",
                super::text(line)
            );
        }
        let field = |line: &&[u8]| {
            let at = line
                .iter()
                .position(|byte| *byte == b':')
                .expect("a field has a colon");
            (
                super::text(&line[..at]),
                line[at + 1..].trim_ascii().to_vec(),
            )
        };
        Self {
            start: super::text(lines[0]),
            fields: lines[1..].iter().map(field).collect(),
        }
    }

    /// All values of a field.
    pub(crate) fn all(&self, name: &str) -> Vec<&[u8]> {
        let named = self
            .fields
            .iter()
            .filter(|(field, _)| field.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.as_slice()).collect()
    }

    /// The only value of a field as text; fails where there are several.
    pub(crate) fn one(&self, name: &str) -> Option<&str> {
        let values = self.all(name);
        assert!(values.len() <= 1, "`{name}` stands {} times", values.len());
        values
            .first()
            .map(|value| std::str::from_utf8(value).expect("text"))
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        !self.all(name).is_empty()
    }

    /// `name: value` in order, a character a byte, without those that `dropped` names.
    pub(crate) fn lines_without(&self, dropped: &[&str]) -> Vec<String> {
        let kept = |(name, _): &&(String, Vec<u8>)| {
            !dropped.iter().any(|gone| name.eq_ignore_ascii_case(gone))
        };
        let latin1 = |value: &[u8]| {
            value
                .iter()
                .map(|byte| char::from(*byte))
                .collect::<String>()
        };
        let line = |(name, value): &(String, Vec<u8>)| format!("{name}: {}", latin1(value));
        self.fields.iter().filter(kept).map(line).collect()
    }

    pub(crate) fn status(&self) -> u16 {
        self.start
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok())
            .expect("a status line")
    }

    fn declared(&self) -> Option<Framing> {
        let (lengths, codings) = (self.all("content-length"), self.all("transfer-encoding"));
        match (lengths.as_slice(), codings.as_slice()) {
            ([], []) => None,
            ([length], []) => {
                let digits = length.iter().all(u8::is_ascii_digit);
                let length = super::text(length).parse().ok().filter(|_| digits);
                Some(Framing::Length(length.expect("a length is a number")))
            }
            ([], [b"chunked"]) => Some(Framing::Chunked),
            _ => panic!("ambiguous framing: {self:?}"),
        }
    }

    /// How the body of a request is framed.
    pub(crate) fn request_framing(&self) -> Framing {
        self.declared().unwrap_or(Framing::None)
    }

    /// How the body of an answer to `method` is framed.
    pub(crate) fn answer_framing(&self, method: &str) -> Framing {
        let status = self.status();
        if method == "HEAD" || status < 200 || status == 204 || status == 304 {
            return Framing::None;
        }
        self.declared().unwrap_or(Framing::UntilClose)
    }
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        super::text(&self.body)
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// The value of one of surgetank's own fields, as a number.
    pub(crate) fn number(&self, name: &str) -> u64 {
        let value = self
            .head
            .one(name)
            .unwrap_or_else(|| panic!("no `{name}` in {:?}", self.head));
        value.parse().expect("a number")
    }
}

pub(super) async fn read_body(wire: &mut Wire, framing: Framing) -> Body {
    let mut body = Body {
        data: Vec::new(),
        trailers: Vec::new(),
        end: End::Whole,
    };
    match framing {
        Framing::None => {}
        Framing::Length(length) => {
            body.end = fill_to(wire, length).await;
            let there = wire.inbox.len().min(length);
            body.data = wire.inbox.split_to(there).to_vec();
        }
        Framing::UntilClose => {
            let (data, end) = wire.rest().await;
            body.data = data;
            body.end = if end == End::Fin { End::Whole } else { end };
        }
        Framing::Chunked => read_chunks(wire, &mut body).await,
    }
    body
}

async fn fill_to(wire: &mut Wire, length: usize) -> End {
    while wire.inbox.len() < length {
        match wire.fill().await {
            Filled::Bytes => {}
            Filled::Fin => return End::Fin,
            Filled::Reset => return End::Reset,
        }
    }
    End::Whole
}

/// One line, without its end.
async fn line(wire: &mut Wire) -> Result<Vec<u8>, End> {
    loop {
        if let Some(at) = super::find(&wire.inbox, b"\r\n") {
            let line = wire.inbox.split_to(at).to_vec();
            let _ = wire.inbox.split_to(2);
            return Ok(line);
        }
        match wire.fill().await {
            Filled::Bytes => {}
            Filled::Fin => return Err(End::Fin),
            Filled::Reset => return Err(End::Reset),
        }
    }
}

async fn read_chunks(wire: &mut Wire, body: &mut Body) {
    loop {
        let size = match line(wire).await {
            Ok(size) => size,
            Err(end) => return body.end = end,
        };
        let size = usize::from_str_radix(&super::text(&size), 16).expect("a chunk size");
        if size == 0 {
            break;
        }
        let end = fill_to(wire, size + 2).await;
        if end != End::Whole {
            let there = wire.inbox.len().min(size);
            body.data.extend_from_slice(&wire.inbox.split_to(there));
            return body.end = end;
        }
        body.data.extend_from_slice(&wire.inbox.split_to(size));
        assert_eq!(
            wire.inbox.split_to(2).as_ref(),
            b"\r\n",
            "a chunk ends with CRLF"
        );
    }
    loop {
        match line(wire).await {
            Ok(line) if line.is_empty() => return,
            Ok(line) => {
                let at = line
                    .iter()
                    .position(|byte| *byte == b':')
                    .expect("a trailer has a colon");
                body.trailers.push((
                    super::text(&line[..at]),
                    line[at + 1..].trim_ascii().to_vec(),
                ));
            }
            Err(end) => return body.end = end,
        }
    }
}

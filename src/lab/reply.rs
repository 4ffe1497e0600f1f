//! An answer as data: what is sent, when, and how it ends.
//!
//! A fault is a change to this value, never code of its own at the socket, so that faults combine with every endpoint
//! and dialect, and what goes over the wire is decided in one place.

use std::borrow::Cow;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};

use super::fault::{Part, Spoil};

/// What the lab does with one request.
#[derive(Debug)]
pub(super) enum Play {
    /// No answer: silence, and then the ending.
    Silence { lasting: Duration, then: Ending },
    /// An HTTP answer.
    Answer(Box<Reply>),
    /// These bytes, and then FIN.
    Raw { wait: Duration, bytes: Bytes },
}

/// What becomes of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// It serves the next request.
    KeepAlive,
    /// FIN.
    Close,
    /// FIN so much later; a request that comes meanwhile is lost.
    CloseIdle(Duration),
    /// RST.
    Reset,
}

/// An HTTP answer, right or wrong.
#[derive(Debug)]
pub(super) struct Reply {
    /// Time before anything is sent.
    pub(super) wait: Duration,
    /// Status and number of the interim answers before this one.
    pub(super) interims: Option<(u16, u32)>,
    pub(super) status: u16,
    pub(super) headers: Vec<(Cow<'static, str>, String)>,
    pub(super) body: Body,
    /// The head speaks of the body, which is not sent: the answer to HEAD.
    pub(super) head_only: bool,
    pub(super) framing: Framing,
    pub(super) finish: Finish,
    /// How the head breaks the rules.
    pub(super) spoil: Option<Spoil>,
    /// Only half of the head is sent.
    pub(super) half_head: bool,
    /// Bytes are sent one at a time, this far apart.
    pub(super) drip: Option<(Duration, Part)>,
}

/// What stands behind the head.
pub(super) enum Body {
    /// Not even a `content-length`.
    None,
    /// All at once.
    Whole(Bytes),
    /// Piece by piece.
    Pieces(Pieces),
}

/// The pieces of a body, made when they are sent.
pub(super) type Pieces = Box<dyn Iterator<Item = Piece> + Send>;

/// One piece of a body, an event of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Piece {
    /// Time before it.
    pub(super) wait: Duration,
    pub(super) bytes: Bytes,
    pub(super) role: Role,
}

/// What a piece is to the stream that it belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Lifecycle, before any model output.
    Preamble,
    /// Model output.
    Content,
    /// What ends a stream.
    Closing,
}

/// How the head says where the body ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Framing {
    /// `content-length` where the length is known, otherwise chunked.
    Auto,
    /// This `content-length`, true or not.
    Length(u64),
    Chunked,
    /// Chunked, with this `content-length` beside it.
    LengthAndChunked(u64),
    /// Chunked, with these trailers.
    Trailers(Vec<(&'static str, String)>),
    /// The end of the connection is the end of the body: for HTTP/1.0.
    UntilClose,
}

/// What comes after the last piece of the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Finish {
    /// The body is ended as it should be, and the connection lives on.
    KeepAlive,
    /// The body is ended as it should be, and the connection is closed as announced.
    Close,
    /// The body is ended as it should be; the connection is closed so much later, unannounced.
    CloseIdle(Duration),
    /// The body is not ended: FIN.
    Fin,
    /// The body is not ended: RST.
    Reset,
    /// The body is not ended: silence, then FIN.
    Hang(Duration),
}

impl Reply {
    /// An answer without a body.
    pub(super) fn new(status: u16) -> Self {
        Self {
            wait: Duration::ZERO,
            interims: None,
            status,
            headers: Vec::with_capacity(16),
            body: Body::None,
            head_only: false,
            framing: Framing::Auto,
            finish: Finish::KeepAlive,
            spoil: None,
            half_head: false,
            drip: None,
        }
    }

    /// An answer with a body of one piece.
    pub(super) fn with_body(
        status: u16,
        content_type: &'static str,
        body: impl Into<Bytes>,
    ) -> Self {
        let mut reply = Self::new(status);
        reply.header("content-type", content_type);
        reply.body = Body::Whole(body.into());
        reply
    }

    /// Appends a header; a name may occur several times.
    pub(super) fn header(&mut self, name: impl Into<Cow<'static, str>>, value: impl Into<String>) {
        self.headers.push((name.into(), value.into()));
    }

    /// Whether this answer, sent to the end, is whole.
    pub(super) fn is_whole(&self) -> bool {
        !self.half_head
            && matches!(
                self.finish,
                Finish::KeepAlive | Finish::Close | Finish::CloseIdle(_)
            )
    }

    /// Whether the body goes out in chunks.
    pub(super) fn is_chunked(&self) -> bool {
        match &self.framing {
            Framing::Auto => matches!(self.body, Body::Pieces(_)),
            Framing::Length(_) | Framing::UntilClose => false,
            Framing::Chunked | Framing::LengthAndChunked(_) | Framing::Trailers(_) => true,
        }
    }

    /// The head, from the status line to the empty line.
    pub(super) fn head(&self) -> BytesMut {
        let mut head = BytesMut::with_capacity(512);
        if self.spoil == Some(Spoil::Garbage) {
            head.put_slice(b"\x16\x03\x01 this is not HTTP\r\n\r\n");
            return head;
        }
        let version = if self.spoil == Some(Spoil::StatusLine) {
            "HTTQ/1.1"
        } else {
            "HTTP/1.1"
        };
        line(
            &mut head,
            &format!("{version} {} {}", self.status, reason(self.status)),
        );
        for (name, value) in &self.headers {
            field(&mut head, name, value);
        }
        self.framing_fields(&mut head);
        if let Some(spoil) = self.spoil {
            spoil_with(&mut head, spoil);
        }
        if self.finish == Finish::Close {
            line(&mut head, "connection: close");
        }
        head.put_slice(b"\r\n");
        head
    }

    fn framing_fields(&self, head: &mut BytesMut) {
        let replaced = matches!(
            self.spoil,
            Some(Spoil::BadLength | Spoil::NegativeLength | Spoil::UnknownCoding)
        );
        if replaced {
            return;
        }
        let length = match (&self.framing, &self.body) {
            (Framing::Auto, Body::Whole(body)) => Some(body.len() as u64),
            (Framing::Length(length) | Framing::LengthAndChunked(length), _) => Some(*length),
            _ => None,
        };
        if let Some(length) = length {
            field(head, "content-length", &length.to_string());
        }
        if self.is_chunked() {
            line(head, "transfer-encoding: chunked");
        }
        if let Framing::Trailers(trailers) = &self.framing {
            let names: Vec<&str> = trailers.iter().map(|(name, _)| *name).collect();
            field(head, "trailer", &names.join(", "));
        }
    }
}

impl Body {
    /// Takes the body out, leaving none.
    pub(super) fn take(&mut self) -> Self {
        std::mem::replace(self, Self::None)
    }

    /// The body piece by piece.
    pub(super) fn into_pieces(self) -> Pieces {
        match self {
            Self::None => Box::new(std::iter::empty()),
            Self::Whole(bytes) => Box::new(std::iter::once(Piece {
                wait: Duration::ZERO,
                bytes,
                role: Role::Content,
            })),
            Self::Pieces(pieces) => pieces,
        }
    }
}

impl std::fmt::Debug for Body {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::None => out.write_str("None"),
            Self::Whole(bytes) => write!(out, "Whole({} bytes)", bytes.len()),
            Self::Pieces(_) => out.write_str("Pieces"),
        }
    }
}

/// An interim answer.
pub(super) fn interim(status: u16) -> String {
    let link = if status == 103 {
        "link: </style.css>; rel=preload\r\n"
    } else {
        ""
    };
    format!("HTTP/1.1 {status} {}\r\n{link}\r\n", reason(status))
}

/// Wraps a piece of a body into a chunk.
pub(super) fn chunk(out: &mut BytesMut, bytes: &[u8]) {
    out.put_slice(format!("{:x}\r\n", bytes.len()).as_bytes());
    out.put_slice(bytes);
    out.put_slice(b"\r\n");
}

/// The end of a chunked body.
pub(super) fn last_chunk(out: &mut BytesMut, framing: &Framing) {
    out.put_slice(b"0\r\n");
    if let Framing::Trailers(trailers) = framing {
        for (name, value) in trailers {
            field(out, name, value);
        }
    }
    out.put_slice(b"\r\n");
}

fn spoil_with(head: &mut BytesMut, spoil: Spoil) {
    match spoil {
        Spoil::TwoLengths => {
            line(head, "content-length: 7");
            line(head, "content-length: 8");
        }
        Spoil::BadLength => line(head, "content-length: twelve"),
        Spoil::NegativeLength => line(head, "content-length: -1"),
        Spoil::UnknownCoding => line(head, "transfer-encoding: rot13"),
        Spoil::Nul => line(head, "x-lab-nul: a\0b"),
        Spoil::SpaceBeforeColon => line(head, "x-lab-space : 1"),
        Spoil::Folded => line(head, "x-lab-folded: one\r\n two"),
        Spoil::StatusLine | Spoil::Garbage => {}
    }
}

fn field(out: &mut BytesMut, name: &str, value: &str) {
    out.put_slice(name.as_bytes());
    out.put_slice(b": ");
    line(out, value);
}

fn line(out: &mut BytesMut, text: &str) {
    out.put_slice(text.as_bytes());
    out.put_slice(b"\r\n");
}

fn reason(status: u16) -> &'static str {
    // 529 has no registered reason; this is the phrase that its senders use.
    let known = http::StatusCode::from_u16(status)
        .ok()
        .and_then(|status| status.canonical_reason());
    known.unwrap_or(if status == 529 {
        "Site Overloaded"
    } else {
        "Unknown"
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(reply: &Reply) -> String {
        String::from_utf8(reply.head().to_vec()).unwrap()
    }

    #[test]
    fn a_known_length_is_declared_and_an_unknown_one_is_chunked() {
        let mut reply = Reply::with_body(200, "application/json", "{}");
        assert_eq!(
            head(&reply),
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n"
        );
        reply.body = Body::Pieces(Box::new(std::iter::empty()));
        assert!(head(&reply).ends_with("transfer-encoding: chunked\r\n\r\n"));
        reply.framing = Framing::LengthAndChunked(9);
        assert!(head(&reply).ends_with("content-length: 9\r\ntransfer-encoding: chunked\r\n\r\n"));
    }

    #[test]
    fn only_an_announced_close_is_announced() {
        let mut reply = Reply::new(204);
        for (finish, announced) in [
            (Finish::Close, true),
            (Finish::Fin, false),
            (Finish::KeepAlive, false),
        ] {
            reply.finish = finish;
            assert_eq!(
                head(&reply).contains("connection: close"),
                announced,
                "{finish:?}"
            );
        }
        assert!(
            !head(&reply).contains("content-length"),
            "204 has no length"
        );
    }
}

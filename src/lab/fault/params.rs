//! The parameters of faults, typed and bounded when they are read.

use std::time::Duration;

use super::super::units;

/// Largest body, event or header block that a parameter may ask for.
const LARGEST: usize = 64 << 20;
/// Most words that an answer may have.
pub(in crate::lab) const MOST_WORDS: usize = 100_000;
/// Most repetitions (interim answers, headers) that a parameter may ask for.
const MOST_REPEATS: u32 = 100_000;

/// Everything that was written behind a fault's name; what is absent has the fault's own default.
#[derive(Debug, Clone, Default, PartialEq)]
pub(in crate::lab) struct Params {
    /// Where the body breaks: content events of a stream, bytes of any other body.
    pub(in crate::lab) after: Option<After>,
    /// Whether the break comes inside the next event.
    pub(in crate::lab) split: Split,
    /// How long a silence, an idle connection or a closed listener lasts (key `for`).
    pub(in crate::lab) lasting: Option<Duration>,
    pub(in crate::lab) every: Option<Duration>,
    pub(in crate::lab) part: Option<Part>,
    pub(in crate::lab) size: Option<usize>,
    pub(in crate::lab) count: Option<u32>,
    pub(in crate::lab) status: Option<u16>,
    pub(in crate::lab) form: Option<ErrorForm>,
    pub(in crate::lab) code: Option<String>,
    pub(in crate::lab) kind_of_error: Option<String>,
    pub(in crate::lab) message: Option<String>,
    /// A chat error is followed by `data: [DONE]`, as some servers do.
    pub(in crate::lab) done: bool,
    pub(in crate::lab) retry_after: Option<RetryAfter>,
    pub(in crate::lab) retry_after_ms: Option<String>,
    pub(in crate::lab) should_retry: Option<String>,
    pub(in crate::lab) body: Option<BodyKind>,
    /// Where a redirect points (key `to`).
    pub(in crate::lab) location: Option<String>,
    pub(in crate::lab) spoil: Option<Spoil>,
    pub(in crate::lab) bytes: Option<String>,
    pub(in crate::lab) words: Option<usize>,
    pub(in crate::lab) text: Option<String>,
    pub(in crate::lab) headers_after: Option<Duration>,
    pub(in crate::lab) first_token: Option<Duration>,
    pub(in crate::lab) interval: Option<Duration>,
    pub(in crate::lab) chunked: Option<bool>,
    /// The answer comes before the request's body is read.
    pub(in crate::lab) early: bool,
}

/// Where the body breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::lab) enum After {
    /// After so many content events, or so many bytes of a body that is no stream.
    Count(usize),
    /// Just before the stream's last event or the body's last byte.
    End,
}

/// How much of the next event comes before the break.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::lab) enum Split {
    /// Nothing.
    #[default]
    No,
    /// Half of it.
    Half,
    /// All up to the first byte of its first character that has several; half of it where all have one.
    Character,
}

/// Which part of the answer drips.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::lab) enum Part {
    Head,
    Body,
    All,
}

/// The shapes in which vendors send an error inside a 200.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::lab) enum ErrorForm {
    /// Anthropic's `event: error`.
    Native,
    /// OpenAI Chat's `data: {"error":…}`.
    Chat,
    /// The documented event of OpenAI Responses.
    Flat,
    /// The event that OpenAI Responses was seen to send.
    Nested,
    /// Flat fields and a nested object together.
    Hybrid,
    /// `event: response.failed`.
    Failed,
}

/// The kind of body that a status carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::lab) enum BodyKind {
    /// The vendor's error object.
    Json,
    /// A page as an edge server writes it.
    Html,
    /// Plain text.
    Text,
    /// None.
    Empty,
}

/// What the `retry-after` header says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::lab) enum RetryAfter {
    /// No header.
    Absent,
    /// This text.
    Raw(String),
    /// Two headers that disagree: 1 and 7.
    Doubled,
    /// An HTTP-date an hour ago.
    Past,
    /// An HTTP-date so far ahead.
    Ahead(Duration),
    /// So many digits.
    Digits(usize),
}

/// How a response head breaks the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::lab) enum Spoil {
    StatusLine,
    TwoLengths,
    BadLength,
    NegativeLength,
    UnknownCoding,
    Nul,
    SpaceBeforeColon,
    Folded,
    Garbage,
}

impl Params {
    /// Sets one parameter; the error says what was expected.
    pub(super) fn set(&mut self, key: &str, value: &str) -> Result<(), &'static str> {
        match key {
            "after" => self.after = Some(after(value)?),
            "split" => self.split = split(value)?,
            "for" => self.lasting = Some(units::duration(value)?),
            "every" => self.every = Some(units::duration(value)?),
            "part" => self.part = Some(part(value)?),
            "size" => self.size = Some(units::size(value, LARGEST)?),
            "count" => self.count = Some(count(value)?),
            "status" => self.status = Some(status(value)?),
            "form" => self.form = Some(form(value)?),
            "code" => self.code = Some(value.to_owned()),
            "type" => self.kind_of_error = Some(value.to_owned()),
            "message" => self.message = Some(value.to_owned()),
            "done" => self.done = yes(value)?,
            "retry-after" => self.retry_after = Some(retry_after(value)?),
            "retry-after-ms" => self.retry_after_ms = Some(value.to_owned()),
            "should-retry" => self.should_retry = Some(value.to_owned()),
            "body" => self.body = Some(body(value)?),
            "to" => self.location = Some(value.to_owned()),
            "kind" => self.spoil = Some(spoil(value)?),
            "bytes" => self.bytes = Some(value.to_owned()),
            "words" => self.words = Some(words(value)?),
            "text" => self.text = Some(value.to_owned()),
            "headers-after" => self.headers_after = Some(units::duration(value)?),
            "first-token" => self.first_token = Some(units::duration(value)?),
            "interval" => self.interval = Some(units::duration(value)?),
            "chunked" => self.chunked = Some(yes(value)?),
            "early" => self.early = yes(value)?,
            _ => return Err("a parameter of this fault"),
        }
        Ok(())
    }
}

fn yes(value: &str) -> Result<bool, &'static str> {
    match value {
        "true" | "yes" | "" => Ok(true),
        "false" | "no" => Ok(false),
        _ => Err("true or false"),
    }
}

fn after(value: &str) -> Result<After, &'static str> {
    if value == "end" {
        return Ok(After::End);
    }
    value
        .parse()
        .map(After::Count)
        .map_err(|_| "a number of events (of bytes where nothing streams), or `end`")
}

fn split(value: &str) -> Result<Split, &'static str> {
    match value {
        "char" => Ok(Split::Character),
        _ => match yes(value) {
            Ok(true) => Ok(Split::Half),
            Ok(false) => Ok(Split::No),
            Err(_) => Err("true, false or char"),
        },
    }
}

fn count(value: &str) -> Result<u32, &'static str> {
    value
        .parse()
        .ok()
        .filter(|count| *count <= MOST_REPEATS)
        .ok_or("a number of at most 100000")
}

fn words(value: &str) -> Result<usize, &'static str> {
    value
        .parse()
        .ok()
        .filter(|words| *words <= MOST_WORDS)
        .ok_or("a number of words, at most 100000")
}

fn status(value: &str) -> Result<u16, &'static str> {
    value
        .parse()
        .ok()
        .filter(|status| (100..600).contains(status))
        .ok_or("an HTTP status")
}

fn part(value: &str) -> Result<Part, &'static str> {
    match value {
        "head" => Ok(Part::Head),
        "body" => Ok(Part::Body),
        "all" => Ok(Part::All),
        _ => Err("head, body or all"),
    }
}

fn form(value: &str) -> Result<ErrorForm, &'static str> {
    match value {
        "native" => Ok(ErrorForm::Native),
        "chat" => Ok(ErrorForm::Chat),
        "flat" => Ok(ErrorForm::Flat),
        "nested" => Ok(ErrorForm::Nested),
        "hybrid" => Ok(ErrorForm::Hybrid),
        "failed" => Ok(ErrorForm::Failed),
        _ => Err("native, chat, flat, nested, hybrid or failed"),
    }
}

fn body(value: &str) -> Result<BodyKind, &'static str> {
    match value {
        "json" => Ok(BodyKind::Json),
        "html" => Ok(BodyKind::Html),
        "text" => Ok(BodyKind::Text),
        "empty" => Ok(BodyKind::Empty),
        _ => Err("json, html, text or empty"),
    }
}

fn spoil(value: &str) -> Result<Spoil, &'static str> {
    match value {
        "status-line" => Ok(Spoil::StatusLine),
        "two-lengths" => Ok(Spoil::TwoLengths),
        "bad-length" => Ok(Spoil::BadLength),
        "negative-length" => Ok(Spoil::NegativeLength),
        "unknown-coding" => Ok(Spoil::UnknownCoding),
        "nul" => Ok(Spoil::Nul),
        "space-before-colon" => Ok(Spoil::SpaceBeforeColon),
        "folded" => Ok(Spoil::Folded),
        "garbage" => Ok(Spoil::Garbage),
        _ => Err("one of the kinds that --list-faults names"),
    }
}

fn retry_after(value: &str) -> Result<RetryAfter, &'static str> {
    const EXPECTED: &str = "none, past, double, date+3s, digits:4000 or the header's text";
    if value.bytes().any(|byte| byte.is_ascii_control()) {
        return Err(EXPECTED);
    }
    if let Some(ahead) = value.strip_prefix("date+") {
        return units::duration(ahead).map(RetryAfter::Ahead);
    }
    if let Some(digits) = value.strip_prefix("digits:") {
        let digits = digits
            .parse()
            .ok()
            .filter(|digits| *digits <= LARGEST)
            .ok_or(EXPECTED)?;
        return Ok(RetryAfter::Digits(digits));
    }
    Ok(match value {
        "none" => RetryAfter::Absent,
        "past" => RetryAfter::Past,
        "double" => RetryAfter::Doubled,
        raw => RetryAfter::Raw(raw.to_owned()),
    })
}

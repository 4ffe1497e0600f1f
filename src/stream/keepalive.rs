//! What may be put between the events of a stream without any client taking it for one of them.
//!
//! Clients differ in what they bear. A comment is invisible in every SDK and every parser that follows
//! the standard; a frame of any other kind without data makes some of them raise. Two exceptions:
//!
//! - Anthropic's own `ping` is as invisible as a comment, and it also reaches the watchdogs that stand
//!   behind the parser and count events.
//! - A blank line behind a comment dispatches an *empty event* in `openai` for Python once an `id` was
//!   seen, which it then fails to parse. There the comment goes without its blank line and becomes a
//!   part of the next event. Elsewhere it does not: applications with a parser of their own split at
//!   blank lines, and would lose the event behind the comment.

use bytes::Bytes;

use crate::dialect::{Dialect, Endpoint};

/// Anthropic's own sign of life.
const PING: &str = "event: ping\ndata: {\"type\": \"ping\"}\n\n";

/// A comment. `text` is one line.
#[must_use]
pub fn comment(text: &str) -> Bytes {
    format!(": {text}\n\n").into()
}

/// A sign of life between two events of an upstream. `has_ids`: an `id` was among its events.
#[must_use]
pub fn sign_of_life(dialect: Dialect, has_ids: bool) -> Bytes {
    Bytes::from_static(match dialect.endpoint() {
        Endpoint::Messages => PING.as_bytes(),
        _ if has_ids => b": keep-alive\n",
        _ => b": keep-alive\n\n",
    })
}

/// A word to a caller for whom nothing has come yet, and a sign of life.
#[must_use]
pub fn notice(dialect: Dialect, text: &str) -> Bytes {
    match dialect.endpoint() {
        Endpoint::Messages => format!(": {text}\n\n{PING}").into(),
        _ => comment(text),
    }
}

//! Why a value could not be read, and how that is said.
//!
//! Serde's own errors quote the value; a value may be a key that was pasted into the wrong line, or come from a variable.
//! So a fault carries the reason alone, and only what stands in the file itself, at a place where no secret belongs, is shown.

use std::fmt;

use serde::de::{self, Expected, Unexpected};

use super::Faulty;
use crate::config::problem::Collector;
use crate::config::suggest::{list, nearest};
use crate::config::tree::{Kind, Node, NodeId};

/// The first thing wrong in one reading.
#[derive(Debug)]
pub(super) struct Fault {
    at: Option<NodeId>,
    cause: Cause,
}

#[derive(Debug)]
enum Cause {
    /// A mapping lacks a key that has no default.
    Missing(&'static str),
    /// Another kind of value belongs here; a noun phrase says which.
    Expected(String),
    /// The value itself is refused; a clause says what it should be.
    Refused(String),
    /// The value's key is refused.
    Key(String),
    /// The value is none of these words.
    NoneOf(&'static [&'static str]),
    /// It was told where it was found.
    Told,
}

impl Fault {
    pub(super) fn expected(what: impl Into<String>) -> Self {
        Self::new(Cause::Expected(what.into()))
    }

    pub(super) fn refused(why: impl Into<String>) -> Self {
        Self::new(Cause::Refused(why.into()))
    }

    pub(super) fn told() -> Self {
        Self::new(Cause::Told)
    }

    fn new(cause: Cause) -> Self {
        Self { at: None, cause }
    }

    /// The same of the key instead of the value.
    pub(super) fn of_key(self) -> Self {
        match self.cause {
            Cause::Refused(why) => Self::new(Cause::Key(why)),
            _ => self,
        }
    }

    /// Says where, unless a value further down did.
    pub(super) fn at(mut self, id: NodeId) -> Self {
        self.at.get_or_insert(id);
        self
    }

    pub(super) fn place(&self) -> Option<NodeId> {
        self.at
    }

    /// Whether it is there only because a value below was taken as left out, or was told already.
    pub(super) fn follows_from_another(&self, node: &Node, faulty: &Faulty) -> bool {
        let is_faulty = |child: &Node| faulty.contains(child);
        match &self.cause {
            Cause::Missing(key) => node.get(key).is_some_and(is_faulty),
            _ => is_faulty(node),
        }
    }

    /// Tells it as a sentence about `node`.
    pub(super) fn tell(&self, node: &Node, problems: &mut Collector) {
        let name = name(node);
        match &self.cause {
            Cause::Missing(key) => {
                problems.error(node.key_or_value_place(), format!("{name} lacks `{key}`"));
            }
            Cause::Expected(what) => {
                let found = kind_of(node);
                problems.error(node.place, format!("{name} must be {what}, not {found}"));
            }
            Cause::Refused(why) => problems.error(node.place, refusal(node, why)),
            Cause::Key(why) => {
                problems.error(
                    node.key_or_value_place(),
                    format!("{name} cannot be a key here: {why}"),
                );
            }
            Cause::NoneOf(words) => {
                let nearest = node.text().and_then(|text| nearest(text, words));
                let nearest =
                    nearest.map_or(String::new(), |word| format!("; did you mean `{word}`?"));
                let why = format!("it must be one of {}{nearest}", list(words));
                problems.error(node.place, refusal(node, &why));
            }
            Cause::Told => {}
        }
    }
}

/// Tells that `key` does not belong into `node`.
pub(super) fn unknown_key(
    node: &Node,
    key: &str,
    value: &Node,
    known: &[&str],
    problems: &mut Collector,
) {
    // An inherited value keeps the path of where it is written; the block that it was laid into has its own.
    let parent = value.path.strip_suffix(key).unwrap_or(&node.path);
    let block = match parent.trim_end_matches('.') {
        "" => "at the top level".to_owned(),
        parent => format!("in `{parent}`"),
    };
    let message = if node.is_private() {
        format!(
            "unknown key {block}, not shown as it may be a secret; it takes {}",
            list(known)
        )
    } else if let Some(near) = nearest(key, known) {
        format!("unknown key `{key}` {block}; did you mean `{near}`?")
    } else if let Some(home) = crate::config::schema::block_with(key) {
        format!("unknown key `{key}` {block}; it belongs under `{home}`")
    } else {
        format!("unknown key `{key}` {block}; it takes {}", list(known))
    };
    problems.error(value.key_or_value_place(), message);
}

fn name(node: &Node) -> String {
    if node.path.is_empty() {
        "the file".to_owned()
    } else {
        format!("`{}`", node.path)
    }
}

fn kind_of(node: &Node) -> &'static str {
    match &node.kind {
        Kind::Empty | Kind::Faulty => "empty",
        Kind::Text { .. } => "a single value",
        Kind::List(_) => "a list",
        Kind::Map(_) => "a mapping",
    }
}

fn refusal(node: &Node, why: &str) -> String {
    const SHOWN: usize = 60;
    let name = name(node);
    match &node.kind {
        Kind::Text { .. } if node.is_private() => {
            format!("{name}: {why} (what it is may be a secret and is not shown)")
        }
        Kind::Text { written, .. } if written.is_empty() => {
            format!("{name} cannot be empty: {why}")
        }
        Kind::Text { written, .. } => {
            let cut = if written.chars().count() > SHOWN {
                "…"
            } else {
                ""
            };
            let visible = |c: char| if c.is_control() { ' ' } else { c };
            let written: String = written.chars().map(visible).take(SHOWN).collect();
            format!("{name} cannot be `{written}{cut}`: {why}")
        }
        _ => format!("{name} cannot be {}: {why}", kind_of(node)),
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.cause {
            Cause::Missing(key) => write!(f, "`{key}` is missing"),
            Cause::Expected(what) => write!(f, "{what} belongs here"),
            Cause::Refused(why) | Cause::Key(why) => f.write_str(why),
            Cause::NoneOf(words) => write!(f, "it must be one of {}", list(words)),
            Cause::Told => f.write_str("the fault was told"),
        }
    }
}

impl std::error::Error for Fault {}

impl de::Error for Fault {
    fn custom<T: fmt::Display>(why: T) -> Self {
        Self::refused(why.to_string())
    }

    fn invalid_type(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::expected(expected.to_string())
    }

    fn invalid_value(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::refused(format!("it must be {expected}"))
    }

    fn unknown_variant(_: &str, words: &'static [&'static str]) -> Self {
        Self::new(Cause::NoneOf(words))
    }

    fn missing_field(key: &'static str) -> Self {
        Self::new(Cause::Missing(key))
    }
}

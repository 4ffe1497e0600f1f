//! From the text of a file to its tree.

use std::collections::HashMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::options::{DuplicateKeyPolicy, NonFiniteFloatPolicy};
use serde_saphyr::{Error, Location, Spanned};

use super::expand::expand;
use super::problem::{Collector, Place};
use super::tree::{Environment, Ids, Kind, Node};

/// Reads YAML and replaces its variables. `None` when it is not YAML; everything wrong is told to `problems`.
pub(super) fn read(
    text: &str,
    env: Environment<'_>,
    ids: &mut Ids,
    problems: &mut Collector,
) -> Option<Node> {
    let raw = match serde_saphyr::from_str_with_options::<Spanned<Raw>>(text, options()) {
        Ok(raw) => raw,
        Err(error) => {
            let (place, message) = explain(&error, text);
            problems.error(place, message);
            return None;
        }
    };
    let mut builder = Builder {
        text,
        env,
        problems,
        ids,
    };
    Some(builder.node(raw, String::new(), None))
}

/// Budgets far above any configuration and far below what could hurt: the file may be anything.
fn options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: 32,
            max_nodes: 20_000,
            max_events: 100_000,
            max_aliases: 1_000,
            max_anchors: 1_000,
            max_merge_keys: 1_000,
        },
        duplicate_keys: DuplicateKeyPolicy::PassThrough, // they are all told, with a line each, below
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        non_finite_float_policy: NonFiniteFloatPolicy::AsString,
        reject_unsupported_tags: true,
        with_snippet: false,
    }
}

/// The parser's message, without its own place and with a way out where the cause is known.
fn explain(error: &Error, text: &str) -> (Option<Place>, String) {
    let location = error.location();
    let place = location.and_then(place_of);
    let error = error.without_snippet();
    let known = match error {
        Error::MultipleDocuments { .. } => Some(
            "the file holds several YAML documents, and a configuration is one; take the second `---` out",
        ),
        Error::Budget { .. } => {
            Some("this is nested too deeply, or too much, to be a configuration")
        }
        // Keys are all that is read as text here; values are taken as they come.
        Error::NullIntoString { .. } => Some("there is a value here without its key"),
        Error::Unexpected { .. } => Some("a key must be a plain word"),
        _ => None,
    };
    if let Some(message) = known {
        return (place, message.to_owned());
    }
    let message = error.to_string();
    let message = match message.rfind(" at line ") {
        Some(end) if place.is_some() => &message[..end],
        _ => &message,
    };
    let line = place.and_then(|place| text.lines().nth(place.line.saturating_sub(1) as usize));
    let in_brackets = |line: &str| line.replace("${", "").contains(['{', '[']);
    let hint = if line.is_some_and(|line| line.contains("${") && in_brackets(line)) {
        "; within `{ }` and `[ ]` a variable must stand in quotes, as in `\"${NAME}\"`"
    } else {
        ""
    };
    (place, format!("this is not YAML: {message}{hint}"))
}

fn place_of(location: Location) -> Option<Place> {
    let line = u32::try_from(location.line()).ok().filter(|&n| n > 0)?;
    let column = u32::try_from(location.column()).ok()?;
    Some(Place { line, column })
}

/// Makes nodes of what the parser read.
struct Builder<'a> {
    text: &'a str,
    env: Environment<'a>,
    problems: &'a mut Collector,
    ids: &'a mut Ids,
}

impl Builder<'_> {
    fn node(&mut self, raw: Spanned<Raw>, path: String, key_place: Option<Place>) -> Node {
        let id = self.ids.next();
        let place = place_of(raw.defined);
        let kind = match raw.value {
            Raw::Empty => Kind::Empty,
            Raw::Typed => self.scalar(None, raw.defined),
            Raw::Text(text) => self.scalar(Some(text), raw.defined),
            Raw::List(items) => Kind::List(self.list(items, &path)),
            Raw::Map(entries) => Kind::Map(self.map(entries, &path)),
        };
        Node {
            id,
            path,
            place,
            key_place,
            kind,
        }
    }

    fn list(&mut self, items: Vec<Spanned<Raw>>, path: &str) -> Vec<Node> {
        let items = items.into_iter().enumerate();
        items
            .map(|(index, item)| self.node(item, format!("{path}[{index}]"), None))
            .collect()
    }

    fn map(
        &mut self,
        entries: Vec<(Spanned<String>, Spanned<Raw>)>,
        path: &str,
    ) -> Vec<(String, Node)> {
        let mut nodes = Vec::with_capacity(entries.len());
        let mut lines = HashMap::new();
        for (key, value) in entries {
            let place = place_of(key.defined);
            let line = place.map_or(0, |place| place.line);
            if let Some(first) = lines.insert(key.value.clone(), line) {
                let key = if path.contains("credential") {
                    "a key"
                } else {
                    &format!("`{}`", key.value)
                };
                let message =
                    format!("{key} stands here a second time, first on line {first}; keep one");
                self.problems.error(place, message);
                continue;
            }
            let path = if path.is_empty() {
                key.value.clone()
            } else {
                format!("{path}.{}", key.value)
            };
            let node = self.node(value, path, place);
            nodes.push((key.value, node));
        }
        nodes
    }

    /// A scalar as text. Where the parser made a number or a truth of it, the file says how it was written.
    fn scalar(&mut self, text: Option<String>, location: Location) -> Kind {
        let text = text.unwrap_or_else(|| self.written(location));
        match expand(&text, self.env) {
            Ok(None) => Kind::Text {
                written: text.clone(),
                value: text,
            },
            Ok(Some(value)) if value.is_empty() => Kind::Empty,
            Ok(Some(value)) => Kind::Text {
                value,
                written: text,
            },
            Err(faults) => {
                for fault in faults {
                    self.problems.error(place_of(location), fault.to_string());
                }
                Kind::Faulty
            }
        }
    }

    fn written(&self, location: Location) -> String {
        let span = location.span();
        let slice = span.byte_offset().zip(span.byte_len());
        let slice = slice.and_then(|(start, len)| {
            let start = usize::try_from(start).ok()?;
            let len = usize::try_from(len).ok()?;
            self.text.get(start..start.checked_add(len)?)
        });
        slice.unwrap_or_default().trim().to_owned()
    }
}

/// A value as the parser hands it over.
enum Raw {
    Empty,
    /// A number or a truth, whose spelling is taken from the file.
    Typed,
    Text(String),
    List(Vec<Spanned<Raw>>),
    Map(Vec<(Spanned<String>, Spanned<Raw>)>),
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any YAML value")
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Empty)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Raw, E> {
        Ok(Raw::Typed)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Raw, E> {
        Ok(Raw::Typed)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Raw, E> {
        Ok(Raw::Typed)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Raw, E> {
        Ok(Raw::Typed)
    }

    fn visit_str<E>(self, text: &str) -> Result<Raw, E> {
        Ok(Raw::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Raw, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Raw::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Raw, A::Error> {
        let mut map = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            map.push(entry);
        }
        Ok(Raw::Map(map))
    }
}

//! Finds a few short values in a JSON document that arrives in pieces.
//!
//! Whether a plain answer was cut, and what it cost, stands in a few short fields at its outermost
//! level; the rest is text, vectors or images of any size. Waiting for the whole document would
//! delay it, and holding it would cost memory without a bound. So this reader follows the document
//! byte by byte, keeps nothing but the values it looks for, and skips strings as fast as memory
//! allows.
//!
//! It is no validator: a document that is broken gives the values that were whole before the break,
//! or nothing. Of a key that occurs twice every value is given; the last one counts in the parsers of
//! the SDKs.

use memchr::memchr2;

/// The longest value that is kept; what is looked for is far shorter.
const MAX_VALUE: usize = 4096;

/// The longest key that is told apart.
const MAX_KEY: usize = 20;

/// A value that is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    /// `usage`.
    Usage,
    /// `stop_reason` of Messages.
    StopReason,
    /// `status` of Responses.
    Status,
    /// `incomplete_details` of Responses.
    IncompleteDetails,
    /// `choices[*].finish_reason` of Chat and Completions.
    FinishReason,
}

/// The kind of an open container.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Kind {
    #[default]
    Object,
    Array,
}

/// Where the reader stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Before the document's first byte.
    Start,
    /// Outside of strings.
    Between,
    /// Within a string that is a key which may matter.
    Key,
    /// Within any other string.
    Text,
    /// Behind the backslash of such a string.
    Escape,
    /// Behind the document, or in something that is none.
    Over,
}

/// The key that is being read.
#[derive(Debug, Clone, Default)]
struct Key {
    bytes: [u8; MAX_KEY],
    /// More than [`MAX_KEY`] for a key that is none of those looked for.
    len: usize,
}

/// See the [module](self).
#[derive(Debug, Clone)]
pub(super) struct Sieve {
    place: Place,
    /// Open containers.
    depth: usize,
    /// The kinds of the outermost ones: no value that is looked for stands deeper.
    kinds: [Kind; 3],
    /// The next string of this object is a key.
    awaits_key: bool,
    key: Key,
    /// Within the value of the outermost object's `choices`.
    within_choices: bool,
    taking: Option<Taking>,
}

/// A value on its way in.
#[derive(Debug, Clone)]
struct Taking {
    field: Field,
    /// Containers that were open where it began.
    depth: usize,
    /// Where it goes on in the piece that is looked at.
    from: usize,
    /// What came of it in earlier pieces.
    earlier: Vec<u8>,
}

impl Sieve {
    pub(super) fn new() -> Self {
        Self {
            place: Place::Start,
            depth: 0,
            kinds: [Kind::default(); 3],
            awaits_key: false,
            key: Key::default(),
            within_choices: false,
            taking: None,
        }
    }

    /// Follows the next piece; `found` is given each value that ends within it, as JSON.
    pub(super) fn see(&mut self, piece: &[u8], mut found: impl FnMut(Field, &[u8])) {
        let mut at = 0;
        while let Some(&byte) = piece.get(at) {
            at = match self.place {
                Place::Start => self.start(byte, at),
                Place::Between => {
                    self.structure(byte, piece, at, &mut found);
                    at + 1
                }
                Place::Key => self.key(piece, at),
                Place::Text => self.skip_text(piece, at),
                Place::Escape => {
                    self.place = Place::Text;
                    at + 1
                }
                Place::Over => return,
            };
        }
        self.keep(piece);
    }

    fn start(&mut self, first: u8, at: usize) -> usize {
        match first {
            // The brace is read again, as the first of all.
            b'{' => {
                self.place = Place::Between;
                at
            }
            first if first.is_ascii_whitespace() => at + 1,
            // No object: an array, a text, compressed bytes.
            _ => {
                self.place = Place::Over;
                at
            }
        }
    }

    fn structure(
        &mut self,
        byte: u8,
        piece: &[u8],
        at: usize,
        found: &mut impl FnMut(Field, &[u8]),
    ) {
        match byte {
            b'"' => {
                let is_key = self.awaits_key && self.taking.is_none();
                self.key.len = 0;
                self.place = if is_key { Place::Key } else { Place::Text };
            }
            b'{' => self.open(Kind::Object),
            b'[' => self.open(Kind::Array),
            b'}' | b']' => {
                self.end_value(piece, at, found);
                self.depth = self.depth.saturating_sub(1);
                self.awaits_key = false;
                if self.depth == 0 {
                    self.place = Place::Over;
                }
            }
            b',' => {
                self.end_value(piece, at, found);
                self.awaits_key = self.is_in_object();
            }
            b':' => self.begin_value(at + 1),
            _ => {}
        }
    }

    fn open(&mut self, kind: Kind) {
        if let Some(slot) = self.kinds.get_mut(self.depth) {
            *slot = kind;
        }
        self.depth += 1;
        self.awaits_key = self.is_in_object();
    }

    /// Whether a key may come here that matters.
    fn is_in_object(&self) -> bool {
        let innermost = self.depth.checked_sub(1).and_then(|at| self.kinds.get(at));
        innermost == Some(&Kind::Object)
    }

    /// Passes a part of a key, and gives where it ends.
    fn key(&mut self, piece: &[u8], from: usize) -> usize {
        let rest = &piece[from..];
        let end = rest.iter().position(|byte| matches!(byte, b'"' | b'\\'));
        let part = &rest[..end.unwrap_or(rest.len())];
        let Some(room) = self.key.bytes.get_mut(self.key.len..) else {
            return self.end_of_key(rest, end, from);
        };
        match room.get_mut(..part.len()) {
            Some(room) => {
                room.copy_from_slice(part);
                self.key.len += part.len();
            }
            None => self.key.len = MAX_KEY + 1,
        }
        self.end_of_key(rest, end, from)
    }

    fn end_of_key(&mut self, rest: &[u8], end: Option<usize>, from: usize) -> usize {
        let Some(end) = end else {
            return from + rest.len();
        };
        if rest[end] == b'"' {
            self.place = Place::Between;
            self.awaits_key = false;
        } else {
            // No vendor escapes a letter of its own keys.
            self.key.len = MAX_KEY + 1;
            self.place = Place::Escape;
        }
        from + end + 1
    }

    /// Behind the colon of the key that was read last.
    fn begin_value(&mut self, from: usize) {
        if self.taking.is_some() || !self.is_in_object() {
            return;
        }
        let key = self.key.bytes.get(..self.key.len).unwrap_or_default();
        let field = match (self.depth, key) {
            (1, b"usage") => Some(Field::Usage),
            (1, b"stop_reason") => Some(Field::StopReason),
            (1, b"status") => Some(Field::Status),
            (1, b"incomplete_details") => Some(Field::IncompleteDetails),
            (3, b"finish_reason") if self.within_choices && self.kinds[1] == Kind::Array => {
                Some(Field::FinishReason)
            }
            _ => None,
        };
        if self.depth == 1 {
            self.within_choices = key == b"choices";
        }
        self.key.len = MAX_KEY + 1;
        self.taking = field.map(|field| Taking {
            field,
            depth: self.depth,
            from,
            earlier: Vec::new(),
        });
    }

    /// At a comma or a closing bracket: the end of a value of the container it belongs to.
    fn end_value(&mut self, piece: &[u8], at: usize, found: &mut impl FnMut(Field, &[u8])) {
        let Some(mut taken) = self.taking.take_if(|taking| taking.depth == self.depth) else {
            return;
        };
        let here = &piece[taken.from..at];
        if taken.earlier.len() + here.len() > MAX_VALUE {
            return;
        }
        let value = if taken.earlier.is_empty() {
            here
        } else {
            taken.earlier.extend_from_slice(here);
            &taken.earlier
        };
        found(taken.field, value.trim_ascii());
    }

    /// Passes the text of a string, and gives where it ends.
    fn skip_text(&mut self, piece: &[u8], from: usize) -> usize {
        match memchr2(b'"', b'\\', &piece[from..]) {
            None => piece.len(),
            Some(end) => {
                self.place = if piece[from + end] == b'"' {
                    Place::Between
                } else {
                    Place::Escape
                };
                from + end + 1
            }
        }
    }

    /// At the end of a piece: what it has of a value that goes on in the next one.
    fn keep(&mut self, piece: &[u8]) {
        let Some(taking) = &mut self.taking else {
            return;
        };
        let here = &piece[taking.from..];
        if taking.earlier.len() + here.len() > MAX_VALUE {
            self.taking = None;
            return;
        }
        taking.earlier.extend_from_slice(here);
        taking.from = 0;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn sift<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<(Field, Value)> {
        let (mut sieve, mut all) = (Sieve::new(), Vec::new());
        for piece in pieces {
            sieve.see(piece, |field, value| {
                let value = serde_json::from_slice(value).unwrap_or(Value::from("no JSON"));
                all.push((field, value));
            });
        }
        all
    }

    #[test]
    fn only_values_of_the_right_places_are_found() {
        let document = br#" {"choices" : [ {"index":0,"finish_reason": "stop","message":{"finish_reason":"x"}},
            {"finish_reason":null , "a":["finish_reason"]} ],"usage" :{"a":{"b":[1,2]},"usage":3},
            "other":{"usage":1,"status":"no","choices":[{"finish_reason":"no"}]},"text":"\"usage\":5,\\",
            "choices_":[{"finish_reason":"no"}],"status":"completed","stop_reason":"max_tokens"}"#;
        let expected = vec![
            (Field::FinishReason, json!("stop")),
            (Field::FinishReason, Value::Null),
            (Field::Usage, json!({"a": {"b": [1, 2]}, "usage": 3})),
            (Field::Status, json!("completed")),
            (Field::StopReason, json!("max_tokens")),
        ];
        assert_eq!(sift([&document[..]]), expected);
        assert_eq!(sift(document.chunks(1)), expected, "byte by byte");
    }

    #[test]
    fn what_is_no_whole_value_is_not_given() {
        for document in [
            &br#"{"stop_reason":"max_tokens""#[..],
            br#"[{"usage":1}]"#,
            br#""usage":1"#,
            br#"{"us\u0061ge":1}"#,
            br#"{"a":1}{"usage":1}"#,
            br#"{"usage"}"#,
            br#"{"a":["usage",":",1]}"#,
            b"\x1f\x8b\x08{\"usage\":1}",
            b"",
        ] {
            assert_eq!(
                sift([document]),
                [],
                "{}",
                String::from_utf8_lossy(document)
            );
        }
        let long = format!(
            r#"{{"usage":"{}","status":"completed"}}"#,
            "x".repeat(MAX_VALUE)
        );
        assert_eq!(
            sift([long.as_bytes()]),
            [(Field::Status, json!("completed"))],
            "a value beyond the bound is not held"
        );
    }

    fn document() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<i64>().prop_map(Value::from),
            "[\"\\\\{}\\[\\]:, a-zé]{0,12}".prop_map(Value::from),
        ];
        let key = prop::sample::select(vec![
            "usage",
            "status",
            "choices",
            "finish_reason",
            "stop_reason",
            "a",
            "\"",
            "{\"usage\":",
        ]);
        leaf.prop_recursive(5, 40, 5, move |inner| {
            let key = key.clone().prop_map(str::to_owned);
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::btree_map(key, inner, 0..5)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    /// What the sieve must find, from the parsed document.
    fn expected(document: &Value) -> Vec<(Field, Value)> {
        let mut all = Vec::new();
        let Some(object) = document.as_object() else {
            return all;
        };
        for (key, value) in object {
            match key.as_str() {
                "usage" => all.push((Field::Usage, value.clone())),
                "status" => all.push((Field::Status, value.clone())),
                "stop_reason" => all.push((Field::StopReason, value.clone())),
                "choices" => all.extend(
                    value
                        .as_array()
                        .into_iter()
                        .flatten()
                        .filter_map(|choice| choice.as_object()?.get("finish_reason"))
                        .map(|reason| (Field::FinishReason, reason.clone())),
                ),
                _ => {}
            }
        }
        all
    }

    proptest! {
        #[test]
        fn any_document_in_any_pieces_gives_what_a_parser_finds(
            document in document(), pretty in any::<bool>(), len in 1_usize..20,
        ) {
            let text = if pretty {
                serde_json::to_string_pretty(&document)
            } else {
                serde_json::to_string(&document)
            };
            let text = text.expect("a value serialises");
            prop_assert_eq!(sift(text.as_bytes().chunks(len)), expected(&document));
        }

        #[test]
        fn garbage_never_panics(bytes in prop::collection::vec(prop::sample::select(b"{}[]\",:\\usage \xff1".to_vec()), 0..200)) {
            sift(bytes.chunks(3));
        }
    }
}

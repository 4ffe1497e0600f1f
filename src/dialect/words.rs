//! Words that are looked for in every event of every stream.
//!
//! Preparing a search costs more than searching an event of the usual size: it was an eighth of all instructions of an
//! event (counted with callgrind). So each search is prepared once.

use std::sync::OnceLock;

use memchr::memmem::Finder;

pub(super) static USAGE: Word = Word::new(b"\"usage\"");
pub(super) static ERROR: Word = Word::new(b"\"error\"");
pub(super) static EMPTY: Word = Word::new(b"\"\"");
pub(super) static CONTENT: Word = Word::new(b"\"content\":\"");
pub(super) static TEXT: Word = Word::new(b"\"text\":\"");
pub(super) static FINISH_REASON: Word = Word::new(b"\"finish_reason\"");

/// A few bytes, and how they are found.
pub(super) struct Word {
    bytes: &'static [u8],
    finder: OnceLock<Finder<'static>>,
}

impl Word {
    const fn new(bytes: &'static [u8]) -> Self {
        Self {
            bytes,
            finder: OnceLock::new(),
        }
    }

    fn finder(&self) -> &Finder<'static> {
        self.finder.get_or_init(|| Finder::new(self.bytes))
    }

    pub(super) fn is_in(&self, data: &[u8]) -> bool {
        self.finder().find(data).is_some()
    }

    /// What stands behind the first of them.
    pub(super) fn first_rest<'a>(&self, data: &'a [u8]) -> Option<&'a [u8]> {
        self.finder()
            .find(data)
            .map(|at| &data[at + self.bytes.len()..])
    }

    /// What stands behind each of them that is a key in JSON: a value, and the rest of the data.
    pub(super) fn values<'a>(&'a self, data: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        self.finder().find_iter(data).map(|at| {
            let value = data[at + self.bytes.len()..].trim_ascii_start();
            value.strip_prefix(b":").unwrap_or(value).trim_ascii_start()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_is_found_with_what_follows() {
        let data = br#"{"usage" : null,"x":"","usage":{"a":1}}"#;
        let values: Vec<_> = USAGE.values(data).map(|value| value[0]).collect();
        assert_eq!(values, [b'n', b'{']);
        assert_eq!(USAGE.first_rest(data), Some(&data[8..]));
        assert!(EMPTY.is_in(data) && !ERROR.is_in(data));
        assert_eq!(TEXT.first_rest(data), None);
    }
}

//! Model names as label values.
//!
//! Operators want their tokens by model, but the name comes from the caller: as a label it would let
//! anybody grow the metrics without end. So only names under which an upstream has given an answer
//! are told apart, the first so many of them; the rest is one.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

/// Names that are told apart. More series than `routes × this × kinds` cannot be.
pub(super) const MAX_MODELS: usize = 32;

/// The longest name that is a label.
const MAX_NAME: usize = 96;

/// What vendors make names of, beside letters and digits. Anything else is no name but an attack or an accident.
const MARKS: &[u8] = b"-._:/@+";

/// The names that have been seen.
#[derive(Clone, Debug, Default)]
pub struct ModelNames(Arc<Mutex<BTreeSet<Box<str>>>>);

impl ModelNames {
    /// The label for a model that has answered: its own name, `other`, or `none` where the request
    /// named none.
    #[must_use]
    pub fn label<'a>(&self, name: Option<&'a str>) -> &'a str {
        const OTHER: &str = "other";
        let Some(name) = name else { return "none" };
        let is_usual = |byte: u8| byte.is_ascii_alphanumeric() || MARKS.contains(&byte);
        let is_plain = name.len() <= MAX_NAME && name.bytes().all(is_usual);
        if !is_plain {
            return OTHER;
        }
        // A panic while it was held cannot have left half a name.
        let mut names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if names.contains(name) {
            name
        } else if names.len() < MAX_MODELS {
            names.insert(name.into());
            name
        } else {
            OTHER
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_labels_are_bounded_in_number_and_form() {
        let names = ModelNames::default();
        assert_eq!(names.label(None), "none");
        for odd in ["a b", "caf\u{e9}", "new\nline", "a\"}", &"x".repeat(97)] {
            assert_eq!(names.label(Some(odd)), "other", "{odd:?}");
        }
        for number in 0..MAX_MODELS {
            let name = format!("model-{number}");
            assert_eq!(names.label(Some(&name)), name);
        }
        assert_eq!(names.label(Some("one-more")), "other");
        assert_eq!(names.label(Some("model-0")), "model-0", "known ones stay");
    }
}

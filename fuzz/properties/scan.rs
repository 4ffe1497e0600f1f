//! What must hold of the walk over JSON, whatever comes.

use std::{borrow::Cow, collections::BTreeMap};

use serde_json::value::RawValue;

use super::{Entry, Scan};

type Entries<'a> = BTreeMap<Cow<'a, str>, &'a [u8]>;

/// What `serde_json` takes for JSON is taken, and nothing else; an object has the entries that `serde_json` finds in it.
pub(crate) fn holds(text: &[u8]) {
    let is_theirs = serde_json::from_slice::<serde::de::IgnoredAny>(text).is_ok();
    assert_eq!(is_value(text), is_theirs, "a value or not");
    let entries = entries(text);
    assert!(entries.is_none() || is_theirs, "entries of no object");
    if let Ok(expected) = serde_json::from_slice::<BTreeMap<Cow<'_, str>, &RawValue>>(text) {
        let spelt = expected
            .into_iter()
            .map(|(key, value)| (key, value.get().as_bytes()));
        assert_eq!(entries, Some(spelt.collect()));
    }
}

pub(crate) fn is_value(text: &[u8]) -> bool {
    let mut scan = Scan::new(text);
    scan.value().is_some() && scan.is_at_end()
}

/// The entries of an object and nothing but an object; of several with the same key the last.
fn entries(text: &[u8]) -> Option<Entries<'_>> {
    let (mut scan, mut entries, mut count) = (Scan::new(text), Entries::new(), 0);
    scan.object()?;
    while let Entry::Is(key, value) = scan.entry(count)? {
        entries.insert(key, value);
        count += 1;
    }
    scan.is_at_end().then_some(entries)
}

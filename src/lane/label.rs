//! What a lane is called in metrics and in the log.
//!
//! An operator wants to read which model is in trouble. But the caller chooses the model's name, so a name could be
//! anything: one of thousands that make thousands of series, a credential in the wrong field, a piece of a prompt.
//! So a name is shown once the vendor has served it several times, which makes it one of the vendor's own and in use; only
//! if it looks like a name; and only the first few of an upstream. All others share one label.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Names shown of one upstream.
const PER_UPSTREAM: usize = 16;
/// A name is shown from this many answers on.
const PROVED_BY: u32 = 10;
/// The longest name that is shown, in bytes.
const LONGEST: usize = 64;

/// The label of lanes whose model is not shown, or not yet.
pub const OTHER: &str = "other";
/// The label of lanes of requests that name no model.
pub const NO_MODEL: &str = "none";

/// The names that are shown, for a whole process.
#[derive(Debug, Default)]
pub struct Names(Mutex<HashSet<(usize, Arc<str>)>>);

/// The label of one lane.
#[derive(Debug)]
pub struct Label {
    upstream: usize,
    model: Option<Box<str>>,
    names: Arc<Names>,
    served: AtomicU32,
    /// Set once the vendor has served the model often enough; nothing in it if the name is not to be shown.
    proved: OnceLock<Option<Arc<str>>>,
}

impl Label {
    /// The label for a model of an upstream, which is told by its index.
    #[must_use]
    pub fn new(names: Arc<Names>, upstream: usize, model: Option<&str>) -> Self {
        let label = Self {
            upstream,
            model: model.filter(|name| is_plain(name)).map(Into::into),
            names,
            served: AtomicU32::new(0),
            proved: OnceLock::new(),
        };
        if model.is_none() {
            let _ = label.proved.set(Some(NO_MODEL.into()));
        }
        label
    }

    /// The vendor has served the model.
    pub fn served(&self) {
        if self.proved.get().is_none()
            && self.served.fetch_add(1, Ordering::Relaxed) + 1 >= PROVED_BY
        {
            self.proved.get_or_init(|| {
                let name = Arc::from(self.model.as_deref()?);
                self.names.show(self.upstream, name)
            });
        }
    }

    /// The label as it is now.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.proved
            .get()
            .and_then(Option::as_deref)
            .unwrap_or(OTHER)
    }
}

/// Never the name of a model: for lanes that are shared, and for tests.
impl Default for Label {
    fn default() -> Self {
        Self {
            upstream: 0,
            model: None,
            names: Arc::default(),
            served: AtomicU32::new(0),
            proved: OnceLock::new(),
        }
    }
}

impl Names {
    fn show(&self, upstream: usize, name: Arc<str>) -> Option<Arc<str>> {
        let mut shown = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let name = (upstream, name);
        let of_upstream = shown.iter().filter(|(of, _)| *of == upstream).count();
        if of_upstream >= PER_UPSTREAM && !shown.contains(&name) {
            return None;
        }
        shown.insert(name.clone());
        Some(name.1)
    }
}

fn is_plain(name: &str) -> bool {
    let is_usual = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:/@+".contains(&byte);
    (1..=LONGEST).contains(&name.len())
        && name.bytes().all(is_usual)
        && ![OTHER, NO_MODEL].contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prove(label: &Label) {
        for _ in 0..PROVED_BY {
            label.served();
        }
    }

    #[test]
    fn a_name_is_shown_once_the_vendor_has_served_it_several_times() {
        let label = Label::new(Arc::default(), 0, Some("gpt-small"));
        for _ in 1..PROVED_BY {
            label.served();
            assert_eq!(label.as_str(), OTHER);
        }
        label.served();
        assert_eq!(label.as_str(), "gpt-small");
        assert_eq!(Label::new(Arc::default(), 0, None).as_str(), NO_MODEL);
    }

    #[test]
    fn what_does_not_look_like_a_name_is_never_shown() {
        let long = "x".repeat(LONGEST + 1);
        for name in [
            "",
            "two words",
            "\"quoted\"",
            "ünlü",
            "none",
            "other",
            &long,
        ] {
            let label = Label::new(Arc::default(), 0, Some(name));
            prove(&label);
            assert_eq!(label.as_str(), OTHER, "{name:?}");
        }
    }

    #[test]
    fn only_the_first_few_of_an_upstream_are_shown_and_those_for_good() {
        let names = Arc::new(Names::default());
        let served = |upstream, name: &str| {
            let label = Label::new(names.clone(), upstream, Some(name));
            prove(&label);
            label.as_str().to_owned()
        };
        for number in 0..100 {
            let name = format!("m{number}");
            let shown = if number < PER_UPSTREAM { &name } else { OTHER };
            assert_eq!(served(0, &name), shown);
        }
        assert_eq!(served(0, "m3"), "m3");
        assert_eq!(served(1, "m99"), "m99", "each upstream has its own");
    }
}

//! What a lane is called in metrics and in the log.
//!
//! An operator wants to read which model is in trouble. But the caller chooses the model's name, so a name could be
//! anything: one of thousands, a credential in the wrong field, a piece of a prompt. So a lane is called by its model once
//! the vendor has served it several times, which makes it one of the vendor's own and in use; and only as far as
//! [`ModelNames`] tells names apart. Until then, and otherwise, it is one of the others.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use super::view::shown_name;
use crate::telemetry::{LaneSeries, ModelNames};

/// A name is shown from this many answers on.
const PROVED_BY: u32 = 10;

/// What lanes are called whose model is not shown, or not yet.
const OTHER: &str = "other";

/// The name of one lane.
#[derive(Debug)]
pub struct Label {
    model: Option<Box<str>>,
    shown: Option<Arc<str>>,
    names: ModelNames,
    served: AtomicU32,
    /// Set once the model was served often enough, or can never be.
    proved: OnceLock<Box<str>>,
    /// What its attempts are counted in, known from then on.
    series: OnceLock<LaneSeries>,
}

impl Label {
    /// The name of the lane for a model.
    #[must_use]
    pub fn new(names: ModelNames, model: Option<&str>) -> Self {
        let nameless = model.is_none().then(|| Box::<str>::from(names.label(None)));
        Self {
            model: model.map(Into::into),
            shown: model.and_then(shown_name),
            names,
            served: AtomicU32::new(0),
            proved: nameless.map_or_else(OnceLock::new, OnceLock::from),
            series: OnceLock::new(),
        }
    }

    /// The name of a lane that many models share, served or not.
    #[must_use]
    pub fn shared() -> Self {
        Self {
            proved: OnceLock::from(Box::from(OTHER)),
            ..Self::new(ModelNames::default(), None)
        }
    }

    /// The vendor has served the model.
    pub fn served(&self) {
        if self.proved.get().is_none()
            && self.served.fetch_add(1, Ordering::Relaxed) + 1 >= PROVED_BY
        {
            self.proved
                .get_or_init(|| self.names.label(self.model.as_deref()).into());
        }
    }

    /// The model's name for the status page, which has no series to bound.
    #[must_use]
    pub fn shown(&self) -> Option<Arc<str>> {
        self.shown.clone()
    }

    /// What the lane's attempts are counted in, looked up once; nothing as long as its name may change.
    pub fn series(&self, look_up: impl FnOnce(&str) -> LaneSeries) -> Option<&LaneSeries> {
        let name = self.proved.get()?;
        Some(self.series.get_or_init(|| look_up(name)))
    }

    /// The name as it is now.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.proved.get().map_or(OTHER, AsRef::as_ref)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label(model: Option<&str>) -> Label {
        Label::new(ModelNames::default(), model)
    }

    #[test]
    fn a_name_is_shown_once_the_vendor_has_served_it_several_times() {
        let (plain, odd) = (label(Some("gpt-small")), label(Some("my secret")));
        for _ in 1..PROVED_BY {
            plain.served();
            odd.served();
            assert_eq!(plain.as_str(), OTHER);
        }
        plain.served();
        odd.served();
        assert_eq!((plain.as_str(), odd.as_str()), ("gpt-small", OTHER));
    }

    #[test]
    fn requests_without_a_model_and_shared_lanes_have_names_of_their_own() {
        assert_eq!(label(None).as_str(), "none");
        assert_eq!(Label::shared().as_str(), OTHER);
    }
}

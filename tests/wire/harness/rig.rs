//! The proxy in front of the lab.

use surgetank::lab::{Lab, LabConfig, LabHandle, RequestRecord, Stats};

use super::{PATIENCE, Recipe, Tank};

pub(crate) struct Rig {
    pub(crate) lab: LabHandle,
    pub(crate) tank: Tank,
}

impl Rig {
    pub(crate) fn start() -> Self {
        Self::with(|recipe| recipe)
    }

    /// Starts with changes to the recipe.
    pub(crate) fn with(change: impl FnOnce(Recipe) -> Recipe) -> Self {
        Self::with_lab(LabConfig::default(), change)
    }

    pub(crate) fn with_lab(config: LabConfig, change: impl FnOnce(Recipe) -> Recipe) -> Self {
        let lab = Lab::start(config).expect("a free port");
        let tank = change(Recipe::over(&lab.url())).start();
        Self { lab, tank }
    }

    /// Waits until the lab has counted this.
    pub(crate) async fn lab_has(&self, what: &str, met: impl Fn(&Stats) -> bool) -> Stats {
        self.lab
            .wait_for(met, PATIENCE)
            .await
            .unwrap_or_else(|stats| panic!("{what}: {stats:?}"))
    }

    /// The attempts that were made with this key.
    pub(crate) fn attempts(&self, key: &str) -> Vec<RequestRecord> {
        self.lab.requests_of(key)
    }
}

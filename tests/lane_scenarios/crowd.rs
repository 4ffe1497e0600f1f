//! Who asks, and how it ended for them.

use rand::RngExt;
use rand::rngs::SmallRng;
use surgetank::lane::UserKey;

use super::scenario::Scenario;
use super::vendor::between;

/// Somebody who asks once, and waits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Caller {
    pub arrives: f64,
    pub(crate) user: UserKey,
    pub(crate) instance: usize,
    pub(crate) light: bool,
}

/// What one run came to.
#[derive(Debug, Default)]
pub(crate) struct Run {
    pub asked: usize,
    pub served: usize,
    pub ideal: usize,
    pub calls: usize,
    pub throttled: usize,
    pub light_asked: usize,
    pub light_served: usize,
    pub max_probes: usize,
    /// Calls before a hint's end or after their caller's patience.
    pub violations: usize,
    pub(crate) waits: Vec<f64>,
}

/// Everybody who will ask, in the order of arrival.
pub(crate) fn callers(scenario: &Scenario, rng: &mut SmallRng) -> Vec<Caller> {
    let mut callers = Vec::new();
    let mut first_user = 0;
    for group in &scenario.callers {
        for call in 0..group.calls {
            callers.push(Caller {
                arrives: between((group.from, group.to.max(group.from)), rng),
                user: UserKey(first_user + call % group.users),
                instance: rng.random_range(0..scenario.instances),
                light: group.light,
            });
        }
        first_user += group.users;
    }
    callers.sort_by(|a, b| a.arrives.total_cmp(&b.arrives));
    callers
}

impl Run {
    /// The wait below which this part of the served callers was sent, in seconds.
    pub(crate) fn wait(&self, quantile: f64) -> f64 {
        let mut waits = self.waits.clone();
        waits.sort_by(f64::total_cmp);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "an index"
        )]
        let index = (waits.len() as f64 * quantile) as usize;
        waits
            .get(index.min(waits.len().saturating_sub(1)))
            .copied()
            .unwrap_or_default()
    }
}

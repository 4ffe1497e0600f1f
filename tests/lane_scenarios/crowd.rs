//! Who asks, and how it ended for them.

use std::collections::BTreeMap;

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
    pub(crate) asked_by_user: BTreeMap<UserKey, usize>,
    pub(crate) served_by_user: BTreeMap<UserKey, usize>,
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

/// How many calls each user makes.
pub(crate) fn by_user(callers: &[Caller]) -> BTreeMap<UserKey, usize> {
    let mut calls = BTreeMap::new();
    for caller in callers {
        *calls.entry(caller.user).or_default() += 1;
    }
    calls
}

impl Run {
    /// Jain's index over users, of what each was served ÷ its max-min fair share of the ideal: 1 when all are equally
    /// well off, 1/n when one has everything.
    pub(crate) fn jain(&self) -> f64 {
        let mut left = self.ideal as f64;
        let mut asked: Vec<_> = self.asked_by_user.iter().collect();
        asked.sort_by_key(|(_, calls)| **calls);
        let users = asked.len();
        let (mut sum, mut squares) = (0.0, 0.0);
        for (index, (user, calls)) in asked.into_iter().enumerate() {
            let fair = (left / (users - index) as f64).min(*calls as f64);
            left -= fair;
            let got = self.served_by_user.get(user).copied().unwrap_or_default() as f64 / fair;
            sum += got;
            squares += got * got;
        }
        sum * sum / (users as f64 * squares.max(f64::MIN_POSITIVE))
    }

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

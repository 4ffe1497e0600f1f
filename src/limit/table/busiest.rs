//! Who uses most, for an operator who asks: found by looking at everybody, a few at a time.
//!
//! Nothing is kept for this while requests run. Looking takes a lock for a few microseconds at a
//! time, so that not even a million users hold up a request.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use tokio::time::Instant;

use super::{Account, State, Table, lock};
use crate::limit::standing::Standing;

/// Accounts looked at under one lock.
const AT_A_TIME: usize = 256;

/// An account that has used much.
#[derive(Clone, Debug)]
pub struct Busy {
    /// Whose.
    pub account: Account,
    /// Requests running.
    pub live: u32,
    /// The part of its scarcest quota that is used up, in thousandths; more than 1000 is a debt.
    pub used_permille: u64,
    /// What it has left.
    pub standing: Standing,
}

impl Table {
    /// Up to `count` accounts that have used most of what they may, the busiest first.
    #[must_use]
    pub fn busiest(&self, count: usize, now: Instant) -> Vec<Busy> {
        let now = self.micros(now);
        // The least of the busiest on top, to be replaced.
        let mut busiest = BinaryHeap::with_capacity(count + 1);
        for shard in &self.inner.shards {
            for from in (0..).step_by(AT_A_TIME) {
                let shard = lock(shard);
                for (account, state) in shard.accounts(from, AT_A_TIME) {
                    let used = self.used_permille(account, &state, now);
                    if used > 0 || state.live > 0 {
                        busiest.push(Reverse((used, state.live, account, state.tats)));
                        if busiest.len() > count {
                            busiest.pop();
                        }
                    }
                }
                if from + AT_A_TIME >= shard.len() {
                    break;
                }
            }
        }
        let busy = |Reverse((used_permille, live, account, tats))| Busy {
            account,
            live,
            used_permille,
            standing: Standing::new(self.plan(account).clone(), State { tats, live }, now),
        };
        busiest.into_sorted_vec().into_iter().map(busy).collect()
    }

    fn used_permille(&self, account: Account, state: &State, now: u64) -> u64 {
        let plan = self.plan(account);
        let of_rates = plan.rules().iter().zip(&state.tats).map(|(metered, tat)| {
            let burst = metered.rule.span(metered.rule.burst()).micros.max(1);
            let ahead = tat.micros.saturating_sub(now);
            u64::try_from(u128::from(ahead) * 1000 / u128::from(burst)).unwrap_or(u64::MAX)
        });
        let of_places = plan
            .concurrent()
            .map(|limit| u64::from(state.live) * 1000 / u64::from(limit.max(1)));
        of_rates.chain(of_places).max().unwrap_or(0)
    }
}

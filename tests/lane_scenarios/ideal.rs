//! The yardstick: what a clairvoyant queue serves.
//!
//! It knows the quota to the token and every outage in advance, so it never makes a call in vain, and it serves first
//! whose patience ends first. Nobody can serve more callers in the same time and patience.

use std::collections::{BTreeSet, VecDeque};

use super::crowd::Caller;
use super::scenario::Scenario;
use super::vendor::VendorState;

/// How many of these callers it serves. `callers` are in the order of arrival.
pub(crate) fn served(scenario: &Scenario, callers: &[Caller]) -> usize {
    let mut vendor = VendorState::new(&scenario.vendor);
    let mut waiting = BTreeSet::new();
    let mut arrivals = callers.iter().enumerate().peekable();
    // Where the vendor limits concurrency, every place is taken for as long as an answer takes on average.
    let mut ends = VecDeque::new();
    let answer = scenario.vendor.mean_answer();
    let (mut now, mut served) = (0.0f64, 0);
    loop {
        while let Some((index, caller)) = arrivals.next_if(|(_, caller)| caller.arrives <= now) {
            let gives_up = caller.arrives + scenario.patience;
            waiting.insert((Millis::from(gives_up), index));
        }
        while waiting
            .first()
            .is_some_and(|(gives_up, _)| *gives_up <= Millis::from(now))
        {
            waiting.pop_first();
        }
        if waiting.is_empty() {
            match arrivals.peek() {
                Some((_, next)) => now = next.arrives,
                None => return served,
            }
            continue;
        }
        let full = scenario
            .vendor
            .concurrency
            .is_some_and(|most| ends.len() >= most);
        if let Some(end) = vendor.is_out(now) {
            now = end;
        } else if full {
            now = now.max(ends.pop_front().unwrap_or(now));
        } else if vendor.take(now) {
            waiting.pop_first();
            ends.push_back(now + answer);
            served += 1;
        } else {
            now = vendor.next_token(now).max(now + 1e-6);
        }
    }
}

/// A time that can be ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Millis(u64);

impl From<f64> for Millis {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "minutes, in milliseconds"
    )]
    fn from(seconds: f64) -> Self {
        Self((seconds * 1_000.0) as u64)
    }
}

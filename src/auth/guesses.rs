//! How fast one address may show tokens that do not open.
//!
//! A token that is long enough is not guessed; but who tries shall not have the machine for it, nor fill a log. So each
//! address has a rate of wrong tokens. Above it nothing is looked at that comes from there, the right token among it:
//! whether a guess was right is just what is not to be told. Addresses are remembered within the bound of a table of
//! users ([`crate::limit::table`]), and cost nothing while nobody shows a wrong token.

use std::{
    net::{IpAddr, Ipv6Addr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::Stranger;
use crate::{
    config::Rate,
    limit::{
        identity::UserKey,
        plan::{Limit, Plan, PlanError, Scope, Unit},
        table::{Account, Table},
    },
};

/// Addresses that are remembered at once; more share what one of them may.
const MOST_ADDRESSES: usize = 4_096;

/// The addresses that have shown wrong tokens lately.
#[derive(Debug)]
pub(super) struct Guesses {
    table: Table,
    /// How long a wrong token counts.
    lasts: Duration,
    /// Until when any counts, in the table's time.
    until: AtomicU64,
}

impl Guesses {
    /// So many wrong tokens in so much time, for each address.
    ///
    /// # Errors
    /// When the rate cannot be counted.
    pub(super) fn at_most(rate: Rate, now: Instant) -> Result<Self, PlanError> {
        let limit = Limit {
            unit: Unit::Requests,
            count: rate.count,
            per: rate.per,
            burst: rate.count,
        };
        let plan = Plan::new(Scope::User, &[limit], None)?;
        Ok(Self {
            table: Table::new(vec![Arc::new(plan)], MOST_ADDRESSES, now),
            lasts: rate.per,
            until: AtomicU64::new(0),
        })
    }

    /// Has a request from `peer` looked at, unless too many wrong tokens came from there.
    ///
    /// # Errors
    /// What `look` says, or [`Stranger::TooMany`] without having asked it.
    pub(super) fn watch(
        &self,
        peer: IpAddr,
        now: Instant,
        look: impl FnOnce() -> Result<(), Stranger>,
    ) -> Result<(), Stranger> {
        if self.table.micros(now) >= self.until.load(Ordering::Relaxed) {
            let looked = look();
            if looked == Err(Stranger::Unknown) {
                self.remember(now);
                // The first one is never too many.
                drop(self.table.admit(account(peer), 0, now));
            }
            return looked;
        }
        let place = match self.table.admit(account(peer), 0, now) {
            Ok(admission) => admission.permit,
            Err(denied) => return Err(Stranger::TooMany(denied.retry_after)),
        };
        let looked = look();
        if looked == Err(Stranger::Unknown) {
            self.remember(now);
        } else {
            place.undo();
        }
        looked
    }

    fn remember(&self, now: Instant) {
        let until = self.table.micros(now + self.lasts);
        self.until.fetch_max(until, Ordering::Relaxed);
    }
}

/// Whoever has one address of version 6 has the 2⁶⁴ beside it.
fn account(peer: IpAddr) -> Account {
    let network = match peer.to_canonical() {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64),
    };
    Account::new(UserKey::from_source("stranger", &network.octets()), 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RIGHT: Result<(), Stranger> = Ok(());
    const WRONG: Result<(), Stranger> = Err(Stranger::Unknown);
    const NOTHING: Result<(), Stranger> = Err(Stranger::Nothing);

    struct Scene {
        guesses: Guesses,
        now: Instant,
    }

    impl Scene {
        fn new() -> Self {
            let now = Instant::now();
            let rate = "3/min".parse().expect("a rate");
            Self {
                guesses: Guesses::at_most(rate, now).expect("it can be counted"),
                now,
            }
        }

        fn shows(&self, peer: &str, looked: Result<(), Stranger>) -> Result<(), Stranger> {
            let peer = peer.parse().expect("an address");
            self.guesses.watch(peer, self.now, || looked)
        }

        fn is_refused(&self, peer: &str) -> bool {
            let looked = self.shows(peer, RIGHT);
            matches!(looked, Err(Stranger::TooMany(wait)) if wait <= Duration::from_secs(20))
        }
    }

    #[test]
    fn wrong_tokens_are_counted_for_each_address_and_forgotten() {
        let mut scene = Scene::new();
        for _ in 0..100 {
            assert_eq!(scene.shows("10.0.0.1", RIGHT), RIGHT);
            assert_eq!(
                scene.shows("10.0.0.1", NOTHING),
                NOTHING,
                "it guesses nothing"
            );
        }
        for _ in 0..3 {
            assert_eq!(scene.shows("10.0.0.1", WRONG), WRONG);
            assert_eq!(scene.shows("10.0.0.2", RIGHT), RIGHT);
        }
        assert!(scene.is_refused("10.0.0.1"));
        assert!(scene.is_refused("::ffff:10.0.0.1"), "the same one");
        assert_eq!(scene.shows("10.0.0.2", RIGHT), RIGHT, "another");
        scene.now += Duration::from_secs(20);
        assert_eq!(scene.shows("10.0.0.1", RIGHT), RIGHT);
        assert_eq!(scene.shows("10.0.0.1", WRONG), WRONG);
        assert!(scene.is_refused("10.0.0.1"), "one in twenty seconds");
        scene.now += Duration::from_secs(60);
        for _ in 0..3 {
            assert_eq!(scene.shows("10.0.0.1", WRONG), WRONG, "all is forgotten");
        }
        assert!(scene.is_refused("10.0.0.1"));
    }

    #[test]
    fn a_network_of_version_6_is_one_address() {
        let scene = Scene::new();
        for host in ["2001:db8::1", "2001:db8::2", "2001:db8::ffff:3"] {
            assert_eq!(scene.shows(host, WRONG), WRONG);
        }
        assert!(scene.is_refused("2001:db8::4"));
        assert_eq!(scene.shows("2001:db8:0:1::4", RIGHT), RIGHT);
    }
}

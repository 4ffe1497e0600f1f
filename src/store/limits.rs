//! What limits ask of a store that several instances share: one small trait, and the words it speaks.
//!
//! The store decides, since only it sees what all instances let in, and it decides on all accounts of a
//! request at once: what one of them refuses, none is charged for. It answers with the state of the
//! accounts, in the numbers of [`crate::limit::account`], so that why, until when and what is left
//! are found where they are found for accounts in memory, and once.

use std::{fmt, sync::Arc};

use futures_util::future::BoxFuture;
use sha2::{Digest as _, Sha256};

use super::redis::StoreError;
use crate::limit::{
    account::State,
    identity::UserKey,
    plan::{Plan, Unit},
};

/// A plan, by which the instances that have the same one find each other's accounts: the first bytes of a hash over
/// what it allows and whom. An instance with another limit counts for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PlanPrint([u8; 6]);

impl PlanPrint {
    /// Of the plan of this class, beside this plan of all users together.
    #[must_use]
    pub fn of(class: &str, plan: &Plan, total: Option<&Plan>) -> Self {
        let mut hash = Sha256::new().chain_update(b"surgetank plan 1\0");
        hash.update(u64::try_from(class.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(class);
        for plan in [Some(plan), total].into_iter().flatten() {
            hash.update([b'p']);
            hash.update(plan.scope().as_str());
            hash.update(plan.concurrent().unwrap_or(0).to_be_bytes());
            for metered in plan.rules() {
                let rule = &metered.rule;
                hash.update([match metered.unit {
                    Unit::Requests => b'r',
                    Unit::Tokens => b't',
                }]);
                hash.update(rule.count().to_be_bytes());
                hash.update(rule.per().as_micros().to_be_bytes());
                hash.update(rule.burst().to_be_bytes());
            }
        }
        let hash = hash.finalize();
        let mut print = [0; 6];
        print.copy_from_slice(&hash[..6]);
        Self(print)
    }
}

impl fmt::Display for PlanPrint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// One account that a request is counted in.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Whose; `None` for that of all users together.
    pub user: Option<UserKey>,
    /// What it may use.
    pub plan: Arc<Plan>,
    /// The plan's name in the store.
    pub print: PlanPrint,
}

/// A request that wants to go on.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The accounts that it is counted in: its user's, that of all together, or both in this order.
    pub entries: Vec<Entry>,
    /// About how many tokens it will use.
    pub tokens: u64,
}

/// What the store has decided.
#[derive(Debug)]
pub struct Answer {
    /// Whether the request was let in, and charged to all of its accounts.
    pub is_admitted: bool,
    /// The moment of the decision by the store's clock, in microseconds since 1970; the origin of the states' moments.
    pub now: u64,
    /// The state of each account: after the charge, or unchanged.
    pub states: Vec<State>,
    /// What is to be settled when the request has ended, where anything is.
    pub lease: Option<Lease>,
}

/// A running request's place in the store. It lasts as long as this instance says now and then that it is alive.
#[derive(Debug)]
#[must_use = "a lease that is not settled is held until the process ends"]
pub struct Lease(pub u64);

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It has used so many tokens.
    Used(u64),
    /// It was not let in after all, and everything is given back.
    Undone,
}

/// The store's answer, once it is there.
pub type Decided = BoxFuture<'static, Result<Answer, StoreError>>;

/// The accounts that several instances share.
pub trait SharedLimits: Send + Sync + fmt::Debug {
    /// Decides on a request. Takes no longer than the store's timeout; what a dropped future has taken is given back.
    fn admit(&self, asked: Asked) -> Decided;

    /// A request has ended. Does not wait: what is to be said is said in the background, once the store answers.
    fn settle(&self, lease: Lease, ending: Ending);

    /// Charges tokens that were used by a request that was let in at another time, whatever that leaves. Does not wait
    /// either.
    fn charge(&self, asked: Asked);

    /// Is ready when the store was told of all requests that have ended.
    fn settled(&self) -> BoxFuture<'static, ()>;

    /// How many instances share it, as far as is known; at least 1. What each may use while it is away is divided by it.
    fn instances(&self) -> u32;
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, time::Duration};

    use super::*;
    use crate::limit::plan::{Limit, Scope};

    fn plan(count: u64, concurrent: Option<u32>) -> Plan {
        let rate = Limit {
            unit: Unit::Requests,
            count,
            per: Duration::from_mins(1),
            burst: 5,
        };
        Plan::new(Scope::User, &[rate], concurrent).expect("a sound rate")
    }

    #[test]
    fn every_limit_has_a_print_of_its_own_that_stays() {
        let (one, other) = (plan(60, None), plan(61, None));
        let prints: HashSet<_> = [
            PlanPrint::of("", &one, None),
            PlanPrint::of("", &other, None),
            PlanPrint::of("", &plan(60, Some(8)), None),
            PlanPrint::of("gold", &one, None),
            PlanPrint::of("", &one, Some(&one)),
            PlanPrint::of("", &one, Some(&other)),
        ]
        .into();
        assert_eq!(prints.len(), 6);
        // Instances of two versions count together.
        assert_eq!(PlanPrint::of("", &one, None).to_string(), "a656381c145c");
    }
}

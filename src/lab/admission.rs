//! Who is let through: the quota's buckets, by credential where asked, and the bound on generations at once.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;

use super::lock;
use super::quota::{Bucket, Level, Per, QuotaConfig, Verdict};

/// Most credentials that have a bucket of their own; those beyond it share one.
const MOST_CREDENTIALS: usize = 10_000;

/// The key of everybody together, and of the credentials beyond [`MOST_CREDENTIALS`].
const SHARED: u64 = 0;

/// The lab's quota while it runs.
#[derive(Debug)]
pub(super) struct Admission {
    state: Arc<Mutex<State>>,
    /// Makes fingerprints that mean nothing outside this process.
    hasher: RandomState,
}

#[derive(Debug)]
struct State {
    quota: Option<QuotaConfig>,
    accounts: HashMap<u64, Account>,
}

#[derive(Debug)]
struct Account {
    bucket: Bucket,
    running: usize,
}

/// What a request for a healthy answer is told.
#[derive(Debug)]
pub(super) enum Decision {
    /// There is no quota.
    Unlimited,
    /// It may run; the slot is held until the answer ends.
    Admitted { level: Level, _slot: Slot },
    /// The bucket is empty.
    Throttled { level: Level, wait: Duration },
    /// Too many generations at once.
    Overloaded { level: Level },
}

/// A place among the generations at once; given back when dropped.
#[derive(Debug)]
pub(super) struct Slot {
    state: Arc<Mutex<State>>,
    key: u64,
}

impl Admission {
    pub(super) fn new(quota: Option<QuotaConfig>) -> Self {
        let state = State {
            quota,
            accounts: HashMap::new(),
        };
        Self {
            state: Arc::new(Mutex::new(state)),
            hasher: RandomState::new(),
        }
    }

    /// Judges one request. `credential` is used as a fingerprint only.
    pub(super) fn admit(&self, credential: Option<&[u8]>, now: Instant) -> Decision {
        let mut state = lock(&self.state);
        let Some(quota) = state.quota.clone() else {
            return Decision::Unlimited;
        };
        let key = self.key(&state, &quota, credential);
        let account = state.accounts.entry(key).or_insert_with(|| Account {
            bucket: Bucket::new(&quota, now),
            running: 0,
        });
        // The bound on concurrency comes first: who is turned away by it has used no quota.
        if quota.concurrent.is_some_and(|most| account.running >= most) {
            return Decision::Overloaded {
                level: account.bucket.level(now),
            };
        }
        match account.bucket.take(now) {
            Verdict::Rejected { wait } => Decision::Throttled {
                level: account.bucket.level(now),
                wait,
            },
            Verdict::Admitted => {
                account.running += 1;
                let level = account.bucket.level(now);
                Decision::Admitted {
                    level,
                    _slot: Slot {
                        state: Arc::clone(&self.state),
                        key,
                    },
                }
            }
        }
    }

    /// How full the credential's bucket is; `None` without a quota.
    pub(super) fn level(&self, credential: Option<&[u8]>, now: Instant) -> Option<Level> {
        let mut state = lock(&self.state);
        let quota = state.quota.clone()?;
        let key = self.key(&state, &quota, credential);
        let account = state.accounts.get_mut(&key);
        Some(account.map_or_else(
            || Bucket::new(&quota, now).level(now),
            |account| account.bucket.level(now),
        ))
    }

    /// The quota as it is now.
    pub(super) fn quota(&self) -> Option<QuotaConfig> {
        lock(&self.state).quota.clone()
    }

    fn key(&self, state: &State, quota: &QuotaConfig, credential: Option<&[u8]>) -> u64 {
        match (quota.per, credential) {
            (Per::Credential, Some(credential)) => state.known(self.hasher.hash_one(credential)),
            _ => SHARED,
        }
    }

    /// Changes the quota while running; buckets keep what they hold, as far as it has room.
    pub(super) fn set(&self, quota: Option<QuotaConfig>, now: Instant) {
        let mut state = lock(&self.state);
        if let Some(quota) = &quota {
            state
                .accounts
                .values_mut()
                .for_each(|account| account.bucket.reconfigure(quota, now));
        }
        state.quota = quota;
    }

    /// Fills all buckets again. Generations that run keep their slots.
    pub(super) fn reset(&self, now: Instant) {
        let mut state = lock(&self.state);
        let Some(quota) = state.quota.clone() else {
            return;
        };
        state.accounts.retain(|_, account| account.running > 0);
        state
            .accounts
            .values_mut()
            .for_each(|account| account.bucket = Bucket::new(&quota, now));
    }
}

impl State {
    /// The key itself while there is room for it.
    fn known(&self, key: u64) -> u64 {
        let room = self.accounts.len() < MOST_CREDENTIALS || self.accounts.contains_key(&key);
        if room { key } else { SHARED }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(account) = lock(&self.state).accounts.get_mut(&self.key) {
            account.running = account.running.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::quota::Hints;
    use super::*;

    fn quota(per: Per, concurrent: Option<usize>) -> QuotaConfig {
        let hints = Hints::Seconds;
        QuotaConfig {
            rate: 1.0,
            burst: 2.0,
            rejects_cost: 0.0,
            per,
            concurrent,
            hints,
        }
    }

    fn is_admitted(decision: &Decision) -> bool {
        matches!(decision, Decision::Admitted { .. })
    }

    #[test]
    fn each_credential_has_its_own_bucket_where_asked() {
        let now = Instant::now();
        for (per, second_caller) in [(Per::All, false), (Per::Credential, true)] {
            let admission = Admission::new(Some(quota(per, None)));
            assert!(is_admitted(&admission.admit(Some(b"one"), now)));
            assert!(is_admitted(&admission.admit(Some(b"one"), now)));
            assert!(!is_admitted(&admission.admit(Some(b"one"), now)));
            assert_eq!(
                is_admitted(&admission.admit(Some(b"two"), now)),
                second_caller,
                "{per:?}"
            );
        }
    }

    #[test]
    fn a_slot_is_given_back_when_the_answer_ends() {
        let now = Instant::now();
        let admission = Admission::new(Some(quota(Per::All, Some(1))));
        let first = admission.admit(None, now);
        assert!(is_admitted(&first));
        let Decision::Overloaded { level } = admission.admit(None, now) else {
            panic!("one at once")
        };
        assert!(
            (level.remaining - 1.0).abs() < 1e-9,
            "being turned away costs no token"
        );
        drop(first);
        assert!(is_admitted(&admission.admit(None, now)));
    }

    #[test]
    fn credentials_beyond_the_bound_share_a_bucket() {
        let now = Instant::now();
        let admission = Admission::new(Some(quota(Per::Credential, None)));
        for caller in 0..MOST_CREDENTIALS {
            assert!(is_admitted(
                &admission.admit(Some(&caller.to_be_bytes()), now)
            ));
        }
        let late = |name: &[u8]| is_admitted(&admission.admit(Some(name), now));
        assert!(late(b"late one") && late(b"late two"));
        assert!(!late(b"late three"), "the shared bucket holds two");
        assert!(
            is_admitted(&admission.admit(Some(&1usize.to_be_bytes()), now)),
            "known ones keep theirs"
        );
    }

    #[test]
    fn the_quota_changes_while_running() {
        let now = Instant::now();
        let admission = Admission::new(None);
        assert!(matches!(admission.admit(None, now), Decision::Unlimited));
        admission.set(Some(quota(Per::All, None)), now);
        assert!(is_admitted(&admission.admit(None, now)));
        admission.set(None, now);
        assert!(matches!(admission.admit(None, now), Decision::Unlimited));
    }
}

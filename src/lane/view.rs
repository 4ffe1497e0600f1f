//! What the status page shows of a lane beside its snapshot: its name, who waits, what the vendor says is left.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::core::LaneCore;
use super::queue::UserKey;
use super::report::QuotaLeft;
use super::snapshot::Snapshot;

/// The longest name that is shown.
const LONGEST_NAME: usize = 64;

/// A lane at one moment, for people.
#[derive(Debug, Clone)]
pub struct View {
    /// The model's name, where there is one that may be shown ([`shown_name`]).
    pub name: Option<Arc<str>>,
    /// Its state.
    pub snapshot: Snapshot,
    /// How long the request that waits for longest has waited.
    pub longest_wait: Duration,
    /// The users with most waiting, most first.
    pub waiters: Vec<Waiter>,
    /// What the vendor said is left, in the order in which it said so.
    pub quotas: Vec<QuotaLeft>,
}

/// A user with something waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiter {
    /// Who, by fingerprint.
    pub user: UserKey,
    /// Requests waiting.
    pub waiting: usize,
    /// How long the first of them has waited.
    pub longest: Duration,
}

/// A model's name as it may stand on a page: the caller wrote it, so it is shown only if it looks like a name.
#[must_use]
pub fn shown_name(model: &str) -> Option<Arc<str>> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:/@+".contains(&byte);
    let is_name = !model.is_empty() && model.len() <= LONGEST_NAME && model.bytes().all(is_plain);
    // Whoever puts a key in the model's place has enough trouble already.
    (is_name && !model.starts_with("sk-")).then(|| model.into())
}

impl LaneCore {
    /// A look at the lane, with at most `most` of its users. It walks the whole queue: for people, not for requests.
    pub(super) fn view(&self, now: Instant, most: usize) -> View {
        let now = self.clock(now);
        let mut users: HashMap<UserKey, Waiter> = HashMap::new();
        for (user, since) in self.waiting_since() {
            let waited = now.saturating_duration_since(since);
            let of_user = users.entry(user).or_insert(Waiter {
                user,
                waiting: 0,
                longest: Duration::ZERO,
            });
            of_user.waiting += 1;
            of_user.longest = of_user.longest.max(waited);
        }
        let mut waiters: Vec<_> = users.into_values().collect();
        let longest_wait = waiters.iter().map(|waiter| waiter.longest).max();
        waiters.sort_by_key(|waiter| {
            let Waiter {
                user,
                waiting,
                longest,
            } = *waiter;
            (std::cmp::Reverse((waiting, longest)), user)
        });
        waiters.truncate(most);
        View {
            name: None,
            snapshot: self.snapshot(now),
            longest_wait: longest_wait.unwrap_or_default(),
            waiters,
            quotas: self.quotas(now),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lane::{LaneSettings, Measure, Outcome, Priority, QuotaReport, Ticket};

    fn ticket(now: Instant) -> Ticket {
        Ticket {
            retry: None,
            patience_until: now + Duration::from_secs(600),
            deadline: None,
            cost: 1,
            priority: Priority::Live,
        }
    }

    #[test]
    fn those_who_wait_are_told_by_how_much_they_have_waiting() {
        let (start, mut rng) = (Instant::now(), rand::rng());
        let mut lane = LaneCore::new(LaneSettings::default());
        let admitted = lane.admit(start, UserKey(1), ticket(start), &mut rng);
        let Ok(crate::lane::Admission::Released(release)) = admitted else {
            panic!("a healthy lane lets the first one go: {admitted:?}");
        };
        let told = QuotaReport {
            measure: Measure::Tokens,
            limit: 1_000.0,
            remaining: 250.0,
            reset: Duration::from_secs(40),
            per_request: 100.0,
        };
        let refused = Outcome::Throttled {
            hint: Some(Duration::from_secs(30)),
        };
        lane.on_result(start, release.send, refused, &[told], &mut rng);
        let second = |second| start + Duration::from_secs(second);
        for (user, at) in [(7, 1), (8, 2), (7, 3), (9, 4)] {
            lane.enqueue(second(at), UserKey(user), ticket(start))
                .expect("there is room");
        }

        let view = lane.view(second(6), 2);
        let waiter = |user, waiting, longest| Waiter {
            user: UserKey(user),
            waiting,
            longest: Duration::from_secs(longest),
        };
        assert_eq!(view.waiters, [waiter(7, 2, 5), waiter(8, 1, 4)]);
        assert_eq!(view.longest_wait, Duration::from_secs(5));
        assert_eq!(view.snapshot.waiting, 4);
        let [left] = view.quotas.as_slice() else {
            panic!("one quota was told: {view:?}");
        };
        assert_eq!(
            (left.of, left.resets_in),
            (Measure::Tokens, Duration::from_secs(34))
        );
        assert_eq!(left.told_ago, Duration::from_secs(6));
        assert!((left.part() - 0.25).abs() < 1e-9);
        assert!(
            lane.view(second(41), 2).quotas.is_empty(),
            "what was told is over when the quota is whole again"
        );
    }

    #[test]
    fn only_what_looks_like_a_name_is_shown() {
        for name in ["gpt-5", "claude-sonnet-5-5", "org/model:7b@v1.2", "a"] {
            assert_eq!(shown_name(name).as_deref(), Some(name));
        }
        let long = "m".repeat(65);
        for other in [
            "",
            "my prompt",
            "sk-live-1234",
            "<script>",
            "größe",
            long.as_str(),
        ] {
            assert_eq!(shown_name(other), None, "{other}");
        }
    }
}

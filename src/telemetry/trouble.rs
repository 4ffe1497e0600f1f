//! What went wrong lately, for the status page: kinds of trouble with a count, not a list of events.
//!
//! In a storm ten thousand requests fail alike. A list would show the last fifty of them and hide the
//! one that failed in another way; a table of kinds shows both, and its size does not depend on the
//! crowd. It holds names from the configuration, closed enums, a status and a request id, by which
//! the log has the rest. It holds nothing that a caller wrote.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::Outcome;
use crate::{call::CallId, retry::triage::Class};

/// Kinds at most; the one that has been quiet for longest leaves.
pub const MOST_KINDS: usize = 40;

/// A kind that has been quiet for this long is forgotten.
pub const REMEMBERED: Duration = Duration::from_secs(15 * 60);

/// What makes two troubles alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kind {
    /// The route's name; nothing for a request that found none.
    pub route: Option<String>,
    /// The upstream of the last failed try.
    pub upstream: Option<Arc<str>>,
    /// What that try came to.
    pub class: Option<Class>,
    /// The status that it was answered with.
    pub status: Option<u16>,
    /// What became of the request in the end.
    pub outcome: Outcome,
    /// Why there was no further try, or what broke the answer.
    pub reason: Option<&'static str>,
}

/// One request that met trouble.
#[derive(Clone, Debug)]
pub struct Event {
    /// What happened.
    pub kind: Kind,
    /// Its id in the log.
    pub request: CallId,
    /// Tries that it took.
    pub tries: u32,
    /// Time that it waited on purpose.
    pub waited: Duration,
}

/// All troubles of one kind.
#[derive(Clone, Debug)]
pub struct Group {
    /// The kind.
    pub kind: Kind,
    /// How many there were since `first`.
    pub count: u64,
    /// When the first of them ended.
    pub first: Instant,
    /// When the latest of them ended.
    pub last: Instant,
    /// The latest one's id.
    pub request: CallId,
    /// The most tries that one took.
    pub most_tries: u32,
    /// The longest that one waited.
    pub longest_wait: Duration,
}

/// The table. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct TroubleLog(Arc<Mutex<Vec<Group>>>);

impl TroubleLog {
    /// Notes one request that met trouble.
    pub fn note(&self, now: Instant, event: Event) {
        let mut groups = self.lock();
        if let Some(group) = groups.iter_mut().find(|group| group.kind == event.kind) {
            group.add(now, &event);
            return;
        }
        groups.retain(|group| now.saturating_duration_since(group.last) < REMEMBERED);
        if groups.len() >= MOST_KINDS {
            let quietest = groups
                .iter()
                .enumerate()
                .min_by_key(|(_, group)| group.last);
            if let Some(index) = quietest.map(|(index, _)| index) {
                groups.swap_remove(index);
            }
        }
        groups.push(Group {
            kind: event.kind,
            count: 1,
            first: now,
            last: now,
            request: event.request,
            most_tries: event.tries,
            longest_wait: event.waited,
        });
    }

    /// What is remembered, the latest first.
    #[must_use]
    pub fn groups(&self, now: Instant) -> Vec<Group> {
        let mut groups = self.lock().clone();
        groups.retain(|group| now.saturating_duration_since(group.last) < REMEMBERED);
        groups.sort_by_key(|group| std::cmp::Reverse(group.last));
        groups
    }

    /// Every change is whole when the lock is given back, so a panic elsewhere has spoilt nothing.
    fn lock(&self) -> MutexGuard<'_, Vec<Group>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Group {
    fn add(&mut self, now: Instant, event: &Event) {
        // A kind that was quiet for long begins anew, as it would had it been forgotten.
        if now.saturating_duration_since(self.last) >= REMEMBERED {
            (self.count, self.first) = (0, now);
            (self.most_tries, self.longest_wait) = (0, Duration::ZERO);
        }
        self.count += 1;
        self.last = self.last.max(now);
        self.request = event.request;
        self.most_tries = self.most_tries.max(event.tries);
        self.longest_wait = self.longest_wait.max(event.waited);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(status: u16, tries: u32) -> Event {
        Event {
            kind: Kind {
                route: Some("chat".to_owned()),
                upstream: Some("openai".into()),
                class: Some(Class::Throttled),
                status: Some(status),
                outcome: Outcome::Served,
                reason: None,
            },
            request: CallId::random(&mut rand::rng()),
            tries,
            waited: Duration::from_secs(u64::from(tries)),
        }
    }

    fn second(start: Instant, second: u64) -> Instant {
        start + Duration::from_secs(second)
    }

    #[test]
    fn a_storm_is_one_line_and_does_not_hide_another_kind() {
        let (log, start) = (TroubleLog::default(), Instant::now());
        log.note(start, event(500, 1));
        for at in 1..=10_000 {
            log.note(
                start + Duration::from_millis(at),
                event(429, 1 + (at % 3) as u32),
            );
        }
        let groups = log.groups(second(start, 11));
        let told: Vec<_> = groups
            .iter()
            .map(|group| (group.kind.status, group.count, group.most_tries))
            .collect();
        assert_eq!(told, [(Some(429), 10_000, 3), (Some(500), 1, 1)]);
        assert_eq!(groups[0].longest_wait, Duration::from_secs(3));
    }

    #[test]
    fn the_number_of_kinds_is_bounded_and_the_quietest_leaves() {
        let (log, start) = (TroubleLog::default(), Instant::now());
        for status in 0..500 {
            log.note(second(start, u64::from(status)), event(status, 1));
        }
        let groups = log.groups(second(start, 500));
        assert_eq!(groups.len(), MOST_KINDS);
        assert_eq!(groups[0].kind.status, Some(499));
        assert_eq!(groups[MOST_KINDS - 1].kind.status, Some(460));
    }

    #[test]
    fn what_has_been_quiet_is_forgotten_and_counts_anew() {
        let (log, start) = (TroubleLog::default(), Instant::now());
        log.note(start, event(429, 3));
        assert_eq!(log.groups(second(start, 899)).len(), 1);
        assert!(log.groups(second(start, 900)).is_empty());
        log.note(second(start, 901), event(429, 1));
        let groups = log.groups(second(start, 902));
        assert_eq!((groups[0].count, groups[0].most_tries), (1, 1));
        assert_eq!(groups[0].first, second(start, 901));
    }
}

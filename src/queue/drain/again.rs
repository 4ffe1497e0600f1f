//! What follows a try that brought no answer. A pure decision.
//!
//! A try that the upstream refused, or that never left, has done nothing. One whose connection broke, or whose answer did,
//! may have been carried out; whether it may be repeated is what `retry.post` says for every request, and the entry
//! remembers that it was.

use std::time::Duration;

use crate::retry::plan::PostPolicy;

/// A try that brought no answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Failed {
    /// How often the entry was begun, this time included.
    pub(super) attempts: u32,
    /// The upstream may have carried it out all the same.
    pub(super) may_have_run: bool,
    /// The upstream has answered with an error, rather than not at all.
    pub(super) answered: bool,
    /// For how long its lane lets nobody pass.
    pub(super) closed_for: Duration,
}

/// How entries are tried again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    pub(super) max_attempts: u32,
    pub(super) base: Duration,
    pub(super) cap: Duration,
    pub(super) post: PostPolicy,
}

/// What follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// It is tried again, not before this wait is over.
    Again(Duration),
    /// It is given up.
    GiveUp,
    /// It is given up, and may have been carried out.
    Unsure,
}

/// Decides; `jitter` is drawn evenly from 0 to 1.
pub(super) fn next(failed: &Failed, terms: &Terms, jitter: f64) -> Next {
    let is_over = failed.attempts >= terms.max_attempts;
    let is_allowed = match terms.post {
        PostPolicy::Always => true,
        PostPolicy::Answered => failed.answered || !failed.may_have_run,
        PostPolicy::Unsent => !failed.answered && !failed.may_have_run,
    };
    if is_allowed && !is_over {
        let doublings = failed.attempts.saturating_sub(1).min(32);
        let wait = terms
            .base
            .saturating_mul(2_u32.saturating_pow(doublings))
            .min(terms.cap);
        // Half of it at random, so that what failed together does not come back together.
        let wait = wait.div_f64(2.0) + wait.mul_f64(jitter.clamp(0.0, 1.0) / 2.0);
        return Next::Again(wait.max(failed.closed_for));
    }
    if failed.may_have_run {
        Next::Unsure
    } else {
        Next::GiveUp
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn terms(post: PostPolicy) -> Terms {
        Terms {
            max_attempts: 3,
            base: 2 * SECOND,
            cap: 10 * SECOND,
            post,
        }
    }

    fn failed(attempts: u32, may_have_run: bool, answered: bool) -> Failed {
        Failed {
            attempts,
            may_have_run,
            answered,
            closed_for: Duration::ZERO,
        }
    }

    #[test]
    fn what_may_have_been_carried_out_is_repeated_only_where_that_is_allowed() {
        use PostPolicy::{Always, Answered, Unsent};
        let again = Next::Again(2 * SECOND);
        // (policy, may have run, answered, expected)
        for (post, may_have_run, answered, expected) in [
            (Always, true, false, again),
            (Always, false, true, again),
            (Always, false, false, again),
            (Answered, true, false, Next::Unsure),
            (Answered, false, true, again),
            (Answered, false, false, again),
            (Unsent, true, false, Next::Unsure),
            (Unsent, false, true, Next::GiveUp),
            (Unsent, false, false, again),
        ] {
            let failed = failed(1, may_have_run, answered);
            let got = next(&failed, &terms(post), 1.0);
            assert_eq!(got, expected, "{post:?} {failed:?}");
        }
    }

    #[test]
    fn tries_are_bounded_and_their_waits_grow() {
        let terms = Terms {
            max_attempts: 6,
            ..terms(PostPolicy::Always)
        };
        let waits: Vec<Next> = (1..=6)
            .map(|attempts| next(&failed(attempts, false, true), &terms, 1.0))
            .collect();
        let again = |seconds| Next::Again(seconds * SECOND);
        assert_eq!(
            waits,
            [
                again(2),
                again(4),
                again(8),
                again(10),
                again(10),
                Next::GiveUp
            ]
        );
        assert_eq!(next(&failed(6, true, false), &terms, 1.0), Next::Unsure);
        let shut = Failed {
            closed_for: 30 * SECOND,
            ..failed(1, false, true)
        };
        assert_eq!(next(&shut, &terms, 0.0), again(30));
    }

    proptest! {
        #[test]
        fn a_wait_is_between_half_and_whole(attempts in 1_u32..200, jitter in -1.0_f64..2.0) {
            let terms = Terms { max_attempts: 1_000, ..terms(PostPolicy::Always) };
            match next(&failed(attempts, true, false), &terms, jitter) {
                Next::Again(wait) => prop_assert!((SECOND..=10 * SECOND).contains(&wait), "{wait:?}"),
                other => prop_assert!(false, "{other:?}"),
            }
        }
    }
}

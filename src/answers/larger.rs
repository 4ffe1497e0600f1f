//! Asking once more, with a larger limit, for an answer that its token limit has cut.
//!
//! The vendor bills both answers, and the second takes longer than the first. So it is done once, and
//! only where it can help: where the caller set a limit of its own that can be raised, and where the
//! time that is left would do for the whole of the larger limit at the pace of the first. The first
//! answer is kept until the second is there, whole: if that fails, the caller gets the first, marked.

use std::{sync::Arc, time::Duration};

use http::HeaderValue;
use tokio::time::Instant;
use tower::Service;

use super::{AnswersLayer, Source};
use crate::{
    attempt::{Answer, Failure, Whole},
    body,
    call::{Attempt, Call, Sequel},
    dialect::{Finish, ask},
    retry::triage::Class,
};

/// The limit grows by this: a factor of two is soon met again, and vendors count the limit itself
/// against the quota of some accounts.
const GROWTH: u64 = 4;

/// Says with which limit the answer was made that the caller gets.
const RETRIED_LARGER: &str = "x-surgetank-retried-larger";

/// What the decision depends on.
#[derive(Debug, Clone, Copy)]
struct Cut {
    finish: Option<Finish>,
    /// The limit that the caller set.
    limit: Option<u64>,
    /// The highest that may be asked for.
    largest: u64,
    /// How long the answer took.
    took: Duration,
    /// How long the caller still waits.
    left: Duration,
}

/// Why no larger answer was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Declined {
    /// The model's context is full: no limit helps.
    ContextFull,
    /// The caller set no limit, or in a form that cannot be replaced.
    NoLimit,
    /// It has the highest already.
    Largest,
    /// There would not be time for it.
    Deadline,
    /// There is no memory to keep the first answer.
    Memory,
}

impl Declined {
    fn as_str(self) -> &'static str {
        match self {
            Self::ContextFull => "context_full",
            Self::NoLimit => "no_limit",
            Self::Largest => "largest",
            Self::Deadline => "deadline",
            Self::Memory => "memory",
        }
    }
}

impl Cut {
    /// The limit to ask with.
    fn larger(self) -> Result<u64, Declined> {
        if self.finish == Some(Finish::ContextFull) {
            return Err(Declined::ContextFull);
        }
        let limit = self
            .limit
            .filter(|limit| *limit > 0)
            .ok_or(Declined::NoLimit)?;
        let larger = limit.saturating_mul(GROWTH).min(self.largest);
        if larger <= limit {
            return Err(Declined::Largest);
        }
        // Time grows with the tokens; what does not (the queue, the prompt) is on the safe side.
        let needed = self.took.as_secs_f64() * (larger as f64 / limit as f64);
        if needed > self.left.as_secs_f64() {
            return Err(Declined::Deadline);
        }
        Ok(larger)
    }
}

impl AnswersLayer {
    /// The answer, or a larger one in its place.
    pub(super) async fn or_larger<S>(
        &self,
        mut inner: S,
        call: &Arc<Call>,
        source: &Source,
        answer: Answer,
    ) -> Answer
    where
        S: Service<Attempt, Response = Answer, Error = Failure, Future: Send>,
    {
        let Some(whole) = answer
            .whole
            .clone()
            .filter(|whole| whole.reading.is_truncated())
        else {
            return answer;
        };
        let count = |outcome: &str| {
            let labels = [call.route.name(), outcome];
            self.metrics.larger.with_label_values(&labels).inc();
        };
        let now = Instant::now();
        let cut = Cut {
            finish: whole.reading.finish,
            limit: call.ask.max_output,
            largest: call.route.policy.answers.largest_output,
            took: now - source.began,
            left: call.deadline.remaining(now),
        };
        let mut reserved = self.budget.open();
        let planned = cut.larger().and_then(|limit| {
            let sequel = sequel(call, limit).ok_or(Declined::NoLimit)?;
            let fits = reserved.grow(whole.bytes.len() + sequel.body.len());
            fits.then_some((limit, sequel)).ok_or(Declined::Memory)
        });
        let (limit, sequel) = match planned {
            Ok(planned) => planned,
            Err(declined) => {
                count(declined.as_str());
                return answer;
            }
        };
        // The first answer lets go of everything but its bytes before the second queues.
        let first = answer.response.map(drop);
        let before = call.journal().clone();
        let attempt = Attempt::new(call.clone(), source.upstream.clone(), source.lane.clone());
        let again = inner.call(attempt.with(Some(Arc::new(sequel)))).await;
        if let Some(larger) = again.ok().and_then(|again| better(again, limit)) {
            count(
                if larger
                    .whole
                    .as_ref()
                    .is_some_and(|whole| whole.reading.is_truncated())
                {
                    "cut"
                } else {
                    "whole"
                },
            );
            return larger;
        }
        count("failed");
        call.journal().is_served_by(before);
        Answer {
            response: first.map(|()| body::full(whole.bytes.clone())),
            verdict: answer.verdict,
            hint: answer.hint,
            whole: Some(whole),
        }
    }
}

/// The caller's request with another limit in it, once.
fn sequel(call: &Call, limit: u64) -> Option<Sequel> {
    let (bytes, span) = (call.payload.bytes()?, call.ask.max_output_span.clone()?);
    let body = ask::replace_number(&bytes, span, limit)?.into();
    Some(Sequel {
        target: None,
        body,
        retries: 0,
    })
}

/// The second answer, if it is one that may take the first one's place: here as a whole, and not stopped
/// by a filter.
fn better(again: Answer, limit: u64) -> Option<Answer> {
    let is_served = again.verdict.class == Class::Served;
    let Whole { reading, .. } = again.whole.as_ref().filter(|_| is_served)?;
    let is_text = |finish| !matches!(finish, Finish::Filtered | Finish::Other);
    reading.finish.filter(|finish| is_text(*finish))?;
    let mut again = again;
    let headers = again.response.headers_mut();
    headers.insert(RETRIED_LARGER, HeaderValue::from(limit));
    Some(again)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cut(limit: Option<u64>) -> Cut {
        Cut {
            finish: Some(Finish::Length),
            limit,
            largest: 10_000,
            took: Duration::from_secs(2),
            left: Duration::from_secs(100),
        }
    }

    #[test]
    fn the_limit_grows_within_its_bound_and_the_time() {
        assert_eq!(cut(Some(100)).larger(), Ok(400));
        assert_eq!(cut(Some(4_000)).larger(), Ok(10_000));
        assert_eq!(cut(Some(10_000)).larger(), Err(Declined::Largest));
        assert_eq!(
            cut(Some(20_000)).larger(),
            Err(Declined::Largest),
            "never a smaller one"
        );
        assert_eq!(cut(None).larger(), Err(Declined::NoLimit));
        assert_eq!(cut(Some(0)).larger(), Err(Declined::NoLimit));
        let full = Cut {
            finish: Some(Finish::ContextFull),
            ..cut(Some(100))
        };
        assert_eq!(full.larger(), Err(Declined::ContextFull));
        let left = |secs| Cut {
            left: Duration::from_secs(secs),
            ..cut(Some(100))
        };
        assert_eq!(left(8).larger(), Ok(400));
        assert_eq!(left(7).larger(), Err(Declined::Deadline));
        assert_eq!(left(0).larger(), Err(Declined::Deadline));
    }

    proptest! {
        #[test]
        fn a_larger_limit_is_larger_and_bounded(limit in any::<u64>(), largest in any::<u64>()) {
            let cut = Cut { largest, took: Duration::ZERO, ..cut(Some(limit)) };
            if let Ok(larger) = cut.larger() {
                prop_assert!(larger > limit && larger <= largest && larger / GROWTH <= limit);
            }
        }
    }
}

//! The walk down a chain, link by link, until one of them has an answer.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    FallbackLayer, Finished, Tries,
    condition::{Kind, Situation, applies, failure_of},
    end::{left_alone, passed_on, refused, refused_repeat},
    reply::Occasion,
};
use crate::{
    attempt::{Attempted, Cause, Failure, verdict_of},
    call::{Attempt, Call, FallbackWish},
    config::{FailureKind, When},
    dialect::Structured,
    lane::Lane,
    retry::{
        layer::kind_of,
        plan::{SHORTEST_TRY, StopReason},
        triage::{Class, Signal},
    },
    route::{Link, Target},
    stacked::Stacked,
    telemetry::Outcome,
    upstream::Upstream,
};

/// One request on its way down the chain.
pub(super) struct Chain<S> {
    pub(super) with: Stacked<FallbackLayer, S>,
    pub(super) call: Arc<Call>,
}

/// Where a walk down the chain stands.
struct Walk {
    /// What the latest target said.
    tried: Attempted,
    /// How the first one failed.
    first: Class,
    /// How the latest one failed; where it only refused what another had taken on, the failure before.
    failure: FailureKind,
    /// The lane of the latest one.
    lane: Arc<Lane>,
}

/// What a link came to.
enum Step {
    /// The walk is over.
    Done(Result<Finished, Failure>),
    /// The next link.
    On(Walk),
}

/// What seldom happens is boxed, so that the future of every request has no room for it.
impl<S: Tries> Chain<S> {
    pub(super) async fn run(&self) -> Result<Finished, Failure> {
        if self.with.queue.is_some()
            && let Some(finished) = Box::pin(self.before()).await
        {
            return finished;
        }
        let call = &self.call;
        let own = &call.route.upstream;
        let lane = self.with.lanes.of(call, own);
        // Where nothing else could be asked, nobody has to know how it is.
        let is_alone = call.route.targets().nth(1).is_none();
        let is_left_alone =
            !is_alone && lane.is_failing() && self.has_another(FailureKind::Overloaded, None);
        let tried = if is_left_alone {
            Err(left_alone())
        } else {
            let attempt = Attempt::new(call.clone(), own.clone(), lane.clone());
            self.with.below().call(attempt).await
        };
        let verdict = verdict_of(&tried);
        let failure = match failure_of(verdict) {
            Some(failure) if call.wishes.fallback != FallbackWish::None => failure,
            _ => return passed_on(tried),
        };
        let mut walk = Walk {
            tried,
            first: verdict.class,
            failure,
            lane,
        };
        if self.is_queue_wished_for(walk.failure)
            && let Some(finished) = Box::pin(self.queued(walk.first, wait_of(&walk))).await
        {
            return Ok(finished);
        }
        for (index, link) in call.route.fallback.iter().enumerate() {
            if !self.is_open(link, walk.failure) {
                continue;
            }
            walk = match Box::pin(self.follow(link, index, walk)).await {
                Step::Done(finished) => return finished,
                Step::On(walk) => walk,
            };
        }
        passed_on(walk.tried)
    }

    async fn follow(&self, link: &Link, index: usize, walk: Walk) -> Step {
        match &link.to {
            Target::Upstream(upstream) => match self.next_attempt(upstream, index, &walk) {
                Ok(attempt) => self.second(attempt, walk).await,
                Err(reason) => {
                    let lane = self.with.lanes.of(&self.call, upstream);
                    let labels = [upstream.name.as_ref(), lane.label().as_str(), reason];
                    self.with
                        .metrics
                        .retries_denied
                        .with_label_values(&labels)
                        .inc();
                    Step::On(walk)
                }
            },
            Target::Reply(reply) => {
                let occasion = Occasion {
                    failure: walk.failure,
                    wait: wait_of(&walk),
                };
                match reply.render(&self.call, occasion) {
                    Some(response) => {
                        self.substituted("reply", walk.first);
                        Step::Done(Ok(Finished {
                            response,
                            outcome: Outcome::Substituted,
                        }))
                    }
                    None => Step::On(walk),
                }
            }
            Target::Queue => match self.queued(walk.first, wait_of(&walk)).await {
                Some(finished) => Step::Done(Ok(finished)),
                None => Step::On(walk),
            },
            Target::Error => Step::Done(passed_on(walk.tried)),
        }
    }

    /// What is known before anybody is asked: the repeat of a queued request is that request, and who would rather be
    /// answered later need not wait.
    async fn before(&self) -> Option<Result<Finished, Failure>> {
        let (queue, call) = (self.with.queue.as_ref()?, &self.call);
        if queue.lacks_webhook_of(call) {
            return Some(Err(refused(Cause::NoWebhook)));
        }
        match queue.repeat(call).await {
            Ok(None) => {}
            Ok(Some(response)) => {
                call.journal().substituted = Some("queue");
                let outcome = Outcome::Substituted;
                return Some(Ok(Finished { response, outcome }));
            }
            Err(refused) => return Some(Err(refused_repeat(&refused))),
        }
        if call.wishes.respond_async == Some(Duration::ZERO) {
            return self.queued(Class::Served, Duration::ZERO).await.map(Ok);
        }
        None
    }

    /// Whether the caller itself asks for the queue, for failures that such an answer may cover.
    fn is_queue_wished_for(&self, failure: FailureKind) -> bool {
        let wishes = &self.call.wishes;
        let is_asked = wishes.fallback == FallbackWish::Queue || wishes.respond_async.is_some();
        is_asked && applies(&When::default(), Kind::Own, &self.situation(failure))
    }

    /// Keeps the request, and tells its caller so; nothing where it cannot be kept.
    async fn queued(&self, cause: Class, wait: Duration) -> Option<Finished> {
        let queue = self.with.queue.as_ref()?;
        let response = queue.offer(&self.call, wait).await.ok()?;
        self.substituted("queue", cause);
        let outcome = Outcome::Substituted;
        Some(Finished { response, outcome })
    }

    /// Whether a link is there for this request after this failure.
    fn is_open(&self, link: &Link, failure: FailureKind) -> bool {
        let call = &self.call;
        let kind = match &link.to {
            Target::Upstream(upstream) => {
                let can_name_model = upstream.model.is_none()
                    || call.ask.model_span.is_some()
                    || call.payload.bytes().is_some_and(|bytes| bytes.is_empty());
                let is_wanted = matches!(
                    call.wishes.fallback,
                    FallbackWish::Route | FallbackWish::Upstreams
                );
                // Without its caller it has no other credential than a configured one.
                let is_wanted = is_wanted
                    && (call.wishes.fallback == FallbackWish::Route
                        || upstream.credential.is_some());
                if !(is_wanted && can_name_model && call.payload.is_replayable()) {
                    return false;
                }
                Kind::Upstream
            }
            // Who is in the queue already gets a real answer or none.
            Target::Reply(_) | Target::Queue if call.wishes.fallback == FallbackWish::Upstreams => {
                return false;
            }
            // What was tried before the chain is not tried again, and a caller may want the reply alone.
            Target::Queue
                if self.is_queue_wished_for(failure)
                    || call.wishes.fallback == FallbackWish::Reply =>
            {
                return false;
            }
            Target::Reply(_) | Target::Queue => Kind::Own,
            Target::Error => Kind::Error,
        };
        applies(&link.when, kind, &self.situation(failure))
    }

    fn situation(&self, failure: FailureKind) -> Situation<'_> {
        let call = &self.call;
        Situation {
            failure,
            class: call.route.class_name(call.class),
            structured: call.ask.structured != Structured::No,
            time_left: call.deadline.remaining(Instant::now()),
        }
    }

    /// Whether an upstream that is not known to fail stands in the chain, behind the link `after`.
    fn has_another(&self, failure: FailureKind, after: Option<usize>) -> bool {
        let behind = after.map_or(0, |index| index + 1);
        let mut links = self.call.route.fallback.iter().skip(behind);
        links.any(|link| match &link.to {
            Target::Upstream(upstream) => {
                self.is_open(link, failure)
                    && !self.with.lanes.of(&self.call, upstream).is_failing()
            }
            Target::Reply(_) | Target::Queue | Target::Error => false,
        })
    }

    /// The right to ask another target, or why there is none.
    fn next_attempt(
        &self,
        upstream: &Arc<Upstream>,
        index: usize,
        walk: &Walk,
    ) -> Result<Attempt, &'static str> {
        let call = &self.call;
        if call.attempts_left() == 0 {
            return Err(StopReason::Attempts.as_str());
        }
        if call.deadline.remaining(Instant::now()) < SHORTEST_TRY {
            return Err(StopReason::Deadline.as_str());
        }
        let lane = self.with.lanes.of(call, upstream);
        if lane.is_failing() && self.has_another(walk.failure, Some(index)) {
            return Err("failing");
        }
        // The first attempt of a request is nobody's second chance, wherever it goes.
        let right = match call.journal().attempts {
            0 => None,
            _ => Some(
                lane.may_retry(kind_of(verdict_of(&walk.tried).class))
                    .ok_or(StopReason::Quota.as_str())?,
            ),
        };
        let attempt = Attempt::new(call.clone(), upstream.clone(), lane);
        Ok(Attempt { right, ..attempt })
    }

    /// Asks another target.
    async fn second(&self, attempt: Attempt, walk: Walk) -> Step {
        let (upstream, lane) = (attempt.upstream.clone(), attempt.lane.clone());
        // What the one before said is not held while this one is asked.
        drop(walk.tried);
        let tried = self.with.below().call(attempt).await;
        let verdict = verdict_of(&tried);
        let failure = match failure_of(verdict) {
            Some(failure) => failure,
            // Its refusal is not the caller's doing: the request was fit for the upstream that it was made for.
            None if verdict.class == Class::Refused
                && verdict.signal != Some(Signal::ContentFiltered) =>
            {
                tracing::warn!(
                    request_id = self.call.id.as_str(),
                    upstream = upstream.name.as_ref(),
                    status = self.call.journal().upstream_status,
                    "a fallback refused a request that its own upstream would have taken"
                );
                walk.failure
            }
            None => {
                self.substituted("upstream", walk.first);
                return Step::Done(passed_on(tried));
            }
        };
        Step::On(Walk {
            tried,
            failure,
            lane,
            ..walk
        })
    }

    fn substituted(&self, kind: &'static str, first: Class) {
        // What was substituted is the answer of the route's own upstream, whoever failed after it.
        let own = &self.call.route.upstream;
        let lane = self.with.lanes.of(&self.call, own);
        let labels = [
            own.name.as_ref(),
            lane.label().as_str(),
            kind,
            first.as_str(),
        ];
        self.with.metrics.fallbacks.with_label_values(&labels).inc();
        self.call.journal().substituted = Some(kind);
    }
}

/// When another try is likely to be served, as far as the latest target and its lane tell.
fn wait_of(walk: &Walk) -> Duration {
    let told = match &walk.tried {
        Ok(answer) => answer.hint.map_or(Duration::ZERO, |hint| hint.wait),
        Err(failure) => match failure.cause {
            Cause::Refused(refused) => refused.retry_after,
            _ => Duration::ZERO,
        },
    };
    told.max(walk.lane.snapshot().closed_for)
}

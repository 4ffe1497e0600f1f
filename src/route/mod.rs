//! Which upstream a request goes to, and under which policies.

mod index;

use std::sync::Arc;

use http::HeaderMap;

use index::RouteIndex;

use crate::{
    config::{self, Environment},
    fallback::reply::{Reply, ReplyError},
    identity::{Identities, IdentityError},
    limit::{limiter::Limiter, plan::PlanError, settings::Limiters, shared::Shared},
    retry::{
        backoff::Backoff,
        plan::{Policy, PostPolicy},
    },
    telemetry::RouteSeries,
    upstream::Upstream,
};

/// One route of the configuration, with its upstreams resolved.
#[derive(Debug)]
pub struct Route {
    /// Its complete policies.
    pub policy: config::Route,
    /// Where its requests go first.
    pub upstream: Arc<Upstream>,
    /// What to do when that has failed, in order.
    pub fallback: Vec<Link>,
    /// How its users are told apart.
    pub identities: Arc<Identities>,
    /// The limits of its users. Routes with the same limits share them: a user has one quota, not one a route.
    pub limiter: Option<Arc<Limiter>>,
    /// When and how often a failed attempt is repeated.
    pub retry: Policy,
    /// What its requests are counted in.
    pub series: RouteSeries,
}

/// One link of a fallback chain.
#[derive(Debug)]
pub struct Link {
    /// What it leads to.
    pub to: Target,
    /// For which requests.
    pub when: config::When,
}

/// Where a link leads.
#[derive(Debug)]
pub enum Target {
    /// Another place to send the request to, or another model.
    Upstream(Arc<Upstream>),
    /// A friendly answer.
    Reply(Box<Reply>),
    /// It is kept, and carried out later.
    Queue,
    /// The upstream's own error, and no further link.
    Error,
}

impl Route {
    /// A metric label, bounded by the configuration.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.policy.name
    }

    /// The name of the class with this number (`Call::class`); nothing for 0.
    #[must_use]
    pub fn class_name(&self, number: u16) -> Option<&str> {
        let index = usize::from(number).checked_sub(1)?;
        let class = self.policy.limits.classes.0.get(index);
        class.map(|class| class.name.as_str())
    }

    /// The number of the class of this name; 0 where there is none.
    #[must_use]
    pub fn class_named(&self, name: &str) -> u16 {
        let mut classes = self.policy.limits.classes.0.iter();
        let index = classes.position(|class| class.name == name);
        index.map_or(0, |index| u16::try_from(index + 1).unwrap_or(0))
    }

    /// The upstreams that its requests may be sent to, in the order in which they are tried.
    pub fn targets(&self) -> impl Iterator<Item = &Arc<Upstream>> {
        let links = self.fallback.iter().filter_map(|link| match &link.to {
            Target::Upstream(upstream) => Some(upstream),
            Target::Reply(_) | Target::Queue | Target::Error => None,
        });
        std::iter::once(&self.upstream).chain(links)
    }
}

/// All routes, in the configuration's order.
#[derive(Clone, Debug)]
pub struct Routes {
    in_order: Arc<[Arc<Route>]>,
    index: Arc<RouteIndex>,
    limiters: Limiters,
}

impl Routes {
    /// Resolves the configuration's routes against its upstreams. Limits that were there `before` keep
    /// what their users have used; with `shared`, they hold for all instances together.
    ///
    /// # Errors
    /// When a route's limit cannot be counted, its users cannot be told apart as they should be, or the text of a reply
    /// cannot be read.
    pub fn new(
        config: &config::Config,
        upstreams: &[Arc<Upstream>],
        env: Environment<'_>,
        shared: Option<&Shared>,
        before: Option<&Self>,
    ) -> Result<Self, RouteError> {
        let by_name = |name: &str| {
            upstreams
                .iter()
                .find(|upstream| upstream.name.as_ref() == name)
                .cloned()
        };
        let known = before.map(|before| &before.limiters);
        let mut limiters = Limiters::shared_by(shared.cloned());
        let mut route = |policy: &config::Route| -> Result<_, RouteError> {
            // Names are checked when the configuration is read.
            let Some(upstream) = by_name(&policy.upstream) else {
                return Ok(None);
            };
            let target = |target: &config::Target| {
                Ok(Some(match target {
                    config::Target::Upstream(name) => match by_name(name) {
                        Some(upstream) => Target::Upstream(upstream),
                        None => return Ok(None),
                    },
                    config::Target::Model(model) => {
                        Target::Upstream(Arc::new(upstream.with_model(model)))
                    }
                    config::Target::Reply(reply) => Target::Reply(Box::new(Reply::load(reply)?)),
                    config::Target::Error => Target::Error,
                    config::Target::Queue => Target::Queue,
                }))
            };
            let link = |link: &config::Link| {
                let when = link.when.clone();
                let target: Result<_, ReplyError> = target(&link.to);
                target.map(|to| Some(Link { to: to?, when })).transpose()
            };
            let fallback = policy.fallback.iter().filter_map(link);
            Ok(Some(Arc::new(Route {
                fallback: fallback.collect::<Result<_, ReplyError>>()?,
                upstream,
                retry: retry_policy(&policy.retry),
                identities: Arc::new(Identities::new(&policy.limits, env)?),
                limiter: limiters.of(&policy.limits, known)?,
                series: RouteSeries::default(),
                policy: policy.clone(),
            })))
        };
        let in_order = config
            .routes
            .iter()
            .map(&mut route)
            .filter_map(Result::transpose)
            .collect::<Result<Arc<[Arc<Route>]>, RouteError>>()?;
        let matches = in_order.iter().map(|route| &route.policy.match_);
        Ok(Self {
            index: Arc::new(RouteIndex::new(matches)),
            in_order,
            limiters,
        })
    }

    /// The first route that takes the request.
    #[must_use]
    pub fn find(&self, path: &str, headers: &HeaderMap) -> Option<&Arc<Route>> {
        self.in_order.get(self.index.find(path, headers)?)
    }

    /// All of them, in order.
    pub fn all(&self) -> std::slice::Iter<'_, Arc<Route>> {
        self.in_order.iter()
    }

    /// Users that the limiters remember now.
    #[must_use]
    pub fn limited_users(&self) -> usize {
        self.limiters().map(|limiter| limiter.users()).sum()
    }

    /// Every limiter once.
    pub fn limiters(&self) -> impl Iterator<Item = &Arc<Limiter>> {
        self.limiters.all()
    }
}

/// A route cannot be used as it is configured.
#[derive(Debug, thiserror::Error)]
pub enum RouteError {
    /// A limit cannot be counted.
    #[error("a limit cannot be used: {0}")]
    Limit(#[from] PlanError),
    /// Its users cannot be told apart.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// A reply's text cannot be had.
    #[error(transparent)]
    Reply(#[from] ReplyError),
}

fn retry_policy(retry: &config::Retry) -> Policy {
    Policy {
        max_retries: retry.max_retries,
        backoff: Backoff {
            base: retry.base,
            factor: retry.factor,
            cap: retry.cap,
            jitter: retry.jitter,
        },
        hint_cap: retry.hint_cap,
        post: match retry.post {
            config::PostRetry::Always => PostPolicy::Always,
            config::PostRetry::Answered => PostPolicy::Answered,
            config::PostRetry::Unsent => PostPolicy::Unsent,
        },
    }
}

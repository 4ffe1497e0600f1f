//! Which upstream a request goes to, and under which policies.

use std::sync::Arc;

use http::HeaderMap;

use crate::{
    config,
    retry::{
        backoff::Backoff,
        plan::{Policy, PostPolicy},
    },
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
    /// When and how often a failed attempt is repeated.
    pub retry: Policy,
}

/// One link of a fallback chain.
#[derive(Debug)]
pub enum Link {
    /// Another place to send the request to.
    Upstream(Arc<Upstream>),
    /// A friendly answer with this text.
    Reply(Arc<str>),
    /// The upstream's own error, and no further link.
    Error,
}

impl Route {
    /// A metric label, bounded by the configuration.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.policy.name
    }

    fn takes(&self, path: &str, headers: &HeaderMap) -> bool {
        self.policy.match_.takes(path, |name| headers.get(name).map(http::HeaderValue::as_bytes))
    }
}

/// All routes, in the configuration's order.
#[derive(Clone, Debug)]
pub struct Routes(Arc<[Arc<Route>]>);

impl Routes {
    /// Resolves the configuration's routes against its upstreams.
    #[must_use]
    pub fn new(config: &config::Config, upstreams: &[Arc<Upstream>]) -> Self {
        let by_name = |name: &str| upstreams.iter().find(|upstream| upstream.name.as_ref() == name).cloned();
        let route = |policy: &config::Route| {
            let link = |link: &config::Link| match link {
                config::Link::Upstream(name) => by_name(name).map(Link::Upstream),
                config::Link::Reply(text) => Some(Link::Reply(text.as_str().into())),
                config::Link::Error => Some(Link::Error),
                // Told as a warning when the configuration is read.
                config::Link::Queue => None,
            };
            Some(Arc::new(Route {
                upstream: by_name(&policy.upstream)?,
                fallback: policy.fallback.iter().filter_map(link).collect(),
                retry: retry_policy(&policy.retry),
                policy: policy.clone(),
            }))
        };
        Self(config.routes.iter().filter_map(route).collect())
    }

    /// The first route that takes the request.
    #[must_use]
    pub fn find(&self, path: &str, headers: &HeaderMap) -> Option<&Arc<Route>> {
        self.0.iter().find(|route| route.takes(path, headers))
    }
}

fn retry_policy(retry: &config::Retry) -> Policy {
    Policy {
        max_retries: retry.max_retries,
        backoff: Backoff { base: retry.base, factor: retry.factor, cap: retry.cap, jitter: retry.jitter },
        hint_cap: retry.hint_cap,
        post: match retry.post {
            config::PostRetry::Always => PostPolicy::Always,
            config::PostRetry::Answered => PostPolicy::Answered,
            config::PostRetry::Unsent => PostPolicy::Unsent,
        },
    }
}

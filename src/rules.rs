//! What a reload replaces, as a whole: upstreams with their credentials, routes with their policies.
//!
//! A request looks at the rules in force once, when it is understood. From then on its call carries
//! the route it found, so it ends under the rules it began with, however often they change meanwhile.
//! What was learned is not a rule: lanes, users' standing and connections belong to upstreams and
//! limits, and whatever of these is the same in the new rules goes on where it was.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use arc_swap::{ArcSwap, Guard};
use secrecy::SecretString;

use crate::{
    auth::Tokens,
    config::{self, BaseUrl, Config, Credential, Environment, TokenError},
    lane::layer::Lanes,
    queue::{QueueRules, SecretError},
    route::{RouteError, Routes},
    upstream::Upstream,
};

/// A configuration that is right in itself cannot be put in force here.
#[derive(Debug, thiserror::Error)]
pub enum RulesError {
    /// A configured credential is not there.
    #[error("{0}")]
    Credential(String),
    /// A limit cannot be counted, or users cannot be told apart as configured.
    #[error(transparent)]
    Route(#[from] RouteError),
    /// The queue's secrets are not there.
    #[error(transparent)]
    Queue(#[from] SecretError),
    /// The tokens of callers or operators are not there.
    #[error("a token cannot be had: {0}")]
    Token(#[from] TokenError),
}

/// One version of the rules. Never changes; a reload makes another one.
#[derive(Debug)]
pub struct Rules {
    /// Where requests go.
    pub routes: Routes,
    /// In the order of the configuration.
    pub upstreams: Arc<[Arc<Upstream>]>,
    /// Who may call; everybody, where there are none.
    pub callers: Option<Arc<Tokens>>,
    /// Who may change something through the operator's port; nobody, where there are none.
    pub operators: Option<Tokens>,
    /// The largest body that is held for a retry.
    pub hold_at_most: usize,
    /// How the process ends.
    pub shutdown: config::Shutdown,
    /// How queued requests are treated.
    pub queue: Arc<QueueRules>,
    /// The share of served requests that the log and the traces tell.
    pub sample: f64,
    numbers: Numbers,
}

impl Rules {
    /// Makes the rules of `config`, reading its credentials; `env` looks up an environment variable.
    /// What is the same as in the rules `before` keeps its number and its users' standing.
    ///
    /// # Errors
    /// When a credential is missing, a limit cannot be counted or a reply's text cannot be read.
    pub fn new(
        config: &Config,
        env: Environment<'_>,
        before: Option<&Self>,
    ) -> Result<Self, RulesError> {
        let numbers = Numbers::after(before.map(|rules| &rules.numbers), &config.upstreams);
        let resolve = |upstream: &config::Upstream| {
            let number = numbers.of(upstream);
            let credential = secret(upstream, env)?;
            let upstream = Upstream::new(number, upstream, credential, config.server.via);
            Ok(Arc::new(upstream))
        };
        let upstreams: Arc<[_]> = config
            .upstreams
            .iter()
            .map(resolve)
            .collect::<Result<_, RulesError>>()?;
        let routes = Routes::new(config, &upstreams, env, before.map(|rules| &rules.routes))?;
        let callers = config.auth.as_ref();
        let callers = callers.map(|auth| Tokens::of_callers(auth, env).map(Arc::new));
        let operators = config.admin_token.as_ref();
        let operators = operators.map(|source| Tokens::of_operators(source, env));
        Ok(Self {
            routes,
            upstreams,
            callers: callers.transpose()?,
            operators: operators.transpose()?,
            hold_at_most: config.replay.per_request,
            shutdown: config.shutdown.clone(),
            queue: Arc::new(QueueRules::new(&config.queue, env)?),
            sample: config.telemetry.sample,
            numbers,
        })
    }

    /// The upstream of this number, if these rules have it.
    #[must_use]
    pub fn upstream(&self, number: usize) -> Option<&Arc<Upstream>> {
        self.upstreams
            .iter()
            .find(|upstream| upstream.number == number)
    }
}

fn secret(
    upstream: &config::Upstream,
    env: Environment<'_>,
) -> Result<Option<SecretString>, RulesError> {
    let Some(credential) = &upstream.credential else {
        return Ok(None);
    };
    credential.resolve(env).map(Some).map_err(|error| {
        RulesError::Credential(format!(
            "the credential of `{}` cannot be had: {error}",
            upstream.name
        ))
    })
}

/// What makes an upstream the same one in two versions of the rules: what was learned of it holds for
/// these. The content of a key's file is not among them, so that a key can be rotated.
#[derive(Clone, Debug, PartialEq)]
struct Identity {
    name: String,
    base_url: BaseUrl,
    credential: Option<Credential>,
}

impl Identity {
    fn of(upstream: &config::Upstream) -> Self {
        Self {
            name: upstream.name.clone(),
            base_url: upstream.base_url.clone(),
            credential: upstream.credential.clone(),
        }
    }
}

/// The number of each upstream. One that was given is never given to another upstream.
#[derive(Debug, Default)]
struct Numbers {
    known: Vec<(Identity, usize)>,
    next: usize,
}

impl Numbers {
    fn after(before: Option<&Self>, upstreams: &[config::Upstream]) -> Self {
        let mut next = before.map_or(0, |before| before.next);
        let number = |upstream| {
            let identity = Identity::of(upstream);
            let known = before.and_then(|before| before.find(&identity));
            let number = known.unwrap_or_else(|| {
                next += 1;
                next - 1
            });
            (identity, number)
        };
        let known = upstreams.iter().map(number).collect();
        Self { known, next }
    }

    fn find(&self, identity: &Identity) -> Option<usize> {
        let mut known = self.known.iter();
        known.find_map(|(known, number)| (known == identity).then_some(*number))
    }

    fn of(&self, upstream: &config::Upstream) -> usize {
        self.find(&Identity::of(upstream))
            .expect("it was numbered when these numbers were made")
    }
}

/// The version of the rules that holds now. Clones share it.
#[derive(Clone, Debug)]
pub struct RulesInForce {
    current: Arc<ArcSwap<Rules>>,
    /// Two reloads at once could give one number to two upstreams.
    replacing: Arc<Mutex<()>>,
}

impl RulesInForce {
    /// Puts the first rules in force.
    #[must_use]
    pub fn new(rules: Rules) -> Self {
        Self {
            current: Arc::new(ArcSwap::from_pointee(rules)),
            replacing: Arc::default(),
        }
    }

    /// The rules of this moment. To be let go soon: not to be held across a wait.
    #[must_use]
    pub fn now(&self) -> Guard<Arc<Rules>> {
        self.current.load()
    }

    /// Puts the rules of `config` in force for every request that is understood from now on.
    ///
    /// # Errors
    /// When they cannot be; then nothing has changed.
    pub fn replace(
        &self,
        config: &Config,
        env: Environment<'_>,
        lanes: &Lanes,
    ) -> Result<(), RulesError> {
        let _alone = self
            .replacing
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let before = self.current.load_full();
        let rules = Arc::new(Rules::new(config, env, Some(&before))?);
        self.current.store(rules.clone());
        // After the swap: a lane that is let go here is not made again by a request under the old rules,
        // save one that was being understood at this moment.
        lanes.follow(&before, &rules);
        Ok(())
    }
}

/// The settings that a lane of each upstream is made with, by the upstream's number. Where several routes
/// lead to one upstream, the first of them speaks for it.
pub(crate) fn lane_settings(rules: &Rules) -> HashMap<usize, crate::lane::LaneSettings> {
    let mut settings = HashMap::new();
    for route in rules.routes.all() {
        for upstream in route.targets() {
            settings
                .entry(upstream.number)
                .or_insert_with(|| crate::lane::layer::settings(route, upstream));
        }
    }
    settings
}

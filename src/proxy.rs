//! A whole running proxy made from a configuration: what `surgetank run` and the tests start.

use std::{io, sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::{
    admin::{self, Admin, AdminEdge},
    app::{self, Shared},
    budget::Budget,
    config::{Config, Environment},
    lane::layer::Lanes,
    queue::{OpenError, Queue, drain::Drainer},
    reload::{Bell, fixed},
    rules::{Rules, RulesError, RulesInForce},
    server::{self, Certificate, CertificateError, Fleet, Lifecycle, Limits, Listener, Stage},
    store::{self, redis::AddressError},
    telemetry::{Metrics, Traces, TracesError},
    upstream::{self, Names, Pool},
};

/// Connections to the admin port: enough for every scraper, too few to hurt.
const ADMIN_CONNECTIONS: usize = 256;

/// The proxy could not be put together.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration cannot be put in force.
    #[error(transparent)]
    Rules(#[from] RulesError),
    /// The store cannot be used as it is configured.
    #[error(transparent)]
    Store(#[from] AddressError),
    /// The certificate of the listeners cannot be used.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// TLS is not usable.
    #[error("TLS could not be set up: {0}")]
    Tls(#[from] rustls::Error),
    /// The traces cannot be sent.
    #[error(transparent)]
    Traces(#[from] TracesError),
    /// A metric family could not be registered.
    #[error("metrics could not be set up: {0}")]
    Metrics(#[from] prometheus::Error),
    /// The queue's file belongs to another process.
    #[error("the queue could not be opened: {0}")]
    Queue(#[from] OpenError),
    /// No thread or no descriptors.
    #[error("the workers could not be started: {0}")]
    Workers(#[from] io::Error),
}

/// A configuration cannot be put in force in a running proxy.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// Something it needs is not there.
    #[error(transparent)]
    Rules(#[from] RulesError),
    /// The certificate of the listeners cannot be used.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
}

/// A running proxy, without its listeners.
#[derive(Debug)]
pub struct Proxy {
    shared: Shared,
    drainer: Option<Drainer>,
    /// What it was started with.
    started: Config,
    fleet: Arc<Fleet>,
    limits: Arc<Limits>,
    /// What TLS listeners show.
    certificate: Option<Certificate>,
    began: Instant,
    reload_bell: Bell,
}

impl Proxy {
    /// Reads the credentials and starts the workers. `env` looks up an environment variable. What connects to a shared
    /// store runs on the current runtime.
    pub fn start(config: &Config, env: Environment<'_>) -> Result<Self, StartError> {
        let metrics = Arc::new(Metrics::new()?);
        let shared = store::shared_limits(config.store.as_ref(), &metrics)?;
        let rules = Rules::new(config, env, shared.as_ref(), None)?;
        let rules = RulesInForce::new(rules).shared_by(shared);
        let certificate = config.tls.as_ref().map(Certificate::read);
        let certificate = certificate.transpose()?.map(Certificate::new);
        let tls = upstream::trust()?;
        let names = Names::new();
        let limits = Arc::new(limits(config));
        let queue = Queue::open(config, &rules, &metrics)?;
        let shared = Shared {
            rules: rules.clone(),
            lanes: Lanes::new(metrics.models.clone()),
            budget: Budget::new(config.replay.total),
            lifecycle: Lifecycle::default(),
            metrics,
            traces: Traces::start(config.telemetry.otlp.as_deref(), &tls)?,
            queue,
        };
        shared.metrics.config_begins();
        let drainer = shared.queue.clone().map(|queue| {
            let (rules, tls, names) = (rules.clone(), tls.clone(), names.clone());
            let pool = move || Pool::new(&rules, &tls, &names);
            Drainer::start(queue, shared.clone(), pool)
        });
        let edge = {
            let shared = shared.clone();
            move || app::stack(&shared, Pool::new(&rules, &tls, &names))
        };
        let workers = config
            .server
            .workers
            .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, Into::into));
        let fleet = Arc::new(Fleet::start(workers, edge, &limits, &shared.lifecycle)?);
        Ok(Self {
            shared,
            drainer: drainer.transpose()?,
            started: config.clone(),
            fleet,
            limits,
            certificate,
            began: Instant::now(),
            reload_bell: Bell::default(),
        })
    }

    /// Serves the operator's port on a worker of its own until the returned guard is dropped.
    pub fn start_admin(&self, listener: Listener) -> io::Result<AdminServer> {
        let admin = Admin {
            metrics: self.shared.metrics.clone(),
            lifecycle: self.shared.lifecycle.clone(),
            fleet: self.fleet.clone(),
            budget: self.shared.budget.clone(),
            lanes: self.shared.lanes.clone(),
            started: self.began,
            history: Admin::history(self.began),
            rules: self.shared.rules.clone(),
            guard: admin::Guard::new(self.shared.rules.clone(), listener.is_loopback()),
            reload_bell: self.reload_bell.clone(),
            queue: self.shared.queue.clone(),
        };
        let history = admin.clone().keep_history();
        let limits = Arc::new(Limits {
            max_connections: ADMIN_CONNECTIONS,
            ..self.limits.as_ref().clone()
        });
        // Its own life: it must still answer while the data path drains.
        let lifecycle = Lifecycle::default();
        let fleet = Fleet::start(
            1,
            move || AdminEdge::new(admin.clone()),
            &limits,
            &lifecycle,
        )?;
        let task = tokio::spawn(async move {
            let serving = async {
                let served = server::serve(vec![listener], &fleet, &limits, &lifecycle).await;
                if let Err(error) = served {
                    tracing::error!(%error, "the admin port has failed; the proxy goes on without it");
                }
            };
            tokio::select! {
                () = serving => {}
                () = history => {}
            }
        });
        Ok(AdminServer(task))
    }

    /// Accepts on `listeners` until the process drains.
    ///
    /// # Errors
    /// When a listener breaks for good. Then the process drains as well: it must not look alive and take
    /// nobody.
    pub async fn serve(&self, listeners: Vec<Listener>) -> Result<(), server::AcceptError> {
        let lifecycle = &self.shared.lifecycle;
        let listeners = match self.certificate.as_ref().map(Certificate::acceptor) {
            None => listeners,
            Some(tls) => {
                let tls = tls?;
                let listeners = listeners.into_iter();
                listeners.map(|listener| listener.with_tls(&tls)).collect()
            }
        };
        server::serve(listeners, &self.fleet, &self.limits, lifecycle)
            .await
            .inspect_err(|error| {
                tracing::error!(%error, "stopping: finishing what is running");
                lifecycle.advance(Stage::Draining);
            })
    }

    /// Treats every request that is understood from now on by `config`; those that are under way end as
    /// they began. What was learned, users' standing and connections stay wherever the new rules have the
    /// same upstream or limit.
    ///
    /// Returns the keys of settings that differ from the running ones and cannot change before the next
    /// start.
    ///
    /// # Errors
    /// When the configuration cannot be put in force; then nothing has changed.
    pub fn reload(
        &self,
        config: &Config,
        env: Environment<'_>,
    ) -> Result<Vec<&'static str>, ReloadError> {
        let certified = config.tls.as_ref().map(Certificate::read).transpose()?;
        self.shared.rules.replace(config, env, &self.shared.lanes)?;
        if let (Some(certificate), Some(certified)) = (&self.certificate, certified) {
            certificate.replace(certified);
        }
        self.shared.budget.resize(config.replay.total);
        Ok(fixed::differing(&self.started, config))
    }

    /// What to ring for a look at the configuration.
    #[must_use]
    pub fn reload_bell(&self) -> &Bell {
        &self.reload_bell
    }

    /// What new requests are treated by.
    #[must_use]
    pub fn rules(&self) -> &RulesInForce {
        &self.shared.rules
    }

    /// Sends the traces that are still queued, in at most `patience`. Blocks.
    pub fn flush(&self, patience: Duration) {
        self.shared.traces.stop(patience);
    }

    /// The switch that ends it.
    #[must_use]
    pub fn lifecycle(&self) -> &Lifecycle {
        &self.shared.lifecycle
    }

    /// Waits until no queued request is being carried out.
    pub async fn queue_idle(&self) {
        if let Some(drainer) = &self.drainer {
            drainer.idle().await;
        }
    }

    /// Its workers.
    #[must_use]
    pub fn fleet(&self) -> &Arc<Fleet> {
        &self.fleet
    }

    /// Its metrics.
    #[must_use]
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.shared.metrics
    }

    /// Memory held for bodies.
    #[must_use]
    pub fn budget(&self) -> &Budget {
        &self.shared.budget
    }
}

/// Ends the operator's port when dropped.
#[derive(Debug)]
pub struct AdminServer(tokio::task::JoinHandle<()>);

impl Drop for AdminServer {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn limits(config: &Config) -> Limits {
    let server = &config.server;
    Limits {
        head_timeout: server.head_timeout,
        keepalive_idle: server.keepalive_idle,
        write_idle: server.write_idle,
        max_head: server.max_head,
        max_headers: server.max_headers,
        max_connections: server.max_connections,
    }
}

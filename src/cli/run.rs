//! `surgetank run`: configuration, sockets, workers, until a signal and the drain behind it.

use std::{sync::Arc, time::Duration};

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{ConfigFile, Failed, environment, listen};
use crate::{
    config::{Config, Listen},
    proxy::{self, Proxy},
    reload::{self, Prints},
    server::{LAST_WORDS, Listener, Stage},
    telemetry::logs,
};

#[derive(Clone, Debug, clap::Args)]
pub(super) struct RunArguments {
    #[command(flatten)]
    pub(super) file: ConfigFile,
    /// Listen here instead of where the configuration says: `127.0.0.1:4290` or `unix:/run/surgetank.sock`.
    #[arg(long, value_name = "ADDR", env = "SURGETANK_LISTEN", value_parser = listen, value_delimiter = ',')]
    pub(super) listen: Vec<Listen>,
    /// Listen beyond this machine although nobody is asked for a token, because something else asks.
    #[arg(long, env = "SURGETANK_LISTEN_WITHOUT_AUTH")]
    pub(super) listen_without_auth: bool,
    /// The operator's port, instead of the configuration's.
    #[arg(long, value_name = "ADDR", env = "SURGETANK_ADMIN", value_parser = listen)]
    pub(super) admin: Option<Listen>,
}

pub(super) fn run(arguments: &RunArguments) -> Result<(), Failed> {
    let (prints, config) = arguments.config();
    let config = config.map_err(|refused| Failed::usage(refused.in_full()))?;
    logs::start(
        config.telemetry.log,
        environment("SURGETANK_LOG").as_deref(),
    )
    .map_err(Failed::usage)?;
    for warning in config.warnings() {
        tracing::warn!("{warning}");
    }
    // The workers have runtimes of their own; this one accepts, and waits for signals.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime
        .map_err(|error| Failed::internal(format!("no runtime could be started: {error}")))?
        .block_on(serve(arguments, &config, prints))
}

async fn serve(arguments: &RunArguments, config: &Config, prints: Prints) -> Result<(), Failed> {
    let mut stopping = Stopping::listen()?;
    let mut hangup = listen_for(SignalKind::hangup())?;
    let bind = |listen: &Listen| Listener::bind(listen).map_err(Failed::unavailable);
    let listeners = config
        .listen
        .iter()
        .map(bind)
        .collect::<Result<Vec<_>, _>>()?;
    let admin_listener = config.admin.as_ref().map(bind).transpose()?;
    let proxy = Proxy::start(config, &environment).map_err(|error| match error {
        proxy::StartError::Rules(_) | proxy::StartError::Certificate(_) => Failed::usage(error),
        _ => Failed::internal(error),
    })?;
    let proxy = Arc::new(proxy);
    let admin = admin_listener
        .map(|listener| proxy.start_admin(listener))
        .transpose()
        .map_err(Failed::internal)?;
    announce(config);
    let bell = proxy.reload_bell().clone();
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            bell.ring();
        }
    });
    let source = Arc::new(arguments.clone());
    tokio::spawn(reload::follow(proxy.clone(), source, prints));

    let lifecycle = proxy.lifecycle().clone();
    let serving = proxy.serve(listeners);
    let ending = async {
        stopping.asked().await;
        tracing::info!(
            drain_s = config.shutdown.drain.as_secs(),
            "stopping: finishing what is running; a second signal stops at once"
        );
        lifecycle.advance(Stage::Settling);
        let settled = tokio::time::sleep(config.shutdown.settle);
        let at_once = tokio::select! { () = settled => false, () = stopping.asked() => true };
        // Also when asked twice: this is what ends accepting.
        lifecycle.advance(Stage::Draining);
        at_once
    };
    let (served, at_once) = tokio::join!(serving, async {
        tokio::select! {
            at_once = ending => at_once,
            // Only a broken listener ends serving before a signal does.
            () = lifecycle.reached(Stage::Draining) => false,
        }
    });
    served.map_err(Failed::unavailable)?;
    if !at_once {
        drain(&proxy, &mut stopping, config.shutdown.drain).await;
    }
    drop(admin);
    tracing::info!("stopped");
    Ok(())
}

async fn drain(proxy: &Proxy, stopping: &mut Stopping, limit: Duration) {
    let fleet: &Arc<_> = proxy.fleet();
    tokio::select! {
        () = fleet.drained() => return,
        () = stopping.asked() => tracing::warn!(connections = fleet.live(), "a second signal: ending what is left"),
        () = tokio::time::sleep(limit) => {
            tracing::warn!(connections = fleet.live(), "the time to drain is over: ending what is left");
        }
    }
    proxy.lifecycle().advance(Stage::Ending);
    let _ = tokio::time::timeout(LAST_WORDS, fleet.drained()).await;
}

fn announce(config: &Config) {
    let listen = config
        .listen
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ");
    let admin = config
        .admin
        .as_ref()
        .map_or("off".into(), ToString::to_string);
    tracing::info!(
        listen,
        admin,
        upstreams = config.upstreams.len(),
        "surgetank {} is ready",
        env!("CARGO_PKG_VERSION")
    );
}

fn listen_for(kind: SignalKind) -> Result<Signal, Failed> {
    signal(kind).map_err(|error| Failed::internal(format!("signals cannot be received: {error}")))
}

/// The signals that end the process.
struct Stopping {
    terminate: Signal,
    interrupt: Signal,
}

impl Stopping {
    fn listen() -> Result<Self, Failed> {
        Ok(Self {
            terminate: listen_for(SignalKind::terminate())?,
            interrupt: listen_for(SignalKind::interrupt())?,
        })
    }

    async fn asked(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

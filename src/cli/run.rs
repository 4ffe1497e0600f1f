//! `surgetank run`: configuration, sockets, workers, until a signal and the drain behind it.

use std::{sync::Arc, time::Duration};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::oneshot,
    time::Instant,
};

use super::{ConfigFile, Failed, dumps, environment, listen};
use crate::{
    config::{Config, Listen, Shutdown},
    proxy::{self, Proxy},
    reload::{self, Prints},
    server::{LAST_WORDS, Listener, Stage},
    telemetry::logs,
};

/// The traces of the last requests get this long to reach their collector.
const LAST_TRACES: Duration = Duration::from_secs(2);

/// The last lines of the log get this long to be read.
const LAST_LINES: Duration = Duration::from_secs(1);

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
    // Before the first key is read.
    let dumps_off = dumps::forbid();
    let (prints, config) = arguments.config();
    let config = config.map_err(|refused| Failed::usage(refused.in_full()))?;
    let log = logs::start(
        config.telemetry.log,
        environment("SURGETANK_LOG").as_deref(),
    )
    .map_err(Failed::usage)?;
    if let Err(error) = dumps_off {
        tracing::warn!(%error, "core dumps are not off: a crash may write keys and prompts to a file");
    }
    for warning in config.warnings() {
        tracing::warn!("{warning}");
    }
    // The workers have runtimes of their own; this one accepts, and waits for signals.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime
        .map_err(|error| Failed::internal(format!("no runtime could be started: {error}")))?;
    let served = runtime.block_on(serve(arguments, &config, prints));
    // A file that hangs while it is read must not hold the end up.
    runtime.shutdown_background();
    log.flush(LAST_LINES);
    served
}

/// Binds what was chosen by `setting`.
fn bind(listen: &Listen, setting: &str) -> Result<Listener, Failed> {
    Listener::bind(listen)
        .map_err(|error| Failed::unavailable(format!("{error}; it is set by {setting}")))
}

async fn serve(arguments: &RunArguments, config: &Config, prints: Prints) -> Result<(), Failed> {
    let mut stopping = Stopping::listen()?;
    let mut hangup = listen_for(SignalKind::hangup())?;
    let callers = config.listen.iter();
    let listeners = callers
        .map(|listen| bind(listen, "`listen`, SURGETANK_LISTEN or --listen"))
        .collect::<Result<Vec<_>, _>>()?;
    let operator = config.admin.as_ref();
    let admin_listener = operator
        .map(|listen| bind(listen, "`admin`, SURGETANK_ADMIN or --admin"))
        .transpose()?;
    // As they were bound: the configuration may leave the port to the system.
    let listening: Vec<_> = listeners.iter().map(Listener::address).collect();
    let admin_at = admin_listener.as_ref().map(Listener::address);
    let proxy = Proxy::start(config, &environment).map_err(|error| match error {
        proxy::StartError::Rules(_)
        | proxy::StartError::Store(_)
        | proxy::StartError::Certificate(_)
        | proxy::StartError::Traces(_) => Failed::usage(error),
        proxy::StartError::Queue(_) => Failed::unavailable(error),
        _ => Failed::internal(error),
    })?;
    let proxy = Arc::new(proxy);
    let admin = admin_listener
        .map(|listener| proxy.start_admin(listener))
        .transpose()
        .map_err(Failed::internal)?;
    announce(config, &listening, admin_at.as_ref());
    let bell = proxy.reload_bell().clone();
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            bell.ring();
        }
    });
    let source = Arc::new(arguments.clone());
    tokio::spawn(reload::follow(proxy.clone(), source, prints));

    let (closed, is_closed) = oneshot::channel();
    let serving = async {
        let served = proxy.serve(listeners).await;
        if let Err(error) = &served {
            tracing::error!(%error, "finishing what is running, then ending");
        }
        // Nobody listens for it when the process is told to stop at once.
        let _ = closed.send(());
        served
    };
    let (served, ()) = tokio::join!(serving, stop_when_asked(&proxy, &mut stopping, is_closed));
    let flushing = proxy.clone();
    // A thread that failed has nothing more to send.
    let _ = tokio::task::spawn_blocking(move || flushing.flush(LAST_TRACES)).await;
    drop(admin);
    tracing::info!("stopped");
    served.map_err(Failed::unavailable)
}

/// Waits for a signal and walks the process through its stages to the end; a second signal goes to the
/// last of them at once. `closed` tells that the listeners are.
async fn stop_when_asked(
    proxy: &Proxy,
    stopping: &mut Stopping,
    mut closed: oneshot::Receiver<()>,
) {
    let lifecycle = proxy.lifecycle();
    let is_broken = tokio::select! {
        () = stopping.asked() => false,
        // Only a broken listener ends serving before a signal does; what is running is still finished.
        _ = &mut closed => true,
    };
    let Shutdown { settle, drain } = proxy.rules().now().shutdown.clone();
    tracing::info!(
        settle_s = settle.as_secs_f64(),
        drain_s = drain.as_secs_f64(),
        in_flight = proxy.metrics().in_flight.get(),
        "stopping: finishing what is running; a second signal stops at once"
    );
    let now = Instant::now();
    lifecycle.stop(now, now + settle + drain);
    let fleet = proxy.fleet();
    let ended = async {
        if is_broken {
            lifecycle.advance(Stage::Draining);
        } else {
            tokio::time::sleep(settle).await;
            lifecycle.advance(Stage::Draining);
            // Before that, somebody who has connected may still be on the way to a worker.
            let _ = closed.await;
        }
        let all = async { tokio::join!(fleet.drained(), proxy.queue_idle()) };
        tokio::time::timeout(drain, all).await.is_ok()
    };
    let left = tokio::select! {
        ended = ended => (!ended).then_some("the time to drain is over"),
        () = stopping.asked() => Some("a second signal"),
    };
    if let Some(why) = left {
        let connections = fleet.live();
        tracing::warn!(connections, "{why}: ending what is left");
    }
    // Also ends accepting, where that has not ended before.
    lifecycle.advance(Stage::Ending);
    let _ = tokio::time::timeout(LAST_WORDS, fleet.drained()).await;
}

fn announce(config: &Config, listening: &[Listen], admin: Option<&Listen>) {
    let listen = listening.iter().map(ToString::to_string);
    let listen = listen.collect::<Vec<_>>().join(", ");
    let admin = admin.map_or("off".into(), ToString::to_string);
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

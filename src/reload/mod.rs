//! When the configuration changes, and what happens then.
//!
//! A proxy that has to be restarted for a new setting cuts its streams for it, so nobody dares to change
//! one. Here a change is put in force under the requests that run: the file is read and checked whole,
//! swapped in at once, and left aside with a sentence in the log when anything about it is wrong.
//!
//! Three things make it look: a signal, an event of the file system, and, because mounts exist that have
//! no events, a look every half minute. The last two count for nothing unless the content has changed:
//! our own reading causes events, editors write twice, and a directory has other files.

pub mod fixed;
mod prints;
mod watch;

pub use prints::Prints;

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::Notify,
    time::{Instant, MissedTickBehavior, interval, timeout_at},
};

use self::watch::Watch;
use crate::{
    config::{Config, Environment},
    proxy::Proxy,
};

/// A change is looked at when nothing has happened for so long: writers write in pieces.
const QUIET: Duration = Duration::from_millis(50);

/// It is looked at after this long even if there is no quiet.
const LONGEST_NOISE: Duration = Duration::from_millis(500);

/// Without any event.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// Reads the configuration, as often as it is asked.
pub trait Source: Send + Sync + 'static {
    /// Reads it anew.
    fn load(&self) -> Loaded;

    /// Looks an environment variable up, for credentials.
    fn variable(&self, name: &str) -> Option<String>;
}

/// What reading the configuration has brought.
#[derive(Debug)]
pub struct Loaded {
    /// What its files held. Each is taken before the file is read for its meaning, so that a change
    /// between the two is found at the next look.
    pub prints: Prints,
    /// The configuration, or why it cannot be used: a sentence for the log.
    pub config: Result<Config, String>,
}

/// Somebody wants the configuration to be read again. Clones ask the same.
#[derive(Clone, Debug, Default)]
pub struct Bell(Arc<Notify>);

impl Bell {
    /// Asks; several askings before the next look are one.
    pub fn ring(&self) {
        self.0.notify_one();
    }

    async fn rung(&self) {
        self.0.notified().await;
    }
}

/// Keeps `proxy` under the configuration that `source` has, for as long as it is polled. `prints` are
/// those of the configuration that is in force.
pub async fn follow(proxy: Arc<Proxy>, source: Arc<dyn Source>, prints: Prints) {
    let mut seen = Arc::new(prints);
    let mut watch = Watch::start();
    watch.follow(&seen);
    // The first look is at once: a change before the watch began has caused no event.
    let mut looks = interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let asked = tokio::select! {
            () = proxy.reload_bell().rung() => true,
            () = settled(&watch) => false,
            _ = looks.tick() => false,
        };
        let (proxy, source, known) = (proxy.clone(), source.clone(), seen.clone());
        // Files can be slow, and this thread accepts connections.
        let reloading = tokio::task::spawn_blocking(move || {
            (asked || !known.are_current()).then(|| reload(&proxy, source.as_ref(), &known))
        });
        match reloading.await {
            Ok(Some(prints)) => seen = Arc::new(prints),
            Ok(None) => {}
            Err(error) => {
                tracing::error!(%error, "reading the configuration has failed inside surgetank; the old one goes on");
            }
        }
        // Again each time: a watched folder may have been replaced by another of its name.
        watch.follow(&seen);
    }
}

/// Waits for a change and for the end of its noise.
async fn settled(watch: &Watch) {
    watch.changed().await;
    let latest = Instant::now() + LONGEST_NOISE;
    while Instant::now() < latest {
        let quiet = (Instant::now() + QUIET).min(latest);
        if timeout_at(quiet, watch.changed()).await.is_err() {
            return;
        }
    }
}

/// Puts what `source` has in force if it can be. Returns what to watch from now on.
fn reload(proxy: &Proxy, source: &dyn Source, known: &Prints) -> Prints {
    let Loaded { prints, config } = source.load();
    let env: Environment<'_> = &|name| source.variable(name);
    let reloaded = config.and_then(|config| {
        let reloaded = proxy.reload(&config, env);
        reloaded.map_err(|error| error.to_string())
    });
    proxy.metrics().config_read(reloaded.is_ok());
    match reloaded {
        Ok(fixed) => {
            if fixed.is_empty() {
                tracing::info!("the configuration was read again and is in force");
            } else {
                tracing::warn!(
                    at_next_start = fixed.join(", "),
                    "the configuration was read again and is in force, but for settings that need a restart"
                );
            }
            prints
        }
        Err(reason) => {
            tracing::error!(%reason, "the changed configuration cannot be used; the old one goes on");
            // What it would have named is not known, and the rules in force still have their files.
            prints.and(known)
        }
    }
}

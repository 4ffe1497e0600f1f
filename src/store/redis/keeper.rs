//! Keeps a connection: makes one, proves it, and makes another when it has been given up.
//!
//! A new connection has to answer a `PING` within the time that calls have, before any call may use it.
//! Without that, a server that accepts and does not answer, or answers too late, would be taken for
//! recovered again and again, and requests would pay for each time.

use std::{sync::Arc, time::Duration};

use rand::RngExt as _;
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, timeout},
};

use super::{Address, Connection, Link, Operation, Shared, StoreError, health::Health};

/// The longest that making a connection may take, its handshakes included.
const CONNECT: Duration = Duration::from_secs(1);

/// The pause after the first failed try; it doubles up to the next.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// Many instances find a returning server within this time, and do not storm it.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// How often a store that stays away is told of in the log.
const REMIND: Duration = Duration::from_secs(60);

/// The task that reconnects; dropping it ends it.
pub(super) struct Keeper(JoinHandle<()>);

impl Drop for Keeper {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Keeper {
    pub(super) fn start(shared: Arc<Shared>) -> Self {
        Self(tokio::spawn(keep(shared)))
    }
}

async fn keep(shared: Arc<Shared>) {
    let mut changes = shared.link.subscribe();
    let mut outage = Outage::default();
    for number in 0.. {
        match prove(&shared).await {
            Ok(connection) => {
                outage.over();
                shared.tell_up(true);
                let link = Link::Up(number, connection, Health::default());
                shared.link.send_replace(link);
                given_up(&mut changes).await;
            }
            Err(error) => {
                shared.link.send_replace(Link::Down);
                outage.tell(&error);
            }
        }
        tokio::time::sleep(outage.pause()).await;
    }
}

/// Waits until the calls have given the connection up.
async fn given_up(changes: &mut watch::Receiver<Link>) {
    // Fails only without a sender, which the caller holds.
    let _ = changes.wait_for(|link| matches!(link, Link::Down)).await;
}

/// A connection that is known to answer in time.
async fn prove(shared: &Shared) -> Result<Connection, StoreError> {
    let connection = connect(&shared.address).await;
    let began = Instant::now();
    let proved = match connection {
        Ok(mut connection) => {
            let ping = redis::cmd("PING");
            let answer = ping.exec_async(&mut connection);
            match timeout(shared.timeout, answer).await {
                Ok(answer) => answer.map(|()| connection).map_err(Into::into),
                Err(_) => Err(StoreError::Timeout(shared.timeout)),
            }
        }
        Err(error) => Err(error),
    };
    shared.tell(Operation::Connect, began, &proved);
    proved
}

/// A new connection, or none within [`CONNECT`].
pub(super) async fn connect(address: &Address) -> Result<Connection, StoreError> {
    match timeout(CONNECT, address.connect(CONNECT)).await {
        Ok(connected) => Ok(connected?),
        Err(_) => Err(StoreError::Timeout(CONNECT)),
    }
}

/// How long the store has been away, for the pauses and the log.
#[derive(Default)]
struct Outage {
    failures: u32,
    told: Option<Instant>,
}

impl Outage {
    fn over(&mut self) {
        if self.told.take().is_some() {
            tracing::info!("the store answers again");
        } else {
            tracing::debug!("the store answers");
        }
        self.failures = 0;
    }

    fn tell(&mut self, error: &StoreError) {
        self.failures = self.failures.saturating_add(1);
        let now = Instant::now();
        if self.told.is_some_and(|told| now < told + REMIND) {
            return;
        }
        self.told = Some(now);
        tracing::warn!(
            %error,
            "the store cannot be used; until it can, limits are kept as `store.fail` says"
        );
    }

    /// Doubling, and never twice the same: instances that lost the server together must not return together.
    fn pause(&self) -> Duration {
        let longest = FIRST_PAUSE
            .saturating_mul(1 << self.failures.min(10))
            .min(LONGEST_PAUSE);
        longest.mul_f64(rand::rng().random_range(0.5..1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound_and_differ() {
        let mut outage = Outage::default();
        let mut largest = Duration::ZERO;
        for _ in 0..40 {
            let pause = outage.pause();
            assert!(
                pause >= FIRST_PAUSE / 2 && pause <= LONGEST_PAUSE,
                "{pause:?}"
            );
            largest = largest.max(pause);
            outage.tell(&StoreError::Down);
        }
        assert!(largest > LONGEST_PAUSE / 2);
        assert_ne!(outage.pause(), outage.pause());
    }
}

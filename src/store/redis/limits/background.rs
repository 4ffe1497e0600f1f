//! What is told to the store behind requests' backs: how they ended, which still run, and that we are here.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures_util::future::join_all;
use redis::RedisResult;
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval},
};

use super::{
    GRACE, Inner, Settlement,
    wording::{millis, settlement},
};
use crate::store::redis::{Connection, Operation, StoreError, health::Fault};

/// Settlements, or accounts to be renewed, that go out together.
const BATCH: usize = 64;

/// Tries to tell something to a store that is there and does not answer.
const TRIES: u32 = 4;

/// Between two tries.
const PAUSE: Duration = Duration::from_millis(200);

/// The key of the instances that are alive.
const INSTANCES: &str = "instances";

/// Tells, until it is dropped.
pub(super) async fn work(inner: Arc<Inner>, mut inbox: mpsc::Receiver<Settlement>) {
    let mut beat = interval(inner.times.renew);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        tokio::select! {
            biased;
            _ = beat.tick() => inner.renew().await,
            received = inbox.recv_many(&mut batch, BATCH) => {
                if received == 0 {
                    return;
                }
                inner.deliver(&batch).await;
                inner.told(batch.len());
                batch.clear();
            }
        }
    }
}

impl Inner {
    /// Tells how requests ended, after an outage if need be. Settling twice does no harm.
    async fn deliver(&self, batch: &[Settlement]) {
        for _ in 0..TRIES {
            match self.settle_all(batch).await {
                Ok(()) => return,
                Err(StoreError::Down) => self.until_up().await,
                Err(StoreError::Timeout(_) | StoreError::Failed(_)) => {
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
        self.unsettled.inc_by(batch.len() as u64);
    }

    async fn until_up(&self) {
        while !self.redis.is_up() {
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn settle_all(&self, batch: &[Settlement]) -> Result<(), StoreError> {
        let call = |connection: Connection| async move {
            let one = |settlement| self.settle_or_lose(connection.clone(), settlement);
            join_all(batch.iter().map(one)).await.into_iter().collect()
        };
        self.redis.call(Operation::Settle, call).await
    }

    /// Fails where the connection does. What the server refuses is lost, and is no reason to try the others again.
    async fn settle_or_lose(
        &self,
        connection: Connection,
        settled: &Settlement,
    ) -> RedisResult<()> {
        match self.settle_one(connection, settled).await {
            Ok(_) => Ok(()),
            Err(error) if Fault::of(&error).is_some() => Err(error),
            Err(_) => {
                self.unsettled.inc();
                Ok(())
            }
        }
    }

    /// Settles one request; the moment at which that was done.
    pub(super) async fn settle_one(
        &self,
        mut connection: Connection,
        settled: &Settlement,
    ) -> RedisResult<u64> {
        let name = self.lease_name(settled.lease);
        let (keys, arguments) = settlement(&settled.running, name, GRACE, settled.ending);
        let (_, now): (u64, u64) = self.settle.run(&mut connection, &keys, &arguments).await?;
        Ok(now)
    }

    /// Renews all leases, and counts the instances. What fails is renewed the next time: a lease outlasts a few.
    async fn renew(&self) {
        if !self.redis.is_up() {
            return;
        }
        let leases = self.leases();
        for accounts in leases.chunks(BATCH) {
            let call = |connection: Connection| async move {
                let one = |(key, leases)| self.renew_one(connection.clone(), key, leases);
                let accounts = accounts
                    .iter()
                    .map(|(key, leases)| (key.as_str(), leases.as_slice()));
                join_all(accounts.map(one))
                    .await
                    .into_iter()
                    .collect::<RedisResult<()>>()
            };
            if self.redis.call(Operation::Renew, call).await.is_err() {
                break;
            }
        }
        let key = format!("{}:{INSTANCES}", self.redis.prefix());
        let arguments = [self.name.clone(), millis(self.times.lease)];
        let counted = self
            .redis
            .call(Operation::Renew, |mut connection| async move {
                self.beat
                    .run::<u32, _, _>(&mut connection, &[key], &arguments)
                    .await
            });
        if let Ok(instances) = counted.await {
            self.seen.store(instances.max(1), Ordering::Relaxed);
        }
    }

    /// The names of all leases, by their account.
    fn leases(&self) -> Vec<(String, Vec<String>)> {
        let running: Vec<_> = self
            .running()
            .iter()
            .map(|(lease, running)| (*lease, running.clone()))
            .collect();
        let mut leases = HashMap::<String, Vec<String>>::new();
        for (lease, running) in running {
            for keys in running.keys.iter().filter(|keys| keys.is_leased) {
                let of_account = leases.entry(keys.leases.clone()).or_default();
                of_account.push(self.lease_name(lease));
            }
        }
        leases.into_iter().collect()
    }

    async fn renew_one(
        &self,
        mut connection: Connection,
        key: &str,
        leases: &[String],
    ) -> RedisResult<()> {
        // A server takes some thousands of arguments at once.
        for leases in leases.chunks(1024) {
            let mut arguments = vec![millis(self.times.lease), millis(GRACE)];
            arguments.extend_from_slice(leases);
            self.renew
                .run::<i64, _, _>(&mut connection, &[key], &arguments)
                .await?;
        }
        Ok(())
    }
}

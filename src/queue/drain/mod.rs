//! Carrying entries out, behind everybody who waits himself.
//!
//! One thread with connections of its own takes entries from the store in fair order and sends each through the chain's
//! upstreams and their lanes, like any other request but of the lowest priority: a lane lets it go when no caller waits.
//! While a lane's breaker is shut nothing is taken out of the store for it; when its pause is over, the first request is
//! its probe, and the others wait for that.
//!
//! From a durable `begin` to a durable `end` an entry is running. Between the two its process may die, and then nobody
//! knows whether it was carried out; so `begin` is the last thing before the request is sent, behind the wait for a turn.

mod again;
mod begin;
mod carry;
mod ending;

use std::{io, sync::Arc, thread::JoinHandle, time::Duration};

use tokio::{
    sync::{oneshot, watch},
    task::JoinSet,
    time::{Instant, sleep_until},
};

pub(crate) use self::begin::BeginLayer;
use self::carry::{Carried, carry};
use super::{Queue, webhook};
use crate::{
    app::Shared,
    config::Rate,
    server::Stage,
    store::jobs::{Millis, State},
    upstream::Pool,
};

/// How often the store is looked at where nothing rings: entries become due by themselves.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// How often what has expired is ended.
const SWEEP_EVERY: Duration = Duration::from_secs(5);

/// When none of as many entries as may be under way could be sent, nothing is taken for so long: the next would meet the
/// same shut doors.
const REST: Duration = Duration::from_millis(500);

/// What carrying an entry out takes.
#[derive(Clone, Debug)]
struct Tools {
    queue: Queue,
    shared: Shared,
    pool: Pool,
}

/// The thread that works a queue off. Dropped, it ends, and what it is at with it.
#[derive(Debug)]
pub struct Drainer {
    busy: watch::Receiver<usize>,
    /// Closed by being dropped.
    open: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drainer {
    /// Starts it. `pool` is called on its thread, inside its runtime.
    ///
    /// # Errors
    /// When the system refuses a thread or a runtime's descriptors.
    pub fn start(
        queue: Queue,
        shared: Shared,
        pool: impl FnOnce() -> Pool + Send + 'static,
    ) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (open, closed) = oneshot::channel();
        let (count, busy) = watch::channel(0);
        let thread = std::thread::Builder::new()
            .name("surgetank-queue".to_owned())
            .spawn(move || {
                runtime.block_on(async {
                    let pool = pool();
                    let tools = Tools {
                        queue,
                        shared,
                        pool,
                    };
                    tokio::select! {
                        () = Loop::new(tools, count).run() => {}
                        // The sender says nothing; it is dropped.
                        _ = closed => {}
                    }
                });
            })?;
        Ok(Self {
            busy,
            open: Some(open),
            thread: Some(thread),
        })
    }

    /// Waits until nothing is being carried out. New entries are begun as long as the process was not told to stop.
    pub async fn idle(&self) {
        // A thread that has ended is at nothing.
        let _ = self.busy.clone().wait_for(|busy| *busy == 0).await;
    }
}

impl Drop for Drainer {
    fn drop(&mut self) {
        drop(self.open.take());
        if let Some(thread) = self.thread.take() {
            // One that panicked has said so.
            let _ = thread.join();
        }
    }
}

struct Loop {
    tools: Arc<Tools>,
    tasks: JoinSet<Carried>,
    count: watch::Sender<usize>,
    pace: Pace,
    /// Entries in a row that came back unsent.
    unsent: usize,
    /// Nothing is taken before.
    rest: Instant,
    sweep: Instant,
    /// The routes that may have entries, those of earlier configurations among them.
    routes: Vec<String>,
    /// Which of them is asked first.
    turn: usize,
}

impl Loop {
    fn new(tools: Tools, count: watch::Sender<usize>) -> Self {
        let now = Instant::now();
        Self {
            tools: Arc::new(tools),
            tasks: JoinSet::new(),
            count,
            pace: Pace { next: now },
            unsent: 0,
            rest: now,
            sweep: now,
            routes: Vec::new(),
            turn: 0,
        }
    }

    async fn run(mut self) {
        let lifecycle = self.tools.shared.lifecycle.clone();
        let telling = tokio::spawn(webhook::tell_all(
            self.tools.queue.clone(),
            self.tools.pool.tls().clone(),
        ));
        loop {
            let now = Instant::now();
            // Before anything is taken: an entry may come back to who has lost it.
            for id in self.tools.queue.store().lost() {
                self.tools.queue.stop_carrying(id);
            }
            if now >= self.sweep {
                self.sweep = now + SWEEP_EVERY;
                self.sweep().await;
            }
            if !lifecycle.is_stopping() && now >= self.rest {
                self.fill(now).await;
            }
            self.count.send_replace(self.tasks.len());
            let look = (now + LOOK_EVERY).max(self.rest).min(self.sweep);
            tokio::select! {
                () = lifecycle.reached(Stage::Ending) => break,
                Some(carried) = self.tasks.join_next(), if !self.tasks.is_empty() => self.came_back(&carried),
                () = self.tools.queue.0.bell.notified() => {}
                () = sleep_until(look) => {}
            }
        }
        // What is under way is lost with its connections; the next start finds it running, and knows.
        telling.abort();
        self.count.send_replace(0);
    }

    fn came_back(&mut self, carried: &Result<Carried, tokio::task::JoinError>) {
        if !matches!(carried, Ok(Carried::Back)) {
            self.unsent = 0;
            return;
        }
        self.unsent += 1;
        if self.unsent >= self.tools.queue.rules().settings.concurrency {
            self.unsent = 0;
            self.rest = Instant::now() + REST;
        }
    }

    /// Takes as many entries as may be under way.
    async fn fill(&mut self, now: Instant) {
        let (queue, rules) = (self.tools.queue.clone(), self.tools.queue.rules());
        let mut free = rules.settings.concurrency.saturating_sub(self.tasks.len());
        if free == 0 || !queue.is_up() || queue.depth().of(State::Pending) == 0 {
            return;
        }
        self.turn = self.turn.wrapping_add(1);
        for offset in 0..self.routes.len() {
            free = free.min(self.pace.allows(rules.settings.pace, now));
            if free == 0 {
                return;
            }
            let route = &self.routes[(self.turn + offset) % self.routes.len()];
            let Ok(taken) = queue.store().take(route, free, Millis::now()).await else {
                self.rest = now + REST;
                return;
            };
            free -= taken.len();
            self.pace.charge(rules.settings.pace, now, taken.len());
            for entry in taken {
                self.tasks.spawn(carry(self.tools.clone(), entry));
            }
        }
    }

    async fn sweep(&mut self) {
        let queue = &self.tools.queue;
        let now = Millis::now();
        let keep = now.after(queue.rules().settings.keep);
        // The storage itself says when it is down.
        if let Ok(expired) = queue.store().sweep(now, keep).await
            && expired > 0
        {
            queue
                .0
                .metrics
                .queue
                .ended
                .with_label_values(&["none", "expired"])
                .inc_by(expired);
            tracing::warn!(
                requests = expired,
                "queued requests were given up because their time was over"
            );
        }
        let known = self
            .tools
            .shared
            .rules
            .now()
            .routes
            .all()
            .map(|route| route.name().to_owned())
            .collect();
        let mut routes: Vec<String> = known;
        routes.extend(queue.store().routes().await.unwrap_or_default());
        routes.sort_unstable();
        routes.dedup();
        self.routes = routes;
    }
}

/// When the next entry may be taken: one after the other, as far apart as the rate says.
struct Pace {
    next: Instant,
}

impl Pace {
    /// How many entries may be taken now.
    fn allows(&self, rate: Option<Rate>, now: Instant) -> usize {
        match rate {
            None => usize::MAX,
            Some(_) => usize::from(now >= self.next),
        }
    }

    fn charge(&mut self, rate: Option<Rate>, now: Instant, taken: usize) {
        if let Some(rate) = rate.filter(|_| taken > 0) {
            self.next = now + rate.per.div_f64(rate.count as f64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_pace_holds_entries_apart() {
        let now = Instant::now();
        let (mut pace, rate) = (Pace { next: now }, "60/min".parse().ok());
        assert_eq!(pace.allows(None, now), usize::MAX);
        assert_eq!(pace.allows(rate, now), 1);
        pace.charge(rate, now, 0);
        assert_eq!(pace.allows(rate, now), 1, "nothing was taken");
        pace.charge(rate, now, 1);
        assert_eq!(pace.allows(rate, now + Duration::from_millis(999)), 0);
        assert_eq!(pace.allows(rate, now + Duration::from_secs(1)), 1);
        assert_eq!(
            pace.allows(rate, now + Duration::from_secs(9)),
            1,
            "no credit"
        );
    }
}

//! The process's way to its end, and who has to know of it.
//!
//! An end that nobody notices has an order: first not ready any more but still accepting, until load
//! balancers have caught up; then accepting nothing new while what runs finishes; then, when the time is
//! over, an honest end for what is left. Nobody is made to begin a wait meanwhile: whoever comes while
//! others are free to serve him is better off there.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{sync::watch, time::Instant};

/// What a request may wait that came after the stop: a place in the line of a healthy upstream, and no
/// backoff, no closed gate.
const BRIEFLY: Duration = Duration::from_secs(1);

/// How far the process has come towards its end. Written by the signal handler only.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Serving.
    Running,
    /// Not ready any more, but still accepting, so that load balancers can catch up.
    Settling,
    /// No new connections; requests in flight finish.
    Draining,
    /// The time is over: what still streams is ended honestly.
    Ending,
}

/// The switch that everything which must end listens to.
#[derive(Clone, Debug, Default)]
pub struct Lifecycle(Arc<Switch>);

#[derive(Debug)]
struct Switch {
    stage: watch::Sender<Stage>,
    /// The same as `Stage::Ending`, readable without a lock for every chunk of every stream.
    ending: AtomicBool,
    /// Any stage but the first, likewise.
    leaving: AtomicBool,
    /// Set once the process is told to stop.
    stop: OnceLock<Stop>,
}

#[derive(Copy, Clone, Debug)]
struct Stop {
    told: Instant,
    /// When whatever still runs is ended.
    over: Instant,
}

impl Default for Switch {
    fn default() -> Self {
        Self {
            stage: watch::Sender::new(Stage::Running),
            ending: AtomicBool::default(),
            leaving: AtomicBool::default(),
            stop: OnceLock::default(),
        }
    }
}

impl Lifecycle {
    /// Goes on to `stage`; a life never goes back, so an earlier stage is ignored.
    pub fn advance(&self, stage: Stage) {
        // First, so that whoever is woken by the stage below finds it set.
        if stage == Stage::Ending {
            self.0.ending.store(true, Ordering::Release);
        }
        if stage > Stage::Running {
            self.0.leaving.store(true, Ordering::Release);
        }
        self.0.stage.send_if_modified(|now| {
            let forward = *now < stage;
            if forward {
                *now = stage;
            }
            forward
        });
    }

    /// The process is told to stop, and everything will be over at `over`. It is not ready any more.
    pub fn stop(&self, now: Instant, over: Instant) {
        // Only the first one counts: nothing that was promised then is taken back.
        let _ = self.0.stop.set(Stop { told: now, over });
        self.advance(Stage::Settling);
    }

    /// Whether the process is on its way to its end.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.0.leaving.load(Ordering::Acquire)
    }

    /// How long a request that arrived at `arrived` may be made to wait, where its rules allow `patience`:
    /// no longer than the process lives, and not for anything worth the name if it came after the stop.
    #[must_use]
    pub fn patience(&self, arrived: Instant, now: Instant, patience: Duration) -> Duration {
        match self.0.stop.get() {
            None => patience,
            Some(stop) => {
                let left = stop.over.saturating_duration_since(now);
                let brief = if arrived >= stop.told { BRIEFLY } else { left };
                patience.min(left).min(brief)
            }
        }
    }

    /// The present stage.
    #[must_use]
    pub fn stage(&self) -> Stage {
        *self.0.stage.borrow()
    }

    /// Whether streams must end now.
    #[must_use]
    pub fn is_ending(&self) -> bool {
        self.0.ending.load(Ordering::Acquire)
    }

    /// Waits until `stage` or a later one is reached.
    pub async fn reached(&self, stage: Stage) {
        let mut watching = self.0.stage.subscribe();
        // The sender lives in `self`, so the channel cannot close while we wait.
        let _ = watching.wait_for(|now| *now >= stage).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn after_the_stop_nobody_new_waits_and_nobody_waits_past_the_end() {
        let (lifecycle, start) = (Lifecycle::default(), Instant::now());
        let second = Duration::from_secs(1);
        let minute = 60 * second;
        assert_eq!(lifecycle.patience(start, start, minute), minute);
        assert!(!lifecycle.is_stopping());
        let told = start + second;
        lifecycle.stop(told, told + 10 * second);
        assert_eq!(lifecycle.stage(), Stage::Settling);
        assert!(lifecycle.is_stopping());
        // (arrived, asked at, allowed, expected), in seconds after the start
        for (arrived, now, allowed, expected) in [
            (0, 1, 60, 10),
            (0, 4, 60, 7),
            (0, 4, 3, 3),
            (0, 11, 60, 0),
            (0, 90, 60, 0),
            (1, 1, 60, 1),
            (5, 5, 0, 0),
            (11, 11, 60, 0),
        ] {
            let patience = lifecycle.patience(
                start + arrived * second,
                start + now * second,
                allowed * second,
            );
            assert_eq!(patience, expected * second, "{arrived} {now} {allowed}");
        }
        lifecycle.stop(told, told + minute);
        assert_eq!(
            lifecycle.patience(start, told, minute),
            10 * second,
            "the first one counts"
        );
    }
}

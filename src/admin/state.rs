//! What surgetank does at this moment, as JSON: `/api/state`, and each event of `/api/events`.
//!
//! It is the whole state every time, and never a difference: a reader that missed an event is right
//! again with the next one. Users are told by the first digits of their fingerprint, credentials too;
//! nothing that a caller wrote is in it, but the name of a model where it looks like one.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::Serialize;
use tokio::time::Instant;

use super::{
    Admin,
    headline::{Headline, LaneScene, Scene, headline},
    history::{History, STEP, Step},
    lanes::{self, LaneState, WaiterState},
    users::{self, UserState},
    word,
};
use crate::{
    queue::Queue,
    retry::triage::Class,
    store::jobs::State as JobState,
    telemetry::{Outcome, trouble::Group},
};

/// Everything. Fields are only ever added.
#[derive(Debug, Serialize)]
pub(super) struct State {
    version: &'static str,
    stage: &'static str,
    /// Milliseconds since 1970.
    now_ms: u64,
    started_ms: u64,
    headline: Headline,
    lanes: Vec<LaneState>,
    /// How many lanes there are; `lanes` holds those of them in which most happens.
    lanes_total: usize,
    /// How many of them are not in `lanes`.
    lanes_left_out: usize,
    in_flight_requests: i64,
    waiting_requests: u64,
    connections: usize,
    held_bytes: usize,
    limited_users: usize,
    /// Those who have used most of what they may.
    users: Vec<UserState>,
    economics: Economics,
    waiters: Vec<WaiterState>,
    /// The durable queue; absent without a store.
    queue: Option<QueueState>,
    trouble: Vec<TroubleState>,
    history: HistoryState,
}

/// What retries cost and what they bought, since the start.
#[derive(Debug, Serialize)]
struct Economics {
    requests: u64,
    served: u64,
    saved: u64,
    attempts: u64,
    retries: u64,
    /// Attempts an answer; absent before the first.
    amplification: Option<f64>,
    waited_seconds: f64,
    resent_bytes: u64,
}

/// What waits to be carried out later, and what has been.
#[derive(Debug, Serialize)]
struct QueueState {
    /// Whether its storage works.
    up: bool,
    pending: u64,
    running: u64,
    done: u64,
    failed: u64,
    uncertain: u64,
    bytes: u64,
    oldest_ms: u64,
}

impl QueueState {
    fn of(queue: &Queue) -> Self {
        let depth = queue.depth();
        Self {
            up: queue.is_up(),
            pending: depth.of(JobState::Pending),
            running: depth.of(JobState::Running),
            done: depth.of(JobState::Done),
            failed: depth.of(JobState::Failed),
            uncertain: depth.of(JobState::Uncertain),
            bytes: depth.bytes,
            oldest_ms: ms(queue.oldest_age()),
        }
    }
}

/// A kind of trouble, and how often it was met.
#[derive(Debug, Serialize)]
struct TroubleState {
    count: u64,
    first_ms: u64,
    last_ms: u64,
    route: Option<String>,
    upstream: Option<String>,
    class: Option<&'static str>,
    status: Option<u16>,
    outcome: &'static str,
    reason: Option<&'static str>,
    request_id: String,
    most_tries: u32,
    longest_wait_ms: u64,
}

/// The last fifteen minutes in steps, oldest first. A series of zeros is left out.
#[derive(Debug, Serialize)]
struct HistoryState {
    step_ms: u64,
    /// The end of the newest step, which has not come yet; in milliseconds since 1970.
    until_ms: u64,
    steps: usize,
    outcomes: BTreeMap<&'static str, Vec<u64>>,
    saved: Vec<u64>,
    attempts: BTreeMap<&'static str, Vec<u64>>,
    waiting: Vec<u64>,
    in_flight: Vec<u64>,
}

impl State {
    /// Looks at everything now. At most `most_lanes` lanes are told one by one, the busiest first.
    #[must_use]
    pub(super) fn of(admin: &Admin, now: Instant, most_lanes: usize) -> Self {
        let clock = Clock::read(now);
        let views = lanes::look(admin);
        let history = admin.sample(now, &views);
        let in_flight = admin.metrics.in_flight.get();
        let recent = history.recent(now);
        let trouble = admin.metrics.trouble.groups(now);
        let scene = Scene {
            stage: admin.lifecycle.stage(),
            panics: history.steps().map(|step| step.panics).sum(),
            hurt_by: hurt_by(&trouble, now, recent.span),
            recent,
            in_flight: u64::try_from(in_flight).unwrap_or_default(),
            lanes: views.iter().map(LaneScene::from).collect(),
        };
        let waiters = lanes::waiters(&views);
        let lanes_total = views.len();
        let waiting_requests = lanes::waiting(&views);
        let lanes = lanes::states(views, most_lanes);
        Self {
            version: env!("CARGO_PKG_VERSION"),
            stage: word(scene.stage),
            now_ms: clock.ms(now),
            started_ms: clock.ms(admin.started),
            headline: headline(&scene),
            waiting_requests,
            lanes_left_out: lanes_total - lanes.len(),
            lanes,
            lanes_total,
            in_flight_requests: in_flight,
            connections: admin.fleet.live(),
            held_bytes: admin.budget.used(),
            limited_users: admin.rules.now().routes.limited_users(),
            users: users::busiest(admin, now),
            economics: Economics::of(&history),
            waiters,
            queue: admin.queue.as_ref().map(QueueState::of),
            trouble: trouble
                .into_iter()
                .map(|group| TroubleState::of(group, &clock))
                .collect(),
            history: HistoryState::of(&history, now, &clock),
        }
    }
}

/// The upstream behind most of the errors and substitutes within the last `span`, and what it did.
fn hurt_by(trouble: &[Group], now: Instant, span: Duration) -> Option<(String, Class)> {
    let hurts = |group: &&Group| {
        let outcome = group.kind.outcome;
        let is_recent = now.saturating_duration_since(group.last) <= span;
        matches!(
            outcome,
            Outcome::Failed | Outcome::Broken | Outcome::Substituted
        ) && is_recent
    };
    let worst = trouble.iter().filter(hurts).max_by_key(|group| group.count);
    let kind = &worst?.kind;
    let class = match kind.outcome {
        Outcome::Broken => Class::Broken,
        _ => kind.class?,
    };
    Some((kind.upstream.as_ref()?.to_string(), class))
}

impl Economics {
    fn of(history: &History) -> Self {
        let totals = history.totals();
        Self {
            requests: totals.outcomes.iter().sum(),
            served: totals.outcomes[Outcome::Served as usize],
            saved: totals.saved,
            attempts: totals.classes().iter().sum(),
            retries: totals.retries,
            amplification: totals.amplification(),
            waited_seconds: totals.waited_seconds,
            resent_bytes: totals.resent_bytes,
        }
    }
}

impl TroubleState {
    fn of(group: Group, clock: &Clock) -> Self {
        let kind = group.kind;
        Self {
            count: group.count,
            first_ms: clock.ms(group.first),
            last_ms: clock.ms(group.last),
            route: kind.route,
            upstream: kind.upstream.map(|name| name.to_string()),
            class: kind.class.map(Class::as_str),
            status: kind.status,
            outcome: kind.outcome.as_str(),
            reason: kind.reason,
            request_id: group.request.as_str().to_owned(),
            most_tries: group.most_tries,
            longest_wait_ms: ms(group.longest_wait),
        }
    }
}

impl HistoryState {
    fn of(history: &History, now: Instant, clock: &Clock) -> Self {
        let steps: Vec<_> = history.steps().collect();
        let series = |of: &dyn Fn(&Step) -> u64| steps.iter().map(|step| of(step)).collect();
        let outcome = |(index, outcome): (usize, Outcome)| {
            (outcome.as_str(), series(&|step| step.outcomes[index]))
        };
        let class = |(index, class): (usize, Class)| {
            let sum = |step: &Step| step.upstreams.values().map(|counts| counts[index]).sum();
            (class.as_str(), series(&sum))
        };
        let is_news = |(_, series): &(&str, Vec<u64>)| series.iter().any(|count| *count > 0);
        let until = now + STEP.saturating_sub(history.present_lasts(now));
        Self {
            step_ms: ms(STEP),
            until_ms: clock.ms(until),
            steps: steps.len(),
            outcomes: Outcome::ALL
                .into_iter()
                .enumerate()
                .map(outcome)
                .filter(is_news)
                .collect(),
            saved: series(&|step| step.saved),
            attempts: Class::ALL
                .into_iter()
                .enumerate()
                .map(class)
                .filter(is_news)
                .collect(),
            waiting: series(&|step| step.peak.waiting),
            in_flight: series(&|step| step.peak.in_flight),
        }
    }
}

/// The wall clock beside the steady one, both read once: moments are told as people write them.
struct Clock {
    steady: Instant,
    wall: SystemTime,
}

impl Clock {
    fn read(now: Instant) -> Self {
        Self {
            steady: now,
            wall: SystemTime::now(),
        }
    }

    /// Milliseconds since 1970.
    fn ms(&self, at: Instant) -> u64 {
        let wall = if at >= self.steady {
            self.wall + at.saturating_duration_since(self.steady)
        } else {
            self.wall - self.steady.saturating_duration_since(at)
        };
        ms(wall.duration_since(UNIX_EPOCH).unwrap_or_default())
    }
}

pub(super) fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

//! The lanes as an operator reads them.

use std::cmp::Reverse;

use serde::Serialize;

use super::{Admin, headline::LaneScene, history::Load, state::ms};
use crate::lane::{LaneKey, QuotaLeft, View, WaitReason};

/// Users that are told of those who wait, over all lanes.
const MOST_WAITERS: usize = 10;

/// One lane, and where it leads.
#[derive(Debug)]
pub(super) struct LaneView {
    upstream: String,
    key: LaneKey,
    view: View,
}

/// A lane in the JSON.
#[derive(Debug, Serialize)]
pub(super) struct LaneState {
    /// The same for a lane's whole life.
    id: String,
    upstream: String,
    /// A fingerprint of the model's name.
    model: String,
    /// The model's name, where it looks like one.
    model_name: Option<String>,
    /// The first digits of the credential's fingerprint; absent where the upstream has its own.
    credential: Option<String>,
    waits_for: &'static str,
    held_for_ms: u64,
    waiting: usize,
    waiting_users: usize,
    longest_wait_ms: u64,
    live: usize,
    window: usize,
    pace_per_second: Option<f64>,
    accepted_per_second: f64,
    retry_tokens: f64,
    throttles_in_a_row: u32,
    sent: u64,
    served: u64,
    quotas: Vec<QuotaState>,
}

/// What the vendor said is left of one quota.
#[derive(Debug, Serialize)]
struct QuotaState {
    of: &'static str,
    limit: f64,
    remaining: f64,
    resets_in_ms: u64,
    told_ms_ago: u64,
}

/// A user who waits.
#[derive(Debug, Serialize)]
pub(super) struct WaiterState {
    user: String,
    upstream: String,
    lane: String,
    waiting: usize,
    longest_wait_ms: u64,
}

/// Every lane at this moment.
pub(super) fn look(admin: &Admin) -> Vec<LaneView> {
    let views = admin.lanes.table().views(MOST_WAITERS).into_iter();
    let rules = admin.rules.now();
    // A lane of an upstream that a reload took away only finishes what it has.
    let named = |(key, view): (LaneKey, View)| {
        let upstream = rules.upstream(key.upstream)?.name.to_string();
        Some(LaneView {
            upstream,
            key,
            view,
        })
    };
    views.filter_map(named).collect()
}

/// Requests that wait for any lane.
pub(super) fn waiting(views: &[LaneView]) -> u64 {
    let waiting = views.iter().map(|lane| lane.view.snapshot.waiting as u64);
    waiting.sum()
}

/// The load that the lanes see.
pub(super) fn load(views: &[LaneView], in_flight: i64) -> Load {
    Load {
        waiting: waiting(views),
        in_flight: u64::try_from(in_flight).unwrap_or_default(),
    }
}

/// Those who wait for longest, over all lanes.
pub(super) fn waiters(views: &[LaneView]) -> Vec<WaiterState> {
    let of_lane = |lane: &LaneView| {
        let (upstream, id) = (lane.upstream.clone(), lane.id());
        let waiters = lane.view.waiters.iter();
        waiters
            .map(move |waiter| WaiterState {
                user: format!("{:08x}", waiter.user.0 >> 32),
                upstream: upstream.clone(),
                lane: id.clone(),
                waiting: waiter.waiting,
                longest_wait_ms: ms(waiter.longest),
            })
            .collect::<Vec<_>>()
    };
    let mut waiters: Vec<_> = views.iter().flat_map(of_lane).collect();
    waiters.sort_by_key(|waiter| Reverse((waiter.waiting, waiter.longest_wait_ms)));
    waiters.truncate(MOST_WAITERS);
    waiters
}

/// At most this many lanes; when there are more, those in which something happens.
pub(super) fn states(mut views: Vec<LaneView>, most: usize) -> Vec<LaneState> {
    if views.len() > most {
        views.sort_by_key(|lane| Reverse(lane.urgency()));
        views.truncate(most);
        views.sort_by_key(|lane| lane.key);
    }
    views.into_iter().map(LaneState::from).collect()
}

impl LaneView {
    fn id(&self) -> String {
        let LaneKey {
            upstream,
            credential,
            model,
        } = self.key;
        format!("{upstream}-{:08x}-{:08x}", credential >> 96, model >> 32)
    }

    fn urgency(&self) -> (bool, bool, usize, usize, u64) {
        let lane = &self.view.snapshot;
        (
            !matches!(lane.reason, WaitReason::Idle),
            // Nobody may wait for it just now.
            !lane.closed_for.is_zero() || lane.throttles_in_a_row > 0,
            lane.waiting,
            lane.live,
            lane.counters.served,
        )
    }
}

impl From<&LaneView> for LaneScene {
    fn from(lane: &LaneView) -> Self {
        let snapshot = &lane.view.snapshot;
        let left = lane.view.quotas.iter().map(QuotaLeft::part);
        Self {
            upstream: lane.upstream.clone(),
            reason: snapshot.reason,
            closed_for: snapshot.closed_for,
            waiting: snapshot.waiting,
            longest: lane.view.longest_wait,
            quota_left: left.min_by(f64::total_cmp),
        }
    }
}

impl From<LaneView> for LaneState {
    fn from(lane: LaneView) -> Self {
        let id = lane.id();
        let View {
            snapshot,
            name,
            longest_wait,
            quotas,
            ..
        } = lane.view;
        Self {
            id,
            upstream: lane.upstream,
            model: format!("{:016x}", lane.key.model),
            model_name: name.map(|name| name.to_string()),
            credential: (lane.key.credential != 0)
                .then(|| format!("{:08x}", lane.key.credential >> 96)),
            waits_for: snapshot.reason.as_str(),
            held_for_ms: ms(snapshot.closed_for),
            waiting: snapshot.waiting,
            waiting_users: snapshot.users,
            longest_wait_ms: ms(longest_wait),
            live: snapshot.live,
            window: snapshot.window,
            pace_per_second: snapshot.pace,
            accepted_per_second: snapshot.accepted_rate,
            retry_tokens: snapshot.retry_tokens,
            throttles_in_a_row: snapshot.throttles_in_a_row,
            sent: snapshot.counters.sent_first + snapshot.counters.sent_retry,
            served: snapshot.counters.served,
            quotas: quotas
                .into_iter()
                .map(|left| QuotaState {
                    of: left.of.as_str(),
                    limit: left.limit,
                    remaining: left.remaining,
                    resets_in_ms: ms(left.resets_in),
                    told_ms_ago: ms(left.told_ago),
                })
                .collect(),
        }
    }
}

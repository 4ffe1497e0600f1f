//! The operator's port, read-only, on a listener and a thread of its own:
//!
//! | path | answers |
//! |---|---|
//! | `/` | the status page |
//! | `/metrics` | Prometheus |
//! | `/healthz` | 200 while the process lives |
//! | `/readyz` | 200 while it accepts, 503 once it is stopping |
//! | `POST /api/reload` | reads the configuration again; takes a token, as everything does that changes something |
//! | `/api/state` | JSON: what is wrong and whose fault it is, what each lane does, the last fifteen minutes |
//! | `/api/events` | the same as server-sent events, one a second |
//!
//! It runs through the same connection code as the data path, so the same timers hold slow peers,
//! and a flood here meets its own worker.

mod events;
mod guard;
pub mod headline;
pub mod history;
mod lanes;
mod page;
mod state;
mod users;

use std::{
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    Router,
    extract::State,
    http::{Request, StatusCode, header},
    middleware::from_fn_with_state,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use futures_util::future::BoxFuture;
use http_body_util::BodyExt as _;
use tokio::time::Instant;
use tower::{Service, ServiceExt as _};

use crate::{
    app::Arrival,
    body::{Body, BodyError},
    budget::Budget,
    lane::layer::Lanes,
    queue::Queue,
    reload::Bell,
    rules::RulesInForce,
    server::{Fleet, Lifecycle, Stage},
    telemetry::Metrics,
};
use events::Broadcast;
use history::History;
use lanes::LaneView;

/// How often the counters are read into the history while nobody looks.
const SAMPLE_EVERY: Duration = Duration::from_secs(1);

pub use guard::Guard;

/// What the admin endpoints look at.
#[derive(Clone, Debug)]
pub struct Admin {
    /// The families behind `/metrics`.
    pub metrics: Arc<Metrics>,
    /// The data path's stage.
    pub lifecycle: Lifecycle,
    /// The data path's connections.
    pub fleet: Arc<Fleet>,
    /// Held bodies.
    pub budget: Budget,
    /// What callers of one quota have learned.
    pub lanes: Lanes,
    /// The names behind the numbers in the lanes' keys, and the limiters, which know the users.
    pub rules: RulesInForce,
    /// Requests that are carried out later.
    pub queue: Option<Queue>,
    /// Who may do what here.
    pub guard: Guard,
    /// What to ring for a look at the configuration.
    pub reload_bell: Bell,
    /// When the process began to serve.
    pub started: Instant,
    /// The last fifteen minutes.
    pub history: Arc<Mutex<History>>,
}

impl Admin {
    /// An empty history.
    #[must_use]
    pub fn history(now: Instant) -> Arc<Mutex<History>> {
        Arc::new(Mutex::new(History::new(now)))
    }

    /// Reads the counters into the history again and again, for as long as it is polled.
    pub async fn keep_history(self) {
        let mut looks = tokio::time::interval(SAMPLE_EVERY);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let now = looks.tick().await;
            drop(self.sample(now, &lanes::look(&self)));
        }
    }

    /// Reads the counters into the history, and gives it.
    fn sample(&self, now: Instant, lanes: &[LaneView]) -> MutexGuard<'_, History> {
        let (totals, load) = (
            self.metrics.totals(),
            lanes::load(lanes, self.metrics.in_flight.get()),
        );
        // Whole after every call, so a panic elsewhere has spoilt nothing.
        let mut history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        history.observe(now, totals, load);
        history
    }
}

/// Lanes that `/api/state` tells one by one: there may be as many as callers have keys.
const MOST_LANES: usize = 100;

/// The endpoints as a service for connections.
#[derive(Clone, Debug)]
pub struct AdminEdge {
    router: Router,
    guard: Guard,
}

impl AdminEdge {
    /// Builds the router.
    #[must_use]
    pub fn new(admin: Admin) -> Self {
        let guard = admin.guard.clone();
        let broadcast = Broadcast::new(admin.clone());
        let router = Router::new()
            .route("/metrics", get(metrics))
            .route("/healthz", get(async || "alive\n"))
            .route("/readyz", get(ready))
            .route("/api/state", get(state))
            .with_state(admin.clone())
            .merge(events::router(broadcast))
            .merge(page::router())
            .merge(changes(admin));
        Self { router, guard }
    }
}

/// Everything that changes something. Whatever is added here is behind the token.
fn changes(admin: Admin) -> Router {
    let guard = admin.guard.clone();
    Router::new()
        .route("/api/reload", post(reload))
        .with_state(admin)
        .route_layer(from_fn_with_state(guard, guard::operators_only))
}

impl Service<Arrival> for AdminEdge {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<http::Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, arrival: Arrival) -> Self::Future {
        let (parts, body) = arrival.request.into_parts();
        if let Err(refusal) = self.guard.visitor(&parts) {
            return Box::pin(std::future::ready(Ok(in_memory(refusal.into_response()))));
        }
        let answering = self
            .router
            .clone()
            .oneshot(Request::from_parts(parts, axum::body::Body::new(body)));
        Box::pin(async move { Ok(in_memory(answering.await?)) })
    }
}

/// What axum answers with here is in memory and cannot fail.
fn in_memory(answered: Response) -> http::Response<Body> {
    answered.map(|body| body.map_err(|_| BodyError::Incomplete).boxed_unsync())
}

/// The look itself happens elsewhere and soon; the log and the metrics tell what came of it.
async fn reload(State(admin): State<Admin>) -> Response {
    admin.reload_bell.ring();
    (
        StatusCode::ACCEPTED,
        "the configuration will be read again\n",
    )
        .into_response()
}

async fn metrics(State(admin): State<Admin>) -> Response {
    refresh_lanes(&admin);
    if let Some(queue) = &admin.queue {
        queue.refresh_metrics();
    }
    admin
        .metrics
        .connections
        .set(i64::try_from(admin.fleet.live()).unwrap_or(i64::MAX));
    admin
        .metrics
        .held_bytes
        .set(i64::try_from(admin.budget.used()).unwrap_or(i64::MAX));
    admin
        .metrics
        .users
        .set(i64::try_from(admin.rules.now().routes.limited_users()).unwrap_or(i64::MAX));
    (
        [(
            header::CONTENT_TYPE,
            "text/plain; version=0.0.4; charset=utf-8",
        )],
        admin.metrics.render(),
    )
        .into_response()
}

fn refresh_lanes(admin: &Admin) {
    let families = &admin.metrics.lanes;
    families.begin_refresh();
    let rules = admin.rules.now();
    for (key, lane) in admin.lanes.table().lanes() {
        if let Some(upstream) = rules.upstream(key.upstream) {
            let labels = [upstream.name.as_ref(), lane.label().as_str()];
            families.refresh(labels, &lane.view(0), &lane.take_closed());
        }
    }
}

async fn ready(State(admin): State<Admin>) -> Response {
    match admin.lifecycle.stage() {
        Stage::Running => (StatusCode::OK, "ready\n").into_response(),
        stage => (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("{}\n", word(stage)),
        )
            .into_response(),
    }
}

async fn state(State(admin): State<Admin>) -> Response {
    events::json(&state::State::of(&admin, Instant::now(), MOST_LANES)).into_response()
}

fn word(stage: Stage) -> &'static str {
    match stage {
        Stage::Running => "running",
        Stage::Settling => "settling",
        Stage::Draining => "draining",
        Stage::Ending => "ending",
    }
}

//! The operator's port, read-only, on a listener and a thread of its own:
//!
//! | path | answers |
//! |---|---|
//! | `/` | what this port offers |
//! | `/metrics` | Prometheus |
//! | `/healthz` | 200 while the process lives |
//! | `/readyz` | 200 while it accepts, 503 once it is stopping |
//! | `/api/state` | JSON: version, stage, requests in flight, what each lane does |
//!
//! It runs through the same connection code as the data path, so the same timers hold slow peers,
//! and a flood here meets its own worker.

use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
};

use axum::{
    Json, Router,
    extract::State,
    http::{Request, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use futures_util::future::BoxFuture;
use http_body_util::BodyExt as _;
use serde_json::json;
use tower::{Service, ServiceExt as _};

use crate::{
    app::Arrival,
    body::{Body, BodyError},
    budget::Budget,
    lane::{LaneKey, Snapshot, WaitReason, layer::Lanes},
    rules::{Rules, RulesInForce},
    server::{Fleet, Lifecycle, Stage},
    telemetry::Metrics,
};

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
}

/// The endpoints as a service for connections.
#[derive(Clone, Debug)]
pub struct AdminEdge(Router);

impl AdminEdge {
    /// Builds the router.
    #[must_use]
    pub fn new(admin: Admin) -> Self {
        let router = Router::new()
            .route("/", get(index))
            .route("/metrics", get(metrics))
            .route("/healthz", get(async || "alive\n"))
            .route("/readyz", get(ready))
            .route("/api/state", get(state))
            .with_state(admin);
        Self(router)
    }
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
        let answering = self
            .0
            .clone()
            .oneshot(Request::from_parts(parts, axum::body::Body::new(body)));
        Box::pin(async move {
            let answered = answering.await?;
            // What axum answers with here is in memory and cannot fail.
            Ok(answered.map(|body| body.map_err(|_| BodyError::Incomplete).boxed_unsync()))
        })
    }
}

async fn index() -> Response {
    let text = "surgetank: the operator's port\n\n\
        /metrics    Prometheus metrics\n\
        /healthz    200 while the process lives\n\
        /readyz     200 while it accepts requests, 503 once it is stopping\n\
        /api/state  JSON: version, stage, requests in flight\n";
    ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response()
}

async fn metrics(State(admin): State<Admin>) -> Response {
    refresh_lanes(&admin);
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

/// Sums the lanes by upstream: a label a lane would let callers make series by inventing models.
fn refresh_lanes(admin: &Admin) {
    admin.metrics.lanes.reset();
    let rules = admin.rules.now();
    for (key, lane) in admin.lanes.table().snapshots() {
        let Some(upstream) = rules.upstream(key.upstream) else {
            continue;
        };
        let gauge = |what| {
            admin
                .metrics
                .lanes
                .with_label_values(&[upstream.name.as_ref(), what])
        };
        let held = matches!(
            lane.reason,
            WaitReason::Gate | WaitReason::Probe | WaitReason::Breaker
        );
        gauge("lanes").inc();
        gauge("held").add(f64::from(u8::from(held)));
        gauge("waiting").add(lane.waiting as f64);
        gauge("live").add(lane.live as f64);
        if let Some(pace) = lane.pace {
            let slowest = gauge("pace_per_second");
            let known = slowest.get();
            slowest.set(if known > 0.0 { known.min(pace) } else { pace });
        }
    }
}

fn lane_as_json(rules: &Rules, key: LaneKey, lane: &Snapshot) -> serde_json::Value {
    json!({
        "upstream": rules.upstream(key.upstream).map(|upstream| upstream.name.as_ref()),
        "model": format!("{:016x}", key.model),
        "waits_for": lane.reason.as_str(),
        "held_for_ms": u64::try_from(lane.closed_for.as_millis()).unwrap_or(u64::MAX),
        "waiting": lane.waiting,
        "waiting_users": lane.users,
        "live": lane.live,
        "window": lane.window,
        "pace_per_second": lane.pace,
        "retry_tokens": lane.retry_tokens,
    })
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
    let lanes = admin.lanes.table().snapshots();
    let rules = admin.rules.now();
    let lanes: Vec<_> = lanes
        .iter()
        .map(|(key, lane)| lane_as_json(&rules, *key, lane))
        .collect();
    Json(json!({
        "lanes": lanes,
        "version": env!("CARGO_PKG_VERSION"),
        "stage": word(admin.lifecycle.stage()),
        "in_flight_requests": admin.metrics.in_flight.get(),
        "connections": admin.fleet.live(),
        "held_bytes": admin.budget.used(),
        "limited_users": rules.routes.limited_users(),
    }))
    .into_response()
}

fn word(stage: Stage) -> &'static str {
    match stage {
        Stage::Running => "running",
        Stage::Settling => "settling",
        Stage::Draining => "draining",
        Stage::Ending => "ending",
    }
}

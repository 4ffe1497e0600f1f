//! The state as server-sent events, one a second, for as long as somebody looks.
//!
//! The state is put together once a second at most, whoever asks, and every reader gets the same
//! bytes: a wall of screens costs as much as one. A reader that is slow gets fewer events, never a
//! backlog of old ones, because each is made when it is taken.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::State,
    http::header,
    response::{IntoResponse, Response},
    routing::get,
};
use bytes::Bytes;
use futures_util::stream;
use tokio::time::{Instant, MissedTickBehavior};

use super::{Admin, state};

/// The time between two events.
const EVERY: Duration = Duration::from_secs(1);

/// An event younger than this is given to the next reader as well.
const FRESH: Duration = Duration::from_millis(500);

/// Lanes that are told one by one. Callers may invent models; a screen holds no thousand of them.
const MOST_LANES: usize = 24;

/// Tells the browser how soon to come back when it has lost us.
const OPENING: &str = "retry: 1000\n\n";

/// Makes events and shares them among readers.
#[derive(Clone, Debug)]
pub(super) struct Broadcast {
    admin: Admin,
    latest: Arc<Mutex<Option<(Instant, Bytes)>>>,
}

impl Broadcast {
    pub(super) fn new(admin: Admin) -> Self {
        Self {
            admin,
            latest: Arc::default(),
        }
    }

    /// The state as an event, not older than [`FRESH`].
    fn event(&self, now: Instant) -> Bytes {
        // Replaced as a whole, so a panic elsewhere has spoilt nothing.
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((made, event)) = &*latest
            && now.saturating_duration_since(*made) < FRESH
        {
            return event.clone();
        }
        let state = state::State::of(&self.admin, now, MOST_LANES);
        // JSON without line ends fits into one `data` line.
        let event = Bytes::from(format!("event: state\ndata: {}\n\n", text(&state)));
        *latest = Some((now, event.clone()));
        event
    }
}

pub(super) fn router(broadcast: Broadcast) -> Router {
    Router::new()
        .route("/api/events", get(events))
        .with_state(broadcast)
}

async fn events(State(broadcast): State<Broadcast>) -> Response {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let opening = stream::iter([Ok::<_, Infallible>(Bytes::from_static(OPENING.as_bytes()))]);
    let states = stream::unfold((ticks, broadcast), async |(mut ticks, broadcast)| {
        let now = ticks.tick().await;
        Some((Ok(broadcast.event(now)), (ticks, broadcast)))
    });
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    let events = stream::StreamExt::chain(opening, states);
    (headers, Body::from_stream(events)).into_response()
}

/// The state as a JSON response.
pub(super) fn json(state: &state::State) -> impl IntoResponse {
    let headers = [
        (header::CONTENT_TYPE, "application/json"),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, text(state))
}

/// Strings, numbers and lists: nothing in it can fail to be written.
fn text(state: &state::State) -> String {
    serde_json::to_string(state).unwrap_or_default()
}

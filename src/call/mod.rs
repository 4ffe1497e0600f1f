//! A request on its way through the stack: what is known of it, and what has happened to it.

mod attempt;
mod head;
mod id;
mod journal;
mod wishes;

pub use attempt::{Attempt, Sequel};
pub use head::Head;
pub use id::CallId;
pub use journal::{FailedTry, Journal, Try};
pub use wishes::{FallbackWish, Wishes};

use self::head::Kept;
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use http::{Method, Version, uri::PathAndQuery};
use tokio::time::Instant;

use crate::{
    config::{OnBroken, OnTruncated},
    deadline::Deadline,
    dialect::{Ask, Dialect, Endpoint},
    lane::Priority,
    limit::identity::UserKey,
    payload::Payload,
    queue::Owner,
    route::Route,
    server::Lifecycle,
    stream::late,
    tunnel::handshake,
};

/// One request of a caller, from the moment it was understood until its answer has ended.
pub struct Call {
    /// What ties the caller's header, our log and the trace together.
    pub id: CallId,
    /// When its head had arrived.
    pub arrived: Instant,
    /// As the caller sent it.
    pub method: Method,
    /// Of the caller's message.
    pub version: Version,
    /// The body.
    pub payload: Payload,
    /// Which upstream, under which policies.
    pub route: Arc<Route>,
    /// How the caller and the vendor speak.
    pub dialect: Dialect,
    /// What the body asks for.
    pub ask: Ask,
    /// Who asks.
    pub user: UserKey,
    /// The number of the user's class; 0 for none.
    pub class: u16,
    /// Who may read what it is queued for; nobody, where there is no queue.
    pub owner: Option<Owner>,
    /// What this request wants differently from its route.
    pub wishes: Wishes,
    /// Until when anything may still be started for it.
    pub deadline: Deadline,
    /// Whether somebody waits for the answer: background work is sent when its lane has nobody else waiting.
    pub priority: Priority,
    /// When its answer is begun, if it is not there by then.
    pub late: Option<late::Plan>,
    /// Whether it is the opening handshake of a WebSocket.
    pub is_handshake: bool,
    head: Kept,
    lifecycle: Lifecycle,
    is_traced: bool,
    journal: Mutex<Journal>,
}

/// The parts of a [`Call`] that come from elsewhere than its message.
#[derive(Debug)]
pub struct Circumstances {
    /// See [`Call::id`].
    pub id: CallId,
    /// See [`Call::arrived`].
    pub arrived: Instant,
    /// See [`Call::route`].
    pub route: Arc<Route>,
    /// See [`Call::dialect`].
    pub dialect: Dialect,
    /// See [`Call::ask`].
    pub ask: Ask,
    /// See [`Call::user`].
    pub user: UserKey,
    /// See [`Call::class`].
    pub class: u16,
    /// See [`Call::owner`].
    pub owner: Option<Owner>,
    /// See [`Call::wishes`].
    pub wishes: Wishes,
    /// See [`Call::deadline`].
    pub deadline: Deadline,
    /// See [`Call::priority`].
    pub priority: Priority,
    /// The process's, whose end nobody is made to wait for.
    pub lifecycle: Lifecycle,
    /// Whether its tries are to be noted.
    pub is_traced: bool,
    /// See [`Call::late`].
    pub late: Option<late::Plan>,
}

/// Shows nothing that came from the caller: its fields carry a credential, its target may, its body is a prompt.
impl std::fmt::Debug for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Call")
            .field("id", &self.id)
            .field("dialect", &self.dialect)
            .field("route", &self.route.name())
            .finish_non_exhaustive()
    }
}

impl Call {
    /// Joins a message with what was found out about it.
    #[must_use]
    pub fn new(
        parts: http::request::Parts,
        target: PathAndQuery,
        payload: Payload,
        known: Circumstances,
    ) -> Self {
        let Circumstances {
            id,
            arrived,
            route,
            dialect,
            ask,
            user,
            class,
            owner,
            wishes,
            deadline,
            priority,
            lifecycle,
            is_traced,
            late,
        } = known;
        let is_handshake = handshake::is_asked(&parts.method, parts.version, &parts.headers);
        Self {
            id,
            arrived,
            method: parts.method.clone(),
            version: parts.version,
            payload,
            route,
            dialect,
            ask,
            user,
            class,
            owner,
            wishes,
            deadline,
            priority,
            late,
            is_handshake,
            head: Kept::new(Head::new(parts, target)),
            lifecycle,
            is_traced,
            journal: Mutex::default(),
        }
    }

    /// What stood before the body; `None` once it was released.
    #[must_use]
    pub fn head(&self) -> Option<Arc<Head>> {
        self.head.get()
    }

    /// Lets body and head go: no further attempt will need them. An answer may last for many minutes, and what its caller
    /// had sent would lie in memory as long. The head stays where the rest of an answer may still be asked for.
    pub fn release(&self) {
        self.payload.release();
        if !self.continues() {
            self.head.release();
        }
    }

    /// How often a stream of this call is kept alive; `None` where nobody knows what may be said in it.
    #[must_use]
    pub fn keepalive(&self) -> Option<Duration> {
        if self.priority == Priority::Background {
            return None;
        }
        match self.dialect.endpoint() {
            Endpoint::Embeddings | Endpoint::Other => None,
            _ => match self.late {
                Some(plan) if plan.form == late::Form::Events => Some(plan.every),
                _ => Some(self.route.policy.stream.keepalive),
            },
        }
    }

    /// Whether a stream that answers it may be followed by another as its rest (`answers::joined`).
    #[must_use]
    pub fn continues(&self) -> bool {
        let answers = &self.route.policy.answers;
        let wants = answers.on_truncated == OnTruncated::Continue
            || answers.on_broken == OnBroken::Continue;
        wants
            && self.method == Method::POST
            && matches!(
                self.dialect.endpoint(),
                Endpoint::Messages | Endpoint::ChatCompletions | Endpoint::Responses
            )
    }

    /// How long it may be made to wait before a further attempt: what its route allows, less what it has
    /// waited, and no longer than the process lives.
    #[must_use]
    pub fn patience(&self, now: Instant) -> Duration {
        let policy = &self.route.policy.retry;
        // Who wanted no wait at all and could not be queued is like everybody else.
        let wished = self.wishes.respond_async.filter(|wait| !wait.is_zero());
        let allowed = wished.map_or(policy.patience, |wait| wait.min(policy.patience));
        let waited = self.journal().waited;
        self.wait_of(now, allowed.saturating_sub(waited))
    }

    /// How much of a wait of up to `allowed` may be begun at `now`.
    #[must_use]
    pub fn wait_of(&self, now: Instant, allowed: Duration) -> Duration {
        self.lifecycle.patience(self.arrived, now, allowed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A call whose message says CANARY wherever it can, and what it was made of.
    fn canary(change: impl FnOnce(&mut crate::config::Config)) -> Call {
        let mut config = crate::config::Config::built_in();
        change(&mut config);
        let rules = crate::rules::Rules::new(&config, &|_| None, None, None).expect("built in");
        let request = http::Request::post("/v1/messages?key=CANARY")
            .header("authorization", "Bearer CANARY")
            .header("x-canary", "CANARY")
            .body(())
            .expect("a request");
        let (parts, ()) = request.into_parts();
        let route = rules.routes.find("/v1/messages", &parts.headers);
        let now = Instant::now();
        let known = Circumstances {
            id: CallId::random(&mut rand::rng()),
            arrived: now,
            route: route.expect("built in").clone(),
            dialect: Dialect::MESSAGES,
            ask: Ask::read(
                Dialect::MESSAGES,
                br#"{"metadata":{"user_id":"CANARY"},"messages":[{"role":"user","content":"CANARY"}]}"#,
            ),
            user: UserKey::from_source("peer", b"CANARY"),
            class: 0,
            owner: None,
            wishes: Wishes {
                fallback: FallbackWish::Route,
                retries: 0,
                respond_async: None,
            },
            deadline: Deadline::new(now, Duration::from_secs(1), None),
            priority: Priority::Live,
            late: None,
            lifecycle: Lifecycle::default(),
            is_traced: false,
        };
        let target = parts.uri.path_and_query().expect("a path").clone();
        let shown = format!("{known:?}");
        assert!(!shown.contains("CANARY"), "{shown}");
        let payload = Payload::kept(bytes::Bytes::from_static(b"CANARY"));
        Call::new(parts, target, payload, known)
    }

    #[test]
    fn nothing_of_the_caller_is_shown_for_debugging() {
        let call = canary(|_| {});
        let shown = format!("{call:#?}");
        assert!(!shown.contains("CANARY"), "{shown}");
        assert!(shown.contains(call.id.as_str()), "{shown}");
    }

    #[test]
    fn what_no_attempt_needs_is_let_go() {
        let call = canary(|_| {});
        let head = Arc::downgrade(&call.head().expect("not released"));
        call.release();
        assert!(call.head().is_none() && call.payload.bytes().is_none());
        assert!(head.upgrade().is_none(), "somebody holds it still");

        let call = canary(|config| {
            for route in &mut config.routes {
                route.answers.on_broken = OnBroken::Continue;
            }
        });
        call.release();
        assert!(call.head().is_some(), "its rest may be asked for");
    }
}

//! A request on its way through the stack: what is known of it, and what has happened to it.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::{Extensions, HeaderMap, HeaderValue, Method, Version, uri::PathAndQuery};
use tokio::time::Instant;

use crate::{
    config::{OnBroken, OnTruncated},
    deadline::Deadline,
    dialect::{Ask, Dialect, Endpoint, Reading, Usage, Vendor},
    lane::{Lane, Priority, RetryRight, Waits},
    limit::identity::UserKey,
    payload::Payload,
    queue::Owner,
    route::Route,
    server::Lifecycle,
    store::jobs::JobId,
    stream::late::{self, Awaiting, What},
    telemetry::MOST_TRIES,
    telemetry::Outcome,
    tunnel::handshake,
    upstream::{
        Upstream,
        upload::{Upload, WATCHED_FROM},
    },
};

/// One request of a caller, from the moment it was understood until its answer has ended.
pub struct Call {
    /// What ties the caller's header, our log and the trace together.
    pub id: CallId,
    /// When its head had arrived.
    pub arrived: Instant,
    /// As the caller sent it.
    pub method: Method,
    /// Raw: not one byte of it is ever normalised.
    pub target: PathAndQuery,
    /// Of the caller's message.
    pub version: Version,
    /// The caller's fields, all of them; what is not forwarded is left out when an attempt is built.
    pub headers: HeaderMap,
    /// hyper keeps the original spelling of the field names here.
    pub extensions: Extensions,
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

/// What has happened to a call so far. Told to the caller in headers and to the operator in the log.
#[derive(Clone, Debug, Default)]
pub struct Journal {
    /// Requests that were started towards an upstream.
    pub attempts: u32,
    /// Time spent waiting on purpose: the sum of the four below.
    pub waited: Duration,
    /// For the user's own limit.
    pub limit_waits: Duration,
    /// Between attempts, by our own backoff.
    pub backoff_waits: Duration,
    /// Between attempts, because the server said so.
    pub hint_waits: Duration,
    /// In lanes, by reason.
    pub lane_waits: Waits,
    /// The upstream of the latest attempt.
    pub upstream: Option<Arc<Upstream>>,
    /// The triage class of the latest attempt.
    pub class: Option<crate::retry::triage::Class>,
    /// The latest try that was not served, also when a later one was.
    pub failed: Option<FailedTry>,
    /// Why the latest failure was not retried.
    pub gave_up: Option<&'static str>,
    /// What was put in the place of the upstream's answer.
    pub substituted: Option<&'static str>,
    /// The entry that it was queued as.
    pub queued: Option<JobId>,
    /// The status of the latest attempt's answer, where there was one.
    pub upstream_status: Option<u16>,
    /// What is known of the answer that the caller gets; of one that is under way, what it has told when
    /// its body was dropped.
    pub answer: Reading,
    /// Tokens of all answers to this call that told them, also of those that the caller did not get.
    pub used: Option<Usage>,
    /// From arrival to the first byte of the answer.
    pub first_byte: Option<Duration>,
    /// What it waits for now.
    pub awaiting: Awaiting,
    /// Whether the answer was begun before it was there: its status is given.
    pub begun: bool,
    /// What such an answer means, once that is known.
    pub outcome: Option<Outcome>,
    /// The tries so far, where the request is traced.
    pub tries: Vec<Try>,
}

/// One try, for the trace.
#[derive(Clone, Debug)]
pub struct Try {
    /// Where it went.
    pub upstream: Arc<Upstream>,
    /// When it was let go.
    pub began: Instant,
    /// When it was judged, unless its answer is the caller's: that one ends with the request.
    pub ended: Option<Instant>,
    /// What it came to.
    pub class: Option<crate::retry::triage::Class>,
    /// The status of the answer, where there was one.
    pub status: Option<u16>,
}

/// One try that was not served.
#[derive(Clone, Debug)]
pub struct FailedTry {
    /// The upstream's name.
    pub upstream: Arc<str>,
    /// What it came to.
    pub class: crate::retry::triage::Class,
    /// The status of the answer, where there was one.
    pub status: Option<u16>,
}

impl Journal {
    /// A later request for the same caller has failed, and it gets the earlier answer: what was noted of
    /// that one counts again. What was spent stays spent.
    pub fn is_served_by(&mut self, earlier: Self) {
        self.upstream = earlier.upstream;
        self.upstream_status = earlier.upstream_status;
        self.class = earlier.class;
        self.gave_up = earlier.gave_up;
        self.answer = earlier.answer;
    }
}

/// What the caller's `x-surgetank-*` headers ask for.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Wishes {
    /// `x-surgetank-fallback`.
    pub fallback: FallbackWish,
    /// Retries that this request may have: the route's number, or what `x-surgetank-max-retries` asks
    /// for, or none where the SDK above us is itself retrying (`x-stainless-retry-count`).
    pub retries: u32,
    /// `Prefer: respond-async`: how long the caller would rather wait for the answer than be told where it will be;
    /// nothing, where it does not say so.
    pub respond_async: Option<Duration>,
}

/// Values of `x-surgetank-fallback`.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum FallbackWish {
    /// As the route says.
    #[default]
    Route,
    /// Pass the last answer on as it came.
    None,
    /// Only the friendly reply.
    Reply,
    /// The queue, and the friendly reply where that cannot take it.
    Queue,
    /// Other upstreams and models, and nothing of our own: for who is in the queue already.
    Upstreams,
}

/// 16 random bytes as 32 hexadecimal digits.
#[derive(Copy, Clone, PartialEq, Eq)]
pub struct CallId([u8; 32]);

impl CallId {
    /// A new one.
    pub fn random(rng: &mut impl rand::Rng) -> Self {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let (high, low) = (rng.next_u64(), rng.next_u64());
        let mut digits = [0; 32];
        for (index, digit) in digits.iter_mut().enumerate() {
            let word = if index < 16 { high } else { low };
            *digit = DIGITS[usize::from((word >> (4 * (index % 16))).to_le_bytes()[0] & 0xf)];
        }
        Self(digits)
    }

    /// As a number; never 0.
    #[must_use]
    pub fn number(&self) -> u128 {
        u128::from_str_radix(self.as_str(), 16).map_or(1, |number| number.max(1))
    }

    /// Where it lies between 0 and 1: evenly spread, and the same wherever it is asked.
    #[must_use]
    pub fn fraction(&self) -> f64 {
        let first = u32::from_str_radix(&self.as_str()[..8], 16).unwrap_or(0);
        f64::from(first) / (f64::from(u32::MAX) + 1.0)
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// Puts it where the SDKs of this dialect read the vendor's: they show it to their users, who will ask us about it.
    pub fn name_in(&self, headers: &mut HeaderMap, dialect: Dialect) {
        let name = match dialect.vendor() {
            Vendor::Anthropic => "request-id",
            Vendor::OpenAi => "x-request-id",
        };
        if let Ok(value) = HeaderValue::from_str(self.as_str()) {
            headers.insert(name, value);
        }
    }
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

impl std::fmt::Debug for CallId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One try of a call on one upstream.
#[derive(Debug)]
pub struct Attempt {
    /// The call.
    pub call: Arc<Call>,
    /// Where to send it.
    pub upstream: Arc<Upstream>,
    /// Its progress, where it is long enough to be watched.
    pub upload: Option<Upload>,
    /// The lane that it has to pass.
    pub lane: Arc<Lane>,
    /// For a retry, the right to it.
    pub right: Option<RetryRight>,
    /// What is sent in place of the caller's request.
    pub sequel: Option<Arc<Sequel>>,
}

/// A request of ours on behalf of a caller who has an answer already, or a part of one.
pub struct Sequel {
    /// Where it goes, if not where the caller's request went; then it is a `GET`.
    pub target: Option<PathAndQuery>,
    /// Its body; every field of the caller's message goes with it but the length.
    pub body: Bytes,
    /// Retries that it may have.
    pub retries: u32,
}

/// Tells the size, not the text: it has the prompt in it.
impl std::fmt::Debug for Sequel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sequel")
            .field("elsewhere", &self.target.is_some())
            .field("len", &self.body.len())
            .field("retries", &self.retries)
            .finish_non_exhaustive()
    }
}

impl Attempt {
    /// Sends `call` to `upstream` once.
    #[must_use]
    pub fn new(call: Arc<Call>, upstream: Arc<Upstream>, lane: Arc<Lane>) -> Self {
        Self {
            upload: watched(call.payload.bytes().map_or(usize::MAX, |body| body.len())),
            call,
            upstream,
            lane,
            right: None,
            sequel: None,
        }
    }

    /// The same with another request.
    #[must_use]
    pub fn with(mut self, sequel: Option<Arc<Sequel>>) -> Self {
        if let Some(sequel) = &sequel {
            self.upload = watched(sequel.body.len());
        }
        self.sequel = sequel;
        self
    }

    /// Bytes of the body that it sends; 0 for one that only passes.
    #[must_use]
    pub fn body_len(&self) -> usize {
        match &self.sequel {
            Some(sequel) => sequel.body.len(),
            None => self.call.payload.bytes().map_or(0, |body| body.len()),
        }
    }
}

/// The progress of a body of `len` bytes, where it takes long enough to be watched.
fn watched(len: usize) -> Option<Upload> {
    (len > WATCHED_FROM).then(Upload::begin)
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
            method: parts.method,
            target,
            version: parts.version,
            headers: parts.headers,
            extensions: parts.extensions,
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
            lifecycle,
            is_traced,
            journal: Mutex::default(),
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

    /// An attempt is about to be sent.
    pub fn note_attempt(&self, upstream: &Arc<Upstream>) {
        let mut journal = self.journal();
        journal.attempts += 1;
        journal.upstream = Some(upstream.clone());
        journal.upstream_status = None;
        journal.awaiting.what = What::Answer;
        journal.gave_up = None;
        if self.is_traced && journal.tries.len() < MOST_TRIES {
            journal.tries.push(Try {
                upstream: upstream.clone(),
                began: Instant::now(),
                ended: None,
                class: None,
                status: None,
            });
        }
    }

    /// The latest attempt has come to this.
    pub fn note_judged(&self, class: crate::retry::triage::Class) {
        let mut journal = self.journal();
        let status = journal.upstream_status;
        if let Some(latest) = journal.tries.last_mut() {
            latest.class = Some(class);
            latest.status = status;
            let is_over = class != crate::retry::triage::Class::Served;
            latest.ended = is_over.then(Instant::now);
        }
    }

    /// Attempts that may still be made, retries and fallbacks together.
    #[must_use]
    pub fn attempts_left(&self) -> u32 {
        let made = self.journal().attempts;
        self.route.policy.retry.max_attempts.saturating_sub(made)
    }

    /// An answer to this call has ended, or broken off, or was dropped, and told this much of itself.
    ///
    /// An answer's body says so when it is dropped at the latest. What holds that body from outside
    /// (`body::holding`) is dropped after it, and then finds the figures in the journal.
    pub fn note_answer(&self, reading: Reading) {
        let mut journal = self.journal();
        if let Some(usage) = reading.usage {
            *journal.used.get_or_insert_default() += usage;
        }
        // One that was given up for another may be dropped after it.
        if reading.finish.is_some() || journal.answer.finish.is_none() {
            journal.answer = reading;
        }
    }

    /// How long it may be made to wait before a further attempt: what its route allows, less what it has
    /// waited, and no longer than the process lives.
    #[must_use]
    pub fn patience(&self) -> Duration {
        let policy = &self.route.policy.retry;
        let wished = self.wishes.respond_async;
        let allowed = wished.map_or(policy.patience, |wait| wait.min(policy.patience));
        let waited = self.journal().waited;
        self.wait_of(allowed.saturating_sub(waited))
    }

    /// How much of a wait of up to `allowed` may be begun now.
    #[must_use]
    pub fn wait_of(&self, allowed: Duration) -> Duration {
        self.lifecycle
            .patience(self.arrived, Instant::now(), allowed)
    }

    /// The journal, for reading or writing. Never held across an await.
    pub fn journal(&self) -> MutexGuard<'_, Journal> {
        // A panic while the journal was held leaves plain numbers behind; they are still true.
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_32_digits_and_differ() {
        let mut rng = rand::rng();
        let (a, b) = (CallId::random(&mut rng), CallId::random(&mut rng));
        assert_eq!(a.as_str().len(), 32);
        assert!(a.as_str().bytes().all(|digit| digit.is_ascii_hexdigit()));
        assert_ne!(a, b);
        assert_eq!(format!("{:032x}", a.number()), a.as_str());
        let (number, fraction) = (a.number() as f64 / u128::MAX as f64, a.fraction());
        assert!(
            (number - fraction).abs() < 1e-6 && fraction < 1.0,
            "{number} {fraction}"
        );
    }

    #[test]
    fn nothing_of_the_caller_is_shown_for_debugging() {
        let config = crate::config::Config::built_in();
        let rules = crate::rules::Rules::new(&config, &|_| None, None).expect("built in");
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
        let payload = Payload::Held(Mutex::default());
        let shown = format!("{known:?}");
        assert!(!shown.contains("CANARY"), "{shown}");
        let call = Call::new(parts, target, payload, known);
        let shown = format!("{call:#?}");
        assert!(!shown.contains("CANARY"), "{shown}");
        assert!(shown.contains(call.id.as_str()), "{shown}");
    }
}

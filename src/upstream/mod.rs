//! The only part of surgetank that opens connections outward.
//!
//! It sends exactly one request for one [`Attempt`]: no retries, no redirects, no decompression, no
//! system proxy, no cookies. The target goes out with the bytes that came in. Upstreams are spoken
//! to in HTTP/1.1 unless `http2` is set: on one HTTP/2 connection a single stalled reader can end
//! the streams of all its neighbours, and token streams are just the traffic that triggers it.

mod answer;
mod connect;
mod error;
pub mod forward;
mod h1;
mod h2;
mod interim;
mod names;
mod tls;
pub mod upload;

pub use answer::{AnswerBody, ReadError};
pub use error::{SendError, SendErrorKind};
pub use h1::{BrokenChunks, Switched};
pub use names::Names;
pub use tls::trust;

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use futures_util::future::BoxFuture;
use http::{
    HeaderValue, Response, Uri, Version,
    uri::{Authority, PathAndQuery, Scheme},
};
use secrecy::{ExposeSecret as _, SecretString};

use crate::{call::Attempt, config, framing, rules::RulesInForce};
use connect::Connector;

/// Idle connections are closed before the usual 60 s of vendors and load balancers, so that a
/// request seldom meets one that is just being closed.
const POOL_IDLE: Duration = Duration::from_secs(30);

/// The most that the head of an upstream's answer may have.
const MAX_HEAD: usize = 64 * 1024;

/// A place to send requests to, with everything resolved that a request would otherwise look up.
#[derive(Clone)]
pub struct Upstream {
    /// Its name in every table by upstream; it stays the same when the configuration is read again.
    pub number: usize,
    /// Its name in the configuration; a metric label, bounded by the file.
    pub name: Arc<str>,
    /// `http` or `https`.
    pub scheme: Scheme,
    /// Host and port.
    pub authority: Authority,
    /// A number for scheme, host and port, so that they need not be compared for each request.
    place: u64,
    /// Put before every target; empty or `/…` without a slash at its end.
    pub path_prefix: Arc<str>,
    /// What `Host` says to it.
    pub host: HeaderValue,
    /// Replaces the caller's own, where configured.
    pub credential: Option<SecretString>,
    /// Replaces the request's model, where configured.
    pub model: Option<Arc<str>>,
    /// The part of the vendor's quota that this instance may use.
    pub quota_share: f64,
    /// Connect, first byte, idle and total.
    pub timeouts: config::Timeouts,
    /// Speak HTTP/2.
    pub http2: bool,
    /// Whether requests carry `Via`.
    pub via: bool,
}

impl std::fmt::Debug for Upstream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upstream")
            .field("name", &self.name)
            .field("authority", &self.authority)
            .finish_non_exhaustive()
    }
}

impl Upstream {
    /// Resolves one upstream of the configuration; `credential` is its secret, already read.
    #[must_use]
    pub fn new(
        number: usize,
        config: &config::Upstream,
        credential: Option<SecretString>,
        via: bool,
    ) -> Self {
        let authority = config.base_url.authority.clone();
        let mut place = DefaultHasher::new();
        (&config.base_url.scheme, &authority).hash(&mut place);
        let host = HeaderValue::from_str(authority.as_str())
            .unwrap_or_else(|_| HeaderValue::from_static(""));
        Self {
            number,
            name: config.name.as_str().into(),
            scheme: config.base_url.scheme.clone(),
            place: place.finish(),
            path_prefix: config.base_url.path_prefix.trim_end_matches('/').into(),
            host,
            authority,
            credential,
            model: config.model.as_deref().map(Into::into),
            quota_share: config.quota_share,
            timeouts: config.timeouts.clone(),
            http2: config.http2,
            via,
        }
    }

    /// The same place, with another model.
    #[must_use]
    pub fn with_model(&self, model: &str) -> Self {
        Self {
            model: Some(model.into()),
            ..self.clone()
        }
    }

    /// The configured credential as a field value that no debug output shows.
    fn credential_value(&self, prefix: &str) -> Option<HeaderValue> {
        let secret = self.credential.as_ref()?;
        let mut value =
            HeaderValue::from_str(&format!("{prefix}{}", secret.expose_secret())).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}

/// What connections must have in common to stand in for each other. Beyond an upstream's identity these
/// are the settings that a connection is opened with.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
struct Door {
    upstream: usize,
    place: u64,
    http2: bool,
    connect: Duration,
}

impl Door {
    fn of(upstream: &Upstream, http2: bool) -> Self {
        Self {
            upstream: upstream.number,
            place: upstream.place,
            http2,
            connect: upstream.timeouts.connect,
        }
    }
}

/// How the connections behind a door are kept.
#[derive(Clone, Debug)]
enum Client {
    H1(Arc<h1::Pool>),
    H2(Arc<h2::Client>),
}

/// The connections of one worker to all upstreams. Must be made and used inside that worker's runtime.
#[derive(Clone, Debug)]
pub struct Pool(Arc<Connections>);

#[derive(Debug)]
struct Connections {
    /// By what leads to them. A worker is one thread, so nobody ever waits for this lock.
    clients: Mutex<HashMap<Door, Client>>,
    rules: RulesInForce,
    tls: Arc<rustls::ClientConfig>,
    names: Names,
}

impl Pool {
    /// No connection yet; those of an upstream begin with its first request.
    #[must_use]
    pub fn new(rules: &RulesInForce, tls: &Arc<rustls::ClientConfig>, names: &Names) -> Self {
        Self(Arc::new(Connections {
            clients: Mutex::default(),
            rules: rules.clone(),
            tls: tls.clone(),
            names: names.clone(),
        }))
    }

    /// Whom its connections trust.
    pub(crate) fn tls(&self) -> &Arc<rustls::ClientConfig> {
        &self.0.tls
    }
}

impl Connections {
    fn client(&self, upstream: &Upstream, http2: bool) -> Client {
        let door = Door::of(upstream, http2);
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(&door) {
            return client.clone();
        }
        // Something changed, so others may have gone. Requests under old rules hold what they use.
        let rules = self.rules.now();
        let in_use = |door: &Door| {
            let upstream = rules.upstream(door.upstream);
            upstream.is_some_and(|upstream| Door::of(upstream, upstream.http2) == *door)
        };
        clients.retain(|door, _| in_use(door));
        let client = self.connect_by(upstream, http2);
        clients.insert(door, client.clone());
        client
    }

    fn connect_by(&self, upstream: &Upstream, http2: bool) -> Client {
        let timeout = upstream.timeouts.connect;
        let connector = Connector::new(&self.tls, self.names.clone(), http2, timeout);
        if http2 {
            return Client::H2(Arc::new(h2::Client::new(connector)));
        }
        let mut target = http::uri::Parts::default();
        target.scheme = Some(upstream.scheme.clone());
        target.authority = Some(upstream.authority.clone());
        target.path_and_query = Some(PathAndQuery::from_static("/"));
        let target = Uri::from_parts(target).unwrap_or_default();
        Client::H1(h1::Pool::new(connector, target))
    }
}

impl tower::Service<Attempt> for Pool {
    type Response = Response<AnswerBody>;
    type Error = SendError;
    type Future = BoxFuture<'static, Result<Response<AnswerBody>, SendError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, attempt: Attempt) -> Self::Future {
        let http2 = forward::speaks_http2(&attempt.call, &attempt.upstream);
        let client = self.0.client(&attempt.upstream, http2);
        Box::pin(async move {
            // In a box, or each of the functions that pass it on would keep one in its future.
            let request = Box::new(forward::request(&attempt).ok_or_else(SendError::spent)?);
            let apart = forward::goes_apart(&attempt);
            let answered = match client {
                Client::H1(pool) => h1::send(&pool, request, apart).await,
                Client::H2(client) => {
                    let response = unambiguous(Box::pin(client.send(*request)).await?)?;
                    Ok(response.map(|incoming| AnswerBody::apart(incoming, None)))
                }
            };
            answered.map(as_http11)
        })
    }
}

/// An answer as it may go on, or the refusal of one that could be read in two ways.
fn unambiguous<B>(mut response: Response<B>) -> Result<Response<B>, SendError> {
    if response.version() != Version::HTTP_2 && !framing::has_known_coding(response.headers()) {
        // Its body is not read to its end, so its connection is not used again.
        return Err(SendError::malformed());
    }
    framing::say_length_once(response.headers_mut());
    Ok(response)
}

/// How the upstream frames its answer is its connection's affair. Told that it is of HTTP/1.0, hyper would
/// end it for the caller by closing, and one that broke would look whole.
fn as_http11(mut response: Response<AnswerBody>) -> Response<AnswerBody> {
    *response.version_mut() = Version::HTTP_11;
    response
}

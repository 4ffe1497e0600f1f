//! Triage: one class for every attempt, decided once.
//!
//! The status alone cannot tell a wait from a wall. Vendors send 429 for "slow down" and for "your
//! money is spent", 400 for a malformed request and for a spending limit, 200 for a stream whose
//! first event says that the service is overloaded. So the class is made from the status *and*
//! from what the body said, as a [`Signal`] that the dialect has read there. Where the two differ:
//!
//! 1. Spent money is never retried, whatever the status.
//! 2. A request that is too large, too long or filtered stays so: never retried, whatever the status.
//! 3. Words that name a wait exactly (rate limited, overloaded, busy, timed out) lift even a 4xx.
//! 4. The vague words ("server error", or words we do not know) never do: many gateways put one
//!    such type on every error, and a caller's fault must come back to the caller at once.
//! 5. Otherwise the status decides, with the same retryable statuses as the official SDKs.
//!
//! One exception to the last rule: 501, 505, 506, 508, 510 and 511 are [`Class::Refused`], although
//! the SDKs retry every status of 500 and above. Each of them describes the request or the way it
//! took (a method nobody implements, a loop, a captive portal), so the next try meets the same
//! answer; retrying a loop even doubles it at every turn. The answer is passed on unchanged and an
//! SDK that wishes to repeat it still may.
//!
//! The upstream's own `x-should-retry` overrides all of this in both directions, as it does in the
//! SDKs, with one limit: it cannot make us retry spent money.

#[cfg(test)]
mod tests;

/// What one attempt came to, for retries, breakers, limits and metrics alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// Nobody began to work on the request: no connection came about, the upstream disowned it by
    /// protocol (`REFUSED_STREAM`), or a pooled connection turned out to be dead when used.
    Unsent,
    /// The upstream asks to slow down: 429, 503 with a `Retry-After`, or an error that says so.
    Throttled,
    /// The upstream is over capacity for everybody: 529, 503.
    Overloaded,
    /// The upstream broke or fell silent: 500, 502, 504, 408, a reset, a first byte that never came.
    Faulty,
    /// The account's money or long-term allowance is spent. Waiting for seconds restores nothing.
    Exhausted,
    /// The request itself was turned down. The upstream is alive and well.
    Refused,
    /// Answered: a status below 400 whose content is not an error.
    Served,
    /// Failed after the first byte had gone to the caller: nothing can be taken back any more.
    Broken,
    /// The caller left; nobody waits for an answer.
    Abandoned,
}

impl Class {
    /// Every class, in the order of declaration.
    pub const ALL: [Self; 9] = [
        Self::Unsent,
        Self::Throttled,
        Self::Overloaded,
        Self::Faulty,
        Self::Exhausted,
        Self::Refused,
        Self::Served,
        Self::Broken,
        Self::Abandoned,
    ];

    /// The name in metrics and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unsent => "unsent",
            Self::Throttled => "throttled",
            Self::Overloaded => "overloaded",
            Self::Faulty => "faulty",
            Self::Exhausted => "exhausted",
            Self::Refused => "refused",
            Self::Served => "served",
            Self::Broken => "broken",
            Self::Abandoned => "abandoned",
        }
    }

    /// Whether a failure of this class is of the moment, so that another try may succeed.
    ///
    /// This is the rule of the class; a single [`Verdict`] may differ from it.
    #[must_use]
    pub const fn is_retryable(self) -> bool {
        matches!(
            self,
            Self::Unsent | Self::Throttled | Self::Overloaded | Self::Faulty
        )
    }
}

/// What an error body or an error event says went wrong, in terms that no vendor owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Signal {
    /// Too many requests or tokens in a short time.
    RateLimited,
    /// The service has no capacity at the moment.
    Overloaded,
    /// The service failed; nothing more exact is known.
    ServerError,
    /// The service gave up waiting, for itself or for the request's body.
    Timeout,
    /// Money, credit or a long-term allowance is used up.
    Exhausted,
    /// The request is larger than any single request may be.
    TooLarge,
    /// Another request holds what this one needs (a locked conversation).
    Busy,
    /// The prompt does not fit into the model's context.
    ContextTooLong,
    /// A content policy turned the request down.
    ContentFiltered,
    /// The request is malformed or asks for what does not exist.
    Invalid,
    /// The credential is missing or wrong.
    Authentication,
    /// The credential may not do this.
    Permission,
    /// The model or resource does not exist.
    NotFound,
    /// An error of a kind that the dialect does not know.
    Unknown,
}

/// How an attempt ended without a usable answer of the upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// The host name could not be resolved.
    Dns,
    /// No TCP connection: refused, unreachable, or not within the connect timeout.
    Connect,
    /// The TLS handshake failed.
    Tls,
    /// A fresh connection closed before anything of the request was written to it.
    ClosedBeforeWrite,
    /// The upstream disowned the request by protocol: HTTP/2 `REFUSED_STREAM`, or a `GOAWAY` whose
    /// last stream is before ours.
    RefusedByProtocol,
    /// A connection taken from the pool closed before the first byte of an answer. Nearly always
    /// the upstream's idle timeout crossing our request on the wire, but nobody can prove it.
    ReusedConnectionClosed,
    /// A fresh connection was reset or closed after the request went out, before the first byte.
    Reset,
    /// The first byte of the answer did not come in time.
    FirstByteTimeout,
    /// What came was not HTTP, or was HTTP with broken framing.
    Malformed,
    /// The answer began, then its body was cut, before anything was passed on.
    BodyCut,
    /// The answer began, then stood still past the idle timer, before anything was passed on.
    BodyStalled,
}

/// What is known of one attempt when it has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The upstream answered with a status.
    Answered {
        /// The HTTP status.
        status: u16,
        /// Whether the server said, in a form that we could read, when to come back.
        has_retry_after: bool,
        /// The upstream's `x-should-retry` ([`should_retry`]).
        should_retry: Option<bool>,
        /// The error that the body names; `None` when it names none or was not read.
        signal: Option<Signal>,
    },
    /// A stream with a status below 400 whose first event is an error.
    StreamError {
        /// The error that the event names.
        signal: Signal,
    },
    /// No usable answer arrived.
    Transport(Transport),
    /// The answer failed after its first byte had gone to the caller.
    BrokenOff,
    /// The caller went away first.
    CallerLeft,
}

/// Whether the upstream may have carried the request out.
///
/// Two executions of one request may be billed twice, so a caller may wish to retry only what is
/// known not to have run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Delivery {
    /// It never reached anybody: repeating it is free of side effects.
    Never,
    /// The upstream, or a gateway before it, answered, so no output was delivered.
    Answered,
    /// It went out and no answer came: it may have run.
    Unknown,
}

/// The result of [`triage`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The class, for everything that learns from outcomes.
    pub class: Class,
    /// Whether another try may help *this time*: the class's rule, unless the upstream's
    /// `x-should-retry` said otherwise or the request only has to wait for a busy resource.
    pub retryable: bool,
    /// Whether the request may have been carried out.
    pub delivery: Delivery,
    /// Whether the cure is a new connection rather than time, so that the first retry need not wait.
    pub immediate: bool,
    /// What the upstream itself said went wrong, if it did and could be read.
    pub signal: Option<Signal>,
}

/// Reads the upstream's `x-should-retry`: exactly `true` or `false`, as the SDKs do, and nothing
/// else that could be meant by it.
#[must_use]
pub fn should_retry(value: &str) -> Option<bool> {
    match value {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

/// Classifies one attempt.
///
/// Total: every status, also one outside the registered ranges, has a class.
#[must_use]
pub fn triage(outcome: &Outcome) -> Verdict {
    match *outcome {
        Outcome::Answered {
            status,
            has_retry_after,
            should_retry,
            signal,
        } => {
            let (class, retryable) = match signal {
                None if status < 400 => (Class::Served, false),
                Some(signal) if status < 400 => in_success(signal),
                _ => error_status(status, has_retry_after, signal),
            };
            let overruled = match should_retry {
                // The SDKs consult the header for error statuses alone.
                Some(true) if status >= 400 && class != Class::Exhausted => true,
                Some(false) => false,
                _ => retryable,
            };
            Verdict::answered(class, overruled, signal)
        }
        Outcome::StreamError { signal } => {
            let (class, retryable) = in_success(signal);
            Verdict::answered(class, retryable, Some(signal))
        }
        Outcome::Transport(transport) => transport_failure(transport),
        Outcome::BrokenOff => Verdict::final_of(Class::Broken),
        Outcome::CallerLeft => Verdict::final_of(Class::Abandoned),
    }
}

/// The class of a status of 400 and above, and whether to retry it.
fn error_status(status: u16, has_retry_after: bool, signal: Option<Signal>) -> (Class, bool) {
    use Signal as S;
    match (status, signal) {
        (402, _) | (_, Some(S::Exhausted)) => by_class(Class::Exhausted),
        (413, _) | (_, Some(S::TooLarge | S::ContextTooLong | S::ContentFiltered)) => {
            by_class(Class::Refused)
        }
        (429, _) | (_, Some(S::RateLimited)) => by_class(Class::Throttled),
        // With a time to come back, all callers can be held until then: that is a throttle.
        (503, _) if has_retry_after => by_class(Class::Throttled),
        (503 | 529, _) | (_, Some(S::Overloaded)) => by_class(Class::Overloaded),
        (408, _) => by_class(Class::Faulty),
        // A lock held by another request says that the upstream is alive: it must not count as
        // a failure anywhere, yet waiting helps. The SDKs retry it as well.
        (409, _) | (400..=499, Some(S::Busy | S::Timeout)) => (Class::Refused, true),
        (501 | 505 | 506 | 508 | 510 | 511, _) => by_class(Class::Refused),
        (500.., _) => by_class(Class::Faulty),
        _ => by_class(Class::Refused),
    }
}

/// The class of an error that came under a status below 400, where only its own words are left.
fn in_success(signal: Signal) -> (Class, bool) {
    match signal {
        Signal::RateLimited => by_class(Class::Throttled),
        Signal::Overloaded => by_class(Class::Overloaded),
        // Vendors name a caller's fault exactly; what they cannot name is their own.
        Signal::ServerError | Signal::Timeout | Signal::Unknown => by_class(Class::Faulty),
        Signal::Exhausted => by_class(Class::Exhausted),
        Signal::Busy => (Class::Refused, true),
        Signal::TooLarge
        | Signal::ContextTooLong
        | Signal::ContentFiltered
        | Signal::Invalid
        | Signal::Authentication
        | Signal::Permission
        | Signal::NotFound => by_class(Class::Refused),
    }
}

fn transport_failure(transport: Transport) -> Verdict {
    let (class, delivery) = match transport {
        Transport::Dns
        | Transport::Connect
        | Transport::Tls
        | Transport::ClosedBeforeWrite
        | Transport::RefusedByProtocol => (Class::Unsent, Delivery::Never),
        // Classed with the unsent, because a pool full of idle connections that an upstream closed
        // is no outage and must not trip a breaker; but its delivery stays honestly unknown.
        Transport::ReusedConnectionClosed => (Class::Unsent, Delivery::Unknown),
        Transport::Reset
        | Transport::FirstByteTimeout
        | Transport::Malformed
        | Transport::BodyCut
        | Transport::BodyStalled => (Class::Faulty, Delivery::Unknown),
    };
    Verdict {
        class,
        retryable: class.is_retryable(),
        delivery,
        immediate: class == Class::Unsent,
        signal: None,
    }
}

const fn by_class(class: Class) -> (Class, bool) {
    (class, class.is_retryable())
}

impl Verdict {
    const fn answered(class: Class, retryable: bool, signal: Option<Signal>) -> Self {
        Self {
            class,
            retryable,
            delivery: Delivery::Answered,
            immediate: false,
            signal,
        }
    }

    /// A verdict that ends the request: there is nothing left to retry.
    #[must_use]
    pub const fn final_of(class: Class) -> Self {
        Self {
            class,
            retryable: false,
            delivery: Delivery::Unknown,
            immediate: false,
            signal: None,
        }
    }
}

//! What a queue asks of its storage: one small trait, and the words it speaks.
//!
//! Whoever accepts a request that must not be lost may say so only once it is on a disk, so every change here is
//! durable when its future is ready. The storage knows nothing of HTTP or of vendors: heads and bodies are bytes to
//! it, sealed or not.
//!
//! ```text
//! put ─▶ pending ─take─▶ held ─begin─▶ running ─end─▶ done | failed | uncertain
//!           ▲             │              │
//!           └─────────────┴── again ─────┘      any ─remove, expiry─▶ gone ─later─▶ (forgotten)
//! ```
//!
//! `held` is `pending` to everybody outside: it only keeps one entry from being taken twice. An entry that was
//! running when its process died may have been carried out. What happens to it is the operator's choice
//! ([`OnCrash`]), and either way it is marked: `uncertain` says that there may have been two executions, or none.

use std::{fmt, str::FromStr, time::Duration};

use futures_util::future::BoxFuture;

/// The outcome of a request to the storage, once it is durable.
pub type Stored<T> = BoxFuture<'static, Result<T, StoreError>>;

/// Milliseconds since 1970, UTC: what is kept beyond a process has no use for its clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Millis(pub i64);

impl Millis {
    /// The present.
    #[must_use]
    pub fn now() -> Self {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Self(since.map_or(0, |since| {
            i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
        }))
    }

    /// This long after it.
    #[must_use]
    pub fn after(self, time: Duration) -> Self {
        Self(
            self.0
                .saturating_add(i64::try_from(time.as_millis()).unwrap_or(i64::MAX)),
        )
    }

    /// The time from `earlier` to this moment; zero if it is not earlier.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

/// The name of an entry: when it was made, in 48 bits, and 80 random ones, told as 32 hexadecimal digits. Nobody can guess
/// one; and new ones stand beside each other in an index of names, so that it costs the same however many there are.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(pub [u8; 16]);

impl JobId {
    /// A new one.
    pub fn random(rng: &mut impl rand::Rng) -> Self {
        let mut bytes = [0; 16];
        rng.fill_bytes(&mut bytes);
        bytes[..6].copy_from_slice(&Millis::now().0.to_be_bytes()[2..]);
        Self(bytes)
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is no entry's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the id of a queued request is 32 hexadecimal digits")]
pub struct JobIdError;

impl FromStr for JobId {
    type Err = JobIdError;

    fn from_str(text: &str) -> Result<Self, JobIdError> {
        let digits = text.as_bytes();
        if digits.len() != 32 {
            return Err(JobIdError);
        }
        let mut id = [0; 16];
        for (byte, pair) in id.iter_mut().zip(digits.chunks_exact(2)) {
            let digit = |index: usize| {
                char::from(pair[index])
                    .to_digit(16)
                    .and_then(|d| u8::try_from(d).ok())
            };
            let (Some(high), Some(low)) = (digit(0), digit(1)) else {
                return Err(JobIdError);
            };
            *byte = high << 4 | low;
        }
        Ok(Self(id))
    }
}

/// Where an entry stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// It waits for its turn.
    Pending,
    /// It is being carried out.
    Running,
    /// It has its answer.
    Done,
    /// It was given up.
    Failed,
    /// Whether it was carried out is not known, and it will not be tried again.
    Uncertain,
    /// It was there: expired, cancelled, or read where reading removes.
    Gone,
}

impl State {
    /// Every state.
    pub const ALL: [Self; 6] = [
        Self::Pending,
        Self::Running,
        Self::Done,
        Self::Failed,
        Self::Uncertain,
        Self::Gone,
    ];

    /// The word for it, fit for a metric's label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Uncertain => "uncertain",
            Self::Gone => "gone",
        }
    }

    /// Whether nothing more will happen to it but its removal.
    #[must_use]
    pub const fn is_final(self) -> bool {
        !matches!(self, Self::Pending | Self::Running)
    }
}

/// What happens to an entry that was running when its process died.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum OnCrash {
    /// It is tried again, marked as perhaps executed twice.
    #[default]
    Retry,
    /// It is not: its state says that nobody knows.
    Uncertain,
}

/// The bounds of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Entries that are not final.
    pub requests: u64,
    /// Bytes of all that is kept, answers included.
    pub bytes: u64,
}

/// A request to be kept.
#[derive(Clone, Debug)]
pub struct NewJob {
    /// Its name.
    pub id: JobId,
    /// Who may read it: a fingerprint.
    pub owner: [u8; 32],
    /// Whose turn it takes: a fingerprint.
    pub user: [u8; 16],
    /// The caller's idempotency key, as a fingerprint of it, the owner and the route.
    pub key: Option<[u8; 32]>,
    /// A fingerprint of the request, to tell a repeat from another request under the same key.
    pub print: [u8; 32],
    /// The route, by which entries are taken.
    pub route: String,
    /// Method, target and headers, perhaps sealed.
    pub head: Vec<u8>,
    /// The body, perhaps sealed.
    pub body: Vec<u8>,
    /// The webhook to be told when it has ended, by its name in the configuration.
    pub webhook: Option<String>,
    /// When it came.
    pub now: Millis,
    /// When it is too old to be of use.
    pub expires: Millis,
}

/// The note of an entry that was given up because its time was over before its turn came.
pub const EXPIRED: &str = "it waited longer than a queued request may";

/// What became of a request to keep something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Put {
    /// It is kept.
    Kept,
    /// The same idempotency key was there: this is its entry.
    Known(Box<Record>),
}

/// What is known of an entry without looking at its head and body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its name.
    pub id: JobId,
    /// Where it stands.
    pub state: State,
    /// It may have been carried out more than once.
    pub uncertain: bool,
    /// See [`NewJob::owner`].
    pub owner: [u8; 32],
    /// See [`NewJob::user`].
    pub user: [u8; 16],
    /// See [`NewJob::print`].
    pub print: [u8; 32],
    /// See [`NewJob::route`].
    pub route: String,
    /// When it came.
    pub queued: Millis,
    /// When its state changed last.
    pub changed: Millis,
    /// When it, or its answer, is removed.
    pub expires: Millis,
    /// How often it was begun.
    pub attempts: u32,
    /// Bytes of its heads and bodies.
    pub bytes: u64,
    /// Why it was given up, in words that quote nobody.
    pub note: Option<String>,
}

/// An entry that was taken to be carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Its name.
    pub id: JobId,
    /// See [`NewJob::user`].
    pub user: [u8; 16],
    /// See [`NewJob::route`].
    pub route: String,
    /// See [`NewJob::head`].
    pub head: Vec<u8>,
    /// See [`NewJob::body`].
    pub body: Vec<u8>,
    /// When it came.
    pub queued: Millis,
    /// How often it was begun before.
    pub attempts: u32,
}

/// An entry that has ended, and whose webhook has not been told yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owed {
    /// The entry.
    pub record: Record,
    /// See [`NewJob::webhook`].
    pub webhook: String,
    /// How often that was tried before.
    pub tries: u32,
}

/// How a running entry ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// It has an answer.
    Done {
        /// Status and headers, perhaps sealed.
        head: Vec<u8>,
        /// The body, perhaps sealed.
        body: Vec<u8>,
        /// When it is removed.
        expires: Millis,
    },
    /// It is to be tried again, not before `due`. It keeps its place in the order.
    Again {
        /// The earliest moment of its next try.
        due: Millis,
        /// The try that ends may have been carried out.
        uncertain: bool,
    },
    /// It is given up.
    Failed {
        /// Why.
        note: String,
        /// When it is removed.
        expires: Millis,
    },
    /// It is given up, and may have been carried out.
    Uncertain {
        /// Why.
        note: String,
        /// When it is removed.
        expires: Millis,
    },
}

/// How full a queue is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Depth {
    /// Entries in each state, in the order of [`State::ALL`]; those that are gone are not counted.
    pub by_state: [u64; 6],
    /// Bytes of all heads and bodies.
    pub bytes: u64,
    /// When the oldest entry that is not final came.
    pub oldest: Option<Millis>,
}

impl Depth {
    /// Entries that are not final.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        self.of(State::Pending) + self.of(State::Running)
    }

    /// Entries in this state.
    #[must_use]
    pub fn of(&self, state: State) -> u64 {
        self.by_state[state as usize]
    }
}

/// The storage could not do it. Nothing was changed, unless it says that this is unknown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// A bound of the configuration is reached.
    #[error("the queue is full: {0}")]
    Full(&'static str),
    /// More is asked of it at once than it takes.
    #[error("the queue's storage is too busy")]
    Busy,
    /// It is not there, or does not work.
    #[error("the queue's storage does not work: {0}")]
    Down(String),
}

impl StoreError {
    /// A word from a closed set, for a metric's label.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Full(_) => "full",
            Self::Busy => "busy",
            Self::Down(_) => "down",
        }
    }
}

/// A durable queue's storage.
pub trait Jobs: Send + Sync + fmt::Debug {
    /// Keeps a request, if the bounds allow it and its idempotency key is new.
    fn put(&self, job: NewJob) -> Stored<Put>;

    /// Takes up to `most` entries of a route whose time has come, in fair order among users. They are handed out once;
    /// each is to be begun, or given back.
    fn take(&self, route: &str, most: usize, now: Millis) -> Stored<Vec<Taken>>;

    /// Gives back an entry that was taken and not sent. It keeps its place in the order, and is not taken again before
    /// `due`. Where it was begun already, that counts for nothing.
    fn give_back(&self, id: JobId, due: Millis) -> Stored<()>;

    /// Says that a taken entry is about to be carried out. False when it was removed meanwhile.
    fn begin(&self, id: JobId, now: Millis) -> Stored<bool>;

    /// Ends a running entry. False when it was removed meanwhile.
    fn end(&self, id: JobId, end: End, now: Millis) -> Stored<bool>;

    /// The routes that have entries to be taken.
    fn routes(&self) -> Stored<Vec<String>>;

    /// An entry, if it was ever there and is not forgotten.
    fn look(&self, id: JobId) -> Stored<Option<Record>>;

    /// The entry of an idempotency key.
    fn look_up(&self, key: [u8; 32]) -> Stored<Option<Record>>;

    /// Head and body of a done entry's answer.
    fn answer(&self, id: JobId) -> Stored<Option<(Vec<u8>, Vec<u8>)>>;

    /// Removes what is kept of an entry; that it was there stays known until `forget`. What it was before.
    fn remove(&self, id: JobId, now: Millis, forget: Millis) -> Stored<Option<State>>;

    /// Puts a failed or uncertain entry back in its place. False when it is neither.
    fn retry(&self, id: JobId, now: Millis, expires: Millis) -> Stored<bool>;

    /// The latest entries, of one state or of all.
    fn list(&self, state: Option<State>, most: usize) -> Stored<Vec<Record>>;

    /// Ends what has expired: entries that wait fail, answers are gone until `forget`, what was gone is forgotten.
    /// How many failed.
    fn sweep(&self, now: Millis, keep: Millis) -> Stored<u64>;

    /// Entries that have ended and whose webhook is to be told now, at most `most`. Each counts as tried, and is not
    /// handed out again before `again`, so that one whose teller dies is told later, and by one process at a time.
    fn owed(&self, most: usize, now: Millis, again: Millis) -> Stored<Vec<Owed>>;

    /// The webhook of an entry was told; or it was not, and is to be tried again at `next`.
    fn told(&self, id: JobId, next: Option<Millis>) -> Stored<()>;

    /// How full it is.
    fn depth(&self) -> Depth;

    /// Whether it works, as far as is known.
    fn is_up(&self) -> bool;

    /// Entries that were taken here and are not ours any more, as far as was found out since this was asked last: somebody
    /// else has removed them, or has taken them over. What is done for them is to end.
    fn lost(&self) -> Vec<JobId> {
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_made_one_after_the_other_stand_beside_each_other_and_cannot_be_guessed() {
        let before = Millis::now().0;
        let ids: Vec<JobId> = (0..1_000)
            .map(|_| JobId::random(&mut rand::rng()))
            .collect();
        let after = Millis::now().0;
        for id in &ids {
            let mut moment = [0; 8];
            moment[2..].copy_from_slice(&id.0[..6]);
            let moment = i64::from_be_bytes(moment);
            assert!((before..=after).contains(&moment), "{id}");
        }
        // Each of the other bits is set in about half of them.
        for bit in 48..128 {
            let set = ids.iter().filter(|id| id.0[bit / 8] >> (bit % 8) & 1 == 1);
            let set = set.count();
            assert!((350..650).contains(&set), "bit {bit}: {set}");
        }
    }

    #[test]
    fn ids_print_as_they_are_read() {
        let id = JobId::random(&mut rand::rng());
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(id.to_string().to_uppercase().parse(), Ok(id));
        for text in [
            "",
            "0",
            "g0000000000000000000000000000000",
            "000000000000000000000000000000000",
            "+f000000000000000000000000000000",
            "ä00000000000000000000000000000",
        ] {
            assert_eq!(text.parse::<JobId>(), Err(JobIdError), "{text}");
        }
    }
}

//! When a connection is given up.
//!
//! One slow answer is no outage: a server that saves its data or moves a large key pauses for a
//! moment and goes on. Several in a row are, and so is one broken connection. What the server refuses
//! with an error says nothing against the connection, except where it says that it is the wrong
//! server to talk to: one that has become a replica, or has not loaded its data.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use redis::{ErrorKind, RedisError, ServerErrorKind};

/// Calls in a row without an answer after which a connection is given up.
const SILENCES: u32 = 3;

/// What speaks against a connection.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// No answer in time.
    Silence,
    /// It broke, or leads to a server that cannot serve.
    Broken,
}

impl Fault {
    /// What an error says of the connection it came over, if anything.
    pub(super) fn of(error: &RedisError) -> Option<Self> {
        let wrong_server = matches!(
            error.kind(),
            ErrorKind::Server(
                ServerErrorKind::ReadOnly
                    | ServerErrorKind::BusyLoading
                    | ServerErrorKind::MasterDown
                    | ServerErrorKind::ClusterDown
            )
        );
        (wrong_server || error.is_io_error() || error.is_unrecoverable_error())
            .then_some(Self::Broken)
    }
}

/// What speaks for one connection. Clones count together.
#[derive(Clone, Debug, Default)]
pub(super) struct Health(Arc<AtomicU32>);

impl Health {
    /// A call had its answer.
    pub(super) fn answered(&self) {
        // Read first: in health nothing is ever written, and no cache line moves between cores.
        if self.0.load(Ordering::Relaxed) != 0 {
            self.0.store(0, Ordering::Relaxed);
        }
    }

    /// A call failed; whether the connection is to be given up.
    pub(super) fn failed(&self, fault: Fault) -> bool {
        match fault {
            Fault::Broken => true,
            Fault::Silence => self.0.fetch_add(1, Ordering::Relaxed) + 1 >= SILENCES,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_silences_in_a_row_end_it_and_an_answer_forgives_them() {
        let health = Health::default();
        for _ in 0..10 {
            assert!(!health.failed(Fault::Silence));
            assert!(!health.failed(Fault::Silence));
            health.answered();
        }
        let verdicts: Vec<_> = (0..3).map(|_| health.failed(Fault::Silence)).collect();
        assert_eq!(verdicts, [false, false, true]);
    }

    #[test]
    fn one_break_ends_it() {
        assert!(Health::default().failed(Fault::Broken));
    }

    #[test]
    fn an_error_of_the_server_is_no_fault_of_the_connection_unless_it_is_the_wrong_server() {
        let of = |kind| Fault::of(&RedisError::from((kind, "text")));
        assert_eq!(of(ErrorKind::Io), Some(Fault::Broken));
        for kind in [
            ServerErrorKind::ReadOnly,
            ServerErrorKind::BusyLoading,
            ServerErrorKind::MasterDown,
            ServerErrorKind::ClusterDown,
        ] {
            assert_eq!(of(ErrorKind::Server(kind)), Some(Fault::Broken), "{kind:?}");
        }
        for kind in [ServerErrorKind::ResponseError, ServerErrorKind::NoScript] {
            assert_eq!(of(ErrorKind::Server(kind)), None, "{kind:?}");
        }
    }
}

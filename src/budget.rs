//! One budget of memory for all bodies that are held, whatever they are held for.
//!
//! Prompts are kept so that they can be sent again, short answers so that a cut one can be noticed
//! before its first byte has left. Both are bounded together: the process must not grow with the
//! number of callers who upload at once.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// Bytes that may be held at once, shared by all requests.
#[derive(Clone, Debug)]
pub struct Budget(Arc<Pot>);

#[derive(Debug)]
struct Pot {
    limit: AtomicUsize,
    used: AtomicUsize,
}

/// A part of the budget; given back when dropped.
#[derive(Debug)]
pub struct Reservation {
    pot: Arc<Pot>,
    held: usize,
}

impl Budget {
    /// A budget of `limit` bytes.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self(Arc::new(Pot {
            limit: AtomicUsize::new(limit),
            used: AtomicUsize::new(0),
        }))
    }

    /// A reservation of nothing yet.
    #[must_use]
    pub fn open(&self) -> Reservation {
        Reservation {
            pot: self.0.clone(),
            held: 0,
        }
    }

    /// Changes the budget to `limit` bytes. What is held beyond it stays held.
    pub fn resize(&self, limit: usize) {
        self.0.limit.store(limit, Ordering::Relaxed);
    }

    /// Bytes held now.
    #[must_use]
    pub fn used(&self) -> usize {
        self.0.used.load(Ordering::Relaxed)
    }
}

impl Reservation {
    /// Takes `bytes` more, or nothing at all when the budget does not have them.
    #[must_use]
    pub fn grow(&mut self, bytes: usize) -> bool {
        let limit = self.pot.limit.load(Ordering::Relaxed);
        let taken = self
            .pot
            .used
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |used| {
                used.checked_add(bytes).filter(|sum| *sum <= limit)
            });
        if taken.is_ok() {
            self.held += bytes;
        }
        taken.is_ok()
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.pot.used.fetch_sub(self.held, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_refused_takes_nothing_and_what_is_dropped_comes_back() {
        let budget = Budget::new(10);
        let mut first = budget.open();
        assert!(first.grow(6));
        let mut second = budget.open();
        assert!(!second.grow(5));
        assert!(second.grow(4));
        assert!(!first.grow(usize::MAX), "no overflow");
        assert_eq!(budget.used(), 10);
        drop(first);
        assert_eq!(budget.used(), 4);
        drop(second);
        assert_eq!(budget.used(), 0);
        budget.resize(3);
        assert!(!budget.open().grow(4), "the new limit holds at once");
    }
}

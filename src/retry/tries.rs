//! How many tries a request may have, and how many it has had.
//!
//! Two layers that both retry multiply: three tries of ours for each of three of the SDK make nine
//! calls where the operator expected three. The SDKs say which of their own tries a request is, so
//! we retry for the first and leave the rest to stand alone.

use super::plan::{Plan, WaitCause};

/// The most retries that a caller may ask for.
pub const MAX_RETRIES: u32 = 10;

/// The number of retries that a request may have.
///
/// `asked` is the caller's `x-surgetank-max-retries`: it may lower the configured number or raise
/// it up to [`MAX_RETRIES`]; what is not a number is ignored. `sdk_retry_count` is the
/// `x-stainless-retry-count` of the official SDKs: from 1 on the caller is itself retrying, and two
/// layers of retries would multiply, so such a request gets one try alone.
#[must_use]
pub fn allowed_retries(configured: u32, asked: Option<&str>, sdk_retry_count: Option<&str>) -> u32 {
    let number = |text: &str| text.trim().parse::<u32>().ok();
    if sdk_retry_count.and_then(number).is_some_and(|n| n >= 1) {
        return 0;
    }
    asked
        .and_then(number)
        .map_or(configured, |n| n.min(MAX_RETRIES))
}

/// The retries of one request so far: its owner notes each planned retry here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tries {
    allowed: u32,
    counted: u32,
    free_used: bool,
}

impl Tries {
    /// No retry made yet, and `allowed` of them to be had.
    #[must_use]
    pub const fn new(allowed: u32) -> Self {
        Self {
            allowed,
            counted: 0,
            free_used: false,
        }
    }

    /// Notes that a retry is made as planned. A plan to stop changes nothing.
    pub fn note(&mut self, plan: &Plan) {
        match plan {
            Plan::RetryAfter {
                cause: WaitCause::Immediate,
                ..
            } => self.free_used = true,
            Plan::RetryAfter { .. } => self.counted = self.counted.saturating_add(1),
            Plan::Stop(_) => {}
        }
    }

    /// The attempts made so far: the first try, and every retry, the free one too.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.counted
            .saturating_add(1)
            .saturating_add(u32::from(self.free_used))
    }

    /// The retries made so far, without the free one.
    #[must_use]
    pub const fn counted(&self) -> u32 {
        self.counted
    }

    /// The retries that may be made in all, without the free one.
    #[must_use]
    pub const fn allowed(&self) -> u32 {
        self.allowed
    }

    /// Whether the free retry has been made.
    #[must_use]
    pub const fn is_free_used(&self) -> bool {
        self.free_used
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_retries_a_request_may_have() {
        for (asked, sdk, expected) in [
            (None, None, 3),
            (Some("0"), None, 0),
            (Some("1"), None, 1),
            (Some(" 7 "), None, 7),
            (Some("4000000000"), None, MAX_RETRIES),
            (Some("-1"), None, 3),
            (Some("many"), None, 3),
            (None, Some("0"), 3),
            (None, Some("1"), 0),
            (None, Some("2"), 0),
            (None, Some("one"), 3),
            (Some("5"), Some("1"), 0),
        ] {
            let allowed = allowed_retries(3, asked, sdk);
            assert_eq!(allowed, expected, "asked {asked:?}, SDK at {sdk:?}");
        }
    }

    #[test]
    fn only_counted_retries_are_counted_and_all_are_attempts() {
        let wait = std::time::Duration::ZERO;
        let mut tries = Tries::new(3);
        assert_eq!((tries.counted(), tries.attempts()), (0, 1));
        tries.note(&Plan::RetryAfter {
            wait,
            cause: WaitCause::Immediate,
        });
        assert_eq!((tries.counted(), tries.attempts()), (0, 2));
        assert!(tries.is_free_used());
        tries.note(&Plan::RetryAfter {
            wait,
            cause: WaitCause::Backoff,
        });
        tries.note(&Plan::Stop(crate::retry::plan::StopReason::Attempts));
        assert_eq!((tries.counted(), tries.attempts()), (1, 3));
    }
}

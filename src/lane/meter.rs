//! A count over the last minute, in buckets of a few seconds: bounded memory, no list of instants.

use std::time::Duration;

use tokio::time::Instant;

const BUCKETS: usize = 12;
const BUCKET_SECONDS: u64 = 5;
const SPAN: Duration = Duration::from_secs(BUCKETS as u64 * BUCKET_SECONDS);

/// Events a second over the last minute.
#[derive(Debug, Default)]
pub(super) struct Meter {
    origin: Option<Instant>,
    buckets: [(u64, f64); BUCKETS],
}

impl Meter {
    /// Counts one event.
    pub(super) fn add(&mut self, now: Instant) {
        self.origin.get_or_insert(now);
        self.bucket(now).1 += 1.0;
    }

    /// Takes one event back, from the present bucket or the newest that has one.
    pub(super) fn take_back(&mut self, now: Instant) {
        let slot = self.slot(now);
        let counted = self
            .buckets
            .iter_mut()
            .filter(|(at, count)| *at <= slot && *count >= 1.0);
        if let Some((_, count)) = counted.max_by_key(|(at, _)| *at) {
            *count -= 1.0;
        }
    }

    /// The mean rate over the last minute, also when there was less than a minute: a burst is not a rate.
    pub(super) fn rate(&self, now: Instant) -> f64 {
        let slot = self.slot(now);
        let recent = self
            .buckets
            .iter()
            .filter(|(at, _)| at + BUCKETS as u64 > slot);
        recent.map(|(_, count)| count).sum::<f64>() / SPAN.as_secs_f64()
    }

    /// Events of the last minute.
    pub(super) fn recent(&self, now: Instant) -> f64 {
        self.rate(now) * SPAN.as_secs_f64()
    }

    fn slot(&self, now: Instant) -> u64 {
        let age = self.origin.map_or(Duration::ZERO, |origin| {
            now.saturating_duration_since(origin)
        });
        age.as_secs() / BUCKET_SECONDS
    }

    fn bucket(&mut self, now: Instant) -> &mut (u64, f64) {
        let slot = self.slot(now);
        let bucket = &mut self.buckets[usize::try_from(slot % BUCKETS as u64).unwrap_or_default()];
        if bucket.0 != slot {
            *bucket = (slot, 0.0);
        }
        bucket
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_is_remembered_and_no_more() {
        let start = Instant::now();
        let mut meter = Meter::default();
        for second in 0..60 {
            meter.add(start + Duration::from_secs(second));
        }
        assert!((meter.rate(start + Duration::from_secs(59)) - 1.0).abs() < 1e-9);
        assert!((meter.rate(start + Duration::from_secs(90)) - 0.5).abs() < 0.1);
        assert!(meter.rate(start + Duration::from_secs(200)) < 1e-9);
    }

    #[test]
    fn what_is_taken_back_was_never_counted() {
        let start = Instant::now();
        let mut meter = Meter::default();
        meter.take_back(start);
        assert!(meter.rate(start).abs() < 1e-9);
        meter.add(start);
        meter.take_back(start + Duration::from_secs(7));
        assert!(meter.rate(start + Duration::from_secs(7)).abs() < 1e-9);
    }
}

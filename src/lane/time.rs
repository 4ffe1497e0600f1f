//! Seconds as `f64` for formulas, and jitter, without the panics of `Duration`'s own conversions.

use std::time::Duration;

use rand::{Rng, RngExt};

/// About eleven days: far beyond any wait here, and safe to add to any instant.
const LONGEST: f64 = 1e6;

/// A duration from seconds; NaN and negative values count as zero, absurd ones are cut to [`LONGEST`].
pub(super) fn seconds(value: f64) -> Duration {
    if value.is_nan() {
        Duration::ZERO
    } else {
        Duration::from_secs_f64(value.clamp(0.0, LONGEST))
    }
}

/// A draw from `[0, limit]`.
pub(super) fn up_to<R: Rng + ?Sized>(rng: &mut R, limit: Duration) -> Duration {
    limit.mul_f64(rng.random::<f64>())
}

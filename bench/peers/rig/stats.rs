//! Times, and what is said of them.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

/// Nanoseconds on the clock that all processes of a machine share. A step of it would show as an absurd delay.
pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |it| u64::try_from(it.as_nanos()).unwrap_or(u64::MAX))
}

/// Microseconds at the usual percentiles, of times in nanoseconds.
pub(crate) fn percentiles(times: &mut [u64]) -> Value {
    times.sort_unstable();
    let at = |per_mille: usize| {
        let index = (times.len() * per_mille / 1000).min(times.len().saturating_sub(1));
        times.get(index).map(|it| *it as f64 / 1e3)
    };
    json!({ "p50": at(500), "p90": at(900), "p99": at(990), "p999": at(999) })
}

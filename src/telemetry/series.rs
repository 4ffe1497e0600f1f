//! Series that every request adds to, looked up by their labels once.
//!
//! A look-up takes a lock and two counts of references, and a plain request needed nine. What is looked up is kept with
//! the route or the lane that it belongs to, and is gone with it; the series themselves stay with their family.

use std::{sync::OnceLock, time::Duration};

use prometheus::{Histogram, IntCounter};

use super::{Metrics, Outcome};
use crate::{
    dialect::Dialect,
    lane::{Label, Lane},
    retry::triage::Class,
    upstream::Upstream,
};

/// The outcome of a wait after which the attempt was sent.
pub(crate) const SENT: &str = "sent";

/// As many as there are dialects. Spelt out: in a type, the compiler cannot ask for it without asking for itself.
const DIALECTS: usize = 7;

/// What a route's requests are counted in, by dialect and outcome.
#[derive(Debug, Default)]
pub struct RouteSeries([[OnceLock<Ended>; Outcome::ALL.len()]; DIALECTS]);

/// Requests that have ended in one way.
#[derive(Debug, Clone)]
struct Ended {
    requests: IntCounter,
    seconds: Histogram,
}

/// What the attempts of a lane are counted in whose name is settled.
#[derive(Debug)]
pub struct LaneSeries {
    waited: Histogram,
    served: IntCounter,
    first_byte: Histogram,
}

impl Metrics {
    /// A request has ended after `time`. `route` is its route's name and series; there is none where it found no route.
    pub fn ended(
        &self,
        route: Option<(&str, &RouteSeries)>,
        dialect: Option<Dialect>,
        outcome: Outcome,
        time: Duration,
    ) {
        let look_up = || {
            let name = route.map_or("none", |(name, _)| name);
            let dialect = dialect.map_or("none", Dialect::as_str);
            let outcome = outcome.as_str();
            Ended {
                requests: self.requests.with_label_values(&[name, dialect, outcome]),
                seconds: self.request_seconds.with_label_values(&[name, outcome]),
            }
        };
        let add = |ended: &Ended| {
            ended.requests.inc();
            ended.seconds.observe(time.as_secs_f64());
        };
        let known = route.zip(dialect);
        match known.and_then(|((_, series), dialect)| place(series, dialect, outcome)) {
            Some(place) => add(place.get_or_init(look_up)),
            None => add(&look_up()),
        }
    }

    /// An attempt was let through by its lane after `time`.
    pub fn sent(&self, upstream: &Upstream, lane: &Lane, time: Duration) {
        let seconds = time.as_secs_f64();
        if let Some(series) = self.of_lane(upstream, lane.label()) {
            series.waited.observe(seconds);
        } else {
            let labels = [&*upstream.name, lane.label().as_str(), SENT];
            let waits = &self.lanes.queue_wait_seconds;
            waits.with_label_values(&labels).observe(seconds);
        }
    }

    /// An attempt was judged.
    pub fn judged(&self, upstream: &Upstream, lane: &Lane, class: Class, is_retry: bool) {
        if class == Class::Served
            && !is_retry
            && let Some(series) = self.of_lane(upstream, lane.label())
        {
            return series.served.inc();
        }
        let kind = if is_retry { "retry" } else { "first" };
        let lane = lane.label().as_str();
        let labels = [&*upstream.name, lane, class.as_str(), kind];
        self.attempts.with_label_values(&labels).inc();
    }

    /// An answer was there after `time`.
    pub fn first_byte(&self, upstream: &Upstream, lane: &Lane, time: Duration) {
        let seconds = time.as_secs_f64();
        if let Some(series) = self.of_lane(upstream, lane.label()) {
            series.first_byte.observe(seconds);
        } else {
            let labels = [&*upstream.name, lane.label().as_str()];
            let times = &self.first_byte_seconds;
            times.with_label_values(&labels).observe(seconds);
        }
    }

    fn of_lane<'a>(&self, upstream: &Upstream, label: &'a Label) -> Option<&'a LaneSeries> {
        label.series(|lane| {
            let (upstream, waits) = (&*upstream.name, &self.lanes.queue_wait_seconds);
            let served = [upstream, lane, Class::Served.as_str(), "first"];
            LaneSeries {
                waited: waits.with_label_values(&[upstream, lane, SENT]),
                served: self.attempts.with_label_values(&served),
                first_byte: self.first_byte_seconds.with_label_values(&[upstream, lane]),
            }
        })
    }
}

fn place(series: &RouteSeries, dialect: Dialect, outcome: Outcome) -> Option<&OnceLock<Ended>> {
    let dialect = Dialect::ALL.iter().position(|known| *known == dialect)?;
    series.0.get(dialect)?.get(outcome as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_dialect_and_outcome_has_a_place() {
        let series = RouteSeries::default();
        for dialect in Dialect::ALL {
            for outcome in Outcome::ALL {
                assert!(place(&series, dialect, outcome).is_some(), "{dialect:?}");
            }
        }
    }
}

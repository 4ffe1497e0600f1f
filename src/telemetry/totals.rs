//! The counters read back, for the status page.
//!
//! The page's charts are made of differences between two readings, so nothing has to be counted twice
//! and a request pays nothing for them.

use std::collections::BTreeMap;

use prometheus::{
    core::Collector,
    proto::{LabelPair, Metric},
};

use super::{Metrics, Outcome};
use crate::retry::triage::Class;

/// Counts by outcome, in the order of [`Outcome::ALL`].
pub type Outcomes = [u64; Outcome::ALL.len()];

/// Counts by triage class, in the order of [`Class::ALL`].
pub type Classes = [u64; Class::ALL.len()];

/// Counts since the start. All only grow.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Totals {
    /// What became of the callers' requests.
    pub outcomes: Outcomes,
    /// What each upstream said to attempts, by its name.
    pub upstreams: BTreeMap<String, Classes>,
    /// Attempts that were not the first of their request.
    pub retries: u64,
    /// Requests that only a retry could serve.
    pub saved: u64,
    /// Seconds that requests waited on purpose.
    pub waited_seconds: f64,
    /// Bytes of request bodies that were sent again.
    pub resent_bytes: u64,
    /// Requests that ended in a panic of ours.
    pub panics: u64,
}

impl Totals {
    /// Attempts on all upstreams by class.
    #[must_use]
    pub fn classes(&self) -> Classes {
        let mut sum = Classes::default();
        for counts in self.upstreams.values() {
            for (sum, count) in sum.iter_mut().zip(counts) {
                *sum += count;
            }
        }
        sum
    }

    /// Attempts an answer: 1 when every try was the last, more as tries are repeated. Nothing before
    /// the first answer.
    #[must_use]
    pub fn amplification(&self) -> Option<f64> {
        let served = self.classes()[Class::Served as usize];
        let attempts: u64 = self.classes().iter().sum();
        (served > 0).then(|| attempts as f64 / served as f64)
    }
}

impl Metrics {
    /// Reads the counters. Each is exact; together they are of nearly one moment.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let mut totals = Totals {
            saved: self.saved.get(),
            resent_bytes: self.resent_bytes.get(),
            panics: self.panics.get(),
            ..Totals::default()
        };
        for_each(&self.requests, |metric, count| {
            let outcome = label(metric, "outcome");
            if let Some(index) = index_of(Outcome::ALL.map(Outcome::as_str), outcome) {
                totals.outcomes[index] += whole(count);
            }
        });
        for_each(&self.attempts, |metric, count| {
            let Some(class) = index_of(Class::ALL.map(Class::as_str), label(metric, "class"))
            else {
                return;
            };
            let upstream = label(metric, "upstream");
            totals.upstreams.entry(upstream.to_owned()).or_default()[class] += whole(count);
            if label(metric, "attempt") == "retry" {
                totals.retries += whole(count);
            }
        });
        for_each(&self.waited_seconds, |_, seconds| {
            totals.waited_seconds += seconds;
        });
        totals
    }
}

fn for_each(family: &impl Collector, mut look: impl FnMut(&Metric, f64)) {
    for family in family.collect() {
        for metric in family.get_metric() {
            look(metric, metric.get_counter().get_value());
        }
    }
}

fn label<'a>(metric: &'a Metric, name: &str) -> &'a str {
    let labels = metric.get_label().iter();
    labels
        .filter(|label| label.name() == name)
        .map(LabelPair::value)
        .next()
        .unwrap_or_default()
}

fn index_of<const N: usize>(names: [&str; N], name: &str) -> Option<usize> {
    names.iter().position(|known| *known == name)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a count that the exposition format holds as f64"
)]
fn whole(count: f64) -> u64 {
    count as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_counted_is_read_back() {
        let metrics = Metrics::new().expect("no name twice");
        let requests = |route, outcome: Outcome| {
            let labels = [route, "openai_chat", outcome.as_str()];
            metrics.requests.with_label_values(&labels).inc();
        };
        requests("one", Outcome::Served);
        requests("two", Outcome::Served);
        requests("two", Outcome::Rejected);
        let attempt = |upstream, class: Class, kind| {
            let labels = [upstream, "other", class.as_str(), kind];
            metrics.attempts.with_label_values(&labels).inc();
        };
        attempt("a", Class::Throttled, "first");
        attempt("a", Class::Served, "retry");
        attempt("b", Class::Served, "first");
        metrics.waited("retry", std::time::Duration::from_millis(1500));
        metrics.waited("lane", std::time::Duration::from_millis(500));

        let totals = metrics.totals();
        assert_eq!(totals.outcomes[Outcome::Served as usize], 2);
        assert_eq!(totals.outcomes[Outcome::Rejected as usize], 1);
        assert_eq!(totals.outcomes.iter().sum::<u64>(), 3);
        assert_eq!(totals.upstreams["a"][Class::Throttled as usize], 1);
        assert_eq!(totals.classes()[Class::Served as usize], 2);
        assert_eq!(totals.retries, 1);
        assert!((totals.waited_seconds - 2.0).abs() < 1e-9);
        assert_eq!(totals.amplification(), Some(1.5));
        assert_eq!(Totals::default().amplification(), None);
    }

    /// Names are matched by their place in `ALL`, which must be the enums' own order.
    #[test]
    fn the_lists_are_in_the_order_of_the_enums() {
        for (index, outcome) in Outcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome as usize, index);
        }
        for (index, class) in Class::ALL.into_iter().enumerate() {
            assert_eq!(class as usize, index);
        }
    }
}

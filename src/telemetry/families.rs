//! Makes and registers metric families, and keeps what each of them is for the reference in `docs/metrics.md`.

use std::{cell::RefCell, collections::BTreeSet};

use prometheus::{
    CounterVec, Gauge, GaugeVec, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    Opts, Registry, core::Collector,
};

/// What a family is, apart from its values.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Family {
    /// Its name.
    pub name: String,
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    /// The names of its labels.
    pub labels: Vec<String>,
    /// What it tells.
    pub help: String,
    /// Series that one combination of label values makes.
    pub series: usize,
}

/// Makes and registers families.
pub(super) struct Adder {
    registry: Registry,
    families: RefCell<BTreeSet<Family>>,
}

impl Adder {
    pub(super) fn new(registry: &Registry) -> Self {
        Self {
            registry: registry.clone(),
            families: RefCell::default(),
        }
    }

    /// What was registered with a name of ours, by name.
    pub(super) fn families(self) -> Vec<Family> {
        self.families.into_inner().into_iter().collect()
    }

    pub(super) fn collector<C: Collector + 'static>(&self, collector: C) -> prometheus::Result<()> {
        self.registry.register(Box::new(collector))
    }

    fn registered<C: Collector + Clone + 'static>(
        &self,
        kind: &'static str,
        series: usize,
        collector: C,
    ) -> prometheus::Result<C> {
        self.collector(collector.clone())?;
        let families = collector.desc().into_iter().map(|desc| Family {
            name: desc.fq_name.clone(),
            kind,
            labels: desc.variable_labels.clone(),
            help: desc.help.clone(),
            series,
        });
        self.families.borrow_mut().extend(families);
        Ok(collector)
    }

    pub(super) fn counters(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> prometheus::Result<IntCounterVec> {
        let made = IntCounterVec::new(Opts::new(name, help), labels)?;
        self.registered("counter", 1, made)
    }

    pub(super) fn seconds(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> prometheus::Result<CounterVec> {
        let made = CounterVec::new(Opts::new(name, help), labels)?;
        self.registered("counter", 1, made)
    }

    pub(super) fn histograms(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
        buckets: &[f64],
    ) -> prometheus::Result<HistogramVec> {
        let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        let made = HistogramVec::new(options, labels)?;
        // Beside the buckets: the one without a bound, the sum and the count.
        self.registered("histogram", buckets.len() + 3, made)
    }

    pub(super) fn gauges(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> prometheus::Result<GaugeVec> {
        let made = GaugeVec::new(Opts::new(name, help), labels)?;
        self.registered("gauge", 1, made)
    }

    pub(super) fn counter(&self, name: &str, help: &str) -> prometheus::Result<IntCounter> {
        self.registered("counter", 1, IntCounter::new(name, help)?)
    }

    /// A counter that was made elsewhere.
    pub(super) fn own_counter(&self, made: IntCounter) -> prometheus::Result<IntCounter> {
        self.registered("counter", 1, made)
    }

    pub(super) fn float_gauge(&self, name: &str, help: &str) -> prometheus::Result<Gauge> {
        self.registered("gauge", 1, Gauge::new(name, help)?)
    }

    pub(super) fn gauge(&self, name: &str, help: &str) -> prometheus::Result<IntGauge> {
        self.registered("gauge", 1, IntGauge::new(name, help)?)
    }
}

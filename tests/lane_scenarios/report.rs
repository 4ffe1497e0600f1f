//! Figures over all runs of a scenario, and what they must be.

use std::collections::BTreeMap;
use std::fmt;

use super::crowd::Run;

/// The mean figures of one scenario, by name.
pub(crate) struct Report {
    name: String,
    figures: BTreeMap<&'static str, f64>,
}

/// What is shown, in this order.
const COLUMNS: [&str; 11] = [
    "asked",
    "served",
    "share_of_ideal",
    "worst_share_of_ideal",
    "calls_per_answer",
    "light_served",
    "jain",
    "median_wait",
    "p99_wait",
    "max_probes",
    "violations",
];

impl Report {
    pub(crate) fn new(name: &str, runs: &[Run]) -> Self {
        let mean =
            |figure: &dyn Fn(&Run) -> f64| runs.iter().map(figure).sum::<f64>() / runs.len() as f64;
        let share = |run: &Run| run.served as f64 / run.ideal.max(1) as f64;
        let worst = runs.iter().map(share).fold(f64::INFINITY, f64::min);
        let figures = BTreeMap::from([
            ("asked", mean(&|run| run.asked as f64)),
            ("served", mean(&|run| run.served as f64)),
            ("share_of_ideal", mean(&share)),
            ("worst_share_of_ideal", worst),
            (
                "calls_per_answer",
                mean(&|run| run.calls as f64 / run.served.max(1) as f64),
            ),
            (
                "light_served",
                mean(&|run| run.light_served as f64 / run.light_asked.max(1) as f64),
            ),
            ("jain", mean(&Run::jain)),
            ("median_wait", mean(&|run| run.wait(0.5))),
            ("p99_wait", mean(&|run| run.wait(0.99))),
            (
                "max_probes",
                runs.iter()
                    .map(|run| run.max_probes as f64)
                    .fold(0.0, f64::max),
            ),
            (
                "violations",
                runs.iter().map(|run| run.violations as f64).sum(),
            ),
            ("throttled", mean(&|run| run.throttled as f64)),
        ]);
        Self {
            name: name.to_owned(),
            figures,
        }
    }

    pub(crate) fn heading() -> String {
        let columns: Vec<_> = COLUMNS
            .iter()
            .map(|name| {
                format!(
                    "{:>9}",
                    name.replace("_share_of_ideal", "")
                        .replace("share_of_", "")
                        .replace("calls_per_answer", "calls/ans")
                )
            })
            .collect();
        format!("{:<34}{}", "scenario", columns.join(" "))
    }

    /// Every figure that is out of its range. Broken invariants are complaints in every scenario.
    pub(crate) fn complaints(&self, expect: &BTreeMap<String, (f64, f64)>) -> Vec<String> {
        let always = [
            ("max_probes".to_owned(), (0.0, 1.0)),
            ("violations".to_owned(), (0.0, 0.0)),
        ];
        let ranges = expect
            .iter()
            .map(|(name, range)| (name.clone(), *range))
            .chain(always);
        let complain = |(name, (low, high)): (String, (f64, f64))| {
            let value = *self
                .figures
                .get(name.as_str())
                .expect("a figure of this name");
            let fits = (low..=high).contains(&value);
            (!fits).then(|| {
                format!(
                    "{}: {name} is {value:.3}, not within {low} to {high}",
                    self.name
                )
            })
        };
        ranges.filter_map(complain).collect()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns: Vec<_> = COLUMNS
            .iter()
            .map(|name| format!("{:>9.3}", self.figures[name]))
            .collect();
        write!(f, "{:<34}{}", self.name, columns.join(" "))
    }
}

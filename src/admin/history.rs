//! The last fifteen minutes, for the charts of the status page.
//!
//! Made of differences between readings of counters that exist anyway, in steps of ten seconds: fine
//! enough to see a storm begin, coarse enough to be read on a phone. The memory is fixed: 90 steps,
//! each with a few counts by outcome and by class for every configured upstream.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use tokio::time::Instant;

use crate::telemetry::{
    Totals,
    totals::{Classes, Outcomes},
};

/// The time of one step.
pub const STEP: Duration = Duration::from_secs(10);

/// Steps that are kept, the present one included.
pub const STEPS: usize = 90;

/// "Lately" is at least this many steps: a storm's end shows within twenty seconds.
const LEAST_RECENT: usize = 2;
/// And at most this many, where there are few requests to judge by.
const MOST_RECENT: usize = 6;
/// Enough requests to judge by.
const ENOUGH: u64 = 20;

/// What happened in one step, or in several.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Step {
    /// Requests that ended, by what became of them.
    pub outcomes: Outcomes,
    /// Of those that were served: only a retry could.
    pub saved: u64,
    /// What the upstreams said to attempts.
    pub upstreams: BTreeMap<String, Classes>,
    /// Requests that ended in a panic of ours.
    pub panics: u64,
    /// The load's peak.
    pub peak: Load,
}

/// What is under way at one moment.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Requests that wait for their turn.
    pub waiting: u64,
    /// Requests whose answer has not ended.
    pub in_flight: u64,
}

/// What happened lately, and within how long.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recent {
    /// The time it spans.
    pub span: Duration,
    /// What happened in it.
    pub sum: Step,
}

/// The steps, oldest first.
#[derive(Debug)]
pub struct History {
    began: Instant,
    /// The number of the present step, counted from `began`.
    present: u64,
    steps: VecDeque<Step>,
    last: Totals,
}

impl History {
    /// Begins now.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self {
            began: now,
            present: 0,
            steps: VecDeque::from([Step::default()]),
            last: Totals::default(),
        }
    }

    /// Puts what was counted since the last reading into the present step.
    pub fn observe(&mut self, now: Instant, totals: Totals, load: Load) {
        self.go_to(now);
        let Some(step) = self.steps.back_mut() else {
            return; // the present step is always there
        };
        let last = &self.last;
        add_growth(&mut step.outcomes, &totals.outcomes, &last.outcomes);
        step.saved += totals.saved.saturating_sub(last.saved);
        step.panics += totals.panics.saturating_sub(last.panics);
        for (upstream, classes) in &totals.upstreams {
            let none = Classes::default();
            let before = last.upstreams.get(upstream).unwrap_or(&none);
            if classes != before {
                let counts = step.upstreams.entry(upstream.clone()).or_default();
                add_growth(counts, classes, before);
            }
        }
        step.peak = step.peak.max(load);
        self.last = totals;
    }

    /// The counters at the last reading.
    #[must_use]
    pub fn totals(&self) -> &Totals {
        &self.last
    }

    /// The steps, oldest first; the last one is not over yet.
    #[must_use]
    pub fn steps(&self) -> impl ExactSizeIterator<Item = &Step> {
        self.steps.iter()
    }

    /// How long the present step has lasted, as of `now`.
    #[must_use]
    pub fn present_lasts(&self, now: Instant) -> Duration {
        let began = self.began + STEP * u32::try_from(self.present).unwrap_or(u32::MAX);
        now.saturating_duration_since(began)
    }

    /// What happened lately: the shortest time with enough requests in it, from 20 s to a minute.
    #[must_use]
    pub fn recent(&self, now: Instant) -> Recent {
        let mut sum = Step::default();
        let mut steps = 0;
        for step in self.steps.iter().rev().take(MOST_RECENT) {
            if steps >= LEAST_RECENT && sum.outcomes.iter().sum::<u64>() >= ENOUGH {
                break;
            }
            sum.add(step);
            steps += 1;
        }
        let past = STEP * u32::try_from(steps).unwrap_or(1).saturating_sub(1);
        Recent {
            span: past + self.present_lasts(now).min(STEP),
            sum,
        }
    }

    fn go_to(&mut self, now: Instant) {
        let age = now.saturating_duration_since(self.began);
        let present = age.as_secs() / STEP.as_secs();
        let passed = present.saturating_sub(self.present);
        for _ in 0..passed.min(STEPS as u64) {
            self.steps.push_back(Step::default());
        }
        let surplus = self.steps.len().saturating_sub(STEPS);
        self.steps.drain(..surplus);
        self.present = self.present.max(present);
    }
}

impl Step {
    fn add(&mut self, other: &Self) {
        add_growth(&mut self.outcomes, &other.outcomes, &Outcomes::default());
        self.saved += other.saved;
        self.panics += other.panics;
        for (upstream, classes) in &other.upstreams {
            let counts = self.upstreams.entry(upstream.clone()).or_default();
            add_growth(counts, classes, &Classes::default());
        }
        self.peak = self.peak.max(other.peak);
    }
}

impl Load {
    fn max(self, other: Self) -> Self {
        Self {
            waiting: self.waiting.max(other.waiting),
            in_flight: self.in_flight.max(other.in_flight),
        }
    }
}

fn add_growth(sums: &mut [u64], now: &[u64], before: &[u64]) {
    for ((sum, now), before) in sums.iter_mut().zip(now).zip(before) {
        *sum += now.saturating_sub(*before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{retry::triage::Class, telemetry::Outcome};

    const SERVED: usize = Outcome::Served as usize;

    fn totals(served: u64, throttled: u64) -> Totals {
        let mut totals = Totals::default();
        totals.outcomes[SERVED] = served;
        totals.upstreams.entry("a".to_owned()).or_default()[Class::Throttled as usize] = throttled;
        totals
    }

    fn waiting(waiting: u64) -> Load {
        Load {
            waiting,
            in_flight: waiting * 2,
        }
    }

    fn served(history: &History) -> Vec<u64> {
        history.steps().map(|step| step.outcomes[SERVED]).collect()
    }

    #[test]
    fn growth_goes_into_the_step_in_which_it_is_seen() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut history = History::new(start);
        history.observe(at(1), totals(3, 0), waiting(0));
        history.observe(at(9), totals(5, 1), waiting(7));
        history.observe(at(10), totals(5, 1), waiting(2));
        history.observe(at(35), totals(9, 4), waiting(0));
        assert_eq!(served(&history), [5, 0, 0, 4]);
        let steps: Vec<_> = history.steps().collect();
        assert_eq!(steps[0].upstreams["a"][Class::Throttled as usize], 1);
        assert!(steps[1].upstreams.is_empty(), "silence takes no memory");
        assert_eq!(steps[0].peak, waiting(7));
        assert_eq!(steps[1].peak, waiting(2));
        assert_eq!(history.present_lasts(at(38)), Duration::from_secs(8));
    }

    #[test]
    fn fifteen_minutes_are_kept_and_no_more() {
        let start = Instant::now();
        let mut history = History::new(start);
        for second in 0..3_000 {
            let at = start + Duration::from_secs(second);
            history.observe(at, totals(second, 0), Load::default());
        }
        assert_eq!(history.steps().len(), STEPS);
        assert!(served(&history).iter().all(|count| *count == 10));
        // A machine that slept for a day: all of it is gone, and the ring is not walked a day long.
        let later = start + Duration::from_secs(90_000);
        history.observe(later, totals(3_000, 0), Load::default());
        assert_eq!(history.steps().len(), STEPS);
        assert_eq!(served(&history).iter().sum::<u64>(), 1);
    }

    #[test]
    fn a_clock_that_goes_back_changes_nothing() {
        let start = Instant::now();
        let mut history = History::new(start);
        history.observe(
            start + Duration::from_secs(25),
            totals(1, 0),
            Load::default(),
        );
        history.observe(start, totals(2, 0), Load::default());
        assert_eq!(served(&history), [0, 0, 2]);
    }

    #[test]
    fn lately_is_short_when_there_is_enough_to_judge_by() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut busy = History::new(start);
        let mut quiet = History::new(start);
        for second in 0..120 {
            busy.observe(at(second), totals(second * 10, 0), Load::default());
            quiet.observe(at(second), totals(second / 10, 0), Load::default());
        }
        let recent = busy.recent(at(119));
        assert_eq!(recent.span, Duration::from_secs(19));
        assert_eq!(recent.sum.outcomes[SERVED], 200);
        let recent = quiet.recent(at(119));
        assert_eq!(recent.span, Duration::from_secs(59));
        assert_eq!(recent.sum.outcomes[SERVED], 6);
    }
}

//! What the upstream says about its quota in headers, and what follows for the pace.
//!
//! Vendors send `limit`, `remaining` and `reset` on successes too, so a healthy lane can slow down before its first 429.
//! The same three words mean two things. In a *fixed* window all of the quota returns at `reset`; what remains must last
//! until then. In a *rolling* quota (OpenAI, Anthropic) `reset` is the time to a full refill: the quota returns steadily,
//! at `(limit − remaining) / reset`, and to stretch what remains over that time would idle nine tenths of it.
//! The answers themselves tell the two apart: as requests are spent, a fixed window's end stays where it is, and a
//! rolling quota's moves away. Until that is seen, the careful reading holds.

use std::time::Duration;

use tokio::time::Instant;

/// One limit as an answer told it. Which header it came from is the caller's affair.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct QuotaReport {
    /// What is counted.
    pub measure: Measure,
    /// The quota's size, in its own unit.
    pub limit: f64,
    /// What is left of it.
    pub remaining: f64,
    /// Time to the reset.
    pub reset: Duration,
    /// How many units a request takes: 1 for a limit on requests, the usual size of a request for a limit on tokens.
    pub per_request: f64,
}

/// What a quota counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// Requests.
    Requests,
    /// Tokens of both kinds.
    Tokens,
    /// Tokens of prompts.
    InputTokens,
    /// Tokens of answers.
    OutputTokens,
    /// Something that we have no word for.
    Other,
}

/// What is left of one quota, as far as the vendor has said.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct QuotaLeft {
    /// What it counts.
    pub of: Measure,
    /// Its size.
    pub limit: f64,
    /// What was left when it was told.
    pub remaining: f64,
    /// Time until it is whole again.
    pub resets_in: Duration,
    /// How long ago it was told.
    pub told_ago: Duration,
}

/// What follows for the pace.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Advice {
    /// The quota is not near its end.
    None,
    /// No faster than this, in requests a second.
    Rate(f64),
    /// Nothing before this instant.
    HoldUntil(Instant),
}

/// Below this part of the limit the pace follows the reports.
const LOW: f64 = 0.1;
/// Below this many requests too, whatever the limit: some are on their way already.
const LOW_REQUESTS: f64 = 4.0;
/// Resets may be told in whole seconds; a smaller movement says nothing.
const READABLE: f64 = 3.0;
/// The same where they are evidently told more finely.
const READABLE_FINELY: f64 = 0.3;
/// Reports with longer resets advise nothing. A day's quota that is nearly spent would otherwise be stretched over the
/// rest of the day, and whoever calls now would wait for tomorrow's callers: it is used up, and ends in a 429 and a fallback.
const LONGEST_HOLD: Duration = Duration::from_mins(1);
/// Limits followed at a time. The common vendors send up to four.
const FAMILIES: usize = 4;

/// The limits of one upstream.
#[derive(Debug)]
pub(super) struct Reports {
    families: Vec<Family>,
    quota_share: f64,
}

#[derive(Debug, Clone, Copy)]
struct Family {
    kind: Kind,
    /// The report from which movement is measured.
    anchor: (Instant, QuotaReport),
    latest: (Instant, QuotaReport),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Unknown,
    Fixed,
    Rolling,
}

impl Reports {
    pub(super) fn new(quota_share: f64) -> Self {
        Self {
            families: Vec::new(),
            quota_share: quota_share.clamp(0.001, 1.0),
        }
    }

    pub(super) fn retune(&mut self, quota_share: f64) {
        self.quota_share = quota_share.clamp(0.001, 1.0);
    }

    /// Takes what one answer told. A limit is known again by what it counts, and among several that count the same by
    /// their order: not every answer tells of every limit.
    pub(super) fn update(&mut self, now: Instant, reports: &[QuotaReport]) {
        for (index, report) in reports.iter().enumerate() {
            if !report.is_sane() {
                continue;
            }
            let earlier = reports[..index].iter();
            let earlier =
                earlier.filter(|other| other.is_sane() && other.measure == report.measure);
            let has_room = self.families.len() < FAMILIES;
            let families = self.families.iter_mut();
            let known = families
                .filter(|family| family.latest.1.measure == report.measure)
                .nth(earlier.count());
            match known {
                Some(family) => family.update(now, *report),
                None if has_room => self.families.push(Family::new(now, *report)),
                None => {}
            }
        }
    }

    /// What is left of each quota that is not whole again by now.
    pub(super) fn left(&self, now: Instant) -> Vec<QuotaLeft> {
        let families = self.families.iter();
        families.filter_map(|family| family.left(now)).collect()
    }

    /// The strictest advice of all limits.
    pub(super) fn advice(&self, now: Instant) -> Advice {
        self.families
            .iter()
            .map(|family| family.advice(now, self.quota_share))
            .fold(Advice::None, Advice::stricter)
    }
}

impl Advice {
    fn stricter(self, other: Self) -> Self {
        match (self, other) {
            (Self::HoldUntil(a), Self::HoldUntil(b)) => Self::HoldUntil(a.max(b)),
            (hold @ Self::HoldUntil(_), _) | (_, hold @ Self::HoldUntil(_)) => hold,
            (Self::Rate(a), Self::Rate(b)) => Self::Rate(a.min(b)),
            (rate @ Self::Rate(_), Self::None) | (Self::None, rate) => rate,
        }
    }
}

impl Measure {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Requests,
        Self::Tokens,
        Self::InputTokens,
        Self::OutputTokens,
        Self::Other,
    ];

    /// The value for the status page and metric labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Tokens => "tokens",
            Self::InputTokens => "input_tokens",
            Self::OutputTokens => "output_tokens",
            Self::Other => "other",
        }
    }
}

impl QuotaLeft {
    /// The part of the quota that is left, from 0 to 1.
    #[must_use]
    pub fn part(&self) -> f64 {
        (self.remaining / self.limit).clamp(0.0, 1.0)
    }
}

impl QuotaReport {
    /// Placeholders (−1, zero limits, NaN) have been seen in the field and say nothing.
    fn is_sane(&self) -> bool {
        let positive = |value: f64| value.is_finite() && value > 0.0;
        positive(self.limit)
            && positive(self.per_request)
            && self.remaining.is_finite()
            && self.remaining >= 0.0
    }

    fn is_told_finely(&self) -> bool {
        self.reset.subsec_nanos() != 0
    }

    fn spent(&self) -> f64 {
        (self.limit - self.remaining).max(0.0)
    }

    /// Units a second, if the quota is a rolling one.
    fn refill(&self) -> f64 {
        self.spent() / self.reset.as_secs_f64().max(0.001)
    }
}

impl Family {
    const fn new(now: Instant, report: QuotaReport) -> Self {
        Self {
            kind: Kind::Unknown,
            anchor: (now, report),
            latest: (now, report),
        }
    }

    fn update(&mut self, now: Instant, report: QuotaReport) {
        let (at, anchor) = self.anchor;
        self.latest = (now, report);
        let refilled = report.remaining > anchor.remaining;
        if refilled || report.spent() <= 0.0 || (report.limit - anchor.limit).abs() > f64::EPSILON {
            self.anchor = (now, report);
            return;
        }
        let passed = now.saturating_duration_since(at).as_secs_f64();
        let moved = passed + report.reset.as_secs_f64() - anchor.reset.as_secs_f64();
        // If the quota is rolling, its end moved by the time that passed plus the refill time of what was spent since.
        let expected = passed + (anchor.remaining - report.remaining) / report.refill();
        let readable = if report.is_told_finely() && anchor.is_told_finely() {
            READABLE_FINELY
        } else {
            READABLE
        };
        if expected >= readable {
            self.kind = if moved > expected / 2.0 {
                Kind::Rolling
            } else {
                Kind::Fixed
            };
            self.anchor = (now, report);
        }
    }

    fn left(&self, now: Instant) -> Option<QuotaLeft> {
        let (at, report) = self.latest;
        let resets_in = at.checked_add(report.reset)?.saturating_duration_since(now);
        (!resets_in.is_zero()).then(|| QuotaLeft {
            of: report.measure,
            limit: report.limit,
            remaining: report.remaining,
            resets_in,
            told_ago: now.saturating_duration_since(at),
        })
    }

    fn advice(&self, now: Instant, quota_share: f64) -> Advice {
        let (at, report) = self.latest;
        if report.reset > LONGEST_HOLD
            || report.remaining >= (report.limit * LOW).max(LOW_REQUESTS * report.per_request)
        {
            return Advice::None;
        }
        let Some(reset_at) = at.checked_add(report.reset).filter(|end| now < *end) else {
            return Advice::None;
        };
        let refill = report.refill() * quota_share / report.per_request;
        match self.kind {
            Kind::Rolling => Advice::Rate(refill),
            Kind::Fixed if report.remaining < report.per_request => Advice::HoldUntil(reset_at),
            Kind::Fixed | Kind::Unknown => {
                let left = report.reset.as_secs_f64().max(0.001);
                Advice::Rate(
                    report.remaining.max(report.per_request) * quota_share
                        / report.per_request
                        / left,
                )
            }
        }
    }
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;

//! The vendor: a token bucket whose refusals may cost, and an honest or lying tongue.

use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, RngExt};
use surgetank::lane::{Measure, Outcome, QuotaReport};

use super::scenario::{Fault, FaultKind, Hints, Vendor};

/// How a refusal, or any quick failure, travels: seconds.
const REPLY: (f64, f64) = (0.05, 0.15);
const CONNECT_TIMEOUT: f64 = 2.0;
const FIRST_BYTE_TIMEOUT: f64 = 10.0;

/// What a call comes to, and when, in seconds after it was sent.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Answer {
    Served { first_byte: f64, end: f64 },
    Throttled { after: f64, hint: Option<Duration> },
    Failed { after: f64, kind: FaultKind },
}

impl Answer {
    /// What the proxy makes of it.
    pub(crate) fn outcome(&self) -> Outcome {
        match self {
            Self::Served { .. } => Outcome::Served,
            Self::Throttled { hint, .. } => Outcome::Throttled { hint: *hint },
            Self::Failed { kind, .. } => match kind {
                FaultKind::Overloaded => Outcome::Overloaded { hint: None },
                FaultKind::Unreachable => Outcome::ConnectFailed,
                FaultKind::Broken => Outcome::Faulty { timed_out: false },
                FaultKind::Hanging => Outcome::Faulty { timed_out: true },
            },
        }
    }
}

/// The vendor's state.
pub(crate) struct VendorState<'a> {
    settings: &'a Vendor,
    tokens: f64,
    updated: f64,
    live: usize,
}

impl<'a> VendorState<'a> {
    pub(crate) fn new(settings: &'a Vendor) -> Self {
        Self {
            settings,
            tokens: settings.burst,
            updated: 0.0,
            live: 0,
        }
    }

    /// One call arrives.
    pub(crate) fn call(&mut self, now: f64, rng: &mut SmallRng) -> Answer {
        let after = between(REPLY, rng);
        if let Some(fault) = self
            .fault(now)
            .filter(|fault| rng.random::<f64>() < fault.share)
        {
            let after = match fault.kind {
                FaultKind::Unreachable => CONNECT_TIMEOUT,
                FaultKind::Hanging => FIRST_BYTE_TIMEOUT,
                FaultKind::Overloaded | FaultKind::Broken => after,
            };
            return Answer::Failed {
                after,
                kind: fault.kind,
            };
        }
        let full = self
            .settings
            .concurrency
            .is_some_and(|most| self.live >= most);
        if !full && self.take(now) {
            self.live += 1;
            let first_byte = between(self.settings.first_byte, rng);
            return Answer::Served {
                first_byte,
                end: first_byte + between(self.settings.body, rng),
            };
        }
        let wait = if full {
            1.0
        } else {
            self.next_token(now) - now
        };
        self.tokens = (self.tokens - self.settings.refusal_costs)
            .max(-self.settings.debt)
            .min(self.tokens);
        Answer::Throttled {
            after,
            hint: self.hint(wait, rng),
        }
    }

    pub(crate) fn ended(&mut self) {
        self.live -= 1;
    }

    /// Takes a token, if there is one.
    pub(crate) fn take(&mut self, now: f64) -> bool {
        self.refill(now);
        // A hair's breadth of tolerance: a caller who waits exactly as long as told must not meet a rounding error.
        let taken = self.tokens >= 1.0 - 1e-6;
        if taken {
            self.tokens -= 1.0;
        }
        taken
    }

    /// When a token will be there.
    pub(crate) fn next_token(&mut self, now: f64) -> f64 {
        self.refill(now);
        if self.settings.by_the_minute {
            return if self.tokens >= 1.0 {
                now
            } else {
                next_minute(now)
            };
        }
        let (mut at, mut tokens) = (now, self.tokens);
        loop {
            let end = self
                .settings
                .quota
                .iter()
                .map(|step| step.at)
                .find(|step| *step > at);
            let rate = self.rate(at);
            let ready = at + ((1.0 - tokens) / rate).max(0.0);
            match end {
                Some(end) if end < ready => {
                    tokens += (end - at) * rate;
                    at = end;
                }
                _ => return ready,
            }
        }
    }

    /// True while every call fails.
    pub(crate) fn is_out(&self, now: f64) -> Option<f64> {
        self.fault(now)
            .filter(|fault| fault.share >= 1.0)
            .map(|fault| fault.to)
    }

    /// The rate-limit headers of an answer, in the manner of a rolling quota.
    pub(crate) fn reports(&mut self, now: f64) -> Vec<QuotaReport> {
        if !self.settings.headers {
            return Vec::new();
        }
        self.refill(now);
        let remaining = self.tokens.max(0.0).floor();
        if self.settings.by_the_minute {
            let reset = Duration::from_secs_f64(next_minute(now) - now);
            return vec![QuotaReport {
                measure: Measure::Requests,
                limit: self.settings.burst,
                remaining,
                reset,
                per_request: 1.0,
            }];
        }
        let reset =
            Duration::from_secs_f64((self.settings.burst - self.tokens).max(0.0) / self.rate(now));
        vec![QuotaReport {
            measure: Measure::Requests,
            limit: self.settings.burst,
            remaining,
            reset,
            per_request: 1.0,
        }]
    }

    fn fault(&self, now: f64) -> Option<&Fault> {
        self.settings
            .faults
            .iter()
            .find(|fault| fault.from <= now && now < fault.to)
    }

    fn rate(&self, at: f64) -> f64 {
        let step = self.settings.quota.iter().rev().find(|step| step.at <= at);
        step.or(self.settings.quota.first())
            .expect("at least one step")
            .per_minute
            / 60.0
    }

    fn refill(&mut self, now: f64) {
        if self.settings.by_the_minute {
            if next_minute(self.updated) <= now {
                self.tokens = self.settings.burst;
            }
            self.updated = now;
            return;
        }
        while self.updated < now {
            let step = self
                .settings
                .quota
                .iter()
                .map(|step| step.at)
                .find(|step| *step > self.updated);
            let until = step.map_or(now, |step| step.min(now));
            let refilled = self.tokens + (until - self.updated) * self.rate(self.updated);
            self.tokens = refilled.min(self.settings.burst);
            self.updated = until;
        }
    }

    fn hint(&self, wait: f64, rng: &mut SmallRng) -> Option<Duration> {
        match self.settings.hints {
            Hints::Exact => Some(Duration::from_secs_f64(wait)),
            Hints::Seconds => Some(Duration::from_secs_f64(wait.ceil().max(1.0))),
            Hints::Short => Some(Duration::from_secs_f64(wait / 10.0)),
            Hints::None => None,
            Hints::Absurd => (rng.random::<f64>() < 0.5).then_some(Duration::from_hours(8760)),
        }
    }
}

fn next_minute(now: f64) -> f64 {
    ((now / 60.0).floor() + 1.0) * 60.0
}

/// A draw from a range.
pub(crate) fn between<R: Rng>((low, high): (f64, f64), rng: &mut R) -> f64 {
    low + (high - low) * rng.random::<f64>()
}

//! What an account may use: several rates at once, and a number of requests running.
//!
//! One rate is never enough: one that lets a person work through a minute lets a script work through
//! a day, and a request for a word costs what a request for a book costs if only requests are counted.
//! So a plan has any few rates, of requests and of tokens, over any periods. All of them have to have
//! room; what one refuses, no other has been charged for.

use std::time::Duration;

use super::gcra::{Rule, RuleError};

/// The most rates that a plan can have; an account keeps one moment for each.
pub const MAX_RULES: usize = 6;

/// What a rate counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unit {
    /// Requests, one each.
    Requests,
    /// Tokens, of prompt and answer together.
    Tokens,
}

/// Whom a plan is for. Its word begins the names of the plan's limits in response fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Each user on its own.
    User,
    /// All users together.
    Total,
}

impl Scope {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Total => "total",
        }
    }
}

/// A rate of something, under a name of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metered {
    /// What is counted.
    pub unit: Unit,
    /// How much of it.
    pub rule: Rule,
    /// Its name in response fields, such as `user-tokens-per-day`.
    pub name: Box<str>,
}

impl Metered {
    /// What a request of so many tokens costs by this rate.
    ///
    /// Never more than the whole burst: the tokens of a request are an estimate when it arrives, and nobody may be
    /// turned away for ever by an estimate. What it has really used is charged when that is known.
    #[must_use]
    pub fn cost(&self, tokens: u64) -> u64 {
        match self.unit {
            Unit::Requests => 1,
            Unit::Tokens => tokens.min(self.rule.burst()),
        }
    }
}

/// What an account may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    scope: Scope,
    rules: Vec<Metered>,
    concurrent: Option<u32>,
}

/// A rate as an operator writes it: `count` per `per`, of which `burst` at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// What is counted.
    pub unit: Unit,
    /// How many.
    pub count: u64,
    /// In which time.
    pub per: Duration,
    /// How many at once.
    pub burst: u64,
}

/// Why a plan cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// One of its rates cannot be counted.
    #[error(transparent)]
    Rule(#[from] RuleError),
    /// More rates than [`MAX_RULES`].
    #[error("{0} rates are more than the {MAX_RULES} that can stand together")]
    TooMany(usize),
}

impl Plan {
    /// A plan of these rates, and so many requests running at once.
    ///
    /// # Errors
    /// When a rate cannot be counted exactly, or there are more than [`MAX_RULES`].
    pub fn new(scope: Scope, limits: &[Limit], concurrent: Option<u32>) -> Result<Self, PlanError> {
        if limits.len() > MAX_RULES {
            return Err(PlanError::TooMany(limits.len()));
        }
        let mut rules = Vec::<Metered>::with_capacity(limits.len());
        for limit in limits {
            let is_first = rules.iter().all(|known| known.unit != limit.unit);
            rules.push(Metered {
                unit: limit.unit,
                rule: Rule::new(limit.count, limit.per, limit.burst)?,
                name: name(scope, limit, is_first),
            });
        }
        Ok(Self {
            scope,
            rules,
            concurrent,
        })
    }

    /// Whom it is for.
    #[must_use]
    pub const fn scope(&self) -> Scope {
        self.scope
    }

    /// Its rates, at most [`MAX_RULES`].
    #[must_use]
    pub fn rules(&self) -> &[Metered] {
        &self.rules
    }

    /// Requests running at once, each until its answer's last byte.
    #[must_use]
    pub const fn concurrent(&self) -> Option<u32> {
        self.concurrent
    }

    /// Whether tokens are counted at all.
    #[must_use]
    pub fn counts_tokens(&self) -> bool {
        self.rules
            .iter()
            .any(|metered| metered.unit == Unit::Tokens)
    }
}

/// The first rate of a unit has the short name; further ones are told apart by their period.
fn name(scope: Scope, limit: &Limit, is_first: bool) -> Box<str> {
    let mut name = scope.as_str().to_owned();
    if limit.unit == Unit::Tokens {
        name.push_str("-tokens");
    }
    if !is_first {
        name.push_str("-per-");
        name.push_str(&period(limit.per));
    }
    name.into()
}

/// A period in letters that a field may hold.
fn period(per: Duration) -> String {
    match per.as_secs() {
        1 if per.subsec_nanos() == 0 => "second".to_owned(),
        60 => "minute".to_owned(),
        3_600 => "hour".to_owned(),
        86_400 => "day".to_owned(),
        seconds if per.subsec_nanos() == 0 => format!("{seconds}s"),
        _ => format!("{}ms", per.as_millis()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(unit: Unit, seconds: u64) -> Limit {
        Limit {
            unit,
            count: 60,
            per: Duration::from_secs(seconds),
            burst: 60,
        }
    }

    #[test]
    fn every_rate_has_a_name_of_its_own() {
        let limits = [
            limit(Unit::Requests, 60),
            limit(Unit::Requests, 86_400),
            limit(Unit::Tokens, 86_400),
            limit(Unit::Tokens, 3_600),
            limit(Unit::Tokens, 90),
        ];
        let plan = Plan::new(Scope::User, &limits, None).expect("sound rates");
        let names: Vec<&str> = plan.rules().iter().map(|rule| &*rule.name).collect();
        let expected = [
            "user",
            "user-per-day",
            "user-tokens",
            "user-tokens-per-hour",
            "user-tokens-per-90s",
        ];
        assert_eq!(names, expected);
        let total = Plan::new(Scope::Total, &limits[2..3], None).expect("a sound rate");
        assert_eq!(&*total.rules()[0].name, "total-tokens");
    }

    #[test]
    fn what_cannot_be_counted_is_refused() {
        let many = vec![limit(Unit::Requests, 60); MAX_RULES + 1];
        assert_eq!(
            Plan::new(Scope::User, &many, None),
            Err(PlanError::TooMany(MAX_RULES + 1))
        );
        let never = Limit {
            burst: 0,
            ..limit(Unit::Tokens, 60)
        };
        let error = Plan::new(Scope::User, &[never], None);
        assert_eq!(error, Err(PlanError::Rule(RuleError::Nothing)));
    }

    #[test]
    fn an_estimate_never_costs_more_than_can_be_had() {
        let plan = Plan::new(
            Scope::User,
            &[limit(Unit::Requests, 60), limit(Unit::Tokens, 60)],
            None,
        )
        .expect("sound rates");
        let costs =
            |tokens| -> Vec<u64> { plan.rules().iter().map(|rule| rule.cost(tokens)).collect() };
        assert_eq!(costs(0), [1, 0]);
        assert_eq!(costs(59), [1, 59]);
        assert_eq!(costs(u64::MAX), [1, 60]);
    }
}

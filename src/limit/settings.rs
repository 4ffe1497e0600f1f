//! From what an operator has written to plans, and to what keeps them.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    ledger::Ledger,
    limiter::{Class, Limiter},
    plan::{Limit, Plan, PlanError, Scope, Unit},
    table::Table,
};
use crate::config::{self, PerUser, Rates, Total, WhenExceeded};

/// The most classes of users beside those without a class: a table has a shared account for each.
pub const MAX_CLASSES: usize = 255;

/// What each user may use.
///
/// # Errors
/// When a rate cannot be counted exactly, or there are too many.
pub fn plan_of_user(limits: &PerUser) -> Result<Plan, PlanError> {
    let rates = rates(limits.requests.as_ref(), limits.burst, limits.tokens.as_ref());
    Plan::new(Scope::User, &rates, limits.concurrent)
}

/// What all users together may use.
///
/// # Errors
/// When a rate cannot be counted exactly, or there are too many.
pub fn plan_of_all(limits: &Total) -> Result<Plan, PlanError> {
    let rates = rates(limits.requests.as_ref(), limits.burst, limits.tokens.as_ref());
    Plan::new(Scope::Total, &rates, limits.concurrent)
}

/// The burst belongs to the first rate of requests; others may use what their time allows at once.
fn rates(requests: Option<&Rates>, burst: Option<u64>, tokens: Option<&Rates>) -> Vec<Limit> {
    let of = |unit, rates: Option<&Rates>, burst: Option<u64>| -> Vec<Limit> {
        let rates = rates.map_or(&[][..], |Rates(rates)| rates);
        let limit = |(index, rate): (usize, &config::Rate)| Limit {
            unit,
            count: rate.count,
            per: rate.per,
            burst: burst.filter(|_| index == 0).unwrap_or(rate.count),
        };
        rates.iter().enumerate().map(limit).collect()
    };
    let mut limits = of(Unit::Requests, requests, burst);
    limits.extend(of(Unit::Tokens, tokens, None));
    limits
}

/// The limiters made so far. Routes with the same limits share one: a user has one quota, not one a route. And what all
/// users may use together is counted once, also where routes have different limits for each.
#[derive(Debug, Default)]
pub struct Limiters {
    made: Vec<(config::Limits, Arc<Limiter>)>,
    totals: Vec<(Total, Arc<Ledger>)>,
}

impl Limiters {
    /// The limiter for these limits; `None` where nothing is limited.
    ///
    /// # Errors
    /// When a rate cannot be counted exactly.
    pub fn of(&mut self, limits: &config::Limits) -> Result<Option<Arc<Limiter>>, PlanError> {
        let mut made = self.made.iter();
        if let Some((_, limiter)) = made.find(|(known, _)| are_same(known, limits)) {
            return Ok(Some(limiter.clone()));
        }
        let (mut plans, mut classes) = (Vec::new(), Vec::new());
        let others = limits.classes.0.iter();
        let others = others.map(|class| (class.name.as_str(), class.per_user.as_ref()));
        for (name, per_user) in [("", limits.per_user.as_ref())].into_iter().chain(others) {
            classes.push(class(name, per_user, &mut plans)?);
        }
        let total = match &limits.total {
            Some(total) => Some(self.total(total)?),
            None => None,
        };
        if plans.is_empty() && total.is_none() {
            return Ok(None);
        }
        let table = Table::new(plans, limits.max_users, Instant::now());
        let users = Arc::new(Ledger::in_memory(table));
        let limiter = Arc::new(Limiter::new(classes, users, total));
        self.made.push((limits.clone(), limiter.clone()));
        Ok(Some(limiter))
    }

    fn total(&mut self, total: &Total) -> Result<Arc<Ledger>, PlanError> {
        if let Some((_, ledger)) = self.totals.iter().find(|(known, _)| known == total) {
            return Ok(ledger.clone());
        }
        let plan = Arc::new(plan_of_all(total)?);
        let ledger = Arc::new(Ledger::in_memory(Table::new(vec![plan], 1, Instant::now())));
        self.totals.push((total.clone(), ledger.clone()));
        Ok(ledger)
    }
}

/// Whether they limit the same. How users are told apart is another matter.
fn are_same(one: &config::Limits, other: &config::Limits) -> bool {
    let parts = |limits: &config::Limits| {
        let config::Limits {
            per_user,
            classes,
            total,
            max_users,
            ..
        } = limits.clone();
        (per_user, classes, total, max_users)
    };
    parts(one) == parts(other)
}

fn class(
    name: &str,
    per_user: Option<&PerUser>,
    plans: &mut Vec<Arc<Plan>>,
) -> Result<Class, PlanError> {
    let Some(limits) = per_user else {
        return Ok(Class {
            name: name.into(),
            plan: None,
            max_wait: Duration::ZERO,
        });
    };
    let plan = u16::try_from(plans.len()).map_err(|_| PlanError::TooMany(plans.len()))?;
    plans.push(Arc::new(plan_of_user(limits)?));
    Ok(Class {
        name: name.into(),
        plan: Some(plan),
        max_wait: match limits.when_exceeded {
            WhenExceeded::Reject => Duration::ZERO,
            WhenExceeded::Wait => limits.max_wait,
        },
    })
}

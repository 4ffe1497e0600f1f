//! From what an operator has written to plans, and to what keeps them.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    ledger::Ledger,
    limiter::{Class, Limiter},
    plan::{Limit, Plan, PlanError, Scope, Unit},
    shared::Shared,
    table::Table,
};
use crate::{
    config::{self, PerUser, Rates, Total, WhenExceeded},
    store::limits::PlanPrint,
};

/// The most classes of users beside those without a class: a table has a shared account for each.
pub const MAX_CLASSES: usize = 255;

/// What each user may use.
///
/// # Errors
/// When a rate cannot be counted exactly, or there are too many.
pub fn plan_of_user(limits: &PerUser) -> Result<Plan, PlanError> {
    let rates = rates(
        limits.requests.as_ref(),
        limits.burst,
        limits.tokens.as_ref(),
    );
    Plan::new(Scope::User, &rates, limits.concurrent)
}

/// What all users together may use.
///
/// # Errors
/// When a rate cannot be counted exactly, or there are too many.
pub fn plan_of_all(limits: &Total) -> Result<Plan, PlanError> {
    let rates = rates(
        limits.requests.as_ref(),
        limits.burst,
        limits.tokens.as_ref(),
    );
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
#[derive(Clone, Debug, Default)]
pub struct Limiters {
    made: Vec<(Limited, Arc<Limiter>)>,
    totals: Vec<(Total, Arc<Ledger>)>,
    shared: Option<Shared>,
}

/// What is the same for routes that share a limiter. How users are told apart is another matter.
#[derive(Clone, Debug, PartialEq)]
struct Limited {
    per_user: Option<PerUser>,
    classes: Vec<(String, Option<PerUser>)>,
    total: Option<Total>,
    max_users: usize,
}

impl Limiters {
    /// None yet; those that are made hold for all instances that share a store, where there is one.
    #[must_use]
    pub fn shared_by(shared: Option<Shared>) -> Self {
        Self {
            shared,
            ..Self::default()
        }
    }

    /// The limiter of a route: one of its fellow routes', one of the rules before, or a new one; `None` where nothing is
    /// limited.
    ///
    /// # Errors
    /// When a rate cannot be counted exactly.
    pub fn of(
        &mut self,
        limits: &config::Limits,
        before: Option<&Self>,
    ) -> Result<Option<Arc<Limiter>>, PlanError> {
        let wanted = Limited::by(limits);
        if let Some(limiter) = self.known(&wanted) {
            return Ok(Some(limiter.clone()));
        }
        let limiter = match before.and_then(|before| before.known(&wanted)) {
            Some(known) => known.clone(),
            None => match self.make(&wanted, before)? {
                Some(new) => Arc::new(new),
                None => return Ok(None),
            },
        };
        if let (Some(total), Some(ledger)) = (&wanted.total, limiter.total()) {
            self.keep_total(total, ledger);
        }
        self.made.push((wanted, limiter.clone()));
        Ok(Some(limiter))
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Limiter>> {
        self.made.iter().map(|(_, limiter)| limiter)
    }

    fn known(&self, limited: &Limited) -> Option<&Arc<Limiter>> {
        let mut made = self.made.iter();
        made.find_map(|(known, limiter)| (known == limited).then_some(limiter))
    }

    fn make(&self, limited: &Limited, before: Option<&Self>) -> Result<Option<Limiter>, PlanError> {
        let (mut plans, mut classes) = (Vec::new(), Vec::new());
        let without_class = ("", limited.per_user.as_ref());
        let others = limited.classes.iter();
        let others = others.map(|(name, per_user)| (name.as_str(), per_user.as_ref()));
        for (name, per_user) in [without_class].into_iter().chain(others) {
            classes.push(class(name, per_user, &mut plans)?);
        }
        let total = match &limited.total {
            Some(total) => Some(self.total(total, before)?),
            None => None,
        };
        if plans.is_empty() && total.is_none() {
            return Ok(None);
        }
        let of_all = total.as_ref().map(|total| total.table().plans()[0].clone());
        let limited_classes = classes.iter().filter(|class| class.plan.is_some());
        let prints = limited_classes.zip(&plans);
        let prints =
            prints.map(|(class, plan)| PlanPrint::of(&class.name, plan, of_all.as_deref()));
        let prints = prints.collect();
        let table = Table::new(plans, limited.max_users, Instant::now());
        let users = Arc::new(Ledger::new(table, prints));
        let made = Limiter::new(classes, users, total);
        Ok(Some(made.shared_by(self.shared.clone())))
    }

    /// What all may use together is the same thing wherever it is written the same.
    fn total(&self, total: &Total, before: Option<&Self>) -> Result<Arc<Ledger>, PlanError> {
        let known = |limiters: &Self| {
            let mut totals = limiters.totals.iter();
            totals.find_map(|(known, ledger)| (known == total).then(|| ledger.clone()))
        };
        if let Some(ledger) = known(self).or_else(|| known(before?)) {
            return Ok(ledger);
        }
        let plan = Arc::new(plan_of_all(total)?);
        let print = PlanPrint::of("", &plan, None);
        let table = Table::new(vec![plan], 1, Instant::now());
        Ok(Arc::new(Ledger::new(table, vec![print])))
    }

    fn keep_total(&mut self, total: &Total, ledger: &Arc<Ledger>) {
        if !self.totals.iter().any(|(known, _)| known == total) {
            self.totals.push((total.clone(), ledger.clone()));
        }
    }
}

impl Limited {
    fn by(limits: &config::Limits) -> Self {
        let classes = limits.classes.0.iter();
        let class = |class: &config::Class| (class.name.clone(), class.per_user.clone());
        Self {
            per_user: limits.per_user.clone(),
            classes: classes.map(class).collect(),
            total: limits.total.clone(),
            max_users: limits.max_users,
        }
    }
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

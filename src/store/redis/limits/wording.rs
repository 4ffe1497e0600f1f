//! What is said to the scripts, and how their answers are read.

use std::time::Duration;

use redis::{ErrorKind, RedisError, RedisResult};

use super::{PlanPrint, Running, State};
use crate::{
    limit::{
        account::{Correction, correction},
        gcra::{Rule, Span, Tat},
        plan::{Metered, Plan},
    },
    store::limits::{Asked, Ending, Entry},
};

/// Where an account is kept.
#[derive(Debug)]
pub(super) struct AccountKeys {
    pub(super) rates: String,
    pub(super) leases: String,
    /// Whether a running request has something to be settled here.
    pub(super) is_leased: bool,
}

/// The keys of a request's accounts: all of them in one slot of a cluster.
pub(super) fn keys_of(prefix: &str, entries: &[Entry]) -> Vec<AccountKeys> {
    let total: Option<PlanPrint> = entries
        .iter()
        .find(|entry| entry.user.is_none())
        .map(|entry| entry.print);
    let key = |entry: &Entry| {
        let rates = match (entry.user, total) {
            (None, _) => format!("{prefix}:{{{}}}:total", entry.print),
            (Some(user), Some(total)) => {
                format!("{prefix}:{{{total}}}:{}:{}", user.hex(), entry.print)
            }
            (Some(user), None) => format!("{prefix}:{{{}}}:{}", user.hex(), entry.print),
        };
        AccountKeys {
            leases: format!("{rates}:c"),
            rates,
            is_leased: is_leased(&entry.plan),
        }
    };
    entries.iter().map(key).collect()
}

fn is_leased(plan: &Plan) -> bool {
    plan.concurrent().is_some() || plan.counts_tokens()
}

/// Keys and arguments of `admit.lua`.
pub(super) fn admission(
    running: &Running,
    lease: &str,
    lasts: Duration,
    grace: Duration,
) -> (Vec<String>, Vec<String>) {
    let mut arguments = vec![lease.to_owned(), millis(lasts), millis(grace)];
    for (entry, keys) in running.asked.entries.iter().zip(&running.keys) {
        let plan = &entry.plan;
        arguments.extend([
            plan.rules().len().to_string(),
            plan.concurrent().unwrap_or(0).to_string(),
            u8::from(keys.is_leased).to_string(),
        ]);
        for metered in plan.rules() {
            let rule = &metered.rule;
            push_span(
                &mut arguments,
                rule.span(metered.cost(running.asked.tokens)),
            );
            push_span(&mut arguments, rule.span(rule.burst()));
            arguments.push(rule.denominator().to_string());
        }
    }
    (all_keys(running), arguments)
}

/// Keys and arguments of `settle.lua`.
pub(super) fn settlement(
    running: &Running,
    lease: String,
    grace: Duration,
    ending: Option<Ending>,
) -> (Vec<String>, Vec<String>) {
    let mark = ending.map_or(grace, |_| Duration::ZERO);
    let mut arguments = vec![lease, millis(mark)];
    for entry in &running.asked.entries {
        arguments.push(entry.plan.rules().len().to_string());
        for metered in entry.plan.rules() {
            let (kind, units) = match put_right(metered, running.asked.tokens, ending) {
                Correction::None => (0, 0),
                Correction::Refund(units) => (1, units),
                Correction::Debit(units) => (2, units),
            };
            arguments.push(kind.to_string());
            push_span(&mut arguments, metered.rule.span(units));
            arguments.push(metered.rule.denominator().to_string());
        }
    }
    (all_keys(running), arguments)
}

fn put_right(metered: &Metered, asked: u64, ending: Option<Ending>) -> Correction {
    match ending {
        Some(Ending::Used(used)) => correction(metered, asked, used, 1),
        Some(Ending::Undone) => Correction::Refund(metered.cost(asked)),
        None => correction(metered, 0, asked, 1),
    }
}

fn all_keys(running: &Running) -> Vec<String> {
    let keys = running.keys.iter();
    keys.flat_map(|keys| [keys.rates.clone(), keys.leases.clone()])
        .collect()
}

fn push_span(arguments: &mut Vec<String>, Span { micros, parts }: Span) {
    arguments.extend([micros.to_string(), parts.to_string()]);
}

pub(super) fn millis(time: Duration) -> String {
    time.as_millis().to_string()
}

/// Reads what `admit.lua` returns: whether the request is admitted, the moment, and the state of each account.
pub(super) fn read_answer(asked: &Asked, reply: Vec<i64>) -> RedisResult<(bool, u64, Vec<State>)> {
    let mut numbers = reply.into_iter().map(|number| u64::try_from(number).ok());
    let mut read = || {
        let is_admitted = numbers.next()?? == 1;
        let now = numbers.next()??;
        let mut states = Vec::with_capacity(asked.entries.len());
        for entry in &asked.entries {
            let mut state = State {
                live: u32::try_from(numbers.next()??).ok()?,
                ..State::default()
            };
            for (metered, tat) in entry.plan.rules().iter().zip(&mut state.tats) {
                *tat = moment(&metered.rule, numbers.next()??, numbers.next()??)?;
            }
            states.push(state);
        }
        numbers
            .next()
            .is_none()
            .then_some((is_admitted, now, states))
    };
    read().ok_or_else(|| {
        RedisError::from((
            ErrorKind::UnexpectedReturnType,
            "the store answered something else than was asked",
        ))
    })
}

fn moment(rule: &Rule, micros: u64, parts: u64) -> Option<Tat> {
    let parts = u32::try_from(parts).ok()?;
    (parts < rule.denominator()).then_some(Tat { micros, parts })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::limit::{
        identity::UserKey,
        plan::{Limit, Scope, Unit},
    };

    fn entry(user: Option<&str>) -> Entry {
        let rate = Limit {
            unit: Unit::Requests,
            count: 7,
            per: Duration::from_mins(1),
            burst: 7,
        };
        let scope = if user.is_some() {
            Scope::User
        } else {
            Scope::Total
        };
        let plan = Plan::new(scope, &[rate], None).expect("a sound rate");
        Entry {
            user: user.map(|name| UserKey::from_source("test", name.as_bytes())),
            print: PlanPrint::of("", &plan, None),
            plan: Arc::new(plan),
        }
    }

    fn tag(key: &str) -> &str {
        let (_, rest) = key.split_once('{').expect("a hash tag");
        rest.split_once('}').expect("its end").0
    }

    #[test]
    fn keys_are_bounded_and_in_one_slot_whatever_a_user_is_called() {
        let mut tags = std::collections::HashSet::new();
        for name in ["a", &"é".repeat(5_000), "a}b{c", "*", "a b\n\0", ""] {
            for entries in [
                vec![entry(Some(name))],
                vec![entry(Some(name)), entry(None)],
            ] {
                let keys = keys_of("p", &entries);
                for account in &keys {
                    for key in [&account.rates, &account.leases] {
                        assert!(key.len() <= 2 + 66, "{key}");
                        assert_eq!(tag(key), tag(&keys[0].rates), "{key}");
                        assert!(
                            key.bytes()
                                .all(|b| b.is_ascii_alphanumeric() || b":{}".contains(&b))
                        );
                    }
                }
                if entries.len() == 1 {
                    tags.insert(tag(&keys[0].rates).to_owned());
                }
            }
        }
        assert_eq!(tags.len(), 6, "users are spread over the slots");
    }

    #[test]
    fn an_answer_to_something_else_is_an_error() {
        let asked = Asked {
            entries: vec![entry(Some("a"))],
            tokens: 0,
        };
        let (is_admitted, now, states) =
            read_answer(&asked, vec![1, 1_000, 3, 2_000, 6]).expect("sound");
        assert!(is_admitted);
        assert_eq!((now, states[0].live), (1_000, 3));
        assert_eq!(
            states[0].tats[0],
            Tat {
                micros: 2_000,
                parts: 6
            }
        );
        for reply in [
            vec![],
            vec![1],
            vec![1, 1_000, 3, 2_000],
            vec![1, 1_000, 3, 2_000, 7],
            vec![1, 1_000, 3, 2_000, 6, 1],
            vec![1, -1, 3, 2_000, 6],
            vec![1, 1_000, i64::MAX, 2_000, 6],
        ] {
            assert!(read_answer(&asked, reply.clone()).is_err(), "{reply:?}");
        }
    }
}

use std::sync::Barrier;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::*;
use crate::limit::account::{CONCURRENCY_RETRY, DeniedBy, Exhausted};
use crate::limit::plan::{Limit, Scope, Unit};
use crate::limit::standing::ConcurrentStanding;

fn user(name: &str) -> Account {
    Account::new(UserKey::from_source("test", name.as_bytes()), 0)
}

/// So many requests a minute.
fn rate(count: u64, burst: u64) -> Limit {
    Limit {
        unit: Unit::Requests,
        count,
        per: Duration::from_mins(1),
        burst,
    }
}

fn plan(rate: Option<Limit>, concurrent: Option<u32>) -> Arc<Plan> {
    let rates: Vec<_> = rate.into_iter().collect();
    Arc::new(Plan::new(Scope::User, &rates, concurrent).expect("the rule is sound"))
}

fn table(rate: Option<Limit>, concurrent: Option<u32>) -> (Table, Instant) {
    let now = Instant::now();
    let plans = vec![plan(rate, concurrent)];
    (Table::new(plans, DEFAULT_MAX_USERS, now), now)
}

fn admit(table: &Table, account: Account, now: Instant) -> Result<Admission, Denied> {
    table.admit(account, 0, now)
}

fn places(standing: &Standing) -> Option<u32> {
    standing.concurrent().map(|concurrent| concurrent.remaining)
}

fn by(what: Exhausted) -> DeniedBy {
    DeniedBy {
        scope: Scope::User,
        what,
    }
}

const BY_RATE: Exhausted = Exhausted::Rate(Unit::Requests);

#[test]
fn a_request_is_admitted_with_its_standing_and_denied_with_a_time() {
    let (table, now) = table(Some(rate(60, 2)), Some(5));
    let first = admit(&table, user("a"), now).expect("within the burst");
    let told = first.standing.rates().next().expect("there is a rate");
    assert_eq!(
        (
            told.name,
            told.limit,
            told.window,
            told.remaining,
            told.reset
        ),
        (
            "user",
            60,
            Duration::from_mins(1),
            1,
            Duration::from_secs(1)
        )
    );
    assert_eq!(
        first.standing.concurrent(),
        Some(ConcurrentStanding {
            limit: 5,
            remaining: 4
        })
    );
    let second = admit(&table, user("a"), now).expect("within the burst");
    let denied = admit(&table, user("a"), now).expect_err("over the burst");
    assert_eq!(denied.by, by(BY_RATE));
    assert_eq!(denied.retry_after, Duration::from_secs(1));
    let told = denied.standing.rates().next().expect("there is a rate");
    assert_eq!((told.remaining, told.reset), (0, denied.retry_after));
    assert_eq!(places(&second.standing), Some(3));

    let later = now + denied.retry_after;
    assert!(admit(&table, user("a"), later).is_ok());
}

#[test]
fn users_do_not_affect_each_other() {
    let (table, now) = table(Some(rate(60, 1)), Some(1));
    let _a = admit(&table, user("a"), now).expect("the first of a");
    assert!(admit(&table, user("a"), now).is_err());
    assert!(admit(&table, user("b"), now).is_ok());
}

#[test]
fn a_permit_holds_its_place_until_it_is_dropped() {
    let (table, now) = table(None, Some(1));
    let held = admit(&table, user("a"), now).expect("nothing runs");
    let denied = admit(&table, user("a"), now).expect_err("one runs");
    assert_eq!(denied.by, by(Exhausted::Concurrency));
    assert_eq!(denied.retry_after, CONCURRENCY_RETRY);
    assert_eq!(places(&denied.standing), Some(0));
    drop(held);
    assert!(admit(&table, user("a"), now).is_ok());
}

#[test]
fn a_denial_for_concurrency_takes_nothing_of_the_rate() {
    let (table, now) = table(Some(rate(60, 2)), Some(1));
    let held = admit(&table, user("a"), now).expect("the first of two");
    for _ in 0..10 {
        let denied = admit(&table, user("a"), now).expect_err("one runs");
        let standing = denied.standing.rates().next().expect("there is a rate");
        assert_eq!(standing.remaining, 1);
        assert!(standing.reset <= denied.retry_after);
    }
    drop(held);
    assert!(admit(&table, user("a"), now).is_ok());
}

#[test]
fn a_denial_by_the_rate_takes_no_place() {
    let (table, now) = table(Some(rate(60, 1)), Some(2));
    let _held = admit(&table, user("a"), now).expect("the first");
    for _ in 0..10 {
        let denied = admit(&table, user("a"), now).expect_err("over the rate");
        assert_eq!(denied.by, by(BY_RATE));
        assert_eq!(places(&denied.standing), Some(1));
    }
    assert!(admit(&table, user("a"), now + Duration::from_secs(1)).is_ok());
}

#[test]
fn no_limits_let_everything_in() {
    let (table, now) = table(None, None);
    let permits: Vec<_> = (0..1_000)
        .map(|_| admit(&table, user("a"), now).expect("no limit"))
        .collect();
    let is_free =
        |a: &Admission| a.standing.rates().next().is_none() && places(&a.standing).is_none();
    assert!(permits.iter().all(is_free));
}

#[test]
fn a_permit_may_outlive_its_table() {
    let (table, now) = table(None, Some(1));
    let held = admit(&table, user("a"), now).expect("nothing runs");
    drop(table);
    drop(held);
}

#[test]
fn a_moment_before_the_table_counts_as_its_beginning() {
    let now = Instant::now();
    let plans = vec![plan(Some(rate(60, 1)), None)];
    let table = Table::new(plans, 10, now + Duration::from_secs(10));
    assert!(admit(&table, user("a"), now).is_ok());
    let denied = admit(&table, user("a"), now).expect_err("over the burst");
    assert_eq!(denied.retry_after, Duration::from_secs(1));
}

#[test]
fn sweeping_removes_the_idle_and_only_them() {
    let (table, now) = table(Some(rate(60, 1)), None);
    let held = admit(&table, user("held"), now).expect("the first");
    for number in 0..1_000 {
        drop(admit(&table, user(&number.to_string()), now));
    }
    table.sweep(now, usize::MAX);
    assert_eq!(table.stats().users, 1_001);
    table.sweep(now + Duration::from_secs(1), usize::MAX);
    assert_eq!(table.stats().users, 1);
    drop(held);
    table.sweep(now + Duration::from_secs(1), usize::MAX);
    assert_eq!(table.stats().users, 0);
}

#[test]
fn the_table_keeps_its_bound_against_any_number_of_names() {
    let plans = vec![plan(Some(rate(60, 1)), None)];
    let now = Instant::now();
    let table = Table::new(plans, 1_000, now);
    let served = (0..50_000)
        .filter(|number: &u32| admit(&table, user(&number.to_string()), now).is_ok())
        .count();
    let stats = table.stats();
    let bound = 1_000_usize.next_multiple_of(SHARDS);
    assert_eq!(stats.users, bound);
    assert_eq!(stats.crowded, 50_000 - bound as u64);
    // Everybody with an entry got its one request, and the crowd of each part one together.
    assert_eq!(served, bound + SHARDS);
}

#[test]
fn many_threads_never_exceed_the_limit_and_leave_nothing_behind() {
    const THREADS: usize = 8;
    const LIMIT: u32 = 5;
    let (table, now) = table(None, Some(LIMIT));
    let (running, most, start) = (AtomicU32::new(0), AtomicU32::new(0), Barrier::new(THREADS));
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                start.wait();
                for _ in 0..2_000 {
                    if let Ok(admission) = admit(&table, user("a"), now) {
                        let now_running = running.fetch_add(1, Ordering::SeqCst) + 1;
                        most.fetch_max(now_running, Ordering::SeqCst);
                        std::thread::yield_now();
                        running.fetch_sub(1, Ordering::SeqCst);
                        drop(admission);
                    }
                }
            });
        }
    });
    assert!(most.into_inner() <= LIMIT);
    let last = admit(&table, user("a"), now).expect("all have left");
    assert_eq!(places(&last.standing), Some(LIMIT - 1));
}

#[test]
fn many_threads_together_are_admitted_exactly_the_burst() {
    const THREADS: usize = 8;
    let (table, now) = table(Some(rate(60, 1_000)), None);
    let admitted = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for _ in 0..500 {
                    let is_in = admit(&table, user("a"), now).is_ok();
                    admitted.fetch_add(u32::from(is_in), Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!(admitted.into_inner(), 1_000);
}

#[test]
fn what_is_shown_holds_no_more_than_eight_digits_of_a_user() {
    let (table, now) = table(Some(rate(60, 1)), Some(1));
    let admission = admit(&table, user("alice"), now).expect("the first");
    let shown = format!("{table:?} {admission:?}");
    assert!(shown.contains(&user("alice").user.hash_hex()), "{shown}");
    assert!(!shown.contains("alice"), "{shown}");
}

#[test]
fn a_denial_reads_as_a_sentence() {
    let (table, now) = table(Some(rate(60, 1)), Some(1));
    let held = admit(&table, user("a"), now).expect("the first");
    let denied = admit(&table, user("a"), now).expect_err("one runs");
    assert_eq!(
        denied.to_string(),
        "this user's limit of 1 concurrent requests is used up; try again when one has ended, or in 1 s"
    );
    drop(held);
    let denied = admit(&table, user("a"), now).expect_err("over the rate");
    assert_eq!(
        denied.to_string(),
        "this user's limit of 60 requests per 60s is used up; try again in 1 s"
    );
}

/// So many tokens a minute.
fn tokens(count: u64) -> Limit {
    Limit {
        unit: Unit::Tokens,
        ..rate(count, count)
    }
}

fn left(table: &Table, account: Account, now: Instant) -> u64 {
    let admission = table.admit(account, 0, now).expect("it costs nothing");
    let left = admission.standing.rates().next().expect("there is a rate");
    left.remaining
}

#[test]
fn a_permit_settles_what_was_reserved() {
    let (table, now) = table(Some(tokens(600)), None);
    let first = table.admit(user("a"), 500, now).expect("there is room");
    assert_eq!(left(&table, user("a"), now), 100);
    first.permit.settle(50, now);
    assert_eq!(left(&table, user("a"), now), 550);
    let second = table.admit(user("a"), 500, now).expect("there is room");
    drop(second);
    assert_eq!(
        left(&table, user("a"), now),
        50,
        "unsettled, the estimate stands"
    );
    let third = table.admit(user("a"), 50, now).expect("there is room");
    third.permit.undo();
    assert_eq!(left(&table, user("a"), now), 50);
    assert_eq!(left(&table, user("b"), now), 600);
    assert_eq!(table.busiest(9, now)[0].live, 0, "none of them runs");
}

#[test]
fn a_user_under_two_plans_has_two_accounts() {
    let now = Instant::now();
    let plans = vec![plan(Some(rate(60, 1)), None), plan(Some(rate(60, 5)), None)];
    let table = Table::new(plans, 100, now);
    let gold = Account::new(user("a").user, 1);
    assert!(admit(&table, user("a"), now).is_ok() && admit(&table, user("a"), now).is_err());
    assert!((0..5).all(|_| admit(&table, gold, now).is_ok()));
    assert!(admit(&table, gold, now).is_err());
}

#[test]
fn what_a_shared_store_says_counts_from_then_on() {
    let (table, now) = table(Some(rate(60, 3)), Some(2));
    let at = table.micros(now);
    let permit = table.adopt(user("a"), &[Tat::at(at + 2_000_000)], 0, now);
    let second = admit(&table, user("a"), now).expect("one of three is left");
    assert!(admit(&table, user("a"), now).is_err());
    drop((permit, second));
    let denied = admit(&table, user("a"), now).expect_err("nothing is left");
    assert_eq!(places(&denied.standing), Some(2));
}

#[test]
fn what_a_store_says_of_one_user_is_not_held_against_the_crowd() {
    let now = Instant::now();
    let table = Table::new(vec![plan(Some(rate(60, 3)), None)], 1, now);
    let all: Vec<_> = (0..1_000).map(|number| user(&number.to_string())).collect();
    let owes = [Tat::at(table.micros(now) + 3_600_000_000)];
    // Everybody who had an account owes an hour, and so have some for whom there was no room.
    let held: Vec<_> = all
        .iter()
        .map(|user| table.adopt(*user, &owes, 0, now))
        .collect();
    assert!(table.stats().crowded > 500);
    assert!(admit(&table, user("newcomer"), now).is_ok());
    drop(held);
}

#[test]
fn the_busiest_are_found_among_many() {
    let (table, now) = table(Some(rate(60_000, 1_000)), Some(10));
    for number in 0..2_000 {
        let account = user(&number.to_string());
        let requests = if number % 500 == 7 { number } else { 1 };
        for _ in 0..requests.min(999) {
            drop(admit(&table, account, now));
        }
    }
    let running: Vec<_> = (0..5).map(|_| admit(&table, user("runs"), now)).collect();
    let busiest = table.busiest(4, now);
    let names: Vec<_> = busiest.iter().map(|busy| busy.account).collect();
    assert_eq!(names.len(), 4);
    for expected in ["1507", "1007", "507", "runs"] {
        assert!(names.contains(&user(expected)), "{expected}");
    }
    assert!(busiest.is_sorted_by(|a, b| a.used_permille >= b.used_permille));
    assert_eq!((busiest[2].used_permille, busiest[3].live), (507, 5));
    drop(running);
    let later = now + Duration::from_secs(60);
    assert!(table.busiest(4, later).is_empty(), "all are idle again");
}

use std::sync::Barrier;
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use crate::limit::gcra::Rule;
use crate::limit::standing::{ConcurrentStanding, RateStanding};

fn user(name: &str) -> UserKey {
    UserKey::from_source("test", name.as_bytes())
}

fn rate(count: u32, burst: u64) -> Rule {
    Rule::new(count, Duration::from_mins(1), burst).expect("the rule is sound")
}

fn table(limits: Limits) -> (Table, Instant) {
    let now = Instant::now();
    (Table::new(limits, DEFAULT_MAX_USERS, now), now)
}

#[test]
fn a_request_is_admitted_with_its_standing_and_denied_with_a_time() {
    let (table, now) = table(Limits {
        rate: Some(rate(60, 2)),
        concurrent: Some(5),
    });
    let first = table.admit(user("a"), now).expect("within the burst");
    assert_eq!(
        first.standing,
        Standing {
            rate: Some(RateStanding {
                limit: 60,
                window: Duration::from_mins(1),
                remaining: 1,
                reset: Duration::from_secs(1),
            }),
            concurrent: Some(ConcurrentStanding {
                limit: 5,
                remaining: 4
            }),
        }
    );
    let second = table.admit(user("a"), now).expect("within the burst");
    let denied = table.admit(user("a"), now).expect_err("over the burst");
    assert_eq!(denied.by, DeniedBy::Rate);
    assert_eq!(denied.retry_after, Duration::from_secs(1));
    let standing = denied.standing.rate.expect("there is a rate");
    assert_eq!(
        (standing.remaining, standing.reset),
        (0, denied.retry_after)
    );
    assert_eq!(second.standing.concurrent.map(|c| c.remaining), Some(3));

    let later = now + denied.retry_after;
    assert!(table.admit(user("a"), later).is_ok());
}

#[test]
fn users_do_not_affect_each_other() {
    let (table, now) = table(Limits {
        rate: Some(rate(60, 1)),
        concurrent: Some(1),
    });
    let _a = table.admit(user("a"), now).expect("the first of a");
    assert!(table.admit(user("a"), now).is_err());
    assert!(table.admit(user("b"), now).is_ok());
}

#[test]
fn a_permit_holds_its_place_until_it_is_dropped() {
    let (table, now) = table(Limits {
        rate: None,
        concurrent: Some(1),
    });
    let held = table.admit(user("a"), now).expect("nothing runs");
    let denied = table.admit(user("a"), now).expect_err("one runs");
    assert_eq!(denied.by, DeniedBy::Concurrency);
    assert_eq!(denied.retry_after, CONCURRENCY_RETRY);
    assert_eq!(denied.standing.concurrent.map(|c| c.remaining), Some(0));
    drop(held);
    assert!(table.admit(user("a"), now).is_ok());
}

#[test]
fn a_denial_for_concurrency_takes_nothing_of_the_rate() {
    let (table, now) = table(Limits {
        rate: Some(rate(60, 2)),
        concurrent: Some(1),
    });
    let held = table.admit(user("a"), now).expect("the first of two");
    for _ in 0..10 {
        let denied = table.admit(user("a"), now).expect_err("one runs");
        let standing = denied.standing.rate.expect("there is a rate");
        assert_eq!(standing.remaining, 1);
        assert!(standing.reset <= denied.retry_after);
    }
    drop(held);
    assert!(table.admit(user("a"), now).is_ok());
}

#[test]
fn a_denial_by_the_rate_takes_no_place() {
    let (table, now) = table(Limits {
        rate: Some(rate(60, 1)),
        concurrent: Some(2),
    });
    let _held = table.admit(user("a"), now).expect("the first");
    for _ in 0..10 {
        let denied = table.admit(user("a"), now).expect_err("over the rate");
        assert_eq!(denied.by, DeniedBy::Rate);
        assert_eq!(denied.standing.concurrent.map(|c| c.remaining), Some(1));
    }
    assert!(table.admit(user("a"), now + Duration::from_secs(1)).is_ok());
}

#[test]
fn no_limits_let_everything_in() {
    let (table, now) = table(Limits::default());
    let permits: Vec<_> = (0..1_000)
        .map(|_| table.admit(user("a"), now).expect("no limit"))
        .collect();
    let nothing = Standing {
        rate: None,
        concurrent: None,
    };
    assert!(permits.iter().all(|a| a.standing == nothing));
}

#[test]
fn a_permit_may_outlive_its_table() {
    let (table, now) = table(Limits {
        rate: None,
        concurrent: Some(1),
    });
    let held = table.admit(user("a"), now).expect("nothing runs");
    drop(table);
    drop(held);
}

#[test]
fn a_moment_before_the_table_counts_as_its_beginning() {
    let now = Instant::now();
    let limits = Limits {
        rate: Some(rate(60, 1)),
        concurrent: None,
    };
    let table = Table::new(limits, 10, now + Duration::from_secs(10));
    assert!(table.admit(user("a"), now).is_ok());
    let denied = table.admit(user("a"), now).expect_err("over the burst");
    assert_eq!(denied.retry_after, Duration::from_secs(1));
}

#[test]
fn sweeping_removes_the_idle_and_only_them() {
    let (table, now) = table(Limits {
        rate: Some(rate(60, 1)),
        concurrent: None,
    });
    let held = table.admit(user("held"), now).expect("the first");
    for number in 0..1_000 {
        drop(table.admit(user(&number.to_string()), now));
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
    let limits = Limits {
        rate: Some(rate(60, 1)),
        concurrent: None,
    };
    let now = Instant::now();
    let table = Table::new(limits, 1_000, now);
    let served = (0..50_000)
        .filter(|number: &u32| table.admit(user(&number.to_string()), now).is_ok())
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
    let (table, now) = table(Limits {
        rate: None,
        concurrent: Some(LIMIT),
    });
    let (running, most, start) = (AtomicU32::new(0), AtomicU32::new(0), Barrier::new(THREADS));
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                start.wait();
                for _ in 0..2_000 {
                    if let Ok(admission) = table.admit(user("a"), now) {
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
    let last = table.admit(user("a"), now).expect("all have left");
    assert_eq!(
        last.standing.concurrent.map(|c| c.remaining),
        Some(LIMIT - 1)
    );
}

#[test]
fn many_threads_together_are_admitted_exactly_the_burst() {
    const THREADS: usize = 8;
    let (table, now) = table(Limits {
        rate: Some(rate(60, 1_000)),
        concurrent: None,
    });
    let admitted = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for _ in 0..500 {
                    let is_in = table.admit(user("a"), now).is_ok();
                    admitted.fetch_add(u32::from(is_in), Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!(admitted.into_inner(), 1_000);
}

#[test]
fn what_is_shown_holds_no_more_than_eight_digits_of_a_user() {
    let (table, now) = table(Limits {
        rate: Some(rate(60, 1)),
        concurrent: Some(1),
    });
    let admission = table.admit(user("alice"), now).expect("the first");
    let shown = format!("{table:?} {admission:?}");
    assert!(shown.contains(&user("alice").hash_hex()), "{shown}");
    assert!(!shown.contains("alice"), "{shown}");
}

#[test]
fn a_denial_reads_as_a_sentence() {
    let (table, now) = table(Limits {
        rate: Some(rate(60, 1)),
        concurrent: Some(1),
    });
    let held = table.admit(user("a"), now).expect("the first");
    let denied = table.admit(user("a"), now).expect_err("one runs");
    assert_eq!(
        denied.to_string(),
        "this user's limit of 1 concurrent requests is used up; try again when one has ended, or in 1 s"
    );
    drop(held);
    let denied = table.admit(user("a"), now).expect_err("over the rate");
    assert_eq!(
        denied.to_string(),
        "this user's limit of 60 requests per 60s is used up; try again in 1 s"
    );
}

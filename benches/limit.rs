//! What a per-user limit costs a request: time, and memory for each user.
//!
//! `cargo bench --profile ci --bench limit`. The table must answer in less than a microsecond with
//! a million users in it, and keep each of them in at most 100 bytes.

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use divan::Bencher;
use surgetank::limit::fields;
use surgetank::limit::gcra::{Rule, Tat};
use surgetank::limit::identity::UserKey;
use surgetank::limit::plan::{Limit, Plan, Scope, Unit};
use surgetank::limit::table::{Account, Table};
use tokio::time::Instant;

const USERS: u64 = 1_000_000;

fn main() {
    let before = resident_bytes();
    LazyLock::force(&FULL);
    let after = resident_bytes();
    if let (Some(before), Some(after)) = (before, after) {
        let each = after.saturating_sub(before) / USERS;
        println!("{USERS} active users in the table: {each} bytes resident for each");
    }
    divan::main();
}

struct Full {
    table: Table,
    now: Instant,
    /// Walks through all users in an order that no cache can guess.
    next: AtomicU64,
}

/// A table with a million users, all of whom have used something.
static FULL: LazyLock<Full> = LazyLock::new(|| {
    let now = Instant::now();
    let table = Table::new(plans(60_000_000, 1_000_000_000), 2 * 1_000_000, now);
    for number in 0..USERS {
        drop(table.admit(user(number), 0, now));
    }
    Full {
        table,
        now,
        next: AtomicU64::new(0),
    }
});

fn user(number: u64) -> Account {
    Account::new(UserKey::from_source("bench", &number.to_be_bytes()), 0)
}

/// A rate of requests, and eight at once.
fn plans(count: u64, burst: u64) -> Vec<Arc<Plan>> {
    let rate = Limit {
        unit: Unit::Requests,
        count,
        per: Duration::from_mins(1),
        burst,
    };
    let plan = Plan::new(Scope::User, &[rate], Some(8));
    vec![Arc::new(plan.expect("the rule is sound"))]
}

/// Admitting one of a million users, and the end of the request.
#[divan::bench(threads = [1, 2], sample_count = 200, sample_size = 1_000)]
fn admit_and_leave_among_a_million(bencher: Bencher<'_, '_>) {
    let full = &*FULL;
    bencher
        .with_inputs(|| {
            let step = full.next.fetch_add(1, Ordering::Relaxed);
            user(step.wrapping_mul(7_368_787) % USERS)
        })
        .bench_values(|user| drop(black_box(full.table.admit(user, 0, full.now))));
}

/// A user nobody has seen before, in a table whose users are all idle again.
#[divan::bench(sample_count = 200, sample_size = 500)]
fn admit_a_new_user(bencher: Bencher<'_, '_>) {
    let now = Instant::now();
    let table = Table::new(plans(60, 20), 100_000, now);
    let next = AtomicU64::new(0);
    bencher
        .with_inputs(|| {
            let number = next.fetch_add(1, Ordering::Relaxed);
            (user(number), now + Duration::from_millis(number))
        })
        .bench_values(|(user, now)| drop(black_box(table.admit(user, 0, now))));
}

/// The arithmetic alone, for an interval that is no whole number of microseconds.
#[divan::bench]
fn decide(bencher: Bencher<'_, '_>) {
    let rate = Rule::new(7, Duration::from_mins(1), 20).expect("the rule is sound");
    let mut tat = Tat::default();
    let mut now = 0;
    bencher.bench_local(|| {
        now += 5_000_000;
        rate.check(&mut tat, black_box(now), 1)
    });
}

/// From a user's name to its fingerprint.
#[divan::bench(args = [16, 128, 8_192])]
fn fingerprint(bencher: Bencher<'_, '_>, length: usize) {
    let name = vec![b'a'; length];
    bencher.bench(|| UserKey::from_source("header:x-user", black_box(&name)));
}

/// The two `RateLimit` fields of an answer.
#[divan::bench]
fn render_fields(bencher: Bencher<'_, '_>) {
    let full = &*FULL;
    let admission = full
        .table
        .admit(user(1), 0, full.now)
        .expect("far from the limit");
    bencher.bench(|| {
        let standing = black_box(&admission.standing);
        (fields::policy(standing), fields::state(standing))
    });
}

/// The memory of this process that is in RAM, where the system tells.
fn resident_bytes() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * 4_096)
}

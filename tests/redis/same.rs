//! The script, the accounts in memory and a reference model give the same answers, for any sequence of requests.

use std::{sync::Arc, time::Duration};

use rand::{Rng as _, RngExt as _, SeedableRng as _, rngs::StdRng};
use surgetank::{
    limit::{
        account::{State, decide, give_back, leave, settle},
        identity::UserKey,
        plan::{Limit, Plan, Scope, Unit},
    },
    store::{
        limits::{Asked, Ending, Entry, Lease, PlanPrint, SharedLimits as _},
        redis::limits::RedisLimits,
    },
};

use super::{
    limits::{Instance, Times},
    server::Server,
};

/// A token bucket as the textbooks have it, in exact integers: a unit is `period` drops, and `count` drops fall in every
/// microsecond.
struct Bucket {
    count: i128,
    period: i128,
    capacity: i128,
    level: i128,
    filled_at: u64,
}

impl Bucket {
    fn new(limit: &Limit) -> Self {
        let period = i128::try_from(limit.per.as_micros()).expect("a short period");
        let capacity = i128::from(limit.burst) * period;
        Self {
            count: i128::from(limit.count),
            period,
            capacity,
            level: capacity,
            filled_at: 0,
        }
    }

    fn fill(&mut self, now: u64) {
        let drops = i128::from(now.saturating_sub(self.filled_at)) * self.count;
        self.level = (self.level + drops).min(self.capacity);
        self.filled_at = self.filled_at.max(now);
    }

    fn drops(&self, units: u64) -> i128 {
        i128::from(units) * self.period
    }

    fn add(&mut self, units: u64) {
        self.level = (self.level + self.drops(units)).min(self.capacity);
    }
}

/// An account by the model: its buckets, and what runs.
struct Model {
    plan: Arc<Plan>,
    limits: Vec<Limit>,
    buckets: Vec<Bucket>,
    running: u32,
}

impl Model {
    fn costs(&self, tokens: u64) -> Vec<u64> {
        self.limits
            .iter()
            .map(|limit| cost(limit, tokens))
            .collect()
    }

    fn has_room(&mut self, tokens: u64, now: u64) -> bool {
        let costs = self.costs(tokens);
        self.buckets.iter_mut().for_each(|bucket| bucket.fill(now));
        let mut rooms = self.buckets.iter().zip(costs);
        self.plan
            .concurrent()
            .is_none_or(|limit| self.running < limit)
            && rooms.all(|(bucket, cost)| cost == 0 || bucket.level >= bucket.drops(cost))
    }

    fn enter(&mut self, tokens: u64) {
        let costs = self.costs(tokens);
        for (bucket, cost) in self.buckets.iter_mut().zip(costs) {
            bucket.level -= bucket.drops(cost);
        }
        self.running += 1;
    }

    fn leave(&mut self, reserved: u64, ending: Ending, now: u64) {
        self.running -= 1;
        for (bucket, limit) in self.buckets.iter_mut().zip(&self.limits) {
            let taken = cost(limit, reserved);
            bucket.fill(now);
            match (ending, limit.unit) {
                (Ending::Undone, _) => bucket.add(taken),
                (Ending::Used(_), Unit::Requests) => {}
                (Ending::Used(used), Unit::Tokens) => {
                    bucket.add(taken.saturating_sub(used));
                    bucket.level -= bucket.drops(used.saturating_sub(taken));
                }
            }
        }
    }
}

fn cost(limit: &Limit, tokens: u64) -> u64 {
    match limit.unit {
        Unit::Requests => 1,
        Unit::Tokens => tokens.min(limit.burst),
    }
}

fn plan(scope: Scope, random: &mut StdRng) -> (Arc<Plan>, Vec<Limit>) {
    let rates = random.random_range(0..=3);
    let mut limits: Vec<Limit> = (0..rates).map(|_| limit(random)).collect();
    let concurrent = random.random_bool(0.6).then(|| random.random_range(1..=4));
    if limits.is_empty() && concurrent.is_none() {
        limits.push(limit(random));
    }
    let plan = Plan::new(scope, &limits, concurrent).expect("sound rates");
    (Arc::new(plan), limits)
}

/// Rates that are refilled within milliseconds and ones that are not, of odd and even counts.
fn limit(random: &mut StdRng) -> Limit {
    let per = [
        Duration::from_millis(7),
        Duration::from_millis(200),
        Duration::from_secs(1),
        Duration::from_secs(86_400),
        Duration::from_micros(random.random_range(1_000..3_000_000)),
    ][random.random_range(0..5_usize)];
    Limit {
        unit: [Unit::Requests, Unit::Tokens][random.random_range(0..2_usize)],
        count: [1, 7, 60, 333, 99_991, 10_000_000][random.random_range(0..6_usize)],
        per,
        burst: random.random_range(1..=20),
    }
}

/// One account in three forms: as the script has it is in the server.
struct Account {
    entry: Entry,
    state: State,
    model: Model,
}

fn account(scope: Scope, round: u64, random: &mut StdRng) -> Account {
    let (plan, limits) = plan(scope, random);
    let name = format!("round {round}");
    Account {
        entry: Entry {
            user: (scope == Scope::User).then(|| UserKey::from_source("test", name.as_bytes())),
            // Of its own for each round, though rounds may have the same plan.
            print: PlanPrint::of(&name, &plan, None),
            plan: plan.clone(),
        },
        state: State::default(),
        model: Model {
            buckets: limits.iter().map(Bucket::new).collect(),
            plan,
            limits,
            running: 0,
        },
    }
}

/// What runs: its lease, where it has one, and its reserve.
struct Running {
    lease: Option<Lease>,
    reserved: u64,
}

#[tokio::test]
async fn the_script_the_accounts_in_memory_and_the_model_agree() {
    let server = Server::start().await;
    let instance = Instance::start(&server.store(), Times::default());
    let limits = &instance.limits;
    let seed = rand::rng().next_u64();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let (mut admitted, mut denied, mut settled) = (0, 0, 0);
    for round in 0..150 {
        let mut accounts = Vec::new();
        if random.random_bool(0.8) {
            accounts.push(account(Scope::User, round, &mut random));
        }
        if accounts.is_empty() || random.random_bool(0.5) {
            accounts.push(account(Scope::Total, round, &mut random));
        }
        let mut running = Vec::new();
        for _ in 0..random.random_range(5..25) {
            if !running.is_empty() && random.random_bool(0.3) {
                let index = random.random_range(0..running.len());
                end(
                    limits,
                    &mut accounts,
                    running.swap_remove(index),
                    &mut random,
                )
                .await;
                settled += 1;
            } else if request(limits, &mut accounts, &mut running, &mut random).await {
                admitted += 1;
            } else {
                denied += 1;
            }
            if random.random_bool(0.3) {
                tokio::time::sleep(Duration::from_millis(random.random_range(1..4))).await;
            }
        }
    }
    println!("{admitted} admitted, {denied} denied, {settled} settled");
    assert!(
        admitted > 300 && denied > 300 && settled > 100,
        "the sequences hardly touch a limit: {admitted} {denied} {settled}"
    );
}

/// A request, decided by all three at the server's moment; whether it was admitted.
async fn request(
    limits: &RedisLimits,
    accounts: &mut [Account],
    running: &mut Vec<Running>,
    random: &mut StdRng,
) -> bool {
    let tokens = random.random_range(0..30);
    let asked = Asked {
        entries: accounts
            .iter()
            .map(|account| account.entry.clone())
            .collect(),
        tokens,
    };
    let answer = limits.admit(asked).await.expect("the server answers");
    let now = answer.now;
    let mut by_memory = true;
    let mut charged: Vec<State> = accounts.iter().map(|account| account.state).collect();
    for (account, state) in accounts.iter().zip(&mut charged) {
        by_memory &= decide(&account.entry.plan, state, tokens, now).is_ok();
    }
    let rooms = accounts
        .iter_mut()
        .map(|account| account.model.has_room(tokens, now));
    let by_model = rooms.fold(true, |all, has_room| all & has_room);
    assert_eq!(
        (answer.is_admitted, by_memory),
        (by_model, by_model),
        "the script, memory; the model"
    );
    if by_model {
        for (account, state) in accounts.iter_mut().zip(charged) {
            account.state = state;
            account.model.enter(tokens);
        }
        running.push(Running {
            lease: answer.lease,
            reserved: tokens,
        });
    }
    for (account, told) in accounts.iter().zip(&answer.states) {
        same(account, told, now);
    }
    by_model
}

/// The state that the script tells is the one in memory, and what is left is what the bucket holds.
fn same(account: &Account, told: &State, now: u64) {
    let Account {
        entry,
        state,
        model,
    } = account;
    if entry.plan.concurrent().is_some() {
        assert_eq!(told.live, state.live, "running requests");
    }
    let rules = entry.plan.rules().iter().zip(&model.buckets);
    for (index, (metered, bucket)) in rules.enumerate() {
        // A moment that has passed says the same as any other.
        let quota = metered.rule.quota(told.tats[index], now);
        assert_eq!(
            quota,
            metered.rule.quota(state.tats[index], now),
            "{metered:?}"
        );
        let level = i128::from(quota.remaining);
        assert_eq!(level, (bucket.level / bucket.period).max(0), "{metered:?}");
        if told.tats[index].micros > now {
            assert_eq!(told.tats[index], state.tats[index], "{metered:?}");
        }
    }
}

/// A request ends, at the server's moment.
async fn end(limits: &RedisLimits, accounts: &mut [Account], ended: Running, random: &mut StdRng) {
    let used = Ending::Used(random.random_range(0..60));
    let Some(lease) = ended.lease else {
        // Only requests are counted, and they stay charged.
        for account in accounts {
            leave(&mut account.state);
            account.model.leave(ended.reserved, used, 0);
        }
        return;
    };
    let ending = if random.random_bool(0.25) {
        Ending::Undone
    } else {
        used
    };
    let settled = limits.settle_now(lease, ending).await;
    let now = settled
        .expect("the server answers")
        .expect("it was not settled before");
    for account in accounts {
        let plan = &account.entry.plan;
        let is_leased = plan.concurrent().is_some() || plan.counts_tokens();
        let ending = if is_leased { ending } else { used };
        match ending {
            Ending::Used(used) => settle(plan, &mut account.state, ended.reserved, used, 1, now),
            Ending::Undone => give_back(plan, &mut account.state, ended.reserved, 1),
        }
        leave(&mut account.state);
        account.model.leave(ended.reserved, ending, now);
    }
}

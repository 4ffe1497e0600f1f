//! The queue's storage in a server: the same as in a file, and shared.

use std::{path::PathBuf, sync::Arc, time::Duration};

use rand::{Rng as _, RngExt as _, SeedableRng as _, rngs::StdRng};
use surgetank::{
    config::Store,
    store::{
        jobs::{Bounds, Depth, End, JobId, Jobs, Millis, NewJob, OnCrash, Put, State, StoreError},
        redis::jobs::{LEASE, RedisJobs, Settings},
        sqlite::{self, Sqlite},
    },
    telemetry::Metrics,
};
use tokio::time::Instant;

use super::server::{PATIENCE, Server};

const HOUR: Duration = Duration::from_secs(3_600);

const BOUNDS: Bounds = Bounds {
    requests: 40,
    bytes: 6_000,
};

fn settings(on_crash: OnCrash, lease: Duration) -> Settings {
    Settings {
        bounds: BOUNDS,
        on_crash,
        keep: HOUR,
        lease,
    }
}

fn serve(store: &Store, settings: Settings) -> RedisJobs {
    let metrics = Arc::new(Metrics::new().expect("no name twice"));
    RedisJobs::serve(store, settings, &metrics).expect("a sound address")
}

fn job(user: u8, now: Millis) -> NewJob {
    NewJob {
        id: JobId::random(&mut rand::rng()),
        owner: [1; 32],
        user: [user; 16],
        key: None,
        print: [2; 32],
        route: "chat".into(),
        head: b"head".to_vec(),
        body: vec![user; 100],
        webhook: None,
        now,
        expires: now.after(HOUR),
    }
}

fn done(now: Millis) -> End {
    End::Done {
        head: b"200".to_vec(),
        body: b"an\0swer\r\n".to_vec(),
        expires: now.after(HOUR),
    }
}

/// A file of the test's own, removed with it.
struct File(PathBuf);

impl File {
    fn new() -> Self {
        let name = format!("surgetank-jobs-{}", JobId::random(&mut rand::rng()));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).expect("a directory of this test's own");
        Self(path)
    }

    fn serve(&self) -> Sqlite {
        let settings = sqlite::Settings {
            path: self.0.join("queue.db"),
            bounds: BOUNDS,
            on_crash: OnCrash::Retry,
            keep: HOUR,
        };
        Sqlite::serve(settings).expect("a new file")
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// One life, lived in both at once.
struct Twins {
    file: Sqlite,
    server: RedisJobs,
    random: StdRng,
    now: Millis,
    /// Every entry there was, and the keys that were used.
    ids: Vec<JobId>,
}

/// What both say, which has to be the same.
macro_rules! same {
    ($twins:expr, $call:ident($($argument:expr),*)) => {{
        let in_file = $twins.file.$call($($argument.clone()),*).await;
        let in_server = $twins.server.$call($($argument.clone()),*).await;
        assert_eq!(in_server, in_file, "the server, the file: {}", stringify!($call));
        in_file
    }};
}

impl Twins {
    fn any(&mut self) -> JobId {
        if self.ids.is_empty() || self.random.random_bool(0.05) {
            return JobId::random(&mut self.random);
        }
        // Mostly one of the latest: they are the ones to which something can happen.
        let from = self.ids.len().saturating_sub(25);
        self.ids[self.random.random_range(from..self.ids.len())]
    }

    fn soon(&mut self) -> Millis {
        let wait = self.random.random_range(0..5_000);
        self.now.after(Duration::from_millis(wait))
    }

    fn end(&mut self) -> End {
        let expires = self
            .now
            .after(Duration::from_millis(self.random.random_range(1..20_000)));
        let note = "it went wrong".to_owned();
        match self.random.random_range(0..5) {
            0 | 1 => End::Done {
                head: vec![0, 255, 10],
                body: vec![7; self.random.random_range(0..300)],
                expires,
            },
            2 => End::Again {
                due: self.soon(),
                uncertain: self.random.random_bool(0.3),
            },
            3 => End::Failed { note, expires },
            _ => End::Uncertain { note, expires },
        }
    }

    fn job(&mut self) -> NewJob {
        let lives = self.random.random_range(100..60_000);
        let key = self
            .random
            .random_bool(0.3)
            .then(|| [self.random.random_range(0..6); 32]);
        NewJob {
            id: JobId::random(&mut self.random),
            key,
            route: ["chat", "embeddings"][self.random.random_range(0..2_usize)].to_owned(),
            webhook: self.random.random_bool(0.5).then(|| "app".to_owned()),
            body: vec![1; self.random.random_range(0..400)],
            expires: self.now.after(Duration::from_millis(lives)),
            ..job(self.random.random_range(0..4), self.now)
        }
    }

    async fn step(&mut self) {
        self.now = self
            .now
            .after(Duration::from_millis(self.random.random_range(0..800)));
        let now = self.now;
        match self.random.random_range(0..100) {
            0..25 => {
                let job = self.job();
                if same!(self, put(job)) == Ok(Put::Kept) {
                    self.ids.push(job.id);
                }
            }
            25..60 => self.carry_out().await,
            60..64 => {
                let (id, forget) = (self.any(), self.soon());
                let _ = same!(self, remove(id, now, forget));
            }
            64..68 => {
                let (id, expires) = (self.any(), self.now.after(HOUR));
                let _ = same!(self, retry(id, now, expires));
            }
            68..75 => {
                let keep = self.soon();
                let _ = same!(self, sweep(now, keep));
                // The file knows its oldest from then on.
                assert_eq!(self.server.depth(), self.file.depth());
            }
            75..80 => self.tell().await,
            80..84 => {
                let key = [self.random.random_range(0..6); 32];
                let _ = same!(self, look_up(key));
            }
            84..90 => {
                let states = [
                    None,
                    Some(State::Pending),
                    Some(State::Gone),
                    Some(State::Done),
                ];
                let state = states[self.random.random_range(0..4_usize)];
                let _ = same!(self, list(state, 15_usize));
            }
            90..93 => {
                let routes = async |store: &dyn Jobs| {
                    let mut routes = store.routes().await.expect("it answers");
                    routes.sort();
                    routes
                };
                assert_eq!(routes(&self.server).await, routes(&self.file).await);
            }
            _ => {
                let id = self.any();
                let _ = same!(self, look(id));
                let _ = same!(self, answer(id));
            }
        }
        let counts = |depth: Depth| (depth.by_state, depth.bytes);
        assert_eq!(counts(self.server.depth()), counts(self.file.depth()));
    }

    async fn carry_out(&mut self) {
        let now = self.now;
        let route = ["chat", "embeddings"][self.random.random_range(0..2_usize)];
        let most = self.random.random_range(1..4_usize);
        for taken in same!(self, take(route, most, now)).expect("it works") {
            if self.random.random_bool(0.2) {
                let due = self.soon();
                let _ = same!(self, give_back(taken.id, due));
            } else if self.random.random_bool(0.9) {
                assert_eq!(same!(self, begin(taken.id, now)), Ok(true));
                if self.random.random_bool(0.1) {
                    let due = self.soon();
                    let _ = same!(self, give_back(taken.id, due));
                    continue;
                }
                let end = self.end();
                if self.random.random_bool(0.9) {
                    assert_eq!(same!(self, end(taken.id, end, now)), Ok(true));
                }
            }
        }
        // What is not theirs to begin or to end.
        let (id, end) = (self.any(), self.end());
        if self.random.random_bool(0.3) {
            let _ = same!(self, begin(id, now));
        }
        let _ = same!(self, end(id, end, now));
    }

    async fn tell(&mut self) {
        let (now, again) = (self.now, self.soon());
        let mut owed = Vec::new();
        for store in [&self.file as &dyn Jobs, &self.server] {
            let mut of_store = store.owed(100, now, again).await.expect("it works");
            of_store.sort_by_key(|owed| owed.record.id);
            owed.push(of_store);
        }
        assert_eq!(owed[1], owed[0]);
        for owed in &owed[0] {
            let next = self.random.random_bool(0.5).then(|| self.soon());
            let _ = same!(self, told(owed.record.id, next));
        }
    }
}

#[tokio::test]
async fn any_life_is_the_same_in_a_server_and_in_a_file() {
    let seed = rand::rng().next_u64();
    println!("seed {seed}");
    let server = Server::start().await;
    for life in 0..6 {
        let file = File::new();
        let store = Store {
            prefix: format!("life{life}"),
            ..server.store()
        };
        let mut twins = Twins {
            file: file.serve(),
            server: serve(&store, settings(OnCrash::Retry, LEASE)),
            random: StdRng::seed_from_u64(seed.wrapping_add(life)),
            now: Millis::now(),
            ids: Vec::new(),
        };
        for _ in 0..250 {
            twins.step().await;
        }
        // In the end everything is forgotten, and nothing is left of it.
        for _ in 0..12 {
            twins.now = twins.now.after(HOUR * 24);
            let (now, keep) = (twins.now, twins.now.after(HOUR));
            for route in ["chat", "embeddings"] {
                for taken in same!(twins, take(route, 100_usize, now)).expect("it works") {
                    same!(twins, give_back(taken.id, now)).expect("it works");
                }
            }
            let _ = same!(twins, sweep(now, keep));
        }
        let left = twins.server.list(None, 100).await.expect("it works");
        let pending = [State::Pending, State::Running];
        assert!(
            left.iter().all(|record| pending.contains(&record.state)),
            "{left:?}"
        );
        for record in left {
            let (id, now) = (record.id, twins.now);
            same!(twins, remove(id, now, now)).expect("it works");
        }
        let (now, keep) = (twins.now.after(HOUR), twins.now.after(HOUR));
        same!(twins, sweep(now, keep)).expect("it works");
        let keys = server.cli(&["--scan", "--pattern", &format!("life{life}:*")]);
        let keys: Vec<_> = keys
            .lines()
            .filter(|key| !key.ends_with(":seq") && !key.ends_with(":counts"))
            .collect();
        assert_eq!(keys, Vec::<&str>::new());
    }
}

#[tokio::test]
async fn no_entry_is_taken_by_two_and_none_is_forgotten() {
    let server = Server::start().await;
    let replicas: Vec<_> = (0..4)
        .map(|_| serve(&server.store(), settings(OnCrash::Retry, LEASE)))
        .collect();
    let now = Millis::now();
    let mut wanted = Vec::new();
    for number in 0..40 {
        let job = job(number % 4, now);
        wanted.push(job.id);
        assert_eq!(
            replicas[usize::from(number % 4)].put(job).await,
            Ok(Put::Kept)
        );
    }
    assert!(matches!(
        replicas[0].put(job(1, now)).await,
        Err(StoreError::Full(_))
    ));
    let mut taken = Vec::new();
    loop {
        let takes = replicas.iter().map(|replica| replica.take("chat", 3, now));
        let took = futures_util::future::join_all(takes).await;
        let took: Vec<_> = took
            .into_iter()
            .flat_map(|took| took.expect("it works"))
            .collect();
        if took.is_empty() {
            break;
        }
        taken.extend(took.into_iter().map(|taken| taken.id));
    }
    taken.sort();
    wanted.sort();
    assert_eq!(taken, wanted, "each once");
    assert_eq!(replicas[3].take("chat", 1, now).await, Ok(Vec::new()));
}

#[tokio::test]
async fn one_key_is_one_entry_also_at_the_same_moment() {
    let server = Server::start().await;
    let replicas: Vec<_> = (0..4)
        .map(|_| serve(&server.store(), settings(OnCrash::Retry, LEASE)))
        .collect();
    let now = Millis::now();
    let puts = replicas.iter().map(|replica| {
        replica.put(NewJob {
            key: Some([9; 32]),
            ..job(1, now)
        })
    });
    let put = futures_util::future::join_all(puts).await;
    let kept = put.iter().filter(|put| **put == Ok(Put::Kept)).count();
    assert_eq!(kept, 1, "{put:?}");
    let known = put
        .iter()
        .filter(|put| matches!(put, Ok(Put::Known(_))))
        .count();
    assert_eq!(known, 3, "{put:?}");
}

async fn state(store: &RedisJobs, id: JobId) -> Option<(State, bool)> {
    let record = store.look(id).await.expect("it works")?;
    Some((record.state, record.uncertain))
}

#[tokio::test]
async fn what_a_dead_replica_was_at_is_marked_and_what_it_had_taken_is_not() {
    let server = Server::start().await;
    let lease = Duration::from_millis(1_000);
    for (prefix, on_crash, expected) in [
        ("a", OnCrash::Retry, (State::Pending, true)),
        ("b", OnCrash::Uncertain, (State::Uncertain, true)),
    ] {
        let store = Store {
            prefix: prefix.into(),
            ..server.store()
        };
        let settings = settings(on_crash, lease);
        let (dying, living) = (serve(&store, settings), serve(&store, settings));
        let now = Millis::now();
        let jobs = [job(1, now), job(2, now)];
        for job in &jobs {
            assert_eq!(dying.put(job.clone()).await, Ok(Put::Kept));
        }
        assert_eq!(dying.take("chat", 9, now).await.expect("it works").len(), 2);
        assert_eq!(dying.begin(jobs[0].id, now).await, Ok(true));
        // As long as it lives it keeps them, for longer than a lease.
        tokio::time::sleep(lease * 2).await;
        assert_eq!(living.take("chat", 9, now).await, Ok(Vec::new()));
        assert_eq!(
            state(&living, jobs[0].id).await,
            Some((State::Running, false))
        );
        drop(dying);
        let began = Instant::now();
        let mut taken = Vec::new();
        let expected_takes = if on_crash == OnCrash::Retry { 2 } else { 1 };
        while taken.len() < expected_takes {
            assert!(began.elapsed() < PATIENCE, "they come back");
            taken.extend(living.take("chat", 9, now).await.expect("it works"));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let (now_state, unsure) = state(&living, jobs[0].id).await.expect("it is there");
        assert_eq!((now_state, unsure), expected);
        assert_eq!(
            state(&living, jobs[1].id).await,
            Some((State::Pending, false))
        );
        assert_eq!(living.begin(jobs[1].id, now).await, Ok(true));
        assert_eq!(living.end(jobs[1].id, done(now), now).await, Ok(true));
        let answer = living.answer(jobs[1].id).await.expect("it works");
        assert_eq!(answer, Some((b"200".to_vec(), b"an\0swer\r\n".to_vec())));
    }
}

#[tokio::test]
async fn a_replica_is_told_what_is_not_its_own_any_more_and_only_that() {
    let server = Server::start().await;
    let lease = Duration::from_millis(600);
    let (here, other) = (
        serve(&server.store(), settings(OnCrash::Retry, lease)),
        serve(&server.store(), settings(OnCrash::Retry, lease)),
    );
    let now = Millis::now();
    let jobs: Vec<_> = (1..=5).map(|user| job(user, now)).collect();
    for job in &jobs {
        assert_eq!(here.put(job.clone()).await, Ok(Put::Kept));
    }
    assert_eq!(here.take("chat", 9, now).await.expect("it works").len(), 5);
    for job in &jobs[..3] {
        assert_eq!(here.begin(job.id, now).await, Ok(true));
    }
    // One that runs and one that is held are cancelled elsewhere; one ends, one is given back, one goes on.
    for cancelled in [jobs[0].id, jobs[3].id] {
        other
            .remove(cancelled, now, now.after(HOUR))
            .await
            .expect("it works");
    }
    assert_eq!(here.end(jobs[1].id, done(now), now).await, Ok(true));
    assert_eq!(here.give_back(jobs[4].id, now).await, Ok(()));
    let (began, mut lost) = (Instant::now(), Vec::new());
    while lost.len() < 2 {
        assert!(began.elapsed() < PATIENCE, "it finds out");
        lost.extend(here.lost());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Several renewals later, nothing else has been said.
    tokio::time::sleep(lease).await;
    lost.extend(here.lost());
    lost.sort();
    let mut cancelled = [jobs[0].id, jobs[3].id];
    cancelled.sort();
    assert_eq!(lost, cancelled);
    assert_eq!(other.lost(), []);
    assert_eq!(
        state(&other, jobs[2].id).await,
        Some((State::Running, false))
    );
}

#[tokio::test]
async fn who_was_away_too_long_ends_nothing_that_is_anothers_now() {
    let server = Server::start().await;
    let lease = Duration::from_millis(600);
    let slow = super::slow::Slow::before(server.address()).await;
    let away = serve(&Store::at(slow.url()), settings(OnCrash::Retry, lease));
    let here = serve(&server.store(), settings(OnCrash::Retry, lease));
    let now = Millis::now();
    let job = job(1, now);
    assert_eq!(away.put(job.clone()).await, Ok(Put::Kept));
    assert_eq!(away.take("chat", 1, now).await.expect("it works").len(), 1);
    assert_eq!(away.begin(job.id, now).await, Ok(true));
    slow.cut(true);
    let began = Instant::now();
    while here
        .take("chat", 1, now)
        .await
        .expect("it works")
        .is_empty()
    {
        assert!(began.elapsed() < PATIENCE, "it comes back");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(here.begin(job.id, now).await, Ok(true));
    slow.cut(false);
    let ended = loop {
        match away.end(job.id, done(now), now).await {
            Ok(ended) => break ended,
            Err(_) => assert!(began.elapsed() < PATIENCE, "the store is used again"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert!(!ended, "it is another's");
    assert_eq!(state(&here, job.id).await, Some((State::Running, true)));
    assert_eq!(here.end(job.id, done(now), now).await, Ok(true));
}

#[tokio::test]
async fn what_is_still_being_given_back_is_not_handed_out_again() {
    let server = Server::start().await;
    let lease = Duration::from_millis(600);
    let slow = super::slow::Slow::before(server.address()).await;
    let away = serve(&Store::at(slow.url()), settings(OnCrash::Retry, lease));
    let now = Millis::now();
    let job = job(1, now);
    assert_eq!(away.put(job.clone()).await, Ok(Put::Kept));
    assert_eq!(away.take("chat", 1, now).await.expect("it works").len(), 1);
    slow.cut(true);
    assert!(away.give_back(job.id, now).await.is_err());
    // What it held has lapsed by now, so the store gives it to whoever asks first.
    tokio::time::sleep(lease).await;
    slow.cut(false);
    let began = Instant::now();
    let taken = loop {
        match away.take("chat", 1, now).await {
            Ok(taken) => break taken,
            Err(_) => assert!(began.elapsed() < PATIENCE, "the store is used again"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(taken.len(), 0, "the one before has not let go of it");
    assert_eq!(away.give_back(job.id, now).await, Ok(()));
    assert_eq!(away.take("chat", 1, now).await.expect("it works").len(), 1);
    assert_eq!(away.begin(job.id, now).await, Ok(true));
}

#[tokio::test]
async fn what_was_promised_outlives_a_server_that_is_killed() {
    let mut server = Server::with(&["--appendonly", "yes", "--appendfsync", "always"]).await;
    let store = serve(&server.store(), settings(OnCrash::Retry, LEASE));
    let now = Millis::now();
    let mut kept = Vec::new();
    for user in 0..20 {
        let job = job(user, now);
        assert_eq!(store.put(job.clone()).await, Ok(Put::Kept));
        kept.push(job.id);
    }
    server.kill();
    assert!(matches!(
        store.put(job(1, now)).await,
        Err(StoreError::Down(_))
    ));
    assert!(!store.is_up());
    server.back().await;
    let began = Instant::now();
    for id in kept {
        let found = loop {
            match store.look(id).await {
                Ok(found) => break found,
                Err(_) => assert!(began.elapsed() < PATIENCE, "the server is used again"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        assert_eq!(found.map(|record| record.state), Some(State::Pending));
    }
    assert!(store.is_up());
}

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::store::jobs::StoreError;

const HOUR: Duration = Duration::from_secs(3600);

/// A directory of the test's own, removed with it.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!(
            "surgetank-queue-{}",
            JobId::random(&mut rand::rng())
        ));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn settings(&self) -> Settings {
        Settings {
            path: self.0.join("queue.db"),
            bounds: Bounds {
                requests: 10_000,
                bytes: 1 << 30,
            },
            on_crash: OnCrash::Retry,
            keep: HOUR,
        }
    }

    async fn serve(&self) -> Sqlite {
        self.serve_with(self.settings()).await
    }

    /// The thread of the one before may still be on its way out.
    async fn serve_with(&self, settings: Settings) -> Sqlite {
        loop {
            match Sqlite::serve(settings.clone()) {
                Ok(store) => return store,
                Err(StartError::Locked(_)) => tokio::time::sleep(Duration::from_millis(1)).await,
                Err(error) => panic!("{error}"),
            }
        }
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
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
        body: b"answer".to_vec(),
        expires: now.after(HOUR),
    }
}

async fn state(store: &Sqlite, id: JobId) -> Option<(State, bool)> {
    store
        .look(id)
        .await
        .unwrap()
        .map(|record| (record.state, record.uncertain))
}

#[expect(clippy::too_many_lines, reason = "a life is told in one piece")]
#[tokio::test]
async fn an_entry_goes_its_way_and_outlives_the_process() {
    let (dir, now) = (Dir::new(), Millis::now());
    let store = dir.serve().await;
    let entry = job(7, now);
    assert_eq!(store.put(entry.clone()).await, Ok(Put::Kept));
    assert_eq!(store.depth().waiting(), 1);
    drop(store);

    let store = dir.serve().await;
    assert_eq!(store.routes().await.unwrap(), ["chat"]);
    assert_eq!(store.take("other", 9, now).await.unwrap(), []);
    let taken = store.take("chat", 9, now).await.unwrap();
    assert_eq!(
        (taken[0].id, &taken[0].head, &taken[0].body),
        (entry.id, &entry.head, &entry.body)
    );
    assert_eq!(
        store.take("chat", 9, now).await.unwrap(),
        [],
        "handed out once"
    );
    assert_eq!(state(&store, entry.id).await, Some((State::Pending, false)));
    assert_eq!(store.begin(entry.id, now).await, Ok(true));
    assert_eq!(state(&store, entry.id).await, Some((State::Running, false)));
    let again = End::Again {
        due: Millis(now.0 + 50),
        uncertain: false,
    };
    assert_eq!(store.end(entry.id, again, now).await, Ok(true));
    assert_eq!(
        store.take("chat", 9, now).await.unwrap(),
        [],
        "not before it is due"
    );
    let taken = store.take("chat", 9, Millis(now.0 + 50)).await.unwrap();
    assert_eq!(taken[0].attempts, 1);
    assert_eq!(store.begin(entry.id, now).await, Ok(true));
    assert_eq!(store.end(entry.id, done(now), now).await, Ok(true));
    assert_eq!(
        store.end(entry.id, done(now), now).await,
        Ok(false),
        "it has ended"
    );
    drop(store);

    let store = dir.serve().await;
    assert_eq!(state(&store, entry.id).await, Some((State::Done, false)));
    assert_eq!(
        store.answer(entry.id).await.unwrap(),
        Some((b"200".to_vec(), b"answer".to_vec()))
    );
    let depth = store.depth();
    assert_eq!(
        (
            depth.waiting(),
            depth.of(State::Done),
            depth.bytes,
            depth.oldest
        ),
        (0, 1, 9, None)
    );
    assert_eq!(
        store.remove(entry.id, now, now.after(HOUR)).await,
        Ok(Some(State::Done))
    );
    assert_eq!(state(&store, entry.id).await, Some((State::Gone, false)));
    assert_eq!(
        (store.answer(entry.id).await, store.depth().bytes),
        (Ok(None), 0)
    );
}

#[tokio::test]
async fn what_was_running_is_marked_and_what_was_taken_is_not() {
    for (on_crash, expected) in [
        (OnCrash::Retry, (State::Pending, true)),
        (OnCrash::Uncertain, (State::Uncertain, true)),
    ] {
        let (dir, now) = (Dir::new(), Millis::now());
        let settings = Settings {
            on_crash,
            ..dir.settings()
        };
        let store = dir.serve_with(settings.clone()).await;
        let jobs = [job(1, now), job(2, now)];
        for job in &jobs {
            store.put(job.clone()).await.unwrap();
        }
        store.take("chat", 9, now).await.unwrap();
        assert!(store.begin(jobs[0].id, now).await.unwrap());
        drop(store);
        let store = dir.serve_with(settings).await;
        assert_eq!(state(&store, jobs[0].id).await, Some(expected));
        assert_eq!(
            state(&store, jobs[1].id).await,
            Some((State::Pending, false))
        );
        let takes = store.take("chat", 9, now).await.unwrap().len();
        assert_eq!(takes, if on_crash == OnCrash::Retry { 2 } else { 1 });
        // The mark stays, whatever becomes of it.
        if on_crash == OnCrash::Retry {
            assert!(store.begin(jobs[0].id, now).await.unwrap());
            assert!(store.end(jobs[0].id, done(now), now).await.unwrap());
            assert_eq!(state(&store, jobs[0].id).await, Some((State::Done, true)));
        } else {
            assert!(store.retry(jobs[0].id, now, now.after(HOUR)).await.unwrap());
            assert_eq!(
                state(&store, jobs[0].id).await,
                Some((State::Pending, true))
            );
        }
    }
}

#[tokio::test]
async fn one_key_is_one_entry() {
    let (dir, now) = (Dir::new(), Millis::now());
    let store = dir.serve().await;
    let first = NewJob {
        key: Some([9; 32]),
        ..job(1, now)
    };
    assert_eq!(store.put(first.clone()).await, Ok(Put::Kept));
    let repeat = NewJob {
        key: Some([9; 32]),
        ..job(1, now)
    };
    let Ok(Put::Known(known)) = store.put(repeat).await else {
        panic!("it is known")
    };
    assert_eq!(known.id, first.id);
    assert_eq!(
        store
            .look_up([9; 32])
            .await
            .unwrap()
            .map(|record| record.id),
        Some(first.id)
    );
    assert_eq!(store.depth().waiting(), 1);
    // A removed entry's key is free again.
    store.remove(first.id, now, now.after(HOUR)).await.unwrap();
    assert_eq!(
        store
            .put(NewJob {
                key: Some([9; 32]),
                ..job(1, now)
            })
            .await,
        Ok(Put::Kept)
    );
}

#[tokio::test]
async fn bounds_hold_to_the_last_entry_and_byte() {
    let (dir, now) = (Dir::new(), Millis::now());
    let bounds = Bounds {
        requests: 3,
        bytes: 4 * 104 - 1,
    };
    let store = dir
        .serve_with(Settings {
            bounds,
            ..dir.settings()
        })
        .await;
    let puts = (0..32).map(|user| store.put(job(user, now)));
    let kept = futures_util::future::join_all(puts).await;
    assert_eq!(kept.iter().filter(|put| put.is_ok()).count(), 3);
    assert!(
        kept.iter()
            .all(|put| matches!(put, Ok(Put::Kept) | Err(StoreError::Full(_))))
    );
    let taken = store.take("chat", 1, now).await.unwrap();
    store.begin(taken[0].id, now).await.unwrap();
    store.end(taken[0].id, done(now), now).await.unwrap();
    // There is a place again, and 9 bytes of answer where 104 of a request were: one byte is missing.
    let big = NewJob {
        body: vec![0; 200],
        ..job(1, now)
    };
    assert!(matches!(store.put(big).await, Err(StoreError::Full(_))));
    assert_eq!(
        store
            .put(NewJob {
                body: vec![0; 194],
                ..job(1, now)
            })
            .await,
        Ok(Put::Kept)
    );
    assert_eq!(store.depth().bytes, 2 * 104 + 9 + 198);
}

#[tokio::test]
async fn who_queues_a_thousand_delays_the_next_user_by_one() {
    let (dir, now) = (Dir::new(), Millis::now());
    let store = dir.serve().await;
    let greedy = futures_util::future::join_all((0..1_000).map(|_| store.put(job(0, now)))).await;
    assert!(greedy.iter().all(Result::is_ok));
    // Some of it is served before the others come.
    let first = store.take("chat", 10, now).await.unwrap();
    assert_eq!(first.len(), 10);
    for user in 1..=4 {
        for _ in 0..2 {
            store.put(job(user, now)).await.unwrap();
        }
    }
    let order: Vec<u8> = store
        .take("chat", 12, now)
        .await
        .unwrap()
        .iter()
        .map(|taken| taken.user[0])
        .collect();
    assert_eq!(order, [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 0]);
    // And across a restart.
    drop(store);
    let store = dir.serve().await;
    assert_eq!(store.take("chat", 2_000, now).await.unwrap().len(), 1_008);
}

#[tokio::test]
async fn time_ends_everything_but_what_is_under_way() {
    let (dir, now) = (Dir::new(), Millis::now());
    let store = dir.serve().await;
    let (old, running, answered) = (job(1, now), job(2, now), job(3, now));
    for job in [&running, &answered, &old] {
        store.put(job.clone()).await.unwrap();
    }
    let taken = store.take("chat", 2, now).await.unwrap();
    let ids: Vec<JobId> = taken.iter().map(|taken| taken.id).collect();
    assert_eq!(ids, [running.id, answered.id]);
    for id in ids {
        store.begin(id, now).await.unwrap();
    }
    store.end(answered.id, done(now), now).await.unwrap();
    let (later, keep) = (now.after(HOUR), now.after(2 * HOUR));
    assert_eq!(
        store.take("chat", 9, later).await.unwrap(),
        [],
        "too old to be of use"
    );
    assert_eq!(store.sweep(later, keep).await, Ok(1));
    assert_eq!(state(&store, old.id).await, Some((State::Failed, false)));
    assert_eq!(
        state(&store, running.id).await,
        Some((State::Running, false))
    );
    assert_eq!(state(&store, answered.id).await, Some((State::Gone, false)));
    store.sweep(keep, keep.after(HOUR)).await.unwrap();
    assert_eq!(state(&store, answered.id).await, None, "forgotten");
    assert_eq!(state(&store, old.id).await, Some((State::Gone, false)));
}

#[tokio::test]
async fn one_process_serves_and_others_may_look() {
    let (dir, now) = (Dir::new(), Millis::now());
    let store = dir.serve().await;
    assert!(matches!(
        Sqlite::serve(dir.settings()),
        Err(StartError::Locked(_))
    ));
    let entry = job(1, now);
    store.put(entry.clone()).await.unwrap();
    let visitor = Sqlite::visit(dir.settings()).unwrap();
    assert_eq!(visitor.list(None, 9).await.unwrap().len(), 1);
    visitor
        .remove(entry.id, now, now.after(HOUR))
        .await
        .unwrap();
    assert_eq!(store.take("chat", 9, now).await.unwrap(), []);
    store.sweep(now, now.after(HOUR)).await.unwrap();
    assert_eq!(
        (store.depth().waiting(), store.depth().bytes),
        (0, 0),
        "counted anew"
    );
    assert!(!store.begin(entry.id, now).await.unwrap());
}

#[tokio::test]
async fn a_damaged_file_is_left_alone_and_taken_up_again_when_it_is_mended() {
    let (dir, now) = (Dir::new(), Millis::now());
    let path = dir.settings().path;
    let store = dir.serve().await;
    let entry = job(1, now);
    store.put(entry.clone()).await.unwrap();
    drop(store);
    drop(dir.serve().await);
    let whole = std::fs::read(&path).unwrap();
    let garbage = vec![b'x'; 20_000];
    std::fs::write(&path, &garbage).unwrap();
    let store = dir.serve().await;
    assert!(!store.is_up());
    assert!(matches!(
        store.put(job(2, now)).await,
        Err(StoreError::Down(_))
    ));
    assert!(matches!(
        store.look(entry.id).await,
        Err(StoreError::Down(_))
    ));
    assert_eq!(
        std::fs::read(&path).unwrap(),
        garbage,
        "not a byte of it was changed"
    );
    std::fs::write(&path, &whole).unwrap();
    let mended = async {
        while store.put(job(2, now)).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), mended)
        .await
        .expect("it is in service again");
    assert_eq!(store.take("chat", 9, now).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_foreign_database_is_not_touched() {
    let dir = Dir::new();
    let path = dir.settings().path;
    Connection::open(&path)
        .unwrap()
        .execute_batch("CREATE TABLE theirs (x)")
        .unwrap();
    let before = std::fs::read(&path).unwrap();
    let store = dir.serve().await;
    let error = store
        .put(job(1, Millis::now()))
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("another program"), "{error}");
    drop(store);
    let tables: i64 = Connection::open(&path)
        .unwrap()
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
        .unwrap();
    assert_eq!((tables, before.is_empty()), (1, false));
}

#[tokio::test]
async fn prompts_are_for_their_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;

    let dir = Dir::new();
    let store = dir.serve().await;
    store.put(job(1, Millis::now())).await.unwrap();
    for name in ["queue.db", "queue.db-wal", "queue.db-shm"] {
        let mode = std::fs::metadata(dir.0.join(name))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o077, 0, "{name}: {mode:o}");
    }
}

/// What may happen to a queue.
#[derive(Clone, Debug)]
enum Act {
    Put(u8),
    Take(usize),
    Begin(prop::sample::Index),
    Done(prop::sample::Index),
    Again(prop::sample::Index),
    Remove(prop::sample::Index),
    Crash,
}

fn act() -> impl Strategy<Value = Act> {
    use prop::sample::Index;
    prop_oneof![
        4 => (0..3u8).prop_map(Act::Put),
        3 => (1..4usize).prop_map(Act::Take),
        3 => any::<Index>().prop_map(Act::Begin),
        2 => any::<Index>().prop_map(Act::Done),
        1 => any::<Index>().prop_map(Act::Again),
        1 => any::<Index>().prop_map(Act::Remove),
        1 => Just(Act::Crash),
    ]
}

/// The same queue without a disk, in the simplest words.
#[derive(Default)]
struct Model {
    states: BTreeMap<JobId, (State, bool)>,
    held: Vec<JobId>,
}

impl Model {
    fn any(&self, state: State, index: prop::sample::Index) -> Option<JobId> {
        let of_state: Vec<JobId> = self
            .states
            .iter()
            .filter(|(_, (now, _))| *now == state)
            .map(|(id, _)| *id)
            .collect();
        (!of_state.is_empty()).then(|| *index.get(&of_state))
    }

    fn set(&mut self, id: JobId, state: State) {
        if let Some(entry) = self.states.get_mut(&id) {
            entry.0 = state;
        }
    }

    fn crash(&mut self) {
        self.held.clear();
        for (state, unsure) in self
            .states
            .values_mut()
            .filter(|(state, _)| *state == State::Running)
        {
            (*state, *unsure) = (State::Pending, true);
        }
    }
}

#[expect(clippy::too_many_lines, reason = "a match is as long as its arms")]
async fn play(acts: Vec<Act>) {
    let (dir, now, mut model) = (Dir::new(), Millis::now(), Model::default());
    let mut store = dir.serve().await;
    for act in acts {
        match act {
            Act::Put(user) => {
                let job = job(user, now);
                model.states.insert(job.id, (State::Pending, false));
                store.put(job).await.unwrap();
            }
            Act::Take(most) => {
                for taken in store.take("chat", most, now).await.unwrap() {
                    assert_eq!(model.states[&taken.id].0, State::Pending);
                    assert!(!model.held.contains(&taken.id), "handed out twice");
                    model.held.push(taken.id);
                }
            }
            Act::Begin(index) if !model.held.is_empty() => {
                let id = model.held.swap_remove(index.index(model.held.len()));
                let was_pending = model.states[&id].0 == State::Pending;
                assert_eq!(store.begin(id, now).await, Ok(was_pending));
                if was_pending {
                    model.set(id, State::Running);
                }
            }
            Act::Done(index) => {
                if let Some(id) = model.any(State::Running, index) {
                    assert_eq!(store.end(id, done(now), now).await, Ok(true));
                    model.set(id, State::Done);
                }
            }
            Act::Again(index) => {
                if let Some(id) = model.any(State::Running, index) {
                    let again = End::Again {
                        due: now,
                        uncertain: false,
                    };
                    assert_eq!(store.end(id, again, now).await, Ok(true));
                    model.set(id, State::Pending);
                }
            }
            Act::Remove(index) => {
                if let Some(id) = model.any(State::Pending, index) {
                    store.remove(id, now, now.after(HOUR)).await.unwrap();
                    model.set(id, State::Gone);
                }
            }
            Act::Crash => {
                drop(store);
                model.crash();
                store = dir.serve().await;
            }
            Act::Begin(_) => {}
        }
    }
    let mut waiting = 0;
    for (id, expected) in &model.states {
        assert_eq!(state(&store, *id).await, Some(*expected));
        waiting += u64::from(matches!(expected.0, State::Pending | State::Running));
    }
    assert_eq!(store.depth().waiting(), waiting, "counted beside the file");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_life_is_that_of_the_model(acts in prop::collection::vec(act(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(play(acts));
    }
}

#[tokio::test]
async fn what_is_given_back_comes_again_in_its_time_and_in_its_place() {
    let (dir, now) = (Dir::new(), Millis::now());
    let store = dir.serve().await;
    let (first, second) = (job(1, now), job(1, now));
    for entry in [&first, &second] {
        assert_eq!(store.put(entry.clone()).await, Ok(Put::Kept));
    }
    assert_eq!(store.take("chat", 1, now).await.unwrap()[0].id, first.id);
    let later = now.after(Duration::from_secs(5));
    store.give_back(first.id, later).await.unwrap();
    let taken = store.take("chat", 9, now).await.unwrap();
    assert_eq!(
        taken.iter().map(|taken| taken.id).collect::<Vec<_>>(),
        [second.id]
    );
    store.give_back(second.id, now).await.unwrap();
    let taken = store.take("chat", 9, later).await.unwrap();
    assert_eq!(
        taken.iter().map(|taken| taken.id).collect::<Vec<_>>(),
        [first.id, second.id]
    );
    assert_eq!(taken[0].attempts, 0, "it was never begun");
    assert_eq!(store.depth().waiting(), 2);
}

#[tokio::test]
async fn a_webhook_is_owed_from_the_end_until_it_is_told_also_after_a_crash() {
    let (dir, now) = (Dir::new(), Millis::now());
    let store = dir.serve().await;
    let second = Duration::from_secs(1);
    let (again, after) = (now.after(60 * second), now.after(61 * second));
    let told = NewJob {
        webhook: Some("billing".to_owned()),
        ..job(1, now)
    };
    let untold = job(2, now);
    for entry in [&told, &untold] {
        assert_eq!(store.put(entry.clone()).await, Ok(Put::Kept));
        store.take("chat", 1, now).await.unwrap();
        assert_eq!(store.begin(entry.id, now).await, Ok(true));
        assert_eq!(
            store.owed(9, now, again).await.unwrap(),
            [],
            "it has not ended"
        );
        assert_eq!(store.end(entry.id, done(now), now).await, Ok(true));
        if entry.id == untold.id {
            break;
        }
        let owed = store.owed(9, now, again).await.unwrap();
        assert_eq!(owed.len(), 1);
        assert_eq!((owed[0].record.id, owed[0].tries), (told.id, 0));
        assert_eq!(owed[0].webhook, "billing");
    }
    assert_eq!(
        store.owed(9, now, again).await.unwrap(),
        [],
        "handed out once"
    );
    drop(store);

    let store = dir.serve().await;
    let owed = store.owed(9, after, again).await.unwrap();
    assert_eq!(
        owed.iter()
            .map(|owed| (owed.record.id, owed.tries))
            .collect::<Vec<_>>(),
        [(told.id, 1)]
    );
    store.told(told.id, Some(after)).await.unwrap();
    assert_eq!(store.owed(9, after, after).await.unwrap()[0].tries, 2);
    store.told(told.id, None).await.unwrap();
    assert_eq!(store.owed(9, Millis(i64::MAX), again).await.unwrap(), []);
}

/// The tables of version 1.
const VERSION_1: &str = "
CREATE TABLE job (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, id BLOB NOT NULL UNIQUE, state INTEGER NOT NULL, unsure INTEGER NOT NULL DEFAULT 0,
    owner BLOB NOT NULL, user BLOB NOT NULL, key BLOB, print BLOB NOT NULL, route TEXT NOT NULL, turn INTEGER NOT NULL,
    queued INTEGER NOT NULL, changed INTEGER NOT NULL, due INTEGER NOT NULL DEFAULT 0, expires INTEGER NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0, bytes INTEGER NOT NULL, note TEXT, webhook TEXT, tell INTEGER,
    tellings INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE UNIQUE INDEX job_key ON job (key) WHERE key IS NOT NULL;
CREATE INDEX job_turn ON job (state, route, turn, seq);
CREATE INDEX job_user ON job (route, user, state, turn);
CREATE INDEX job_due ON job (state, due) WHERE state = 3;
CREATE INDEX job_age ON job (state, queued);
CREATE INDEX job_expires ON job (expires);
CREATE INDEX job_tell ON job (tell) WHERE tell IS NOT NULL;
CREATE TABLE request (seq INTEGER PRIMARY KEY, head BLOB NOT NULL, body BLOB NOT NULL) STRICT;
CREATE TABLE answer  (seq INTEGER PRIMARY KEY, head BLOB NOT NULL, body BLOB NOT NULL) STRICT;
PRAGMA journal_mode = WAL;
PRAGMA application_id = 0x73677471;
PRAGMA user_version = 1;
";

fn version_of(connection: &Connection) -> i64 {
    let version = connection.pragma_query_value(None, "user_version", |row| row.get(0));
    version.unwrap()
}

fn indexes(connection: &Connection) -> Vec<(String, String)> {
    let mut statement = connection
        .prepare("SELECT name, sql FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL ORDER BY name")
        .unwrap();
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)));
    rows.unwrap().collect::<Result<_, _>>().unwrap()
}

#[tokio::test]
async fn a_file_of_the_version_before_is_served_with_all_that_is_in_it() {
    let (dir, now) = (Dir::new(), Millis::now());
    let path = dir.settings().path;
    let old = Connection::open(&path).unwrap();
    old.execute_batch(VERSION_1).unwrap();
    // Entries as that version wrote them, with ids of random bits alone: waiting, held, running, not yet due, done.
    let mut ids = Vec::new();
    for (number, state) in [0, 0, 1, 2, 3, 4].into_iter().enumerate() {
        let id: [u8; 16] = rand::random();
        let seq = i64::try_from(number).unwrap() + 1;
        old.execute(
            "INSERT INTO job (seq, id, state, owner, user, print, route, turn, queued, changed, due, expires, bytes) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, 'chat', ?1, ?7, ?7, ?7, ?8, 104)",
            rusqlite::params![seq, id, state, [1_u8; 32], [9_u8; 16], [2_u8; 32], now.0 - 1_000, now.after(HOUR).0],
        )
        .unwrap();
        let table = if state == 4 { "answer" } else { "request" };
        old.execute(
            &format!("INSERT INTO {table} (seq, head, body) VALUES (?1, ?2, ?3)"),
            rusqlite::params![seq, b"head", vec![7_u8; 100]],
        )
        .unwrap();
        ids.push(JobId(id));
    }

    // Who only looks leaves it to the process that may be serving from it.
    let visitor = Sqlite::visit(dir.settings()).unwrap();
    assert_eq!(visitor.list(None, 100).await.unwrap().len(), 6);
    assert_eq!(version_of(&old), 1);
    drop((visitor, old));

    let store = dir.serve().await;
    let connection = Connection::open(&path).unwrap();
    assert_eq!(version_of(&connection), 2);
    let fresh = Dir::new();
    let _other = fresh.serve().await;
    let of_fresh = Connection::open(fresh.settings().path).unwrap();
    assert_eq!(indexes(&connection), indexes(&of_fresh), "as in a new file");
    assert_eq!(
        (store.depth().waiting(), store.depth().of(State::Done)),
        (5, 1)
    );
    assert_eq!(store.routes().await.unwrap(), ["chat"]);
    let taken = store.take("chat", 100, now).await.unwrap();
    let taken: Vec<JobId> = taken.into_iter().map(|taken| taken.id).collect();
    assert_eq!(taken, ids[..5], "in their order");
    assert!(store.look(ids[3]).await.unwrap().unwrap().uncertain);
    let answer = store.answer(ids[5]).await.unwrap().unwrap();
    assert_eq!(answer, (b"head".to_vec(), vec![7; 100]));
    // And the order goes on where it was.
    let next = job(9, now);
    assert_eq!(store.put(next.clone()).await, Ok(Put::Kept));
    assert_eq!(store.take("chat", 1, now).await.unwrap()[0].id, next.id);
}

#[tokio::test]
async fn nothing_that_is_done_for_each_request_looks_at_all_entries() {
    use statements::{COME_DUE, LAST_TURN, NEXT, OLDEST, PRESENT_TURN};

    let dir = Dir::new();
    let _store = dir.serve().await;
    let connection = Connection::open(dir.settings().path).unwrap();
    for (statement, expected) in [
        (PRESENT_TURN, "job_turn"),
        (LAST_TURN, "job_user"),
        (COME_DUE, "job_due"),
        (NEXT, "job_turn"),
        (OLDEST, "job_age"),
        (
            "SELECT seq FROM job WHERE id = ?1",
            "sqlite_autoindex_job_1",
        ),
        ("SELECT seq FROM job WHERE key = ?1", "job_key"),
        (
            "SELECT seq FROM job WHERE expires <= ?1 ORDER BY expires",
            "job_expires",
        ),
        (
            "SELECT seq FROM job WHERE tell <= ?1 ORDER BY tell",
            "job_tell",
        ),
    ] {
        let mut explain = connection
            .prepare(&format!("EXPLAIN QUERY PLAN {statement}"))
            .unwrap();
        let count = explain.parameter_count();
        let nothing = rusqlite::params_from_iter(vec![rusqlite::types::Null; count]);
        let steps = explain.query_map(nothing, |row| row.get::<_, String>(3));
        let steps: Vec<String> = steps.unwrap().collect::<Result<_, _>>().unwrap();
        let plan = steps.join("; ");
        assert!(plan.contains(expected), "{statement}: {plan}");
        assert!(!plan.contains("TEMP B-TREE"), "{statement}: {plan}");
        let scans = steps.iter().any(|step| step == "SCAN job");
        assert!(!scans, "{statement}: {plan}");
    }
}

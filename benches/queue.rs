//! What it costs to keep a request durably: `cargo bench --bench queue`.
//!
//! 32 callers at once hand in requests of 2 KiB, each waiting until its own is on the disk, first into a queue that is
//! nearly empty and then into one that holds 100,000. Told are durable entries a second and how long a caller waits.
//! The disk decides: `SURGETANK_BENCH_DIR` names a directory on the one to be measured.

use std::{path::PathBuf, sync::Arc, time::Duration};

use surgetank::store::{
    jobs::{Bounds, End, JobId, Jobs as _, Millis, NewJob, OnCrash},
    sqlite::{Settings, Sqlite},
};
use tokio::time::Instant;

const CALLERS: usize = 32;
const EACH: usize = 300;
const DEEP: usize = 100_000;

fn job(user: u8) -> NewJob {
    let now = Millis::now();
    NewJob {
        id: JobId::random(&mut rand::rng()),
        owner: [1; 32],
        user: [user; 16],
        key: None,
        print: [2; 32],
        route: "chat".to_owned(),
        head: vec![b'h'; 400],
        body: vec![b'b'; 2 * 1024],
        webhook: None,
        now,
        expires: now.after(Duration::from_secs(3600)),
    }
}

/// Runs `one` in `CALLERS` tasks, `EACH` times in each, and tells rate and waits.
async fn measure<F: Future<Output = ()> + Send>(
    name: &str,
    one: impl Fn(u8) -> F + Send + Sync + 'static,
) {
    let (began, one) = (Instant::now(), Arc::new(one));
    let callers = (0..CALLERS).map(|caller| {
        let one = one.clone();
        tokio::spawn(async move {
            let mut waits = Vec::with_capacity(EACH);
            for _ in 0..EACH {
                let began = Instant::now();
                one(u8::try_from(caller).unwrap_or_default()).await;
                waits.push(began.elapsed());
            }
            waits
        })
    });
    let mut waits = Vec::new();
    for caller in callers.collect::<Vec<_>>() {
        waits.extend(caller.await.expect("no caller panics"));
    }
    waits.sort_unstable();
    let at = |per_mille: usize| waits[(waits.len() - 1) * per_mille / 1000].as_secs_f64() * 1e3;
    let rate = waits.len() as f64 / began.elapsed().as_secs_f64();
    println!(
        "{name:<34} {rate:>9.0}/s   p50 {:>7.2} ms   p99 {:>7.2} ms   max {:>7.2} ms",
        at(500),
        at(990),
        at(1000)
    );
}

async fn operations(store: &Arc<Sqlite>, depth: &str) {
    let put = store.clone();
    measure(&format!("enqueue, {depth}"), move |user| {
        let put = put.put(job(user));
        async move {
            put.await.expect("kept");
        }
    })
    .await;
    let drain = store.clone();
    measure(&format!("take, begin and end, {depth}"), move |_| {
        let store = drain.clone();
        async move {
            let now = Millis::now();
            for taken in store.take("chat", 1, now).await.expect("taken") {
                assert!(store.begin(taken.id, now).await.expect("begun"));
                let expires = now.after(Duration::from_secs(3600));
                let end = End::Done {
                    head: vec![0; 100],
                    body: vec![0; 1024],
                    expires,
                };
                assert!(store.end(taken.id, end, now).await.expect("ended"));
            }
        }
    })
    .await;
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let place =
        std::env::var_os("SURGETANK_BENCH_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    let dir = place.join(format!(
        "surgetank-bench-{}",
        JobId::random(&mut rand::rng())
    ));
    std::fs::create_dir(&dir).expect("a directory");
    let settings = Settings {
        path: dir.join("queue.db"),
        bounds: Bounds {
            requests: 1_000_000,
            bytes: 8 << 30,
        },
        on_crash: OnCrash::Retry,
        keep: Duration::from_secs(3600),
    };
    let store = Arc::new(Sqlite::serve(settings).expect("it starts"));
    for _ in 0..100 {
        store.put(job(0)).await.expect("kept");
    }
    operations(&store, "depth 100").await;
    for _ in 0..DEEP / 1_000 {
        let puts = (0..1_000).map(|user: u32| store.put(job(user.to_le_bytes()[0])));
        for put in futures_util::future::join_all(puts).await {
            put.expect("kept");
        }
    }
    operations(&store, "depth 100,000").await;
    drop(store);
    std::fs::remove_dir_all(&dir).expect("it is ours");
}

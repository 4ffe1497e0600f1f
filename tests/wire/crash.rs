//! What was acknowledged survives whatever happens to the process and its disk.
//!
//! `SURGETANK_CRASH_ROUNDS` says how often the process is killed; a few times by default.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rand::RngExt as _;
use serde_json::json;
use surgetank::lab::{AnswerConfig, Lab, LabConfig, LabHandle, RecordConfig};
use tokio::{net::TcpStream, time::Instant};

use super::harness::{Answer, Caller, End, Folder, Process, Recipe, Request, Tongue, Wire, soon};

/// Callers that hand requests in at the same time.
const CALLERS: usize = 8;

/// The longest that the rest of the work may take when the killing is over.
const REST: Duration = Duration::from_secs(180);

fn rounds() -> u32 {
    let told = std::env::var("SURGETANK_CRASH_ROUNDS").ok();
    told.map_or(4, |rounds| rounds.parse().expect("a number of rounds"))
}

/// A fake API that takes its time, so that something is always under way, and remembers every request.
fn lab() -> LabHandle {
    let config = LabConfig {
        answer: AnswerConfig {
            words: 2,
            headers_after: Duration::from_millis(8),
            first_token: Duration::ZERO,
            interval: Duration::ZERO,
            ..AnswerConfig::default()
        },
        record: RecordConfig {
            requests: 200_000,
            body_bytes: 0,
        },
        ..LabConfig::default()
    };
    Lab::start(config).expect("a free port")
}

fn yaml(lab: &LabHandle, queue: &str) -> String {
    Recipe::over(&lab.url())
        .upstream("credential: { env: TEST_KEY }")
        .fallback("[queue, { reply: sorry }]")
        .yaml(&format!(
            "store: {{ url: 'sqlite:queue.db' }}\n\
             queue: {{ concurrency: 8, retry_base: 50ms, retry_cap: 200ms, max_requests: 1000000{queue} }}\n\
             telemetry: {{ log: json, sample: 0 }}"
        ))
        .replace("admin: none", "admin: 127.0.0.1:0")
}

async fn start(folder: Folder, yaml: &str) -> Process {
    Process::start_in(folder, yaml, &[("TEST_KEY", "configured-key")]).await
}

/// A request that is known again by `key` wherever it is met.
fn request(key: &str) -> Request {
    Tongue::Chat
        .plain()
        .header("x-lab-key", key)
        .header("prefer", "respond-async")
}

fn location(answer: &Answer) -> Option<String> {
    let is_kept = answer.status == 202;
    answer
        .head
        .one("location")
        .filter(|_| is_kept)
        .map(str::to_owned)
}

/// Hands requests in until the process is gone; notes which were acknowledged, and where.
async fn hand_in(addr: SocketAddr, name: String, kept: Arc<Mutex<HashMap<String, String>>>) {
    let Ok(stream) = TcpStream::connect(addr).await else {
        return;
    };
    let mut caller = Caller {
        wire: Wire::new(stream),
    };
    for number in 0.. {
        let key = format!("{name}-{number}");
        if caller.wire.try_send(&request(&key).bytes()).await.is_err() {
            return;
        }
        let Ok(head) = caller.wire.head().await else {
            return;
        };
        let answer = caller.body_of(head, "POST").await;
        if answer.end != End::Whole {
            return;
        }
        if let Some(location) = location(&answer) {
            let mut kept = kept.lock().expect("no test panics while it notes");
            kept.insert(key, location);
        }
    }
}

/// The final state of an entry: its status, and whether it says that it may have been carried out twice.
async fn end_of(caller: &mut Caller, location: &str) -> (u16, bool) {
    let until = Instant::now() + REST;
    loop {
        let answer = caller
            .call(&Request::get(location).header("authorization", "Bearer k"))
            .await;
        if answer.status != 202 {
            let is_uncertain = answer.head.one("x-surgetank-queue-uncertain") == Some("true")
                || answer.head.one("x-surgetank-queue-state") == Some("uncertain");
            return (answer.status, is_uncertain);
        }
        assert!(
            Instant::now() < until,
            "{location} has not ended: {}",
            answer.text()
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Kills the process again and again at random moments under load, and then lets it finish.
async fn killed(on_crash: &str) {
    let (lab, rounds) = (lab(), rounds());
    let yaml = yaml(&lab, &format!(", on_crash: {on_crash}"));
    let kept: Arc<Mutex<HashMap<String, String>>> = Arc::default();
    let mut folder = Folder::new();
    for round in 0..rounds {
        let process = start(folder, &yaml).await;
        let callers = (0..CALLERS).map(|caller| {
            let name = format!("{on_crash}-{round}-{caller}");
            tokio::spawn(hand_in(process.addr, name, kept.clone()))
        });
        let callers: Vec<_> = callers.collect();
        let moment = rand::rng().random_range(1..120);
        tokio::time::sleep(Duration::from_millis(moment)).await;
        folder = process.killed().await;
        for caller in callers {
            soon("a caller of a dead process", caller)
                .await
                .expect("no caller panics");
        }
    }
    let process = start(folder, &yaml).await;
    let mut caller = Caller::connect(process.addr).await;
    let kept = kept.lock().expect("no test panics while it notes").clone();
    let (mut doubles, mut lost, mut uncertain) = (0, 0, 0);
    for (key, location) in &kept {
        let (status, is_uncertain) = end_of(&mut caller, location).await;
        let executions = lab.requests_of(key).len();
        uncertain += u32::from(is_uncertain);
        doubles += u32::from(executions > 1);
        lost += u32::from(!is_uncertain && (status != 200 || executions == 0));
        assert!(
            executions <= 1 || is_uncertain,
            "{key} was carried out {executions} times and does not say so"
        );
        assert!(
            executions <= 1 || on_crash == "retry",
            "{key} was tried again, against the configuration"
        );
        assert!(
            status == 200 || (status == 502 && is_uncertain),
            "{key}: {status}"
        );
    }
    println!(
        "{rounds} rounds, on_crash: {on_crash}: {} acknowledged, {lost} lost, {uncertain} uncertain, {doubles} carried out twice",
        kept.len()
    );
    assert_eq!(lost, 0);
    assert!(
        kept.len() > usize::try_from(rounds).unwrap_or(0),
        "the load was one: {}",
        kept.len()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_when_the_process_is_killed_and_tries_again() {
    killed("retry").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_carried_out_twice_where_the_operator_forbids_it() {
    killed("uncertain").await;
}

#[tokio::test]
async fn a_full_disk_refuses_what_is_new_and_loses_nothing_of_what_was_kept() {
    let (lab, folder) = (lab(), Folder::new());
    let yaml = yaml(&lab, ", pace: 1/day");
    // A file may grow to two or four megabytes, depending on the shell's blocks; the signal of its end is ignored.
    let shell = "trap '' XFSZ; ulimit -f 4096";
    let process =
        Process::start_under(shell, folder, &yaml, &[("TEST_KEY", "configured-key")]).await;
    let mut kept = Vec::new();
    let mut refused = 0;
    let filler = json!({ "metadata": { "filler": "x".repeat(200_000) } });
    for number in 0..60 {
        let key = format!("full-{number}");
        let request = Tongue::Chat
            .with(false, &filler)
            .header("x-lab-key", &key)
            .header("prefer", "respond-async");
        let answer = soon("an answer", async {
            Caller::connect(process.addr).await.call(&request).await
        })
        .await;
        if let Some(location) = location(&answer) {
            kept.push((key, location));
        } else {
            let text = answer.text();
            assert_eq!(answer.status, 200, "the request goes on: {text}");
            refused += 1;
        }
    }
    assert!(
        refused > 5 && kept.len() > 2,
        "{refused} refused, {} kept",
        kept.len()
    );
    assert!(
        process.said("the queue's file cannot be used").is_some(),
        "{:?}",
        process.log()
    );
    let offered = process
        .metric("surgetank_queued_total{result=\"down\",route=\"route-1\"}")
        .await;
    assert!(offered > Some(0.0), "{offered:?}");
    let folder = process.killed().await;

    let process = start(folder, &yaml.replace("1/day", "1000/s")).await;
    let mut caller = Caller::connect(process.addr).await;
    for (key, location) in &kept {
        let (status, _) = end_of(&mut caller, location).await;
        assert_eq!((status, lab.requests_of(key).len()), (200, 1), "{key}");
    }
}

#[tokio::test]
async fn a_queue_without_a_usable_file_is_no_queue_until_it_has_one() {
    let lab = lab();
    let folder = Folder::new();
    let (place, is_over) = (folder.path("not-yet/queue.db"), AtomicBool::new(false));
    let tank = Recipe::over(&lab.url())
        .upstream("credential: { env: TEST_KEY }")
        .start_with(&format!("store: {{ url: 'sqlite:{}' }}", place.display()));
    let offer = async || location(&soon("an answer", tank.call(&request("late"))).await);
    assert_eq!(offer().await, None, "there is no such directory");
    assert_eq!(
        tank.count("surgetank_queued_total", &[("result", "down")]),
        1
    );
    std::fs::create_dir(folder.path("not-yet")).expect("a directory");
    soon("the queue is in service", async {
        while offer().await.is_none() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        is_over.store(true, Ordering::Release);
    })
    .await;
    assert!(is_over.into_inner());
    tank.at_rest().await;
}

#[tokio::test]
async fn a_second_process_does_not_serve_from_the_same_file() {
    let lab = lab();
    let yaml = yaml(&lab, "");
    let first = start(Folder::new(), &yaml).await;
    let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_surgetank"))
        .args(["run", "--config"])
        .arg(first.folder.path("surgetank.yaml"))
        .current_dir(first.folder.path(""))
        .env("TEST_KEY", "configured-key")
        .output();
    let output = soon("the second process ends", output)
        .await
        .expect("it ran");
    assert_eq!(output.status.code(), Some(69));
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("another surgetank serves from"), "{told}");
}

#[tokio::test]
async fn an_operator_looks_after_queued_requests_beside_the_process() {
    let lab = lab();
    let yaml = yaml(&lab, ", max_attempts: 1");
    let process = start(Folder::new(), &yaml).await;
    let mut caller = Caller::connect(process.addr).await;
    let failing = Tongue::Chat
        .plain()
        .header("x-lab-key", "failing")
        .header("x-lab-script", "500*")
        .header("prefer", "respond-async");
    let answer = caller.call(&failing).await;
    let at = location(&answer).expect("kept");
    let id = answer
        .head
        .one("x-surgetank-queue-id")
        .expect("an id")
        .to_owned();
    assert_eq!(end_of(&mut caller, &at).await.0, 502);
    let command = async |arguments: &[&str]| {
        let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_surgetank"))
            .arg("queue")
            .args(arguments)
            .arg("--config")
            .arg(process.folder.path("surgetank.yaml"))
            .current_dir(process.folder.path(""))
            .output();
        let output = soon("a command", output).await.expect("it ran");
        let told = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        (output.status.code(), told)
    };
    let (code, told) = command(&["list", "--state", "failed"]).await;
    assert!(
        code == Some(0) && told.contains(&id) && told.contains("the upstream answered 500"),
        "{told}"
    );
    let (code, told) = command(&["list", "--state", "done", "--json"]).await;
    assert_eq!((code, told.as_str()), (Some(0), ""));
    let (_, told) = command(&["show", &id]).await;
    assert!(
        told.contains("state      failed") && told.contains("tries      1"),
        "{told}"
    );
    let (code, told) = command(&["retry", &id]).await;
    assert_eq!(code, Some(0), "{told}");
    // The process notices what was done beside it when it sweeps.
    let tried_again = async {
        while process
            .metric("surgetank_queued_tries_total{end=\"failed\",route=\"route-1\"}")
            .await
            != Some(2.0)
        {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    soon("it is tried again", tried_again).await;
    let (code, told) = command(&["drop", &id]).await;
    assert!(code == Some(0) && told.contains("it was failed"), "{told}");
    assert_eq!(end_of(&mut caller, &at).await.0, 410);
    let (code, told) = command(&["show", "00000000000000000000000000000000"]).await;
    assert!(
        code == Some(69) && told.contains("there is no queued request"),
        "{told}"
    );
    let (code, _) = command(&["show", "nonsense"]).await;
    assert_eq!(code, Some(64));
}

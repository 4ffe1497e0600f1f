//! The queue where something is not as it should be: a caller that leaves, a storage that cannot be written, a name that
//! is not there, a user who has used too much.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, time::Duration};

use serde_json::json;

use super::{
    harness::{Answer, Caller, Folder, Process, Request, Tongue, soon, until},
    queue::{Patient, blocks, document, location, read, recipe, result, secret, tank},
};

/// A request that is to be queued at once, of this user, in the class of those who pay.
fn of_user(user: &str) -> Request {
    secret(Tongue::Messages, false)
        .header("x-surgetank-user", user)
        .header("x-plan", "gold")
}

#[tokio::test]
async fn what_a_queued_request_uses_is_charged_to_its_user() {
    let (patient, folder) = (Patient::start().await, Folder::new());
    patient.recover();
    // Only those of the class are limited: an entry that had lost its class would be charged to nobody.
    let limits = "limits: { classes: { gold: { match: { headers: { x-plan: gold } }, per_user: { tokens: 4/h } } } }";
    let tank =
        recipe(&patient.origin.url()).start_with(&format!("{}\n{limits}", blocks(&folder, "")));
    let queued = of_user("ann").header("prefer", "respond-async");
    let first = soon("202", tank.call(&queued)).await;
    assert_eq!(first.status, 202, "{}", first.text());
    // It has used nothing yet, or this one would be refused. The answer of each is told to have used three tokens.
    let location = location(&first);
    assert_eq!(
        result(&tank, &read(Tongue::Messages, &location))
            .await
            .status,
        200
    );
    let refused = soon("an answer", tank.call(&of_user("ann"))).await;
    assert_eq!(refused.status, 429, "{}", refused.text());
    let by_tokens = [("rule", "tokens")];
    assert_eq!(tank.count("surgetank_limited_total", &by_tokens), 1);
    let other = soon("an answer", tank.call(&of_user("bob"))).await;
    assert_eq!(other.status, 200, "{}", other.text());
    assert_eq!(patient.origin.seen().len(), 2);
    assert!(
        patient
            .origin
            .seen()
            .iter()
            .all(|seen| !seen.head.has("x-surgetank-class")),
        "the class is nobody's business"
    );
    tank.at_rest().await;
}

#[tokio::test]
async fn a_queued_request_of_a_class_takes_the_links_of_its_class() {
    let folder = Folder::new();
    let first = Patient::start().await;
    let second = Patient::start().await;
    second.recover();
    let chain = json!([
        { "upstream": "dear", "when": { "class": "gold" } },
        "queue",
    ]);
    let tank = recipe(&first.origin.url())
        .and_upstream(
            "dear",
            &format!(
                "base_url: '{}', credential: {{ env: TEST_KEY }}",
                second.origin.url()
            ),
        )
        .fallback(&chain.to_string())
        .start_with(&format!(
            "{}\nlimits: {{ classes: {{ gold: {{ match: {{ headers: {{ x-plan: gold }} }} }} }} }}",
            blocks(&folder, "")
        ));
    let gold = of_user("ann").header("prefer", "respond-async");
    let taken_in = soon("202", tank.call(&gold)).await;
    let answer = result(&tank, &read(Tongue::Messages, &location(&taken_in))).await;
    assert_eq!(
        (answer.status, answer.json()),
        (200, document(Tongue::Messages))
    );
    assert!(!second.origin.seen().is_empty());
    tank.at_rest().await;
}

#[tokio::test]
async fn a_webhook_that_is_not_there_is_told_to_who_wishes_for_it() {
    let (patient, folder) = (Patient::start().await, Folder::new());
    patient.recover();
    let key = folder.write("secret", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
    let webhooks = format!(
        ", webhooks: [{{ name: app, url: 'http://127.0.0.1:1/', secret: {{ file: {} }} }}]",
        key.display()
    );
    let tank = tank(&patient.origin.url(), &folder, &webhooks);
    for tongue in Tongue::ALL {
        for name in ["ap", "", "\u{e4}"] {
            for is_queued in [true, false] {
                let mut request = secret(tongue, false).header("x-surgetank-webhook", name);
                if is_queued {
                    request = request.header("prefer", "respond-async");
                }
                let refused = soon("an answer", tank.call(&request)).await;
                assert_eq!(refused.status, 400, "{name}: {}", refused.text());
                let error = &refused.json()["error"];
                assert_eq!(error["type"], "invalid_request_error");
                assert!(
                    error["message"]
                        .as_str()
                        .is_some_and(|said| said.contains("x-surgetank-webhook")),
                    "{error}"
                );
            }
        }
        let known = secret(tongue, false)
            .header("x-surgetank-webhook", "app")
            .header("prefer", "respond-async");
        assert_eq!(soon("202", tank.call(&known)).await.status, 202);
    }
    let kept = tank.count("surgetank_queued_total", &[("result", "kept")]);
    assert_eq!(kept, 3, "nothing was kept for who was refused");
}

/// The states of all entries in a file.
fn states(file: &Path) -> Vec<i64> {
    let connection = rusqlite::Connection::open(file).expect("a file");
    let mut statement = connection
        .prepare("SELECT state FROM job")
        .expect("its tables");
    let states = statement
        .query_map([], |row| row.get(0))
        .expect("it is readable");
    states.collect::<Result<_, _>>().expect("numbers")
}

#[tokio::test]
async fn an_entry_whose_caller_left_before_it_was_told_is_taken_back_unless_it_can_be_found() {
    const GONE: i64 = 7;
    let (patient, folder) = (Patient::start().await, Folder::new());
    patient.recover();
    let tank = tank(&patient.origin.url(), &folder, "");
    let file = folder.path("queue.db");
    let in_flight = || tank.metric("surgetank_in_flight_requests", &[]);
    let leave = async |request: &Request| {
        let other = rusqlite::Connection::open(&file).expect("a file");
        other
            .execute_batch("BEGIN IMMEDIATE")
            .expect("nobody writes");
        let mut caller: Caller = tank.caller().await;
        caller.send(request.bytes()).await;
        until("it waits for the disk", || in_flight() > 0.5).await;
        drop(caller);
        until("nobody waits for it", || in_flight() < 0.5).await;
        other.execute_batch("ROLLBACK").expect("it was begun");
    };
    let request = secret(Tongue::Chat, false).header("prefer", "respond-async");
    // On a machine that is slow enough, the storage gives up before this gives way.
    let leave_until_kept = async |request: &Request, entries: usize| {
        for _ in 0..20 {
            leave(request).await;
            for _ in 0..100 {
                if states(&file).len() == entries {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        panic!("nothing was written");
    };
    leave_until_kept(&request, 1).await;
    assert!(tank.count("surgetank_queued_total", &[("result", "left")]) > 0);
    until("it is taken back", || states(&file) == [GONE]).await;
    assert_eq!(
        patient.origin.seen().len(),
        0,
        "nothing was carried out for nobody"
    );

    // Who repeats it under its key finds it.
    let keyed = request.header("idempotency-key", "order-9");
    leave_until_kept(&keyed, 2).await;
    let again = soon("its answer", async {
        loop {
            let answer = tank.call(&keyed).await;
            if answer.status == 200 {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    assert_eq!(again.json(), document(Tongue::Chat));
    assert_eq!(patient.origin.seen().len(), 1, "once");
    tank.at_rest().await;
}

fn allow(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("it is ours");
}

async fn call(process: &Process, request: &Request) -> Answer {
    soon("an answer", async {
        Caller::connect(process.addr).await.call(request).await
    })
    .await
}

#[tokio::test]
async fn a_place_that_cannot_be_written_gives_the_next_link_and_loses_nothing() {
    let (patient, folder) = (Patient::start().await, Folder::new());
    let place = folder.path("queue");
    fs::create_dir(&place).expect("a new one");
    allow(&folder.path(""), 0o755);
    allow(&place, 0o500);
    let blocks = "store: { url: 'sqlite:queue/queue.db' }\n\
                  queue: { max_attempts: 1000, retry_base: 20ms, retry_cap: 50ms }\n\
                  telemetry: { log: json }";
    let yaml = recipe(&patient.origin.url())
        .fallback("[queue, { reply: sorry }]")
        .yaml(blocks)
        .replace("admin: none", "admin: 127.0.0.1:0");
    let start = async |folder: Folder, places: &[&str]| {
        let variables = [("TEST_KEY", "configured-key")];
        Process::start_unprivileged(folder, places, &yaml, &variables).await
    };
    let goes_on = async |process: &Process| {
        until("it says what is wrong", || {
            let said = process.said("the queue's file cannot be used");
            said.is_some_and(|said| said["path"] == "queue/queue.db" && said["level"] == "ERROR")
        })
        .await;
        let answer = call(process, &secret(Tongue::Chat, false)).await;
        let got = (answer.status, answer.head.one("x-surgetank-fallback"));
        assert_eq!(got, (200, Some("reply")), "{}", answer.text());
        let down = r#"surgetank_queued_total{result="down",route="route-1"}"#;
        assert_eq!(process.metric(down).await, Some(1.0));
        assert_eq!(process.metric("surgetank_queued_up").await, Some(0.0));
        assert_eq!(process.ask("/readyz").await.status, 200);
    };

    // A directory in which nothing can be made.
    let mut process = start(folder, &["queue"]).await;
    goes_on(&process).await;
    allow(&place, 0o700);
    until("it is in service", || {
        process.said("the queue is in service").is_some()
    })
    .await;
    let kept = call(&process, &secret(Tongue::Chat, false)).await;
    let location = location(&kept);

    // It becomes read-only under a process that has it open, which goes on with what it has open.
    let forbid = || {
        for entry in fs::read_dir(&place).expect("a directory") {
            allow(&entry.expect("an entry").path(), 0o400);
        }
        allow(&place, 0o500);
    };
    forbid();
    let other = call(&process, &secret(Tongue::Chat, false)).await;
    assert_eq!(other.status, 202, "{}", other.text());
    process.signal("TERM").await;
    assert!(process.ended().await.success());

    // And a file that cannot be written when the process starts.
    forbid();
    let process = start(process.left(), &["queue"]).await;
    goes_on(&process).await;
    let unknown = call(&process, &read(Tongue::Chat, &location)).await;
    assert!(
        !matches!(unknown.status, 404 | 410),
        "it is not said to be gone: {}",
        unknown.text()
    );

    // Mended, everything is there that was acknowledged.
    allow(&place, 0o700);
    for entry in fs::read_dir(&place).expect("a directory") {
        allow(&entry.expect("an entry").path(), 0o600);
    }
    patient.recover();
    for location in [location, super::queue::location(&other)] {
        let answer = soon("the answer", async {
            loop {
                let answer = call(&process, &read(Tongue::Chat, &location)).await;
                if answer.status == 200 {
                    return answer;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
        assert_eq!(answer.json(), document(Tongue::Chat));
    }
}

//! Requests that must not be lost: taken in, carried out later, given out to whom they belong.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};

use super::harness::{
    Answer, Folder, Origin, Recipe, Request, Seen, Serving, Tank, Tongue, chunked, soon, until,
};

const SECRET: &str = "CANARY-of-the-caller";

/// An upstream that fails until it is told to answer.
pub(super) struct Patient {
    pub(super) origin: Serving,
    is_well: Arc<AtomicBool>,
}

impl Patient {
    pub(super) async fn start() -> Self {
        let is_well = Arc::new(AtomicBool::new(false));
        let well = is_well.clone();
        let origin = Origin::start().await.serve(move |seen| {
            Some(if well.load(Ordering::Acquire) {
                whole(seen)
            } else {
                error()
            })
        });
        Self { origin, is_well }
    }

    pub(super) fn recover(&self) {
        self.is_well.store(true, Ordering::Release);
    }
}

fn error() -> Vec<u8> {
    let body = r#"{"error":{"message":"m","type":"server_error","param":null,"code":null}}"#;
    let length = body.len();
    format!("HTTP/1.1 500 Internal Server Error\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}").into_bytes()
}

fn tongue_of(seen: &Seen) -> Tongue {
    let path = seen.head.start.split(' ').nth(1).expect("a target");
    let mut tongues = Tongue::ALL.into_iter();
    tongues
        .find(|tongue| tongue.path() == path)
        .expect("a known path")
}

/// What the upstream would have said to anybody.
fn whole(seen: &Seen) -> Vec<u8> {
    let body: Value = serde_json::from_slice(&seen.body).expect("JSON");
    if body["stream"] == true {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nx-of-the-vendor: yes\r\ntransfer-encoding: chunked\r\n\r\n";
        let mut answer = head.as_bytes().to_vec();
        for event in tongue_of(seen).events() {
            answer.extend(chunked(event));
        }
        answer.extend_from_slice(b"0\r\n\r\n");
        return answer;
    }
    let body = document(tongue_of(seen)).to_string();
    let length = body.len();
    format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx-of-the-vendor: yes\r\ncontent-length: {length}\r\n\r\n{body}").into_bytes()
}

pub(super) fn document(tongue: Tongue) -> Value {
    match tongue {
        Tongue::Messages => {
            json!({ "id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": [{ "type": "text", "text": "Hello there" }], "stop_reason": "end_turn", "stop_sequence": null, "usage": { "input_tokens": 1, "output_tokens": 2 } })
        }
        Tongue::Chat => {
            json!({ "id": "c", "object": "chat.completion", "choices": [{ "index": 0, "message": { "role": "assistant", "content": "Hello there", "refusal": null }, "finish_reason": "stop" }] })
        }
        Tongue::Responses => {
            json!({ "id": "r", "object": "response", "status": "completed", "output": [{ "type": "message", "id": "m", "role": "assistant", "status": "completed", "content": [{ "type": "output_text", "text": "Hello there", "annotations": [] }] }] })
        }
    }
}

/// A proxy with a queue in its folder. Its breaker opens again at once, and so does its queue.
pub(super) fn recipe(url: &str) -> Recipe {
    Recipe::over(url)
        .upstream("credential: { env: TEST_KEY }")
        .retry("max_retries: 0, patience: 200ms")
        .fallback("[queue]")
}

pub(super) fn blocks(folder: &Folder, queue: &str) -> String {
    let file = folder.path("queue.db");
    let waits = if queue.contains("retry_base") {
        ""
    } else {
        ", retry_base: 20ms, retry_cap: 50ms"
    };
    format!(
        "store: {{ url: 'sqlite:{}' }}\nqueue: {{ max_attempts: 1000{waits}{queue} }}",
        file.display()
    )
}

pub(super) fn tank(url: &str, folder: &Folder, queue: &str) -> Tank {
    recipe(url).start_with(&blocks(folder, queue))
}

/// A request with a credential that must be found nowhere.
pub(super) fn secret(tongue: Tongue, stream: bool) -> Request {
    let body = json!({ "metadata": { "user_id": "u" } });
    tongue.with(stream, &body).header("x-goog-api-key", SECRET)
}

/// Reads an answer with the credential of `secret`.
pub(super) fn read(tongue: Tongue, location: &str) -> Request {
    let key = match tongue {
        Tongue::Messages => ("x-api-key", "k"),
        Tongue::Chat | Tongue::Responses => ("authorization", "Bearer k"),
    };
    Request::get(location)
        .header(key.0, key.1)
        .header("x-goog-api-key", SECRET)
}

/// Asks until the answer is there.
pub(super) async fn result(tank: &Tank, request: &Request) -> Answer {
    soon("the answer of a queued request", async {
        loop {
            let answer = tank.call(request).await;
            if answer.status != 202 {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
}

pub(super) fn location(answer: &Answer) -> String {
    let location = answer
        .head
        .one("location")
        .unwrap_or_else(|| panic!("{:?}: {}", answer.head, answer.text()));
    let id = answer.head.one("x-surgetank-queue-id").expect("an id");
    assert_eq!(location, format!("/_surgetank/queue/{id}"));
    location.to_owned()
}

fn assert_accepted(answer: &Answer) {
    assert_eq!(answer.status, 202, "{}", answer.text());
    assert_eq!(answer.head.one("x-surgetank-fallback"), Some("queue"));
    let wait: u64 = answer
        .head
        .one("retry-after")
        .and_then(|wait| wait.parse().ok())
        .expect("a wait");
    assert!((1..=60).contains(&wait), "{wait}");
}

#[tokio::test]
async fn a_request_of_an_outage_is_kept_and_its_answer_given_out_when_it_is_over() {
    let (patient, folder) = (Patient::start().await, Folder::new());
    let tank = tank(&patient.origin.url(), &folder, "");
    let mut queued = Vec::new();
    for tongue in Tongue::ALL {
        for stream in [false, true] {
            let answer = soon("202", tank.call(&secret(tongue, stream))).await;
            assert_accepted(&answer);
            let location = location(&answer);
            let said = if stream {
                assert!(
                    answer.text().contains(tongue.terminator()),
                    "{}",
                    answer.text()
                );
                tongue.text_of_stream(&answer.body)
            } else {
                tongue.text_of_answer(&answer.json())
            };
            assert!(
                said.contains("queued") && said.contains(&location),
                "{said}"
            );
            let pending = tank.call(&read(tongue, &location)).await;
            assert_eq!(pending.status, 202);
            assert!(matches!(
                pending.head.one("x-surgetank-queue-state"),
                Some("pending" | "running")
            ));
            assert!(pending.head.has("retry-after"));
            assert_eq!(pending.json()["object"], "surgetank.queued_request");
            queued.push((tongue, stream, location));
        }
    }
    assert_eq!(
        tank.count("surgetank_queued_total", &[("result", "kept")]),
        6
    );
    patient.recover();
    for (tongue, stream, location) in queued {
        let answer = result(&tank, &read(tongue, &location)).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.head.one("x-surgetank-fallback"), Some("queue"));
        assert_eq!(answer.head.one("x-surgetank-queue-state"), Some("done"));
        assert_eq!(answer.head.one("x-of-the-vendor"), Some("yes"));
        if stream {
            assert_eq!(answer.text(), tongue.events().concat());
            assert_eq!(answer.head.one("content-type"), Some("text/event-stream"));
        } else {
            assert_eq!(answer.json(), document(tongue));
        }
        let again = tank.call(&read(tongue, &location)).await;
        assert_eq!(again.body, answer.body, "it is kept");
    }
    for seen in patient.origin.seen() {
        for name in ["x-goog-api-key", "prefer"] {
            assert!(!seen.head.has(name), "{:?}", seen.head);
        }
        let key = [seen.head.one("x-api-key"), seen.head.one("authorization")];
        assert!(
            key.contains(&Some("configured-key")) || key.contains(&Some("Bearer configured-key")),
            "{key:?}"
        );
    }
    tank.at_rest().await;
    for file in ["queue.db", "queue.db-wal"] {
        let content = std::fs::read(folder.path(file)).unwrap_or_default();
        assert!(
            memchr::memmem::find(&content, SECRET.as_bytes()).is_none(),
            "{file}"
        );
    }
}

#[tokio::test]
async fn who_prefers_to_be_answered_later_is_told_so_before_anything_is_tried() {
    let (patient, folder) = (Patient::start().await, Folder::new());
    patient.recover();
    let tank = recipe(&patient.origin.url())
        .fallback("[]")
        .start_with(&blocks(&folder, ""));
    let request = secret(Tongue::Chat, false).header("prefer", "respond-async");
    let answer = soon("202", tank.call(&request)).await;
    assert_accepted(&answer);
    assert_eq!(answer.head.one("preference-applied"), Some("respond-async"));
    assert_eq!(answer.number("x-surgetank-attempts"), 0);
    let answer = result(&tank, &read(Tongue::Chat, &location(&answer))).await;
    assert_eq!(answer.json(), document(Tongue::Chat));
    assert_eq!(patient.origin.seen().len(), 1, "carried out once");

    // Who would rather wait for a while gets a real answer where there is one.
    let request = secret(Tongue::Chat, false).header("prefer", "respond-async, wait=10");
    let answer = soon("an answer", tank.call(&request)).await;
    assert_eq!(
        (answer.status, answer.head.has("preference-applied")),
        (200, false)
    );
    tank.at_rest().await;
}

#[tokio::test]
async fn the_queue_can_be_asked_for_where_no_chain_offers_it() {
    let (patient, folder) = (Patient::start().await, Folder::new());
    let tank = recipe(&patient.origin.url())
        .fallback("[{ reply: sorry }]")
        .start_with(&blocks(&folder, ""));
    let answer = soon("a reply", tank.call(&secret(Tongue::Chat, false))).await;
    assert_eq!(answer.head.one("x-surgetank-fallback"), Some("reply"));
    for (name, value) in [
        ("x-surgetank-fallback", "queue"),
        ("prefer", "respond-async, wait=1"),
    ] {
        let request = secret(Tongue::Chat, false).header(name, value);
        let answer = soon("202", tank.call(&request)).await;
        assert_accepted(&answer);
        assert_eq!(answer.number("x-surgetank-attempts"), 1, "{name}");
    }
    // An embedding cannot be invented, so who asks gets a plain word, and who does not ask is never queued.
    let embedding = Request::post("/v1/embeddings", r#"{"model":"e","input":"x"}"#);
    let answer = soon(
        "202",
        tank.call(&embedding.clone().header("x-surgetank-fallback", "queue")),
    )
    .await;
    assert_accepted(&answer);
    assert_eq!(answer.json()["status"], "pending");
    let answer = soon("an error", tank.call(&embedding)).await;
    assert_eq!(answer.status, 500);
    tank.at_rest().await;
}

#[tokio::test]
async fn an_entry_is_there_for_nobody_but_who_queued_it() {
    let (patient, folder) = (Patient::start().await, Folder::new());
    let tank = tank(&patient.origin.url(), &folder, "");
    let answer = soon("202", tank.call(&secret(Tongue::Chat, false))).await;
    let location = location(&answer);
    let strangers = [
        Request::get(&location),
        Request::get(&location).header("authorization", "Bearer k"),
        Request::get(&location)
            .header("authorization", "Bearer other")
            .header("x-goog-api-key", SECRET),
        Request::new("DELETE", &location).header("authorization", "Bearer k"),
        read(
            Tongue::Chat,
            "/_surgetank/queue/00000000000000000000000000000000",
        ),
        read(Tongue::Chat, "/_surgetank/queue/nonsense"),
        read(Tongue::Chat, "/_surgetank/else"),
    ];
    let mut told = Vec::new();
    for stranger in strangers {
        let answer = tank.call(&stranger).await;
        assert_eq!(answer.status, 404, "{stranger:?}");
        told.push(answer.json()["error"]["message"].clone());
    }
    told.dedup();
    assert_eq!(
        told.len(),
        1,
        "nothing tells a wrong credential from a wrong id"
    );
    let same = Request::get(&location)
        .header("x-api-key", "k")
        .header("api-key", SECRET);
    assert_eq!(
        tank.call(&same).await.status,
        202,
        "wherever the credential stands"
    );
    let wrong = Request::new("PUT", &location)
        .header("x-api-key", "k")
        .header("api-key", SECRET);
    let answer = tank.call(&wrong).await;
    assert_eq!(
        (answer.status, answer.head.one("allow")),
        (405, Some("GET, HEAD, DELETE"))
    );
    assert_eq!(
        patient
            .origin
            .seen()
            .iter()
            .filter(|seen| seen.head.start.contains("_surgetank"))
            .count(),
        0
    );
    tank.at_rest().await;
}

#[tokio::test]
async fn answers_stand_behind_the_tokens_of_callers() {
    let (patient, folder) = (Patient::start().await, Folder::new());
    let tokens = folder.write("tokens", "0123456789abcdef-one\n0123456789abcdef-two\n");
    let auth = format!(
        "auth: {{ tokens: {{ file: {} }} }}\n{}",
        tokens.display(),
        blocks(&folder, "")
    );
    let tank = recipe(&patient.origin.url()).start_with(&auth);
    let with = |token: &str, request: Request| {
        request.header("x-surgetank-token", &format!("0123456789abcdef-{token}"))
    };
    let queued = with("one", Tongue::Chat.plain());
    let answer = soon("202", tank.call(&queued)).await;
    let location = location(&answer);
    let get = || Request::get(&location).header("authorization", "Bearer k");
    assert_eq!(tank.call(&get()).await.status, 401);
    assert_eq!(tank.call(&with("two", get())).await.status, 404);
    assert_eq!(tank.call(&with("one", get())).await.status, 202);
    tank.at_rest().await;
}

#[tokio::test]
async fn a_cancelled_request_is_not_carried_out() {
    let (patient, folder) = (Patient::start().await, Folder::new());
    let tank = tank(
        &patient.origin.url(),
        &folder,
        ", retry_base: 10s, retry_cap: 10s",
    );
    let answer = soon("202", tank.call(&secret(Tongue::Chat, false))).await;
    let location = location(&answer);
    let delete = read(Tongue::Chat, &location).method("DELETE");
    assert_eq!(tank.call(&delete).await.status, 204);
    let answer = tank.call(&read(Tongue::Chat, &location)).await;
    assert_eq!(
        (answer.status, answer.head.one("x-surgetank-queue-state")),
        (410, Some("gone"))
    );
    assert_eq!(tank.call(&delete).await.status, 410);
    assert_eq!(
        tank.count("surgetank_queued_tries_total", &[("end", "cancelled")]),
        1
    );
    tank.at_rest().await;
}

#[tokio::test]
async fn a_request_is_cancelled_while_it_is_being_carried_out() {
    let (origin, folder) = (Origin::start().await, Folder::new());
    let tank = tank(&origin.url(), &folder, "");
    let request = secret(Tongue::Chat, false).header("prefer", "respond-async");
    let answer = soon("202", tank.call(&request)).await;
    let location = location(&answer);
    let mut connection = origin.accept().await;
    connection.request().await;
    let running = tank.call(&read(Tongue::Chat, &location)).await;
    assert_eq!(running.head.one("x-surgetank-queue-state"), Some("running"));
    let delete = read(Tongue::Chat, &location).method("DELETE");
    assert_eq!(tank.call(&delete).await.status, 204);
    let ended = soon(
        "the end of the upstream's connection",
        connection.next_request(),
    )
    .await;
    assert!(ended.is_none());
    tank.at_rest().await;
}

#[tokio::test]
async fn a_repeat_under_an_idempotency_key_is_the_same_entry() {
    let (patient, folder) = (Patient::start().await, Folder::new());
    let tank = tank(&patient.origin.url(), &folder, "");
    let keyed = |request: Request| request.header("idempotency-key", "order-7");
    let first = soon("202", tank.call(&keyed(secret(Tongue::Chat, false)))).await;
    let location_of_first = location(&first);
    let tries = patient.origin.seen().len();
    let repeat = soon("202", tank.call(&keyed(secret(Tongue::Chat, false)))).await;
    assert_accepted(&repeat);
    assert_eq!(location(&repeat), location_of_first);
    assert_eq!(
        repeat.number("x-surgetank-attempts"),
        0,
        "not tried beside the entry"
    );
    assert!(patient.origin.seen().len() >= tries);
    let other = keyed(secret(Tongue::Chat, true));
    let refused = soon("422", tank.call(&other)).await;
    assert_eq!(refused.status, 422, "{}", refused.text());
    assert_eq!(refused.head.one("x-should-retry"), Some("false"));
    // Of another caller the key says nothing.
    let stranger = Tongue::Chat.plain().header("idempotency-key", "order-7");
    let answer = soon("202", tank.call(&stranger)).await;
    assert_ne!(location(&answer), location_of_first);

    patient.recover();
    result(&tank, &read(Tongue::Chat, &location_of_first)).await;
    let done = patient.origin.seen().len();
    let repeat = soon("the answer", tank.call(&keyed(secret(Tongue::Chat, false)))).await;
    assert_eq!(
        (repeat.status, repeat.json()),
        (200, document(Tongue::Chat))
    );
    assert_eq!(repeat.head.one("x-surgetank-queue-state"), Some("done"));
    let of_key = |seen: &Seen| seen.head.one("idempotency-key") == Some("order-7");
    assert!(
        patient.origin.seen()[done..]
            .iter()
            .filter(|seen| of_key(seen))
            .count()
            <= 1,
        "not carried out again"
    );
    tank.at_rest().await;
}

#[tokio::test]
async fn a_full_queue_gives_the_next_link() {
    let (patient, folder) = (Patient::start().await, Folder::new());
    let tank = recipe(&patient.origin.url())
        .fallback("[queue, { reply: sorry }]")
        .start_with(&blocks(&folder, ", max_requests: 1"));
    assert_accepted(&soon("202", tank.call(&secret(Tongue::Chat, false))).await);
    let answer = soon("a reply", tank.call(&secret(Tongue::Chat, false))).await;
    assert_eq!(
        (answer.status, answer.head.one("x-surgetank-fallback")),
        (200, Some("reply"))
    );
    assert_eq!(
        tank.count("surgetank_queued_total", &[("result", "full")]),
        1
    );
    tank.at_rest().await;
}

#[tokio::test]
async fn what_cannot_be_carried_out_without_its_caller_is_not_queued() {
    let (patient, folder) = (Patient::start().await, Folder::new());
    patient.recover();
    let tank = Recipe::over(&patient.origin.url()).start_with(&blocks(&folder, ""));
    let request = secret(Tongue::Chat, false).header("prefer", "respond-async");
    let answer = soon("an answer", tank.call(&request)).await;
    assert_eq!(
        (answer.status, answer.json()),
        (200, document(Tongue::Chat))
    );
    assert_eq!(
        tank.count("surgetank_queued_total", &[("result", "no_credential")]),
        1
    );
    tank.at_rest().await;
}

#[tokio::test]
async fn a_preference_that_cannot_be_met_costs_nothing() {
    let folder = Folder::new();
    for blocks in [String::new(), blocks(&folder, "")] {
        let fails_once = AtomicBool::new(true);
        let origin = Origin::start().await.serve(move |seen| {
            let fails = fails_once.swap(false, Ordering::AcqRel);
            Some(if fails { error() } else { whole(seen) })
        });
        // Neither a store nor a credential, then the one without the other.
        let tank = Recipe::over(&origin.url()).start_with(&blocks);
        let request = Tongue::Chat.plain().header("prefer", "respond-async");
        let answer = soon("an answer", tank.call(&request)).await;
        assert_eq!(
            (answer.status, answer.number("x-surgetank-attempts")),
            (200, 2)
        );
        tank.at_rest().await;
    }
}

#[tokio::test]
async fn an_answer_can_be_removed_when_it_was_read() {
    let (patient, folder) = (Patient::start().await, Folder::new());
    patient.recover();
    let tank = tank(&patient.origin.url(), &folder, ", on_read: remove");
    let request = secret(Tongue::Chat, false).header("prefer", "respond-async");
    let location = location(&soon("202", tank.call(&request)).await);
    let head = read(Tongue::Chat, &location).method("HEAD");
    assert_eq!(
        result(&tank, &head).await.status,
        200,
        "a look at its head is no reading"
    );
    assert_eq!(
        result(&tank, &read(Tongue::Chat, &location)).await.json(),
        document(Tongue::Chat)
    );
    soon("its removal", async {
        while tank.call(&read(Tongue::Chat, &location)).await.status != 410 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    tank.at_rest().await;
}

#[tokio::test]
async fn nothing_readable_is_written_where_a_key_is_configured() {
    let (patient, folder) = (Patient::start().await, Folder::new());
    let key = folder.write(
        "key",
        "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n",
    );
    let encrypt = format!(", encrypt: {{ file: {} }}", key.display());
    let tank = tank(&patient.origin.url(), &folder, &encrypt);
    let request = Tongue::Chat
        .with(false, &json!({ "user": "PROMPT-CANARY" }))
        .header("x-mine", "HEAD-CANARY");
    let answer = soon("202", tank.call(&request)).await;
    let location = location(&answer);
    patient.recover();
    let get = Request::get(&location).header("authorization", "Bearer k");
    assert_eq!(result(&tank, &get).await.json(), document(Tongue::Chat));
    assert!(
        patient
            .origin
            .seen()
            .iter()
            .all(|seen| seen.head.one("x-mine") == Some("HEAD-CANARY"))
    );
    for file in ["queue.db", "queue.db-wal"] {
        let content = std::fs::read(folder.path(file)).expect("it is there");
        for canary in ["PROMPT-CANARY", "HEAD-CANARY", "Hello there"] {
            assert!(
                memchr::memmem::find(&content, canary.as_bytes()).is_none(),
                "{canary} is in {file}"
            );
        }
    }
    tank.at_rest().await;
}

#[tokio::test]
async fn what_is_given_up_says_so_and_can_be_asked_for_again() {
    let (patient, folder) = (Patient::start().await, Folder::new());
    let file = folder.path("queue.db");
    let store = format!(
        "store: {{ url: 'sqlite:{}' }}\nqueue: {{ retry_base: 10ms, max_attempts: 1 }}",
        file.display()
    );
    let tank = recipe(&patient.origin.url()).start_with(&store);
    let keyed = secret(Tongue::Chat, false).header("idempotency-key", "a");
    let answer = soon("202", tank.call(&keyed)).await;
    let location = location(&answer);
    let answer = result(&tank, &read(Tongue::Chat, &location)).await;
    assert_eq!(
        (answer.status, answer.head.one("x-surgetank-queue-state")),
        (502, Some("failed"))
    );
    assert!(
        answer.text().contains("the upstream answered 500"),
        "{}",
        answer.text()
    );
    patient.recover();
    let repeat = soon("an answer", tank.call(&keyed)).await;
    assert_eq!(
        repeat.status, 200,
        "what was given up is tried like a new request"
    );
    tank.at_rest().await;
}

#[tokio::test]
async fn an_answer_that_was_begun_early_is_joined_by_the_word_of_the_queue() {
    let patient = Patient::start().await;
    for tongue in Tongue::ALL {
        let folder = Folder::new();
        // The wait for the retry is what the answer is begun in.
        let tank = Recipe::over(&patient.origin.url())
            .upstream("credential: { env: TEST_KEY }")
            .waiting("max_retries: 1, base: 50ms, jitter: 0s, patience: 500ms")
            .fallback("[queue]")
            .start_with(&format!(
                "stream: {{ notice_after: 0s }}\n{}",
                blocks(&folder, "")
            ));
        let answer = soon("an answer", tank.call(&secret(tongue, true))).await;
        assert_eq!(answer.status, 200);
        let text = answer.text();
        assert!(
            tongue.text_of_stream(&answer.body).contains("queued"),
            "{text}"
        );
        assert!(
            text.contains(tongue.terminator()) && text.contains("x-surgetank-queue-id: "),
            "{text}"
        );
        tank.at_rest().await;
    }
}

#[tokio::test]
async fn an_entry_whose_time_is_over_is_gone() {
    let (patient, folder) = (Patient::start().await, Folder::new());
    let tank = tank(
        &patient.origin.url(),
        &folder,
        ", ttl: 1s, retry_base: 100s, retry_cap: 100s",
    );
    let location = location(&soon("202", tank.call(&secret(Tongue::Chat, false))).await);
    let answer = result(&tank, &read(Tongue::Chat, &location)).await;
    assert_eq!(answer.status, 410, "{}", answer.text());
    assert_eq!(
        tank.count("surgetank_queued_tries_total", &[("end", "expired")]),
        1
    );
    tank.at_rest().await;
}

#[tokio::test]
async fn queued_requests_outlive_their_process_and_a_changed_configuration() {
    let (patient, folder) = (Patient::start().await, Folder::new());
    let before = tank(
        &patient.origin.url(),
        &folder,
        ", retry_base: 2s, retry_cap: 2s",
    );
    let location = location(&soon("202", before.call(&secret(Tongue::Chat, false))).await);
    until("the first try is over", || {
        before.count("surgetank_queued_tries_total", &[("end", "again")]) == 1
    })
    .await;
    let changed = recipe(&patient.origin.url()).yaml(&blocks(
        &folder,
        ", retry_base: 10ms, retry_cap: 10ms, max_bytes: 1MiB",
    ));
    assert_eq!(before.reload(&changed), ["queue.max_bytes"]);
    before.at_rest().await;
    before.stop().await;
    patient.recover();
    let after = tank(&patient.origin.url(), &folder, "");
    let answer = result(&after, &read(Tongue::Chat, &location)).await;
    assert_eq!(answer.json(), document(Tongue::Chat));
    assert_eq!(
        answer.head.one("x-surgetank-queue-uncertain"),
        None,
        "its first try had ended"
    );
    after.at_rest().await;
}

#[tokio::test]
async fn a_webhook_is_told_by_a_signed_message_until_it_takes_it() {
    const KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let (patient, folder) = (Patient::start().await, Folder::new());
    patient.recover();
    let secret_file = folder.write("secret", KEY);
    let count = Arc::new(std::sync::atomic::AtomicU32::new(0));
    let receiver = Origin::start().await.serve(move |_| {
        let status = match count.fetch_add(1, Ordering::AcqRel) {
            0 => "302 Found\r\nlocation: http://127.0.0.1:1/",
            _ => "200 OK",
        };
        Some(format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n").into_bytes())
    });
    let webhooks = format!(
        ", webhooks: [{{ name: app, url: '{}/told?x=1', secret: {{ file: {} }} }}]",
        receiver.url(),
        secret_file.display()
    );
    let tank = tank(&patient.origin.url(), &folder, &webhooks);
    let request = secret(Tongue::Chat, false).header("prefer", "respond-async");
    let answer = soon("202", tank.call(&request)).await;
    let id = answer
        .head
        .one("x-surgetank-queue-id")
        .expect("an id")
        .to_owned();
    until("it was told twice", || receiver.seen().len() == 2).await;
    until("it was taken", || {
        tank.count("surgetank_queued_webhooks_total", &[("result", "told")]) == 1
    })
    .await;
    let seen = receiver.seen();
    assert_eq!(
        seen[0].head.one("webhook-id"),
        seen[1].head.one("webhook-id"),
        "one message"
    );
    for told in &seen {
        assert_eq!(told.head.start, "POST /told?x=1 HTTP/1.1");
        let field = |name: &str| {
            told.head
                .one(name)
                .unwrap_or_else(|| panic!("{name}: {:?}", told.head))
        };
        let body: Value = serde_json::from_slice(&told.body).expect("JSON");
        assert_eq!(
            (&body["type"], &body["data"]["id"]),
            (&json!("queue.request.done"), &json!(id))
        );
        let signed = [
            field("webhook-id").as_bytes(),
            field("webhook-timestamp").as_bytes(),
            &told.body,
        ]
        .join(&b'.');
        let key = base64_of(&KEY["whsec_".len()..]);
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &key);
        let signature = field("webhook-signature")
            .strip_prefix("v1,")
            .expect("a version")
            .to_owned();
        assert!(ring::hmac::verify(&key, &signed, &base64_of(&signature)).is_ok());
        assert!(
            !String::from_utf8_lossy(&told.body).contains("Hello"),
            "nothing of the answer"
        );
    }
    assert_eq!(
        tank.count("surgetank_queued_webhooks_total", &[("result", "again")]),
        1,
        "a redirect is no answer, and is not followed"
    );
    tank.at_rest().await;
}

fn base64_of(text: &str) -> Vec<u8> {
    use base64::Engine as _;

    base64::engine::general_purpose::STANDARD
        .decode(text)
        .expect("base64")
}

#[tokio::test]
async fn the_operator_sees_the_queue() {
    let (patient, folder) = (Patient::start().await, Folder::new());
    let tank = tank(
        &patient.origin.url(),
        &folder,
        ", retry_base: 100s, retry_cap: 100s",
    );
    let (admin, _serving) = tank.admin();
    assert_accepted(&soon("202", tank.call(&secret(Tongue::Chat, false))).await);
    let ask = |path: &'static str| async move {
        super::harness::Caller::connect(admin)
            .await
            .call(&Request::get(path))
            .await
    };
    until("its first try is over", || {
        tank.count("surgetank_queued_tries_total", &[("end", "again")]) == 1
    })
    .await;
    let state = ask("/api/state").await.json();
    assert_eq!(
        (&state["queue"]["up"], &state["queue"]["pending"]),
        (&json!(true), &json!(1)),
        "{}",
        state["queue"]
    );
    ask("/metrics").await;
    assert!((tank.metric("surgetank_queued_requests", &[("state", "pending")]) - 1.0).abs() < 0.1);
    assert!(tank.metric("surgetank_queued_bytes", &[]) > 0.0);
    assert!((tank.metric("surgetank_queued_up", &[]) - 1.0).abs() < 0.1);
    tank.at_rest().await;
}

#[tokio::test]
async fn a_queued_request_is_carried_out_by_whichever_upstream_of_its_chain_is_well() {
    let (first, second, folder) = (
        Patient::start().await,
        Patient::start().await,
        Folder::new(),
    );
    let keyed = |url: &str| format!("base_url: '{url}', credential: {{ env: TEST_KEY }}");
    let bare = Patient::start().await;
    bare.recover();
    let tank = recipe(&first.origin.url())
        .and_upstream("second", &keyed(&second.origin.url()))
        .and_upstream("bare", &format!("base_url: '{}'", bare.origin.url()))
        .fallback("[{ upstream: second }, queue]")
        .start_with(&blocks(&folder, ""));
    let at = location(&soon("202", tank.call(&secret(Tongue::Chat, false))).await);
    second.recover();
    let answer = result(&tank, &read(Tongue::Chat, &at)).await;
    assert_eq!(answer.json(), document(Tongue::Chat));
    assert!(!second.origin.seen().is_empty());
    // Without its caller a request has no credential for an upstream that has none of its own.
    let chain = recipe(&first.origin.url())
        .and_upstream("bare", &format!("base_url: '{}'", bare.origin.url()))
        .fallback("[{ upstream: bare }, queue]");
    assert_eq!(
        tank.reload(&chain.yaml(&blocks(&folder, ""))),
        Vec::<&str>::new()
    );
    let request = secret(Tongue::Chat, false).header("prefer", "respond-async");
    let waiting = location(&soon("202", tank.call(&request)).await);
    until("it was tried again and again", || {
        tank.count("surgetank_queued_tries_total", &[("end", "again")]) >= 3
    })
    .await;
    assert_eq!(bare.origin.seen().len(), 0);
    first.recover();
    let answer = result(&tank, &read(Tongue::Chat, &waiting)).await;
    assert_eq!(answer.json(), document(Tongue::Chat));
    tank.at_rest().await;
}

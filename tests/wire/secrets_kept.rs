//! The same as in [`super::secrets`] for what is kept on purpose: tokens, keys of webhooks and of users' names, and a
//! queue in a file. What was asked and answered stands in that file, and nowhere else; no credential is in it either.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use serde_json::json;
use tokio::process::Command;

use super::harness::{
    Answer, Caller, Canary, Collector, Folder, Head, Origin, Process, Request, Seen, Tongue,
    leaves_no_core, mode_of, soon, until,
};

/// In every credential, cookie and name of a user.
const SECRET: &str = "canary-5d81c0e4";
/// In what is asked and answered, which a queue is there to keep.
const PROMPT: &str = "prompt-93f7ae21";
const WORDS: [Canary; 2] = [Canary(SECRET), Canary(PROMPT)];

/// What the test has put there itself.
const OURS: [&str; 7] = [
    "key",
    "tokens",
    "admin",
    "hook",
    "jwt",
    "surgetank.yaml",
    "broken.yaml",
];

fn jwt_key() -> String {
    format!("{SECRET}-0123456789abcdef0123")
}

fn token() -> String {
    format!("token-{SECRET}-of-a-caller")
}

/// The folder with every secret in a file of its own.
fn secrets() -> Folder {
    let folder = Folder::new();
    folder.write("key", &format!("sk-{SECRET}\n"));
    folder.write("tokens", &format!("{}\n", token()));
    folder.write("admin", &format!("admin-{SECRET}-of-the-operator\n"));
    let hook = STANDARD.encode(format!("{SECRET}-{SECRET}"));
    folder.write("hook", &format!("whsec_{hook}\n"));
    folder.write("jwt", &format!("{}\n", jwt_key()));
    folder
}

fn config(upstream: &str, hook: &str, store: &str, collector: &Collector) -> String {
    format!(
        "listen: 127.0.0.1:0\nadmin: 127.0.0.1:0\n\
        auth: {{ tokens: {{ file: tokens }} }}\nadmin_token: {{ file: admin }}\n\
        upstreams: {{ lab: {{ base_url: '{upstream}', credential: {{ file: key }} }} }}\n\
        routes: [ {{ upstream: lab, fallback: [ queue ] }} ]\n\
        retry: {{ max_retries: 0, patience: 200ms }}\n\
        limits: {{ identify: [ 'jwt:sub', credential ], jwt: {{ key: {{ file: jwt }}, algorithm: HS256 }}, per_user: {{ requests: 600/min }} }}\n\
        store: {{ url: '{store}' }}\n\
        queue: {{ max_attempts: 1000, retry_base: 20ms, retry_cap: 50ms, webhooks: [ {{ name: app, url: '{hook}/told?key={SECRET}', secret: {{ file: hook }} }} ] }}\n\
        {}\n",
        collector.block("")
    )
}

/// A user's name in a token that is signed with our key.
fn claim(number: usize) -> String {
    let part = |text: String| URL_SAFE_NO_PAD.encode(text);
    let head = part(json!({ "alg": "HS256", "typ": "JWT" }).to_string());
    let claims = part(json!({ "sub": format!("{SECRET}-{number}") }).to_string());
    let signed = format!("{head}.{claims}");
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, jwt_key().as_bytes());
    let signature = URL_SAFE_NO_PAD.encode(ring::hmac::sign(&key, signed.as_bytes()));
    format!("Bearer {signed}.{signature}")
}

fn with_credentials(request: Request, number: usize) -> Request {
    request
        .header("authorization", &claim(number))
        .header("x-api-key", SECRET)
        .header("x-goog-api-key", SECRET)
        .header("x-surgetank-token", &token())
}

fn ask(tongue: Tongue, stream: bool, number: usize) -> Request {
    let turn = json!([{ "role": "user", "content": format!("my secret is {PROMPT}") }]);
    let body = json!({
        "model": "m", "max_tokens": 64, "stream": stream, "messages": turn, "input": turn, "system": PROMPT,
    });
    let target = format!("{}?q={PROMPT}", tongue.path());
    let request = Request::post(&target, body.to_string())
        .header("anthropic-version", "2023-06-01")
        .header("cookie", &format!("session={SECRET}"))
        .header("proxy-authorization", &format!("Basic {SECRET}"))
        .header("x-of-the-application", PROMPT)
        .header("idempotency-key", &format!("{PROMPT}-{number}"));
    with_credentials(request, number)
}

/// Refuses in words of its own until it is told to answer.
fn answer(is_well: bool, seen: &Seen) -> Vec<u8> {
    let (status, body) = if is_well {
        let told = json!({ "id": "c", "object": "chat.completion", "choices": [{ "index": 0, "finish_reason": "stop",
            "message": { "role": "assistant", "content": PROMPT, "refusal": null } }] });
        ("200 OK", told.to_string())
    } else {
        let told = json!({ "error": { "message": format!("no {PROMPT} for {SECRET}"), "type": "server_error" } });
        ("500 Internal Server Error", told.to_string())
    };
    let fields = seen.head.lines_without(&[]).join("\n");
    assert!(
        fields.contains(&format!("sk-{SECRET}")),
        "our own key goes to the upstream"
    );
    let length = body.len();
    format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\nset-cookie: {PROMPT}\r\ncontent-length: {length}\r\n\r\n{body}").into_bytes()
}

/// What a command prints, beside the running process.
async fn command(process: &Process, arguments: &[&str]) -> (Option<i32>, Vec<u8>) {
    let mut program = Command::new(env!("CARGO_BIN_EXE_surgetank"));
    program.args(arguments).current_dir(process.folder.path(""));
    let output = soon("it ends", program.output())
        .await
        .expect("it is built");
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), said)
}

async fn commands_are_clean(process: &Process, id: &str) {
    let commands: [(&[&str], i32); 6] = [
        (&["check", "--config", "surgetank.yaml"], 0),
        (&["check", "--config", "broken.yaml"], 64),
        (&["queue", "list", "--config", "surgetank.yaml"], 0),
        (
            &["queue", "list", "--json", "--config", "surgetank.yaml"],
            0,
        ),
        (&["queue", "show", id, "--config", "surgetank.yaml"], 0),
        (
            &["queue", "show", id, "--json", "--config", "surgetank.yaml"],
            0,
        ),
    ];
    for (arguments, expected) in commands {
        let (code, said) = command(process, arguments).await;
        assert_eq!(code, Some(expected), "{}", String::from_utf8_lossy(&said));
        for word in WORDS {
            word.is_not_in(&arguments.join(" "), &said);
        }
    }
}

/// Nobody but the operator's own word is told, whoever asks for a reload.
async fn reload(process: &Process, authorization: &str) -> Answer {
    let request = Request::post("/api/reload", "").header("authorization", authorization);
    let answer = Caller::connect(process.admin).await.call(&request).await;
    for word in WORDS {
        word.is_not_in_answer("/api/reload", &answer);
    }
    answer
}

/// The words are in the queue's file as far as they have to be, and in no other; its owner alone may read it.
fn file_keeps_what_it_is_for(folder: &Folder) {
    let mut kept = Vec::new();
    for name in ["queue.db", "queue.db-wal", "queue.db-shm"] {
        let path = folder.path(name);
        if path.exists() {
            assert_eq!(mode_of(&path), 0o600, "{name}");
            kept.extend(std::fs::read(&path).expect("a file"));
        }
    }
    Canary(SECRET).is_in_no_file(&folder.path(""), &OURS);
    let but = [&OURS[..], &["queue.db", "queue.db-wal"]].concat();
    Canary(PROMPT).is_in_no_file(&folder.path(""), &but);
    assert!(
        Canary(PROMPT).betrayed(&kept).is_some(),
        "the queue keeps what was asked, and this test would find it"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_kept_on_purpose_is_kept_in_its_place_alone() {
    let is_well = Arc::new(AtomicBool::new(false));
    let well = is_well.clone();
    let upstream = Origin::start()
        .await
        .serve(move |seen| Some(answer(well.load(Ordering::Acquire), seen)));
    let hook = Origin::start()
        .await
        .serve(|_| Some(b"HTTP/1.1 204 No Content\r\n\r\n".to_vec()));
    let collector = Collector::start().await;
    let folder = secrets();
    folder.write(
        "broken.yaml",
        &format!("auth: {{ tokens: {SECRET} }}\nstore: {{ url: 'redis://:{SECRET}@h:x' }}\nqueue: {{ webhooks: [ {{ name: a, url: 'ftp://u:{SECRET}@h', secret: whsec_{SECRET} }} ] }}\n"),
    );
    let config = config(&upstream.url(), &hook.url(), "sqlite:queue.db", &collector);
    let variables = [("SURGETANK_LOG", "surgetank=trace,info")];
    let process = Process::start_in(folder, &config, &variables).await;

    let mut queued = Vec::new();
    for (number, tongue) in Tongue::ALL.into_iter().cycle().take(6).enumerate() {
        let request = ask(tongue, number % 2 == 0, number);
        let taken_in = soon("202", Caller::connect(process.addr).await.call(&request)).await;
        assert_eq!(taken_in.status, 202, "{}", taken_in.text());
        for word in WORDS {
            word.is_not_in_answer("what is said of a queued request", &taken_in);
        }
        let field = |name: &str| taken_in.head.one(name).expect(name).to_owned();
        queued.push((field("location"), field("x-surgetank-queue-id"), number));
    }
    // Strangers, with what is nearly a token and nearly a signature.
    for (token, authorization) in [
        (format!("{}x", token()), claim(0)),
        (token(), format!("{}x", claim(0))),
    ] {
        let request = Request::post(Tongue::Chat.path(), "{}")
            .header("x-surgetank-token", &token)
            .header("authorization", &authorization);
        Caller::connect(process.addr).await.call(&request).await;
    }
    assert_eq!(
        reload(&process, &format!("Bearer {SECRET}")).await.status,
        401
    );
    let operator = format!("Bearer admin-{SECRET}-of-the-operator");
    assert_eq!(reload(&process, &operator).await.status, 202);
    commands_are_clean(&process, &queued[0].1).await;
    file_keeps_what_it_is_for(&process.folder);

    is_well.store(true, Ordering::Release);
    for (location, _, number) in &queued {
        let request = with_credentials(Request::get(location), *number);
        let told = soon("the answer", async {
            loop {
                let told = Caller::connect(process.addr).await.call(&request).await;
                if told.status != 202 {
                    return told;
                }
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        })
        .await;
        assert_eq!(told.status, 200, "{}", told.text());
        assert!(told.text().contains(PROMPT), "it is the caller's");
    }
    until("the webhook was told", || hook.seen().len() >= queued.len()).await;
    for seen in hook.seen() {
        for word in WORDS {
            // Its own URL is the operator's, with what stands in it.
            let head = Head {
                start: String::new(),
                ..seen.head.clone()
            };
            word.is_not_in_head("the message of a webhook", &head);
            word.is_not_in("the message of a webhook", &seen.body);
        }
    }
    until("the traces come", || {
        collector.spans().len() >= queued.len()
    })
    .await;
    commands_are_clean(&process, &queued[1].1).await;
    let log = process.log().join("\n");
    for word in WORDS {
        word.is_not_in("the log", log.as_bytes());
        word.is_not_told_by(&process).await;
        word.is_not_in("a trace", &collector.raw());
        word.is_not_shown_by(process.pid());
    }
    leaves_no_core(process.pid());
    file_keeps_what_it_is_for(&process.folder);
}

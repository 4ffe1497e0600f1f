//! A word that nobody else uses stands in every key, prompt, answer, header and name of a user, and through every
//! failure that the lab can play it turns up nowhere but in what callers and upstreams say to each other.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use base64::Engine as _;
use serde_json::json;
use surgetank::lab::{CATALOGUE, Entry, Lab, LabConfig};
use tokio::{sync::Semaphore, task::JoinSet};

use super::harness::{
    Caller, Canary, Collector, Filled, Folder, Process, Request, Tongue, find, leaves_no_core,
    soon, until,
};

const CANARY: &str = "canary-7f3ab2c9";
const WORD: Canary = Canary(CANARY);

/// Requests at once: faults that take their time must not take it one behind the other.
const AT_ONCE: usize = 48;

/// Some failures never end by themselves.
const PATIENCE: Duration = Duration::from_secs(2);

fn config(lab: &str, collector: &Collector) -> String {
    format!(
        "listen: 127.0.0.1:0\nadmin: 127.0.0.1:0\n\
        upstreams:\n\
        \x20 lab: {{ base_url: '{lab}', timeouts: {{ connect: 1s, first_byte: 400ms, idle: 400ms, total: 3s }} }}\n\
        \x20 held: {{ base_url: '{lab}', credential: {{ file: key }}, timeouts: {{ first_byte: 400ms, idle: 400ms, total: 3s }} }}\n\
        routes:\n\
        \x20 - match: {{ headers: {{ x-route: held }} }}\n\
        \x20   upstream: held\n\
        \x20   fallback: [ {{ reply: 'Sorry, {{wait}}.' }} ]\n\
        \x20 - upstream: lab\n\
        \x20   fallback: []\n\
        retry: {{ max_retries: 1, base: 5ms, cap: 20ms, jitter: 0s, patience: 1s }}\n\
        stream: {{ notice_after: 200ms }}\n\
        limits: {{ identify: ['header:x-surgetank-user', 'body:user', credential], per_user: {{ requests: 20/min, burst: 8, when_exceeded: reject }} }}\n\
        {}\n",
        collector.block("")
    )
}

/// The fault by its name, with the word wherever it takes one.
fn script(entry: &Entry) -> String {
    let mut script = entry.name.to_owned();
    let mut add = |parameter: &str, value: &str| {
        script.extend([";", parameter, "=", value]);
    };
    for parameter in entry.takes {
        match *parameter {
            "message" | "code" | "type" | "to" => add(parameter, CANARY),
            "for" => add("for", "300ms"),
            "bytes" => add(
                "bytes",
                &format!("HTTP/1.1 200 OK%0D%0Ax-{CANARY}: {CANARY}%0D%0A"),
            ),
            _ => {}
        }
    }
    if entry.shapes {
        add("text", CANARY);
    }
    script
}

fn request(tongue: Tongue, stream: bool, script: &str, number: usize) -> Request {
    let turn = json!([{ "role": "user", "content": format!("my secret is {CANARY}") }]);
    let body = json!({
        "model": "m", "max_tokens": 64, "stream": stream, "messages": turn, "input": turn,
        "user": CANARY, "safety_identifier": CANARY, "metadata": { "user_id": CANARY },
        "system": CANARY, CANARY: CANARY,
    });
    let target = format!("{}?key={CANARY}&{CANARY}={CANARY}", tongue.path());
    let basic = base64::engine::general_purpose::STANDARD.encode(format!("me:{CANARY}"));
    let request = Request::post(&target, body.to_string())
        // Each its own, so that no lane learns from another's failures.
        .header("authorization", &format!("Bearer sk-{CANARY}-{number}"))
        .header("proxy-authorization", &format!("Basic {basic}"))
        .header("x-api-key", &format!("{CANARY}-{number}"))
        .header("x-goog-api-key", &format!("{CANARY}-{number}"))
        .header("anthropic-version", "2023-06-01")
        .header("cookie", &format!("session={CANARY}"))
        .header("user-agent", CANARY)
        .header(&format!("x-{CANARY}"), CANARY)
        .header("x-surgetank-token", CANARY)
        .header("x-lab-fault", script);
    // Each user has several requests, and one of them has too many.
    let user = if number.is_multiple_of(10) {
        0
    } else {
        1 + number / 6
    };
    let user = format!("{CANARY}-{user}");
    let request = request.header("x-surgetank-user", &user);
    if number.is_multiple_of(3) {
        request.header("x-route", "held")
    } else {
        request
    }
}

/// Sends it and reads what comes until the end, or for as long as it is of use. Returns whether the word was in it.
async fn exchange(addr: SocketAddr, request: Request) -> bool {
    let mut caller = Caller::connect(addr).await;
    caller.send(request.bytes()).await;
    let reading = async { while caller.wire.fill().await == Filled::Bytes {} };
    let _ = tokio::time::timeout(PATIENCE, reading).await;
    find(&caller.wire.inbox, CANARY.as_bytes()).is_some()
}

#[test]
fn the_word_is_found_however_it_is_written() {
    let coded = |text: String| base64::engine::general_purpose::STANDARD.encode(text);
    for before in ["", "a", "me", "me:", "user:x"] {
        let betrayal = coded(format!("{before}{CANARY}.")).into_bytes();
        assert!(WORD.betrayed(&betrayal).is_some(), "{before}");
    }
    assert!(WORD.betrayed(format!("?key={CANARY}").as_bytes()).is_some());
    assert!(
        WORD.betrayed(coded("another word, as long as it".to_owned()).as_bytes())
            .is_none()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_stays_between_its_caller_and_its_upstream_through_every_failure() {
    let lab = Lab::start(LabConfig::default()).expect("a free port");
    let collector = Collector::start().await;
    let folder = Folder::new();
    folder.write("key", &format!("sk-{CANARY}\n"));
    let config = config(&lab.url(), &collector).replace(
        "file: key",
        &format!("file: '{}'", folder.path("key").display()),
    );
    // More than an operator sees unless asked for.
    let process = Process::start_in(
        folder,
        &config,
        &[("SURGETANK_LOG", "surgetank=trace,info")],
    )
    .await;

    let (free, mut exchanges) = (Arc::new(Semaphore::new(AT_ONCE)), JoinSet::new());
    let mut number = 0;
    for entry in CATALOGUE {
        for tongue in Tongue::ALL {
            for stream in [false, true] {
                let request = request(tongue, stream, &script(entry), number);
                let (addr, free) = (process.addr, free.clone());
                exchanges.spawn(async move {
                    let _place = free.acquire().await.expect("it is never closed");
                    exchange(addr, request).await
                });
                number += 1;
            }
        }
    }
    // And configurations that cannot be used, which are quoted where they are told of.
    for broken in [
        format!("upstreams: {{ a: {{ base_url: 'https://me:{CANARY}@host' }} }}"),
        format!("upstreams: {{ a: {{ base_url: 'https://host', credential: sk-{CANARY} }} }}"),
        format!(
            "upstreams: {{ a: {{ base_url: 'https://host', credential: {{ value: sk-{CANARY} }} }} }}"
        ),
        format!("store: {{ url: 'redis://:{CANARY}@host:notaport' }}"),
        format!("auth: {{ tokens: {CANARY} }}"),
        format!("admin_token: {CANARY}"),
    ] {
        process.folder.write("surgetank.yaml", &broken);
        process.signal("HUP").await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    process.folder.write("surgetank.yaml", &config);
    let mut heard = 0;
    while let Some(had_it) = soon("every exchange ends", exchanges.join_next()).await {
        heard += usize::from(had_it.expect("no caller failed"));
    }
    assert!(
        heard > number / 4,
        "the word went from upstream to caller {heard} times of {number}"
    );
    assert!(
        lab.stats().requests > number as u64 / 2,
        "{:?}",
        lab.stats()
    );
    until("every request has its line", || {
        process
            .log()
            .iter()
            .filter(|line| line.contains("\"message\":\"request\""))
            .count()
            >= number
    })
    .await;

    let log = process.log().join("\n");
    for outcome in [
        "served",
        "refused",
        "exhausted",
        "substituted",
        "limited",
        "failed",
        "broken",
    ] {
        assert!(
            log.contains(&format!("\"outcome\":\"{outcome}\"")),
            "none was {outcome}"
        );
    }
    assert!(
        log.contains("cannot be used"),
        "a broken configuration was told of"
    );
    WORD.is_not_in("the log", log.as_bytes());
    WORD.is_not_told_by(&process).await;
    until("the traces come", || collector.spans().len() > number).await;
    WORD.is_not_in("a trace", &collector.raw());
    WORD.is_not_shown_by(process.pid());
    leaves_no_core(process.pid());
    WORD.is_in_no_file(&process.folder.path(""), &["key"]);
}

//! The status page: what it is made of, that it tells what happens, and what it never tells.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::harness::{Answer, Caller, Origin, Recipe, Request, Rig, Tongue, soon, text};

async fn get(admin: SocketAddr, path: &str) -> Answer {
    let mut caller = Caller::connect(admin).await;
    soon(path, caller.call(&Request::get(path))).await
}

async fn state(admin: SocketAddr) -> Value {
    get(admin, "/api/state").await.json()
}

/// The next state of a stream of events.
async fn event(caller: &mut Caller) -> Value {
    caller.wire.through(b"event: state\ndata: ").await;
    let line = soon("an event", caller.wire.through(b"\n\n")).await;
    serde_json::from_slice(&line).expect("a JSON document in one line")
}

#[tokio::test]
async fn every_file_of_the_page_is_here_and_may_do_little() {
    let rig = Rig::start();
    let (admin, _serving) = rig.tank.admin();
    let page = get(admin, "/").await;
    let html = page.text();
    let links: Vec<_> = html
        .split(['"', '\''])
        .filter(|part| part.starts_with("assets/"))
        .collect();
    assert!(links.len() >= 5, "{links:?}");
    for link in links {
        let file = get(admin, &format!("/{link}")).await;
        assert_eq!(file.status, 200, "{link}");
        assert_eq!(file.head.one("x-content-type-options"), Some("nosniff"));
    }
    let policy = page.head.one("content-security-policy").expect("a policy");
    for rule in [
        "default-src 'none'",
        "script-src 'self';",
        "frame-ancestors 'none'",
    ] {
        assert!(policy.contains(rule), "{policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
    for inline in ["<style", " style=", " onclick=", "http://", "https://"] {
        assert!(!html.contains(inline), "{inline} in the page");
    }
    assert!(!html.contains("<script>"), "a script in the page");
}

#[tokio::test]
async fn what_happens_is_told_as_it_happens() {
    let rig = Rig::with(|recipe| recipe.fallback("[{ reply: 'Sorry.' }]"));
    let (admin, _serving) = rig.tank.admin();
    let mut watcher = Caller::connect(admin).await;
    watcher.send(Request::get("/api/events").bytes()).await;
    let head = watcher.head().await;
    assert_eq!(head.one("content-type"), Some("text/event-stream"));
    assert_eq!(event(&mut watcher).await["headline"]["level"], "calm");

    let one_retry = Tongue::Chat.plain().script("saved", "503,ok");
    assert_eq!(rig.tank.call(&one_retry).await.status, 200);
    let in_vain = Tongue::Chat.plain().script("lost", "500,500,500,500");
    assert_eq!(rig.tank.call(&in_vain).await.status, 200);

    let told = loop {
        let told = event(&mut watcher).await;
        if told["economics"]["requests"] == 2 {
            break told;
        }
    };
    assert_eq!(told["headline"]["level"], "trouble", "{told}");
    assert_eq!(told["headline"]["fault"], "vendor", "{told}");
    let economics = &told["economics"];
    assert_eq!(
        (&economics["saved"], &economics["attempts"]),
        (&1.into(), &6.into())
    );
    let lane = &told["lanes"][0];
    assert_eq!(lane["upstream"], "lab");
    assert_eq!(lane["model_name"], "gpt-lab");
    let kinds: Vec<_> = told["trouble"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|kind| {
            (
                kind["class"].clone(),
                kind["status"].clone(),
                kind["outcome"].clone(),
            )
        })
        .collect();
    assert_eq!(
        kinds,
        [
            ("faulty".into(), 500.into(), "substituted".into()),
            ("overloaded".into(), 503.into(), "served".into()),
        ]
    );
    let newest = |series: &Value| series.as_array().and_then(|steps| steps.last().cloned());
    let outcomes = &told["history"]["outcomes"];
    let counted = ["served", "substituted"].map(|name| newest(&outcomes[name]));
    let earlier = told["history"]["steps"].as_u64().expect("a number") > 1;
    assert!(
        earlier || counted == [Some(1.into()), Some(1.into())],
        "{outcomes}"
    );
    assert_eq!(
        state(admin).await["economics"],
        *economics,
        "both tell the same"
    );
}

#[tokio::test]
async fn nothing_that_anybody_wrote_is_told() {
    let rig = Rig::with(|recipe| recipe.retry("max_retries: 1"));
    let (admin, _serving) = rig.tank.admin();
    let canary = "canary-7f3a";
    let faults = [
        "ok",
        "400",
        "401",
        "402",
        "403",
        "404",
        "413",
        "422",
        "429",
        "500",
        "503",
        "529",
        "cut;after=1",
        "reset",
        "hang-body;after=1",
        "error-first",
    ];
    for (index, fault) in faults.into_iter().enumerate() {
        for stream in [false, true] {
            let prompt = serde_json::json!({
                "messages": [{ "role": "user", "content": canary }],
                "user": canary,
                // Not shown either: no model has such a name.
                "model": format!("{canary} {index}"),
            });
            let request = Tongue::Chat
                .with(stream, &prompt)
                .header("authorization", &format!("Bearer sk-{canary}"))
                .header("x-surgetank-user", canary)
                .header(&format!("x-{canary}"), canary)
                .header("x-lab-fault", fault);
            let mut caller = rig.tank.caller().await;
            caller.send(request.bytes()).await;
            // Some of these never end; what has arrived is enough.
            let patience = std::time::Duration::from_millis(100);
            let _ = tokio::time::timeout(patience, caller.wire.rest()).await;
        }
    }
    rig.tank.at_rest().await;
    for path in ["/api/state", "/metrics", "/"] {
        let told = get(admin, path).await.text();
        assert!(!told.contains(canary), "{path}: {told}");
    }
    let mut watcher = Caller::connect(admin).await;
    watcher.send(Request::get("/api/events").bytes()).await;
    watcher.head().await;
    watcher.wire.through(b"event: state\ndata: ").await;
    let told = text(&watcher.wire.through(b"\n\n").await);
    assert!(
        told.contains("\"trouble\":[{"),
        "there was trouble to tell: {told}"
    );
    assert!(!told.contains(canary), "{told}");
}

#[tokio::test]
async fn a_wall_of_screens_gets_the_same_events() {
    let rig = Rig::start();
    let (admin, _serving) = rig.tank.admin();
    let mut screens = Vec::new();
    for _ in 0..20 {
        let mut screen = Caller::connect(admin).await;
        screen.send(Request::get("/api/events").bytes()).await;
        screens.push(screen);
    }
    let mut told = std::collections::HashSet::new();
    for screen in &mut screens {
        screen.head().await;
        told.insert(event(screen).await["now_ms"].as_u64());
    }
    assert!(
        told.len() <= 10,
        "made for all at once, not for each: {told:?}"
    );
    // Those who leave take nothing with them.
    drop(screens);
    assert_eq!(get(admin, "/healthz").await.status, 200);
}

#[tokio::test]
async fn however_many_keys_there_are_the_state_is_bounded_and_tells_what_matters() {
    const KEYS: usize = 150;
    let answer = |status: &str| {
        let body = r#"{"id":"c","object":"chat.completion","choices":[]}"#;
        let length = body.len();
        format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}")
            .into_bytes()
    };
    let origin = Origin::start().await.serve(move |seen| {
        let is_gated = seen.head.one("authorization") == Some("Bearer key-0");
        Some(answer(if is_gated {
            "429 Too Many Requests\r\nretry-after: 600"
        } else {
            "200 OK"
        }))
    });
    let tank = Recipe::over(&origin.url()).retry("max_retries: 0").start();
    let (admin, _serving) = tank.admin();
    let mut caller = tank.caller().await;
    for key in 0..KEYS {
        let request = Request::post("/v1/chat/completions", r#"{"model":"m","messages":[]}"#)
            .header("authorization", &format!("Bearer key-{key}"));
        let status = soon("an answer", caller.call(&request)).await.status;
        assert_eq!(status, if key == 0 { 429 } else { 200 });
    }
    let answer = get(admin, "/api/state").await;
    assert!(answer.body.len() < 80_000, "{} bytes", answer.body.len());
    let told = answer.json();
    let lanes = told["lanes"].as_array().expect("a list");
    assert_eq!(
        (&told["lanes_total"], &told["lanes_left_out"], lanes.len()),
        (&json!(KEYS), &json!(KEYS - 100), 100)
    );
    // It has served nothing, and is told before all who are well.
    let throttled = lanes.iter().filter(|lane| lane["throttles_in_a_row"] == 1);
    assert_eq!(throttled.count(), 1);
}

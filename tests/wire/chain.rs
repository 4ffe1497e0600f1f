//! The chain of targets: who is asked when the first has failed, and who is not.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::harness::{Origin, Recipe, Request, Rig, Seen, Tank, Tongue, soon, text};

const TEXT: &str = "Please try again in {wait}.";

fn answer(status: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}")
        .into_bytes()
}

fn openai_error(status: &str, code: &str) -> Vec<u8> {
    let error = json!({ "error": { "message": "m", "type": "invalid_request_error", "param": null, "code": code } });
    answer(status, &error.to_string())
}

fn whole_answer() -> Vec<u8> {
    let message = json!({ "role": "assistant", "content": "hello", "refusal": null });
    let choice = json!({ "index": 0, "message": message, "finish_reason": "stop" });
    answer(
        "200 OK",
        &json!({ "id": "x", "object": "chat.completion", "choices": [choice] }).to_string(),
    )
}

fn model_of(seen: &Seen) -> String {
    let body: Value = serde_json::from_slice(&seen.body).expect("JSON");
    body["model"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn a_prompt_that_is_too_long_goes_to_a_larger_model_with_nothing_else_changed() {
    let origin = Origin::start().await.serve(|seen| {
        Some(if text(&seen.body).contains("\"huge\"") {
            whole_answer()
        } else {
            openai_error("400 Bad Request", "context_length_exceeded")
        })
    });
    let chain = json!([
        { "model": "tiny" },
        { "model": "huge", "when": { "failure": "context_too_long" } },
        { "reply": TEXT },
    ]);
    let tank = Recipe::over(&origin.url())
        .fallback(&chain.to_string())
        .start();
    let body = "{ \"n\": 1e400,\t\"messages\":[{\"role\":\"user\",\"content\":\"{\\\"model\\\":\\\"a\\\"} \\ud83e\"}],\r\n\"metadata\":{\"model\":\"b\"}, \"mod\\u0065l\" : \"g\\u0070t-lab\" ,\"seed\":123456789012345678901234567890 }";
    let answer = soon(
        "an answer",
        tank.call(&Request::post("/v1/chat/completions", body)),
    )
    .await;
    assert_eq!(
        (answer.status, answer.head.one("x-surgetank-fallback")),
        (200, Some("upstream")),
        "{}",
        answer.text()
    );
    let bodies: Vec<String> = origin.seen().iter().map(|seen| text(&seen.body)).collect();
    assert_eq!(
        bodies,
        [
            body.to_owned(),
            body.replace("\"g\\u0070t-lab\"", "\"huge\"")
        ]
    );

    // A request that names no model cannot be given another.
    let nameless = Request::post("/v1/chat/completions", r#"{"messages":[]}"#);
    let answer = soon("an answer", tank.call(&nameless)).await;
    assert_eq!(
        (answer.status, answer.head.one("x-surgetank-fallback")),
        (400, None)
    );
    assert_eq!(
        answer.json()["error"]["code"],
        "context_length_exceeded",
        "not covered up"
    );
    assert_eq!(origin.seen().len(), 3);
}

#[tokio::test]
async fn what_a_content_policy_refused_is_offered_to_nobody_else() {
    let first = Origin::start()
        .await
        .serve(|_| Some(openai_error("400 Bad Request", "content_policy_violation")));
    let broken = Origin::start()
        .await
        .serve(|_| Some(openai_error("500 Internal Server Error", "server_error")));
    let other = Origin::start().await.serve(|_| Some(whole_answer()));
    let chain =
        json!([{ "upstream": "filter" }, { "upstream": "other" }, { "reply": TEXT }]).to_string();
    let over = |url: &str| {
        Recipe::over(url)
            .retry("max_retries: 0")
            .and_upstream("filter", &format!("base_url: '{}'", first.url()))
            .and_upstream("other", &format!("base_url: '{}'", other.url()))
            .fallback(&chain)
            .start()
    };
    for tank in [over(&first.url()), over(&broken.url())] {
        let answer = soon("an answer", tank.call(&Tongue::Chat.plain())).await;
        assert_eq!(answer.status, 400, "{}", answer.text());
        assert_eq!(answer.json()["error"]["code"], "content_policy_violation");
    }
    assert_eq!(other.seen().len(), 0);
}

#[tokio::test]
async fn all_targets_share_one_number_of_attempts() {
    let origin = Origin::start()
        .await
        .serve(|_| Some(openai_error("500 Internal Server Error", "server_error")));
    let chain = json!([{ "model": "a" }, { "model": "b" }, { "model": "c" }, { "reply": TEXT }]);
    let tank = Recipe::over(&origin.url())
        .retry("max_retries: 1, max_attempts: 5")
        .fallback(&chain.to_string())
        .start();
    let answer = soon("a reply", tank.call(&Tongue::Chat.plain())).await;
    assert_eq!(
        (answer.status, answer.head.one("x-surgetank-fallback")),
        (200, Some("reply"))
    );
    assert_eq!(answer.number("x-surgetank-attempts"), 5);
    let models: Vec<String> = origin.seen().iter().map(model_of).collect();
    assert_eq!(models, ["gpt-lab", "gpt-lab", "a", "a", "b"]);
    assert_eq!(
        tank.count("surgetank_retries_denied_total", &[("reason", "attempts")]),
        4,
        "three retries, one target"
    );
}

#[tokio::test]
async fn a_fallback_that_serves_nobody_is_left_alone_by_the_retry_quota() {
    // An empty account trips no breaker, and a refusal returns no token: only the quota is left to end it.
    let poor = Origin::start()
        .await
        .serve(|_| Some(openai_error("402 Payment Required", "billing_not_active")));
    let deaf = Origin::start()
        .await
        .serve(|_| Some(openai_error("404 Not Found", "model_not_found")));
    let chain = json!([{ "upstream": "other" }]).to_string();
    let tank = Recipe::over(&poor.url())
        .and_upstream("other", &format!("base_url: '{}'", deaf.url()))
        .fallback(&chain)
        .start();
    let mut caller = tank.caller().await;
    for _ in 0..150 {
        soon("an answer", caller.call(&Tongue::Chat.plain())).await;
    }
    let asked = deaf.seen().len();
    // 1,400 tokens at 14 each, and a few that trickle in while the test runs.
    assert!((100..130).contains(&asked), "{asked}");
    assert_eq!(poor.seen().len(), 150);
    assert!(
        tank.count(
            "surgetank_retries_denied_total",
            &[("upstream", "other"), ("reason", "quota")]
        ) > 20
    );
}

#[tokio::test]
async fn a_dead_upstream_is_passed_over_without_a_wait_and_returned_to() {
    let (first, second) = (Rig::start(), Rig::start());
    let recipe = Recipe::over(&first.lab.url())
        .retry("max_retries: 0")
        .and_upstream("second", &format!("base_url: '{}'", second.lab.url()))
        .fallback(&json!([{ "upstream": "second" }]).to_string());
    // The breaker pauses for a quarter to half a second, and doubles that.
    let yaml = recipe
        .yaml("")
        .replace("base: 10ms, cap: 40ms", "base: 1s, cap: 1s");
    let tank = Tank::from_yaml(&yaml);
    let call = || {
        let request = Tongue::Chat.plain().header("x-lab-key", "a");
        let tank = &tank;
        async move { soon("an answer", tank.call(&request)).await }
    };
    first.lab.script_for("a", "500*5,ok*").expect("a script");
    for _ in 0..5 {
        assert_eq!(
            call().await.head.one("x-surgetank-upstream"),
            Some("second")
        );
    }
    assert_eq!(first.attempts("a").len(), 5);
    let began = Instant::now();
    let answer = call().await;
    assert!(
        began.elapsed() < Duration::from_millis(200),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(answer.head.one("x-surgetank-fallback"), Some("upstream"));
    assert_eq!(
        answer.number("x-surgetank-attempts"),
        1,
        "the dead one was not asked"
    );
    assert_eq!(first.attempts("a").len(), 5);
    soon("the first upstream is used again", async {
        while call().await.head.one("x-surgetank-upstream") != Some("lab") {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert_eq!(call().await.head.one("x-surgetank-fallback"), None);
}

#[tokio::test]
async fn a_fallback_that_refuses_is_not_the_callers_fault() {
    let broken = Origin::start()
        .await
        .serve(|_| Some(openai_error("500 Internal Server Error", "server_error")));
    let locked = Origin::start()
        .await
        .serve(|_| Some(openai_error("401 Unauthorized", "invalid_api_key")));
    let chain = json!([{ "upstream": "other" }, { "reply": TEXT }]).to_string();
    let tank = Recipe::over(&broken.url())
        .retry("max_retries: 0")
        .and_upstream("other", &format!("base_url: '{}'", locked.url()))
        .fallback(&chain)
        .start();
    let answer = soon("a reply", tank.call(&Tongue::Chat.plain())).await;
    assert_eq!(
        (answer.status, answer.head.one("x-surgetank-fallback")),
        (200, Some("reply"))
    );
    assert_eq!((broken.seen().len(), locked.seen().len()), (1, 1));
}

#[tokio::test]
async fn a_reply_speaks_the_callers_language_about_what_went_wrong() {
    let reply = json!({
        "text": "Please try again in {wait}.",
        "json": "{\"status\":\"busy\",\"retry_in\":{wait_seconds}}",
        "variants": [
            { "language": "de", "text": "Bitte in {wait} wieder." },
            { "failure": ["throttled"], "text": "So many of you: {wait}." },
        ],
    });
    let chain = json!([{ "reply": reply, "when": { "failure": ["throttled", "overloaded", "exhausted"] } }, { "reply": "Something broke." }]);
    let rig = Rig::with(|recipe| recipe.retry("max_retries: 0").fallback(&chain.to_string()));
    let said = async |key: &str, fault: &str, language: &str| {
        let request = Tongue::Chat.plain().script(key, fault);
        let request = if language.is_empty() {
            request
        } else {
            request.header("accept-language", language)
        };
        let answer = soon(key, rig.tank.call(&request)).await;
        assert_eq!(answer.status, 200, "{key}: {}", answer.text());
        // The gate spreads the returning callers over a few seconds behind a hint.
        let said = Tongue::Chat.text_of_answer(&answer.json());
        (40..=46).fold(said, |said, wait| {
            said.replace(&format!("{wait} s"), "forty-odd s")
        })
    };
    assert_eq!(
        said("de", "429;retry-after=40", "de-CH, en;q=0.5").await,
        "Bitte in forty-odd s wieder."
    );
    assert_eq!(
        said("en", "429;retry-after=40", "en").await,
        "So many of you: forty-odd s."
    );
    assert_eq!(
        said("no-language", "529;retry-after=none", "").await,
        "Please try again in 1 s."
    );
    assert_eq!(said("broken", "500", "de").await, "Something broke.");
    // The operator has said that this reply covers even that.
    assert_eq!(
        said("poor", "insufficient-quota", "fr").await,
        "Please try again in 1 s."
    );

    let schema = json!({ "type": "json_schema", "json_schema": { "name": "n", "schema": { "type": "object" } } });
    let request = Tongue::Chat
        .with(false, &json!({ "response_format": schema }))
        .script("json", "529;retry-after=7");
    let answer = soon("an object", rig.tank.call(&request)).await;
    let object: Value = serde_json::from_str(&Tongue::Chat.text_of_answer(&answer.json()))
        .expect("JSON in the answer");
    assert_eq!(object, json!({ "status": "busy", "retry_in": 7 }));
}

#[tokio::test]
async fn links_are_there_for_whom_they_are_meant() {
    let (first, other) = (Rig::start(), Rig::start());
    let chain = json!([
        { "upstream": "other", "when": { "structured": true } },
        { "reply": "No time.", "when": { "time_left": "30s" } },
        { "error": {} },
    ]);
    let tank = Recipe::over(&first.lab.url())
        .retry("max_retries: 0")
        .and_upstream("other", &format!("base_url: '{}'", other.lab.url()))
        .fallback(&chain.to_string())
        .start();
    let call = async |key: &str, request: Request| {
        first.lab.script_for(key, "500*").expect("a script");
        let request = request
            .header("x-lab-key", key)
            .header("x-goog-api-key", key);
        let answer = soon(key, tank.call(&request)).await;
        (
            answer.status,
            answer.head.one("x-surgetank-fallback").map(str::to_owned),
        )
    };
    let json = Tongue::Chat.with(
        false,
        &json!({ "response_format": { "type": "json_object" } }),
    );
    assert_eq!(call("json", json).await, (200, Some("upstream".to_owned())));
    assert_eq!(
        call("plain", Tongue::Chat.plain()).await,
        (200, Some("reply".to_owned()))
    );
    let hurried = Tongue::Chat
        .plain()
        .header("x-surgetank-timeout-ms", "20000");
    assert_eq!(call("hurried", hurried).await, (500, None));
}

#[tokio::test]
async fn a_link_for_a_class_is_there_for_its_users_alone() {
    let origin = Origin::start().await.serve(|seen| {
        Some(if model_of(seen) == "dear" {
            whole_answer()
        } else {
            openai_error("500 Internal Server Error", "server_error")
        })
    });
    let chain = json!([
        { "model": "dear", "when": { "class": "gold" } },
        { "reply": "for members", "when": { "class": ["silver", "bronze"] } },
        { "reply": TEXT },
    ]);
    let class = |plan: &str| json!({ "match": { "headers": { "x-plan": plan } } });
    let classes =
        json!({ "gold": class("gold"), "silver": class("silver"), "bronze": class("bronze") });
    let tank = Recipe::over(&origin.url())
        .retry("max_retries: 0")
        .fallback(&chain.to_string())
        .start_with(&format!("limits: {{ classes: {classes} }}"));
    for (plan, kind, said) in [
        (Some("gold"), "upstream", "hello"),
        (Some("bronze"), "reply", "for members"),
        (Some("tin"), "reply", "Please try again"),
        (None, "reply", "Please try again"),
    ] {
        let request = Tongue::Chat.plain();
        let request = match plan {
            Some(plan) => request.header("x-plan", plan),
            None => request,
        };
        let answer = soon("an answer", tank.call(&request)).await;
        let got = (answer.status, answer.head.one("x-surgetank-fallback"));
        assert_eq!(got, (200, Some(kind)), "{plan:?}");
        assert!(answer.text().contains(said), "{plan:?}: {}", answer.text());
    }
    let to_the_dear_one = origin
        .seen()
        .iter()
        .filter(|seen| model_of(seen) == "dear")
        .count();
    assert_eq!(to_the_dear_one, 1);
    tank.at_rest().await;
}

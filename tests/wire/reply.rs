//! When nothing helps: a friendly answer where an answer makes sense, an honest error everywhere else.

use serde_json::{Value, json};

use super::harness::{Answer, End, Recipe, Request, Rig, Tongue, soon};

const TEXT: &str = "We're busy \"right now\" – please <wait> 🙂 a little\nand try again.";

fn rig() -> Rig {
    let chain = json!([{ "reply": TEXT }]).to_string();
    Rig::with(|recipe| recipe.fallback(&chain))
}

/// A call whose every attempt meets `fault`.
async fn failing(rig: &Rig, request: Request, key: &str, fault: &str) -> Answer {
    soon(key, rig.tank.call(&request.script(key, fault))).await
}

fn assert_marked(answer: &Answer, vendor_id: &str) {
    assert_eq!(
        (answer.status, answer.end),
        (200, End::Whole),
        "{}",
        answer.text()
    );
    assert_eq!(answer.head.one("x-surgetank-fallback"), Some("reply"));
    assert_eq!(
        answer.head.one(vendor_id),
        answer.head.one("x-surgetank-request-id"),
        "one id for all who ask"
    );
    assert_eq!(answer.number("x-surgetank-attempts"), 4);
    assert!(
        !answer.head.has("x-should-retry") && !answer.head.has("x-lab-fault"),
        "{:?}",
        answer.head
    );
}

/// The names and kinds of everything in a document, without its values.
fn shape(value: &Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| (name.clone(), shape(value)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
        Value::Array(items) => items.iter().map(shape).collect(),
        Value::String(_) => "text".into(),
        Value::Number(_) => "number".into(),
        other => other.clone(),
    }
}

/// A payload that was run against the official SDKs.
fn verified(name: &str) -> String {
    let path = format!("{}/tests/payloads/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn payload(tongue: Tongue) -> &'static str {
    match tongue {
        Tongue::Messages => "anthropic.messages",
        Tongue::Chat => "openai.chat",
        Tongue::Responses => "openai.responses",
    }
}

#[tokio::test]
async fn spent_retries_become_an_answer_in_one_piece() {
    let rig = rig();
    for tongue in Tongue::ALL {
        for fault in ["500*", "529*", "429*;retry-after-ms=10", "reset*", "503*"] {
            let key = format!("{tongue:?}-{}", fault.replace([';', '=', '*'], "-"));
            let answer = failing(&rig, tongue.plain(), &key, fault).await;
            if fault != "reset*" {
                assert_marked(
                    &answer,
                    if tongue == Tongue::Messages {
                        "request-id"
                    } else {
                        "x-request-id"
                    },
                );
                assert_eq!(rig.attempts(&key).len(), 4, "{key}");
            }
            assert_eq!(answer.head.one("content-type"), Some("application/json"));
            let document = answer.json();
            assert_eq!(tongue.text_of_answer(&document), TEXT);
            assert_eq!(
                document["model"],
                if tongue == Tongue::Messages {
                    "claude-lab"
                } else {
                    "gpt-lab"
                }
            );
            let known: Value =
                serde_json::from_str(&verified(&format!("{}.json", payload(tongue))))
                    .expect("JSON");
            assert_eq!(
                shape(&document),
                shape(&known),
                "{tongue:?}: the verified shape"
            );
        }
    }
    assert_eq!(rig.tank.outcomes("substituted"), 15);
    assert_eq!(
        rig.tank
            .count("surgetank_fallback_total", &[("kind", "reply")]),
        15
    );
    rig.tank.at_rest().await;
}

/// The events of a stream by name and shape; deltas in a row count as one, since their number follows from the text.
fn outline(stream: &str) -> Vec<(String, Value)> {
    let mut outline = Vec::new();
    for event in stream.split("\n\n").filter(|event| !event.is_empty()) {
        let name = event
            .lines()
            .find_map(|line| line.strip_prefix("event: "))
            .unwrap_or_default()
            .to_owned();
        let data = event
            .lines()
            .find_map(|line| line.strip_prefix("data: "))
            .expect("data");
        let entry = (
            name,
            serde_json::from_str(data).map_or(json!(data), |value| shape(&value)),
        );
        if outline.last() != Some(&entry) {
            outline.push(entry);
        }
    }
    outline
}

#[tokio::test]
async fn spent_retries_become_a_whole_stream() {
    let rig = rig();
    for tongue in Tongue::ALL {
        for fault in ["500*", "529*", "error-first*", "empty*"] {
            let key = format!("{tongue:?}-stream-{}", fault.trim_end_matches('*'));
            let answer = failing(&rig, tongue.stream(), &key, fault).await;
            assert_marked(
                &answer,
                if tongue == Tongue::Messages {
                    "request-id"
                } else {
                    "x-request-id"
                },
            );
            assert_eq!(
                answer.head.one("content-type"),
                Some("text/event-stream; charset=utf-8")
            );
            assert_eq!(answer.head.one("x-accel-buffering"), Some("no"));
            assert_eq!(
                tongue.text_of_stream(&answer.body),
                TEXT,
                "{}",
                answer.text()
            );
            assert!(answer.text().contains(tongue.terminator()));
            let known = outline(&verified(&format!("{}.sse", payload(tongue))));
            assert_eq!(
                outline(&answer.text()),
                known,
                "{tongue:?}: the verified shape"
            );
        }
    }
    rig.tank.at_rest().await;
}

#[tokio::test]
async fn who_parses_the_answer_gets_a_refusal() {
    let rig = rig();
    let schema = json!({ "type": "object", "properties": {} });
    let tool = json!([{ "name": "t", "input_schema": schema }]);
    let chat = Tongue::Chat.with(false, &json!({ "response_format": { "type": "json_schema", "json_schema": { "name": "n", "schema": schema } } }));
    let answer = failing(&rig, chat, "chat", "500*").await.json();
    let message = &answer["choices"][0]["message"];
    assert_eq!(
        (&message["content"], &message["refusal"]),
        (&Value::Null, &json!(TEXT)),
        "{answer}"
    );

    let responses = Tongue::Responses.with(
        false,
        &json!({ "text": { "format": { "type": "json_schema", "name": "n", "schema": schema } } }),
    );
    let answer = failing(&rig, responses, "responses", "500*").await.json();
    let content = &answer["output"][0]["content"][0];
    assert_eq!(
        (&content["type"], &content["refusal"]),
        (&json!("refusal"), &json!(TEXT)),
        "{answer}"
    );

    let messages = Tongue::Messages.with(
        false,
        &json!({ "tools": tool, "tool_choice": { "type": "any" } }),
    );
    let answer = failing(&rig, messages, "messages", "529*").await.json();
    assert_eq!(answer["stop_reason"], "refusal", "{answer}");
}

#[tokio::test]
async fn where_no_answer_makes_sense_the_upstreams_error_stays() {
    let rig = rig();
    let chained = Tongue::Responses.with(false, &json!({ "previous_response_id": "resp_1" }));
    let table = [
        ("chained", chained, "500*", 500),
        (
            "embeddings",
            Request::post("/v1/embeddings", r#"{"model":"m","input":"x"}"#),
            "500*",
            500,
        ),
        (
            "count",
            Request::post(
                "/v1/messages/count_tokens",
                r#"{"model":"m","messages":[]}"#,
            ),
            "529*",
            529,
        ),
        ("get", Request::get("/v1/models"), "503*", 503),
        // What the caller did wrong, and what only the operator can mend, is not covered up.
        ("invalid", Tongue::Chat.plain(), "400*", 400),
        ("credential", Tongue::Messages.plain(), "401*", 401),
        ("quota", Tongue::Chat.plain(), "insufficient-quota*", 429),
        ("billing", Tongue::Messages.plain(), "402*", 402),
        // And the caller may say that it wants no substitute.
        (
            "none",
            Tongue::Chat.plain().header("x-surgetank-fallback", "none"),
            "500*",
            500,
        ),
        (
            "none of a stream",
            Tongue::Messages
                .stream()
                .header("x-surgetank-fallback", "none"),
            "529*",
            529,
        ),
    ];
    for (key, request, fault, status) in table {
        let answer = failing(&rig, request, &key.replace(' ', "-"), fault).await;
        assert_eq!(answer.status, status, "{key}: {}", answer.text());
        assert!(!answer.head.has("x-surgetank-fallback"), "{key}");
        assert!(
            answer.json()["error"].is_object(),
            "{key}: {}",
            answer.text()
        );
    }
    assert_eq!(rig.tank.outcomes("substituted"), 0);
}

#[tokio::test]
async fn without_a_chain_the_last_answer_is_handed_on() {
    let rig = Rig::start();
    let answer = failing(&rig, Tongue::Messages.stream(), "empty-chain", "529*").await;
    assert_eq!(answer.status, 529);
    assert_eq!(answer.json()["error"]["type"], "overloaded_error");
    assert_eq!(answer.head.all("x-should-retry"), [b"false"]);
    let stopped = Rig::with(|recipe| recipe.fallback("[ { error: {} } ]"));
    assert_eq!(
        failing(&stopped, Tongue::Chat.plain(), "error-link", "500*")
            .await
            .status,
        500
    );
}

#[tokio::test]
async fn the_chain_is_walked_in_order() {
    let (first, second) = (Rig::start(), Rig::start());
    let chain = json!([{ "upstream": "second" }, { "reply": TEXT }]).to_string();
    let tank = Recipe::over(&first.lab.url())
        .retry("max_retries: 1")
        .and_upstream("second", &format!("base_url: '{}'", second.lab.url()))
        .fallback(&chain)
        .start();
    let call = |key: &'static str, wish: &'static str| {
        let request = Tongue::Chat
            .plain()
            .header("x-lab-key", key)
            .header("x-goog-api-key", key);
        let request = if wish.is_empty() {
            request
        } else {
            request.header("x-surgetank-fallback", wish)
        };
        let tank = &tank;
        async move { soon(key, tank.call(&request)).await }
    };
    first.lab.script_for("a", "500*").expect("a script");
    let answer = call("a", "").await;
    assert_eq!(
        (answer.status, answer.head.one("x-surgetank-fallback")),
        (200, Some("upstream"))
    );
    assert_eq!(
        (first.attempts("a").len(), second.attempts("a").len()),
        (2, 1)
    );

    for lab in [&first.lab, &second.lab] {
        lab.script_for("b", "500*").expect("a script");
        lab.script_for("c", "500*").expect("a script");
    }
    let answer = call("b", "").await;
    assert_eq!(answer.head.one("x-surgetank-fallback"), Some("reply"));
    assert_eq!(
        (first.attempts("b").len(), second.attempts("b").len()),
        (2, 2)
    );

    let answer = call("c", "reply").await;
    assert_eq!(answer.head.one("x-surgetank-fallback"), Some("reply"));
    assert_eq!(
        (first.attempts("c").len(), second.attempts("c").len()),
        (2, 0),
        "the caller wanted the reply alone"
    );

    first.lab.script_for("d", "400*").expect("a script");
    assert_eq!(
        call("d", "").await.status,
        400,
        "the caller's own fault goes nowhere else"
    );
    assert_eq!(second.attempts("d").len(), 0);
}

#[tokio::test]
async fn an_upstream_that_is_not_there_is_covered_too() {
    let gone = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a free port")
        .local_addr()
        .expect("bound");
    let chain = json!([{ "reply": TEXT }]).to_string();
    let tank = Recipe::over(&format!("http://{gone}"))
        .fallback(&chain)
        .start();
    for tongue in Tongue::ALL {
        let answer = soon("a reply", tank.call(&tongue.stream())).await;
        assert_eq!(
            (answer.status, tongue.text_of_stream(&answer.body).as_str()),
            (200, TEXT)
        );
    }
}

//! Healthy streams, their pace, and errors inside them.

use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use crate::client::{Call, Client, dechunk, events, find, lab};

#[tokio::test]
async fn the_model_is_echoed_and_vendor_headers_are_there() {
    let lab = lab("{}");
    for (call, id) in [
        (Call::messages(false), "request-id"),
        (Call::chat(false), "x-request-id"),
    ] {
        let one = call.answer(&lab).await;
        let other = call.answer(&lab).await;
        assert_eq!(one.json()["model"], "m-1");
        assert_ne!(one.header(id), other.header(id));
        assert_ne!(one.json()["id"], other.json()["id"], "ids are unique");
    }
    let answer = Call::chat(true).answer(&lab).await;
    assert_eq!(
        answer.header("content-type"),
        Some("text/event-stream; charset=utf-8")
    );
    assert_eq!(answer.header("transfer-encoding"), Some("chunked"));
    assert!(answer.header("openai-processing-ms").is_some());
}

#[tokio::test]
async fn the_pace_is_kept() {
    let lab = lab("answer: { words: 5, headers_after: 30ms, first_token: 40ms, interval: 20ms }");
    let begun = Instant::now();
    let mut client = Client::connect(&lab).await;
    client.send(&Call::messages(true).bytes()).await;
    client.at_least(1).await;
    assert!(
        begun.elapsed() >= Duration::from_millis(30),
        "head after {:?}",
        begun.elapsed()
    );
    while find(client.at_least(1).await, b"content_block_delta").is_none() {
        let have = client.at_least(0).await.len();
        client.at_least(have + 1).await;
    }
    assert!(
        begun.elapsed() >= Duration::from_millis(70),
        "first token after {:?}",
        begun.elapsed()
    );
    let answer = client.answer().await;
    assert!(
        begun.elapsed() >= Duration::from_millis(150),
        "end after {:?}",
        begun.elapsed()
    );
    assert!(answer.text().contains("message_stop"));

    // What does not stream comes when its last token would.
    let begun = Instant::now();
    Call::messages(false).answer(&lab).await;
    assert!(begun.elapsed() >= Duration::from_millis(150));
}

#[tokio::test]
async fn a_fault_can_shape_its_answer() {
    let lab = lab("answer: { words: 50, interval: 10s }");
    let answer = Call::chat(false)
        .fault("ok;text=```json%0A{}%0A```;interval=0")
        .answer(&lab)
        .await;
    assert_eq!(
        answer.json()["choices"][0]["message"]["content"],
        "```json\n{}\n```"
    );
    let answer = Call::chat(false)
        .fault("ok;words=3;interval=0")
        .answer(&lab)
        .await;
    assert_eq!(answer.json()["usage"]["completion_tokens"], 3);
}

#[tokio::test]
async fn limits_and_usage_options_are_honoured() {
    let lab = lab("answer: { words: 9 }");
    let mut call = Call::chat(true);
    call.body = r#"{"model":"m","stream":true,"max_completion_tokens":4,"stream_options":{"include_usage":true}}"#.into();
    let answer = call.answer(&lab).await;
    let text = answer.text();
    assert!(text.contains(r#""finish_reason":"length""#));
    assert!(text.contains(r#""choices":[],"usage":{"prompt_tokens":"#));
    assert!(text.contains(r#""completion_tokens":4"#));
}

/// Endpoint, fault, name of the event, where in its data the code stands, the code.
const FIRST_EVENTS: &[[&str; 5]] = &[
    ["messages", "", "error", "/error/type", "overloaded_error"],
    [
        "messages",
        ";status=429",
        "error",
        "/error/type",
        "rate_limit_error",
    ],
    [
        "chat/completions",
        "",
        "",
        "/error/code",
        "server_is_overloaded",
    ],
    [
        "chat/completions",
        ";code=insufficient_quota",
        "",
        "/error/code",
        "insufficient_quota",
    ],
    [
        "chat/completions",
        ";form=native",
        "error",
        "/error/type",
        "service_unavailable_error",
    ],
    ["responses", "", "error", "/code", "server_is_overloaded"],
    [
        "responses",
        ";form=nested",
        "error",
        "/error/code",
        "server_is_overloaded",
    ],
    [
        "responses",
        ";form=hybrid",
        "error",
        "/error/code",
        "server_is_overloaded",
    ],
    [
        "responses",
        ";form=failed",
        "response.failed",
        "/response/error/code",
        "server_is_overloaded",
    ],
];

#[tokio::test]
async fn the_first_event_is_the_error() {
    let lab = lab("{}");
    for [endpoint, params, name, at, code] in FIRST_EVENTS {
        let path = format!("/v1/{endpoint}");
        let answer = Call::new(&path, true)
            .fault(&format!("error-first{params}"))
            .answer(&lab)
            .await;
        assert_eq!(
            (answer.status, answer.header("transfer-encoding")),
            (200, Some("chunked"))
        );
        let events = events(&answer.body);
        assert_eq!(
            (events.len(), events[0].0.as_str()),
            (1, *name),
            "{endpoint}{params}"
        );
        let data: Value = serde_json::from_str(&events[0].1).unwrap();
        assert_eq!(
            data.pointer(at),
            Some(&Value::from(*code)),
            "{endpoint}{params}: {data}"
        );
    }
    let answer = Call::chat(true)
        .fault("error-first;done")
        .answer(&lab)
        .await;
    assert_eq!(events(&answer.body)[1].1, "[DONE]");
}

#[tokio::test]
async fn errors_come_behind_the_preamble_or_in_the_middle() {
    let lab = lab("answer: { words: 6 }");
    for (call, preamble, content) in [
        (Call::messages(true), 3, "text_delta"),
        (Call::chat(true), 1, "\"delta\":{\"content\""),
        (Call::responses(true), 4, "response.output_text.delta"),
    ] {
        for (fault, deltas) in [
            ("error-preamble", 0),
            ("error-mid;after=2", 2),
            ("error-mid", 3),
        ] {
            let answer = call.clone().fault(fault).answer(&lab).await;
            let events = events(&answer.body);
            assert_eq!(events.len(), preamble + deltas + 1, "{fault}: {events:?}");
            let of_content = events
                .iter()
                .filter(|(name, data)| name == content || data.contains(content))
                .count();
            assert_eq!(of_content, deltas, "{fault}");
            assert!(events.last().unwrap().1.contains("error"), "{fault}");
        }
    }
    // The numbers of OpenAI Responses go on.
    let answer = Call::responses(true)
        .fault("error-mid;after=2")
        .answer(&lab)
        .await;
    let numbers = events(&answer.body)
        .into_iter()
        .map(|(_, data)| serde_json::from_str::<Value>(&data).unwrap());
    let numbers: Vec<_> = numbers
        .map(|data| data["sequence_number"].as_u64().unwrap())
        .collect();
    assert_eq!(numbers, (0..7).collect::<Vec<_>>());
}

#[tokio::test]
async fn an_error_in_a_200_without_a_stream_is_the_body() {
    let lab = lab("{}");
    let answer = Call::messages(false)
        .fault("error-first")
        .answer(&lab)
        .await;
    assert_eq!(
        (answer.status, answer.json()["type"].as_str()),
        (200, Some("error"))
    );
    let answer = Call::responses(false)
        .fault("error-first;form=failed")
        .answer(&lab)
        .await;
    let body = answer.json();
    assert_eq!(
        (&body["status"], &body["error"]["code"]),
        (&"failed".into(), &"server_is_overloaded".into())
    );
}

#[tokio::test]
async fn events_leave_one_by_one() {
    let lab = lab("answer: { words: 3, interval: 200ms }");
    let mut client = Client::connect(&lab).await;
    client.send(&Call::chat(true).bytes()).await;
    client.at_least(1).await;
    while find(client.at_least(0).await, b"\"content\":\"the\"").is_none() {
        let have = client.at_least(0).await.len();
        client.at_least(have + 1).await;
    }
    let seen = client.at_least(0).await;
    let body = &seen[find(seen, b"\r\n\r\n").unwrap() + 4..];
    let (chunks, used) = dechunk(body);
    assert_eq!(
        (chunks.complete, used),
        (None, body.len()),
        "whole chunks, and not the last"
    );
    assert_eq!(
        events(&chunks.data).len(),
        2,
        "the role and the first word, long before the second"
    );
}

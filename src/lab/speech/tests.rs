use serde_json::Value;

use super::super::api::Vendor;
use super::*;

fn speech(endpoint: Endpoint, max_tokens: Option<u64>, include_usage: bool) -> Speech {
    let request = Request {
        vendor: Vendor::OpenAi,
        endpoint,
        model: "a \"model\"".to_owned(),
        stream: true,
        max_tokens,
        include_usage,
        input_tokens: 11,
        embeddings: (0, false),
        unreadable: None,
    };
    let config = AnswerConfig {
        words: 5,
        ..AnswerConfig::default()
    };
    Speech::new(&request, &config, 7, 1_700_000_000)
}

/// The stream's events as names and data; the name is empty where there is none.
fn events(speech: Speech) -> Vec<(String, String)> {
    let pace = Pace {
        first_token: Duration::ZERO,
        interval: Duration::ZERO,
    };
    let split = |piece: Piece| {
        let text = String::from_utf8(piece.bytes.to_vec()).unwrap();
        let lines = text
            .strip_suffix("\n\n")
            .expect("an event ends with an empty line");
        let (name, data) = lines.split_once('\n').unwrap_or(("event: ", lines));
        (
            name["event: ".len()..].to_owned(),
            data["data: ".len()..].to_owned(),
        )
    };
    Arc::new(speech).pieces(pace).map(split).collect()
}

fn names(events: &[(String, String)]) -> Vec<&str> {
    events.iter().map(|(name, _)| name.as_str()).collect()
}

fn json(data: &str) -> Value {
    serde_json::from_str(data).unwrap_or_else(|error| panic!("{error}: {data}"))
}

#[test]
fn anthropic_streams_what_its_json_says() {
    let whole = json(&speech(Endpoint::Messages, None, false).json());
    assert_eq!(whole["stop_reason"], "end_turn");
    assert_eq!(whole["usage"]["output_tokens"], 5);
    assert_eq!(whole["model"], "a \"model\"");

    let events = events(speech(Endpoint::Messages, None, false));
    let mut expected = vec!["message_start", "content_block_start", "ping"];
    expected.extend(["content_block_delta"; 5]);
    expected.extend(["content_block_stop", "message_delta", "message_stop"]);
    assert_eq!(names(&events), expected);

    let mut text = String::new();
    for (name, data) in &events {
        let data = json(data);
        assert_eq!(data["type"], name.as_str(), "name and type agree");
        text += data["delta"]["text"].as_str().unwrap_or_default();
    }
    assert_eq!(whole["content"][0]["text"], text);
    assert_eq!(json(&events[0].1)["message"]["stop_reason"], Value::Null);
}

#[test]
fn chat_streams_what_its_json_says() {
    for include_usage in [false, true] {
        let whole = json(&speech(Endpoint::Chat, None, include_usage).json());
        assert_eq!(whole["choices"][0]["finish_reason"], "stop");
        assert_eq!(whole["usage"]["total_tokens"], 16);

        let mut events = events(speech(Endpoint::Chat, None, include_usage));
        assert_eq!(events.pop().unwrap().1, "[DONE]");
        assert!(
            names(&events).iter().all(|name| name.is_empty()),
            "chat events have no name"
        );
        let mut chunks: Vec<Value> = events.iter().map(|(_, data)| json(data)).collect();
        if include_usage {
            let last = chunks.pop().unwrap();
            assert_eq!(
                (&last["choices"], &last["usage"]),
                (&Value::Array(vec![]), &whole["usage"])
            );
        }
        let usage = chunks[0].get("usage");
        assert_eq!(
            usage,
            include_usage.then_some(&Value::Null),
            "only those who asked see the field"
        );
        let content = |chunk: &Value| {
            chunk["choices"][0]["delta"]["content"]
                .as_str()
                .map(str::to_owned)
        };
        let text: String = chunks.iter().filter_map(content).collect();
        assert_eq!(whole["choices"][0]["message"]["content"], text);
        assert_eq!(
            chunks.last().unwrap()["choices"][0]["finish_reason"],
            "stop"
        );
    }
}

#[test]
fn responses_stream_what_their_json_says() {
    let whole = json(&speech(Endpoint::Responses, None, false).json());
    let events = events(speech(Endpoint::Responses, None, false));
    let mut expected = vec![
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
    ];
    assert_eq!(expected.len(), responses::PREAMBLE);
    expected.extend(["response.output_text.delta"; 5]);
    expected.extend([
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
    ]);
    expected.push("response.completed");
    assert_eq!(names(&events), expected);

    let mut text = String::new();
    for (index, (name, data)) in events.iter().enumerate() {
        let data = json(data);
        assert_eq!(
            (&data["type"], &data["sequence_number"]),
            (&Value::from(name.as_str()), &Value::from(index))
        );
        text += data["delta"].as_str().unwrap_or_default();
    }
    assert_eq!(whole["output"][0]["content"][0]["text"], text);
    assert_eq!(json(&events.last().unwrap().1)["response"], whole);
}

#[test]
fn the_callers_limit_truncates_and_says_so() {
    let cut = |endpoint| json(&speech(endpoint, Some(2), false).json());
    let message = cut(Endpoint::Messages);
    assert_eq!(
        (&message["stop_reason"], &message["content"][0]["text"]),
        (&"max_tokens".into(), &"the tank".into())
    );
    assert_eq!(cut(Endpoint::Chat)["choices"][0]["finish_reason"], "length");
    let response = cut(Endpoint::Responses);
    assert_eq!(response["status"], "incomplete");
    assert_eq!(
        response["incomplete_details"]["reason"],
        "max_output_tokens"
    );
    assert_eq!(response["usage"]["output_tokens"], 2);
    let events = events(speech(Endpoint::Responses, Some(2), false));
    assert_eq!(events.last().unwrap().0, "response.incomplete");
    // A limit that is just large enough truncates nothing.
    let whole = json(&speech(Endpoint::Chat, Some(5), false).json());
    assert_eq!(whole["choices"][0]["finish_reason"], "stop");
}

#[test]
fn errors_take_the_form_of_the_stream() {
    let error = VendorError::of_status(Vendor::OpenAi, 503);
    let frame = |endpoint, form, after| speech(endpoint, None, false).error(&error, form, after);
    assert!(
        frame(Endpoint::Messages, None, None)
            .starts_with("event: error\ndata: {\"type\":\"error\",\"error\":{")
    );
    assert!(frame(Endpoint::Chat, None, None).starts_with("data: {\"error\":{"));
    let flat = frame(Endpoint::Responses, None, Some(3));
    assert!(
        flat.contains(r#""sequence_number":7,"code":"server_is_overloaded""#),
        "{flat}"
    );
    let failed = frame(Endpoint::Responses, Some(ErrorForm::Failed), Some(0));
    let data = json(failed.trim_end().split_once("data: ").unwrap().1);
    assert_eq!(data["response"]["status"], "failed");
    assert_eq!(data["response"]["error"]["code"], "server_is_overloaded");
}

#[test]
fn a_replaced_token_is_the_only_change() {
    let mut changed = speech(Endpoint::Chat, None, false);
    let before = changed.text();
    changed.replace_token(1, " vessel".to_owned());
    assert_eq!(changed.text(), before.replacen(" tank", " vessel", 1));
    changed.replace_token(usize::MAX, "!".to_owned());
    assert!(changed.text().ends_with('!'));
    assert_eq!(changed.len(), 5);
}

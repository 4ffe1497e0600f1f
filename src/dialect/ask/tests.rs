use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::dialect::tests::rows;

fn read(dialect: Dialect, body: &Value) -> Ask {
    Ask::read(dialect, body.to_string().as_bytes())
}

fn read_chat(body: &Value) -> Ask {
    read(Dialect::CHAT_COMPLETIONS, body)
}

#[test]
fn a_chat_request_is_read() {
    let body = br#"{
        "model" : "gpt-x", "stream":true, "stream_options": {"include_usage": true},
        "messages": [{"role": "user", "content": "{\"model\": \"not this\"}"}],
        "safety_identifier": "s-1", "user": "u-1", "metadata": {"user_id": "m-1", "user": "x"},
        "max_completion_tokens": 7, "max_tokens": 9
    }"#;
    let ask = Ask::read(Dialect::CHAT_COMPLETIONS, body);
    let span = ask.model_span.clone().expect("a span");
    assert_eq!(&body[span], br#""gpt-x""#);
    let expected = Ask {
        is_understood: true,
        model: Some("gpt-x".to_owned()),
        model_span: ask.model_span.clone(),
        stream: true,
        include_usage: true,
        structured: Structured::No,
        chained: false,
        background: false,
        safety_identifier: Some(Private("s-1".into())),
        user: Some(Private("u-1".into())),
        metadata_user_id: Some(Private("m-1".into())),
        max_output: Some(7),
        max_output_span: ask.max_output_span.clone(),
        tools: false,
    };
    assert_eq!(ask, expected);
    let span = ask.max_output_span.clone().expect("a span");
    assert_eq!(&body[span.clone()], b"7");
    let larger = replace_number(body, span, 28).expect("within");
    let larger = String::from_utf8(larger).expect("text");
    assert!(larger.contains("\"max_completion_tokens\": 28, \"max_tokens\": 9"));
    assert_eq!(larger.len(), body.len() + 1);
}

#[test]
fn tools_are_noticed_where_the_model_may_call_them() {
    for (body, tools) in [
        (json!({}), false),
        (json!({"tools": []}), false),
        (json!({"tools": null}), false),
        (json!({"tools": [{"name": "t"}]}), true),
        (json!({"functions": [{"name": "t"}]}), true),
    ] {
        assert_eq!(read_chat(&body).tools, tools, "{body}");
    }
}

#[test]
fn the_cap_is_read_where_each_dialect_has_it() {
    let body = json!({"max_tokens": 1, "max_completion_tokens": 2, "max_output_tokens": 3});
    for (dialect, expected) in [
        (Dialect::MESSAGES, Some(1)),
        (Dialect::CHAT_COMPLETIONS, Some(2)),
        (Dialect::RESPONSES, Some(3)),
        (Dialect::COMPLETIONS, Some(1)),
        (Dialect::EMBEDDINGS, None),
        (Dialect::OPENAI_OTHER, None),
    ] {
        assert_eq!(
            read(dialect, &body).max_output,
            expected,
            "{}",
            dialect.as_str()
        );
    }
    assert_eq!(read_chat(&json!({"max_tokens": 5})).max_output, Some(5));
    for odd in [json!(-1), json!(1.5), json!("9"), json!(null), json!(1e30)] {
        assert_eq!(
            read_chat(&json!({"max_tokens": odd})).max_output,
            None,
            "{odd}"
        );
    }
}

const WANTED_FORMS: &str = r#"
    {}                                                              | No
    {"response_format": {"type": "text"}}                           | No
    {"response_format": {"type": "json_object"}}                    | JsonObject
    {"response_format": {"type": "json_schema", "json_schema": {}}} | JsonSchema
    {"response_format": "json_object"}                              | No
    {"text": {"format": {"type": "text"}}}                          | No
    {"text": {"format": {"type": "json_schema"}, "verbosity": "x"}} | JsonSchema
    {"text": {"format": {"type": "json_object"}}}                   | JsonObject
    {"output_config": {"format": {"type": "json_schema"}}}          | JsonSchema
    {"output_config": {"effort": "low"}}                            | No
    {"output_format": {"type": "json_schema"}}                      | JsonSchema
    {"tools": [{"name": "t"}]}                                      | No
    {"tool_choice": "auto"}                                         | No
    {"tool_choice": "none"}                                         | No
    {"tool_choice": "required"}                                     | ForcedTool
    {"tool_choice": {"type": "auto"}}                               | No
    {"tool_choice": {"type": "none"}}                               | No
    {"tool_choice": {"type": "any"}}                                | ForcedTool
    {"tool_choice": {"type": "tool", "name": "t"}}                  | ForcedTool
    {"tool_choice": {"type": "function", "function": {}}}           | ForcedTool
    {"tool_choice": {"type": "allowed_tools", "mode": "auto"}}      | No
    {"tool_choice": {"type": "allowed_tools", "mode": "required"}}  | ForcedTool
    {"tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "required"}}} | ForcedTool
    {"function_call": "auto"}                                       | No
    {"function_call": {"name": "t"}}                                | ForcedTool
    {"tool_choice": "required", "response_format": {"type": "json_object"}} | ForcedTool
"#;

#[test]
fn the_wanted_form_is_read() {
    for [body, expected] in rows(WANTED_FORMS) {
        let found = Ask::read(Dialect::CHAT_COMPLETIONS, body.as_bytes()).structured;
        assert_eq!(format!("{found:?}"), expected, "{body}");
    }
}

#[test]
fn state_at_the_vendor_is_read_in_the_dialect_that_has_it() {
    let table = [
        (
            json!({"previous_response_id": "resp_1"}),
            Some(Dialect::RESPONSES),
        ),
        (json!({"conversation": "conv_1"}), Some(Dialect::RESPONSES)),
        (
            json!({"conversation": {"id": "conv_1"}}),
            Some(Dialect::RESPONSES),
        ),
        (json!({"background": true}), Some(Dialect::RESPONSES)),
        (json!({"background": false}), None),
        (
            json!({"previous_response_id": null, "conversation": null}),
            None,
        ),
        (json!({"container": "c_1"}), Some(Dialect::MESSAGES)),
        (json!({"container": {"id": "c_1"}}), Some(Dialect::MESSAGES)),
        (
            json!({"thread": {"type": "continue"}}),
            Some(Dialect::MESSAGES),
        ),
        (json!({"container": null}), None),
        (json!({"store": true}), None),
    ];
    for (body, chained_in) in table {
        for dialect in Dialect::ALL {
            let chained = read(dialect, &body).chained;
            assert_eq!(
                chained,
                chained_in == Some(dialect),
                "{body} in {}",
                dialect.as_str()
            );
        }
    }
}

#[test]
fn long_and_odd_names_count_as_none() {
    let fits = "é".repeat(MAX_USER_LEN / 2);
    let too_long = format!("{fits}x");
    let ask = read_chat(&json!({"user": fits, "safety_identifier": too_long}));
    assert_eq!(ask.user.as_ref().map(Private::expose), Some(fits.as_str()));
    assert_eq!(ask.safety_identifier, None);

    for odd in [json!(""), json!(7), json!(null), json!({}), json!(["u"])] {
        let ask = read_chat(&json!({"user": odd, "metadata": {"user_id": odd}, "stream": true}));
        assert_eq!((ask.user, ask.metadata_user_id), (None, None), "{odd}");
        assert!(ask.stream, "one odd field must not hide the others");
    }

    let fits = "m".repeat(MAX_MODEL_LEN);
    assert_eq!(read_chat(&json!({"model": fits})).model, Some(fits.clone()));
    let ask = read_chat(&json!({"model": format!("{fits}m")}));
    assert_eq!(ask.model, None);
    assert!(ask.model_span.is_some(), "it can be replaced all the same");
}

#[test]
fn escapes_are_read_within_the_bound() {
    let ask = Ask::read(
        Dialect::RESPONSES,
        br#"{"\u0075ser": "a\u0041\"\n", "model": "\ud800"}"#,
    );
    assert_eq!(ask.user.as_ref().map(Private::expose), Some("aA\"\n"));
    assert_eq!(ask.model, None, "half a surrogate pair is no text");

    let escaped = |len| format!(r#"{{"user": "{}"}}"#, r"\u0041".repeat(len));
    let read = |len| Ask::read(Dialect::RESPONSES, escaped(len).as_bytes()).user;
    assert!(read(MAX_USER_LEN).is_some());
    assert!(read(MAX_USER_LEN + 1).is_none());
}

#[test]
fn what_cannot_be_read_asks_for_nothing() {
    let deep_array = format!("{{\"model\":\"m\",\"x\":{}", "[".repeat(1 << 20));
    let deep_objects = format!("{{\"model\":\"m\",\"x\":{}", "{\"a\":".repeat(1 << 20));
    // The values of the fields without their names.
    let values = Value::from(vec!["x"; 20]).to_string();
    for body in [
        "",
        "null",
        "\"model\"",
        &values,
        "{\"model\":\"m\"",
        "{\"model\":\"m\"} x",
        "{\"model\":\"m\",}",
        "--boundary\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nwhisper\r\n",
        "{\"model\":\"a\",\"model\":\"b\"}",
        "{\"model\":\"a\",\"stream\":true,\"\\u0073tream\":false}",
        &deep_array,
        &deep_objects,
    ] {
        let shown: String = body.chars().take(60).collect();
        assert_eq!(
            Ask::read(Dialect::CHAT_COMPLETIONS, body.as_bytes()),
            Ask::default(),
            "{shown}"
        );
    }
}

#[test]
fn depth_and_repetition_elsewhere_do_no_harm() {
    let deep = format!(
        "{{\"x\":{}{},\"y\":1,\"y\":2,\"model\":\"m\"}}",
        "[".repeat(1 << 20),
        "]".repeat(1 << 20)
    );
    assert_eq!(
        Ask::read(Dialect::MESSAGES, deep.as_bytes())
            .model
            .as_deref(),
        Some("m")
    );
}

#[test]
fn debug_output_holds_no_user() {
    let ask = read_chat(&json!({
        "user": "secret", "safety_identifier": "secret", "metadata": {"user_id": "secret"}
    }));
    assert!(
        ask.user.is_some() && ask.safety_identifier.is_some() && ask.metadata_user_id.is_some()
    );
    assert!(!format!("{ask:?}").contains("secret"));
}

// === the model's value ===

#[test]
fn a_span_that_is_not_within_the_body_replaces_nothing() {
    let body = b"{}";
    for span in [1..3, 3..3, 3..9] {
        assert_eq!(replace_model(body, span.clone(), "x"), None, "{span:?}");
    }
    #[expect(clippy::reversed_empty_ranges, reason = "the case under test")]
    let reversed = 2..1;
    assert_eq!(replace_model(body, reversed, "x"), None);
}

#[test]
fn a_model_that_is_no_string_has_no_span() {
    for odd in [json!(1), json!(null), json!(["m"]), json!({"model": "m"})] {
        assert_eq!(read_chat(&json!({"model": odd})).model_span, None, "{odd}");
    }
}

fn space() -> impl Strategy<Value = String> {
    "[ \t\r\n]{0,3}"
}

/// A value in which what looks like the field is not the field.
fn decoy() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(r#""\"model\": \"decoy\"""#.to_owned()),
        Just(r#"{"model": "decoy", "x": {"model":"decoy"}}"#.to_owned()),
        Just(r#"["model", "decoy", {"model": 1}]"#.to_owned()),
        Just("123456789012345678901234567890.5e-300".to_owned()),
        Just(r#""\\\"\u0000 \ud83d\ude00""#.to_owned()),
        Just("\"héllo \u{2028} 日本\"".to_owned()),
        any::<f64>().prop_map(|number| json!(number).to_string()),
    ]
}

fn field(key: &'static str) -> impl Strategy<Value = String> {
    (space(), space(), space(), decoy(), space())
        .prop_map(move |(a, b, c, value, d)| format!("{a}\"{key}\"{b}:{c}{value}{d}"))
}

fn any_field() -> impl Strategy<Value = String> {
    prop_oneof![
        field("messages"),
        field("Model"),
        field("model "),
        field("x"),
        field("")
    ]
}

/// The same for a prompt of 10 MiB around the model, full of what could be taken for it.
#[test]
fn replacing_the_model_of_a_large_body_changes_nothing_else() {
    let decoys =
        r#"{"role":"user","content":"\"model\": \"x\" \ud83e\udd80","model":"y","n":-1.5E+300}"#;
    let prompt = vec![decoys; (10 << 20) / decoys.len() + 1].join(" , ");
    let body = |model: &str| {
        format!("{{\"messages\" :\t[{prompt}],\r\n\"model\":{model} ,\"tools\":[{prompt}]}}")
    };
    let original = body("\"m\"");
    let span = Ask::read(Dialect::CHAT_COMPLETIONS, original.as_bytes()).model_span;
    let replaced = replace_model(original.as_bytes(), span.expect("it is there"), "n\"🦀");
    // Compared as a whole, and not shown: a failure would print both.
    assert!(replaced.is_some_and(|replaced| replaced == body("\"n\\\"🦀\"").as_bytes()));
}

proptest! {
    #[test]
    fn replacing_the_model_changes_nothing_else(
        before in prop::collection::vec(any_field(), 0..4),
        after in prop::collection::vec(any_field(), 0..4),
        spaces in (space(), space(), space(), space(), space()),
        model in ".{0,40}",
        new in ".{0,40}",
        escaped_key: bool,
    ) {
        let key = if escaped_key { r"mod\u0065l" } else { "model" };
        let (a, b, c, d, e) = spaces;
        let quoted = json!(model).to_string();
        let head = format!("{a}\"{key}\"{b}:{c}");
        let mut fields = before;
        let index = fields.len();
        fields.push(format!("{head}{quoted}{d}"));
        fields.extend(after);
        let body = format!("{e}{{{}}}{e}", fields.join(","));

        let ask = Ask::read(Dialect::CHAT_COMPLETIONS, body.as_bytes());
        prop_assert_eq!(ask.model.as_deref(), (!model.is_empty()).then_some(model.as_str()));
        let span = ask.model_span.expect("the field is there");
        let replaced = replace_model(body.as_bytes(), span, &new).expect("the span is inside");

        fields[index] = format!("{head}{}{d}", json!(new));
        let expected = format!("{e}{{{}}}{e}", fields.join(","));
        prop_assert_eq!(String::from_utf8(replaced).expect("still text"), expected);
    }

    #[test]
    fn random_bytes_never_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
        for dialect in Dialect::ALL {
            prop_assert_eq!(Ask::read(dialect, &body), Ask::default());
        }
    }

    #[test]
    fn damaged_requests_never_panic(at in any::<prop::sample::Index>(), byte: u8, cut in any::<prop::sample::Index>()) {
        let mut body = br#"{"model":"m","stream":true,"tool_choice":{"type":"any"},"user":"\u0041","metadata":{"user_id":"u"},"max_tokens":3}"#.to_vec();
        let at = at.index(body.len());
        body[at] = byte;
        for dialect in Dialect::ALL {
            let ask = Ask::read(dialect, &body);
            if let Some(span) = ask.model_span {
                prop_assert!(replace_model(&body, span, "n").is_some());
            }
            let _ = Ask::read(dialect, &body[..cut.index(body.len())]);
        }
    }
}

//! `unwrap_json`: JSON that was asked for comes out of the Markdown fence that a model put around it.

use serde_json::{Value, json};

use super::harness::{Answer, End, Origin, Recipe, Request, Rig, Tank, Tongue};

const BLOCK: &str = "answers: { unwrap_json: true }";
const MARK: &str = "x-surgetank-unwrapped";

/// `{"a": "b c"}` in a fence, as a parameter of the lab.
const FENCED: &str = "%60%60%60json%0A{\"a\": \"b c\"}%0A%60%60%60";

/// A request that asks for JSON.
fn asking(tongue: Tongue, kind: &str, extra: Value) -> Value {
    let format = json!({ "type": kind });
    let mut body = match tongue {
        Tongue::Messages => json!({ "output_config": { "format": format } }),
        Tongue::Chat => json!({ "response_format": format }),
        Tongue::Responses => json!({ "text": { "format": format } }),
    };
    if let Some(extra) = extra.as_object() {
        for (key, value) in extra {
            body[key] = value.clone();
        }
    }
    body
}

async fn answer_to(tank: &Tank, request: Request) -> Answer {
    let answer = tank.call(&request).await;
    assert_eq!((answer.status, answer.end), (200, End::Whole));
    answer
}

#[tokio::test]
async fn json_comes_out_of_its_fence() {
    for tongue in Tongue::ALL {
        let rig = Rig::start();
        let tank = Recipe::over(&rig.lab.url()).start_with(BLOCK);
        for kind in ["json_object", "json_schema"] {
            let request = tongue.with(false, &asking(tongue, kind, Value::Null));
            let answer = answer_to(&tank, request.script(kind, &format!("ok;text={FENCED}"))).await;
            let text = tongue.text_of_answer(&answer.json());
            assert_eq!(text, "{\"a\": \"b c\"}", "{tongue:?}, {kind}");
            assert_eq!(answer.head.one(MARK), Some("true"));
            assert_eq!(answer.number("content-length"), answer.body.len() as u64);
        }
        tank.at_rest().await;
        assert_eq!(
            tank.count("surgetank_unwrapped_total", &[("route", "route-1")]),
            2
        );
    }
}

#[tokio::test]
async fn a_compressed_answer_is_given_in_clear_text() {
    use std::io::Write as _;
    let body =
        r#"{"choices":[{"message":{"content":"```json\n[1]\n```"},"finish_reason":"stop"}]}"#;
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(body.as_bytes()).expect("memory");
    let packed = gzip.finish().expect("memory");
    let origin = Origin::start().await.serve(move |_| {
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-encoding: gzip\r\ncontent-digest: sha-256=:x:\r\nvary: accept-encoding\r\ncontent-length: {}\r\n\r\n",
            packed.len()
        );
        Some([head.as_bytes(), &packed].concat())
    });
    let tank = Recipe::over(&origin.url()).start_with(BLOCK);
    let request = Tongue::Chat.with(false, &asking(Tongue::Chat, "json_object", Value::Null));
    let answer = answer_to(&tank, request).await;
    assert_eq!(
        answer.text(),
        body.replace("```json\\n[1]\\n```", "[1]"),
        "all other bytes stay"
    );
    assert!(!answer.head.has("content-encoding") && !answer.head.has("content-digest"));
    assert!(answer.head.has("vary"));
}

/// What of the request or of the answer keeps the fence where it is.
#[tokio::test]
async fn everything_else_stays_as_it_came() {
    let prose = "Sure:%0A%60%60%60json%0A{}%0A%60%60%60";
    let two = "%60%60%60json%0A{}%0A%60%60%60%0A%60%60%60json%0A{}%0A%60%60%60";
    for tongue in Tongue::ALL {
        let rig = Rig::start();
        let on = Recipe::over(&rig.lab.url()).start_with(BLOCK);
        let off = Recipe::over(&rig.lab.url()).start();
        let cap = match tongue {
            Tongue::Responses => "max_output_tokens",
            _ => "max_tokens",
        };
        let tool = json!({ "tools": [{ "type": "function", "name": "t" }] });
        let json = |extra| asking(tongue, "json_schema", extra);
        for (what, tank, text, stream, extra) in [
            ("switched off", &off, FENCED, false, json(Value::Null)),
            ("no JSON asked for", &on, FENCED, false, json!({})),
            (
                "plain text asked for",
                &on,
                FENCED,
                false,
                asking(tongue, "text", Value::Null),
            ),
            ("tools", &on, FENCED, false, json(tool)),
            ("cut", &on, FENCED, false, json(json!({ cap: 1 }))),
            ("a stream", &on, FENCED, true, json(Value::Null)),
            ("prose before", &on, prose, false, json(Value::Null)),
            ("two fences", &on, two, false, json(Value::Null)),
            ("no fence", &on, "{\"a\": 1}", false, json(Value::Null)),
            (
                "no JSON within",
                &on,
                "%60%60%60%0Als -l%0A%60%60%60",
                false,
                json(Value::Null),
            ),
        ] {
            let request = tongue
                .with(stream, &extra)
                .script(what, &format!("ok;text={text}"));
            let answer = answer_to(tank, request).await;
            assert!(!answer.head.has(MARK), "{tongue:?}: {what}");
            let got = if stream {
                tongue.text_of_stream(&answer.body)
            } else {
                tongue.text_of_answer(&answer.json())
            };
            let sent = text.replace("%60", "`").replace("%0A", "\n");
            let expected = if what == "cut" {
                "```json\n{\"a\": "
            } else {
                &sent
            };
            assert_eq!(got, expected, "{tongue:?}: {what}");
        }
        assert_eq!(on.count("surgetank_unwrapped_total", &[]), 0);
    }
}

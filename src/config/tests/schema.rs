//! The JSON Schema, as an editor reads it.

use serde_json::{Value, json};

use super::*;

#[test]
fn the_schema_has_every_block_and_allows_nothing_else() {
    let schema = Config::json_schema();
    let keys: Vec<&str> = schema["properties"]
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    assert_eq!(
        keys,
        [
            "admin",
            "admin_token",
            "answers",
            "auth",
            "fallback",
            "limits",
            "listen",
            "listen_without_auth",
            "queue",
            "replay",
            "retry",
            "routes",
            "server",
            "shutdown",
            "store",
            "stream",
            "telemetry",
            "tls",
            "upstreams",
        ]
    );
    assert_eq!(
        schema["$schema"],
        "https://json-schema.org/draft/2020-12/schema"
    );
    assert_eq!(schema["additionalProperties"], false);
    for (name, block) in schema["$defs"].as_object().unwrap() {
        let is_closed = block["additionalProperties"] == false;
        let is_choice = block["oneOf"].is_array();
        assert!(is_closed || is_choice, "{name}: {block:#}");
    }
}

#[test]
fn every_setting_is_described_and_has_a_type() {
    let schema = Config::json_schema();
    let blocks = schema["$defs"]
        .as_object()
        .unwrap()
        .values()
        .chain([&schema]);
    for (setting, told) in blocks
        .filter_map(|block| block["properties"].as_object())
        .flatten()
    {
        assert!(
            told["description"]
                .as_str()
                .is_some_and(|text| text.len() > 10),
            "{setting}: {told:#}"
        );
        let is_typed = ["type", "$ref", "anyOf", "oneOf", "allOf"]
            .iter()
            .any(|keyword| !told[keyword].is_null());
        assert!(is_typed, "{setting}: {told:#}");
    }
    assert!(
        !schema.to_string().contains("null\""),
        "`null` is written `none`"
    );
}

#[test]
fn quantities_have_patterns_and_defaults() {
    let schema = Config::json_schema();
    let setting = |block: &str, key: &str| schema["$defs"][block]["properties"][key].clone();
    assert_eq!(setting("Retry", "base")["default"], "2s");
    assert!(setting("Retry", "base")["pattern"].is_string());
    assert_eq!(setting("Replay", "total")["default"], "256MiB");
    assert_eq!(setting("Server", "max_headers")["minimum"], 1);
    assert_eq!(
        setting("PerUser", "concurrent")["anyOf"][1],
        json!({ "const": "none" })
    );
    assert_eq!(
        setting("PerUser", "requests")["anyOf"][1],
        json!({ "const": "none" })
    );
    assert_eq!(setting("Upstream", "quota_share")["exclusiveMinimum"], 0);
    assert_eq!(setting("Retry", "post")["default"], "always");
    assert_eq!(schema["$defs"]["Upstream"]["required"], json!(["base_url"]));
    assert_eq!(
        schema["$defs"]["RouteEntry"]["required"],
        json!(["upstream"])
    );
}

#[test]
fn every_reference_leads_somewhere() {
    fn walk(value: &Value, root: &Value) {
        if let Some(reference) = value["$ref"].as_str() {
            assert!(
                root.pointer(reference.trim_start_matches('#')).is_some(),
                "{reference}"
            );
        }
        match value {
            Value::Array(items) => items.iter().for_each(|item| walk(item, root)),
            Value::Object(entries) => entries.values().for_each(|value| walk(value, root)),
            _ => {}
        }
    }
    let schema = Config::json_schema();
    walk(&schema, &schema);
}

/// Helm holds the `config` of the chart's values to this schema; `tests/run helm` holds the rest of that file to the chart.
#[test]
fn the_chart_has_the_same_schema() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/deploy/helm/surgetank/values.schema.json"
    );
    let text = std::fs::read_to_string(path).expect("the chart is there");
    let mut values: Value = serde_json::from_str(&text).expect("JSON");
    let mut config = Config::json_schema();
    let fields = config.as_object_mut().expect("an object");
    for of_a_whole_document in ["$schema", "title"] {
        fields.remove(of_a_whole_document);
    }
    // At the top, where its references look for them.
    values["$defs"] = fields.remove("$defs").expect("definitions");
    values["properties"]["config"] = config;
    let current = serde_json::to_string_pretty(&values).expect("JSON") + "\n";
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, current).expect("it can be written");
    } else if text != current {
        panic!(
            "values.schema.json is not up to date: UPDATE_DOCS=1 cargo test --lib the_chart_has"
        );
    }
}

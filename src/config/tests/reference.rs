//! `docs/configuration.md` is made of the schema, so that it cannot be out of date.

use std::{collections::BTreeSet, fmt::Write as _, path::PathBuf};

use serde_json::Value;

use crate::config::Config;

const BEGIN: &str = "<!-- generated: `UPDATE_DOCS=1 cargo test --lib reference` -->";
const END: &str = "<!-- end of what is generated -->";

/// A text as it may stand in the cell of a table.
fn cell(text: &str) -> String {
    text.replace('\n', " ").replace('|', "\\|")
}

fn text<'a>(of: &'a Value, key: &str) -> &'a str {
    of[key].as_str().unwrap_or_default()
}

/// The name of the block that a schema points to.
fn block(schema: &Value) -> Option<&str> {
    text(schema, "$ref").strip_prefix("#/$defs/")
}

/// What may be written, in a few words.
fn kind(schema: &Value) -> String {
    if let Some(name) = block(schema) {
        return format!("[{name}](#{})", name.to_lowercase());
    }
    for key in ["anyOf", "oneOf"] {
        if let Some(choices) = schema[key].as_array() {
            let kinds: BTreeSet<_> = choices.iter().map(kind).collect();
            return kinds.into_iter().collect::<Vec<_>>().join(" or ");
        }
    }
    if !schema["const"].is_null() {
        return format!("`{}`", schema["const"].to_string().trim_matches('"'));
    }
    if let Some(values) = schema["enum"].as_array() {
        let values = values
            .iter()
            .map(|value| format!("`{}`", value.to_string().trim_matches('"')));
        return values.collect::<Vec<_>>().join(" or ");
    }
    let name = match &schema["type"] {
        Value::Array(names) => names.first().and_then(Value::as_str).unwrap_or_default(),
        name => name.as_str().unwrap_or_default(),
    };
    match name {
        "array" => format!("list of {}", kind(&schema["items"])),
        "object" if schema["additionalProperties"].is_object() => {
            format!("name: {}", kind(&schema["additionalProperties"]))
        }
        "" => "anything".to_owned(),
        "string" => "text".to_owned(),
        name => name.to_owned(),
    }
}

fn default(schema: &Value) -> String {
    match &schema["default"] {
        // A block's defaults stand with its settings.
        Value::Null | Value::Object(_) => String::new(),
        value => format!("`{}`", value.to_string().trim_matches('"')),
    }
}

fn table(page: &mut String, schema: &Value) {
    let Some(settings) = schema["properties"].as_object() else {
        return;
    };
    page.push_str("\n| setting | value | default | meaning |\n|---|---|---|---|\n");
    for (name, setting) in settings {
        let kind = cell(&kind(setting));
        let meaning = cell(text(setting, "description"));
        let _ = writeln!(
            page,
            "| `{name}` | {kind} | {} | {meaning} |",
            cell(&default(setting))
        );
    }
}

fn generated(schema: &Value) -> String {
    let mut page = format!("{BEGIN}\n\n## The file\n");
    table(&mut page, schema);
    let blocks = schema["$defs"].as_object().expect("blocks");
    for (name, block) in blocks {
        let _ = write!(page, "\n## {name}\n\n{}\n", text(block, "description"));
        table(&mut page, block);
        for key in ["oneOf", "anyOf"] {
            for choice in block[key].as_array().into_iter().flatten() {
                let what = match choice["properties"].as_object() {
                    Some(settings) => {
                        let names = settings.keys().map(|name| format!("`{name}`"));
                        names.collect::<Vec<_>>().join(", ")
                    }
                    None => kind(choice),
                };
                let meaning = text(choice, "description").replace('\n', " ");
                let _ = writeln!(
                    page,
                    "- {what}{}{meaning}",
                    if meaning.is_empty() { "" } else { ": " }
                );
            }
        }
        if block["enum"].is_array() {
            let _ = writeln!(page, "\nOne of {}.", kind(block));
        }
    }
    page + "\n" + END
}

#[test]
fn the_reference_is_up_to_date() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
    let page = std::fs::read_to_string(&path).expect("docs/configuration.md is there");
    let (before, rest) = page.split_once(BEGIN).expect("the mark of the beginning");
    let (_, after) = rest.split_once(END).expect("the mark of the end");
    let schema = serde_json::to_value(Config::json_schema()).expect("a document");
    let current = format!("{before}{}{after}", generated(&schema));
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &current).expect("it can be written");
    } else if page != current {
        panic!("docs/configuration.md is not up to date: UPDATE_DOCS=1 cargo test --lib reference");
    }
}

#[test]
fn every_setting_is_explained() {
    let schema = serde_json::to_value(Config::json_schema()).expect("a document");
    let blocks = schema["$defs"].as_object().expect("blocks");
    for (name, block) in blocks.iter().chain([(&"the file".to_owned(), &schema)]) {
        for (setting, told) in block["properties"].as_object().into_iter().flatten() {
            let is_told = !text(told, "description").is_empty() || block_told(&schema, told);
            assert!(is_told, "{name}: {setting} has no description");
        }
    }
}

fn block_told(schema: &Value, setting: &Value) -> bool {
    block(setting).is_some_and(|name| !text(&schema["$defs"][name], "description").is_empty())
}

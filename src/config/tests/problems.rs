//! What is wrong is said, all of it, where it stands, with the way out, and without a secret.

use std::fmt::Write;

use super::*;

/// The problems of a text, one a line, as `check` prints them.
pub(super) fn problems(text: &str) -> Vec<String> {
    let told = match parse(text) {
        Ok(config) => config.warnings().iter().map(ToString::to_string).collect(),
        Err(problems) => problems.to_string(),
    };
    told_lines(&told)
}

pub(super) fn told_lines(told: &str) -> Vec<String> {
    told.lines()
        .map(|line| line.strip_prefix("config.yaml").unwrap_or(line).to_owned())
        .collect()
}

/// Demands exactly one problem, of these words.
#[track_caller]
pub(super) fn one(text: &str, expected: &str) {
    assert_eq!(problems(text), [expected], "{text}");
}

#[test]
fn a_misspelt_key_names_the_likely_one() {
    let text = "# comment\nretry:\n  max_retry: 3\n";
    let problem = parse(text).unwrap_err().to_string();
    assert_eq!(
        problem,
        "config.yaml:3:3: unknown key `max_retry` in `retry`; did you mean `max_retries`?"
    );
    one(
        "upstream: {}",
        ":1:1: unknown key `upstream` at the top level; did you mean `upstreams`?",
    );
    one(
        "max_retries: 3",
        ":1:1: unknown key `max_retries` at the top level; it belongs under `retry`",
    );
    one(
        "server: { colour: 3 }",
        ":1:11: unknown key `colour` in `server`; it takes `head_timeout`, `keepalive_idle`, `write_idle`, `max_head`, `max_headers`, `max_connections`, `workers` or `via`",
    );
}

#[test]
fn all_problems_are_told_at_once() {
    let text = r#"listen: 4290
bse: 1
upstreams:
  openai:
    base_url: api.openai.com
    quota_share: 2
    timeout: 5s
  anthropic: {}
routes:
  - match: { path: v1, headers: { "a b": c } }
    upstream: antropic
    retry: { factor: 0.5, max_retries: -1, jitter: 1 }
  - upstream: openai
    fallback: [ { upstream: openai }, { replay: hi }, { reply: "" }, { upstream: opnai } ]
limits: { identify: [user], per_user: { requests: 0/min, concurrent: 0, burst: many } }
retry: { base: soon, cap: [1s], post: allways }
telemetry: json
shutdown: { drain: 5 }
replay: { total: 1MiB }
server: { max_head: 1KiB, via: maybe }
"#;
    let expected = [
        ":1:9: `listen` cannot be `4290`: say which interface",
        ":2:1: unknown key `bse` at the top level",
        ":5:15: `upstreams.openai.base_url` cannot be `api.openai.com`: it must begin with",
        ":6:18: `upstreams.openai.quota_share` cannot be `2`: it must be above 0 and at most 1",
        ":7:5: unknown key `timeout` in `upstreams.openai`; did you mean `timeouts`?",
        ":8:3: `upstreams.anthropic` lacks `base_url`",
        ":10:20: `routes[0].match.path` cannot be `v1`: a path begins with `/`",
        ":10:35: `routes[0].match.headers.a b` cannot be a key here: it must be the name of a header",
        ":11:15: `routes[0].upstream` names the upstream `antropic`, which is not there; did you mean `anthropic`?",
        ":12:22: `routes[0].retry.factor` cannot be `0.5`: it must be at least 1",
        ":12:40: `routes[0].retry.max_retries` cannot be `-1`: it must be a whole number",
        ":12:52: `routes[0].retry.jitter` cannot be `1`: a duration needs its unit",
        ":14:17: this falls back to the same API and model that have just failed",
        ":14:41: unknown key `replay` in `routes[1].fallback[1]`; did you mean `reply`?",
        ":14:64: `routes[1].fallback[2].reply` cannot be empty: it must say something to the user",
        ":14:82: `routes[1].fallback[3].upstream` names the upstream `opnai`, which is not there; did you mean `openai`?",
        ":15:22: `limits.identify[0]` cannot be `user`: it must be `header:NAME`",
        ":15:51: `limits.per_user.requests` cannot be `0/min`: a rate of zero",
        ":15:70: `limits.per_user.concurrent` cannot be `0`: it must be at least 1",
        ":15:80: `limits.per_user.burst` cannot be `many`: it must be a whole number",
        ":16:16: `retry.base` cannot be `soon`: a duration is a number with its unit",
        ":16:27: `retry.cap` must be a duration such as `250ms`, `2s` or `10m`, not a list",
        ":16:39: `retry.post` cannot be `allways`: it must be one of `always`, `answered` or `unsent`; did you mean `always`?",
        ":17:12: `telemetry` must be a mapping",
        ":18:20: `shutdown.drain` cannot be `5`: a duration needs its unit",
        ":19:18: `replay.per_request` (32MiB) is more than `replay.total` (1MiB)",
        ":20:21: `server.max_head` must be from `8KiB` to `1MiB`",
        ":20:32: `server.via` cannot be `maybe`: it must be `true` or `false`",
    ];
    let told = problems(text);
    for (told, expected) in told.iter().zip(expected) {
        assert!(told.starts_with(expected), "{told}\n{expected}");
    }
    assert_eq!(told.len(), expected.len(), "{told:#?}");
}

#[test]
fn a_fault_in_an_inherited_block_is_told_once() {
    let text = "retry: { base: x, bsae: 1s }\nroutes:\n  - { match: { path: /a }, upstream: openai, retry: { cap: 1s } }\n  - { match: { path: /b }, upstream: openai }\n  - { upstream: anthropic }\n";
    let told = problems(text);
    assert_eq!(told.len(), 2, "{told:#?}");
    assert!(
        told[0].starts_with(":1:16: `retry.base` cannot be `x`"),
        "{told:#?}"
    );
    assert!(
        told[1].starts_with(":1:19: unknown key `bsae` in `retry`"),
        "{told:#?}"
    );
}

#[test]
fn what_is_not_yaml_says_where() {
    for (text, expected) in [
        ("listen: [a", ":1:9: this is not YAML: unclosed bracket '['"),
        ("listen: 'a", ":1:9: this is not YAML: unclosed quote"),
        (
            "a: b: c",
            ":1:5: this is not YAML: mapping values are not allowed in this context",
        ),
        (
            "store: *nope",
            ":1:8: this is not YAML: alias references unknown anchor",
        ),
        (
            "retry: { base: ${A} }",
            ":1:17: this is not YAML: while parsing a flow mapping, did not find expected ',' or '}'; within `{ }` and `[ ]` a variable must stand in quotes, as in `\"${NAME}\"`",
        ),
        (
            "listen: a\n---\nlisten: b",
            ":3:1: the file holds several YAML documents, and a configuration is one; take the second `---` out",
        ),
        (
            "",
            ": the file holds no setting; to run with the built-in configuration, name no file",
        ),
        (
            "# nothing\n",
            ": the file holds no setting; to run with the built-in configuration, name no file",
        ),
        (
            "a: b: ${A}",
            ":1:5: this is not YAML: mapping values are not allowed in this context",
        ),
        (": 1", ":1:1: there is a value here without its key"),
        ("? [a]\n: 1", ":1:3: a key must be a plain word"),
        (
            "- listen",
            ":1:1: the file must be a mapping (`key: value`), not a list",
        ),
        (
            "listen",
            ":1:1: the file must be a mapping (`key: value`), not a single value",
        ),
        (
            "listen: 127.0.0.1:1\nadmin: none\nlisten: 127.0.0.1:2",
            ":3:1: `listen` stands here a second time, first on line 1; keep one",
        ),
        (
            "retry: { base: 1s, base: 2s }",
            ":1:20: `base` stands here a second time, first on line 1; keep one",
        ),
    ] {
        one(text, expected);
    }
}

#[test]
fn every_variable_that_is_missing_is_told() {
    assert_eq!(
        problems("listen: ${A}:${B}\nadmin: ${C:-none}\nupstreams: { x: { base_url: \"${D}\" } }"),
        [
            ":1:9: the variable `A` is not set; set it, or give a default as in `${A:-default}`",
            ":1:9: the variable `B` is not set; set it, or give a default as in `${B:-default}`",
            ":3:29: the variable `D` is not set; set it, or give a default as in `${D:-default}`",
        ]
    );
}

#[test]
fn nothing_is_told_of_what_follows_from_another_fault() {
    for text in [
        "upstreams: { a: { base_url: x } }",
        "upstreams: { a: { base_url: \"${NOT_SET}\" } }",
        "routes: [{ upstream: [] }]",
        "replay: { per_request: 300MiB, total: x }",
        "retry: { base: x, cap: 1s, patience: 1s }",
        "upstreams: { a: { base_url: http://h, timeouts: { total: x, idle: 20m } } }",
        "upstreams: { a: { base_url: http://h, credential: { env: 1x } } }",
    ] {
        let told = problems(text);
        assert_eq!(told.len(), 1, "{text}\n{told:#?}");
    }
    assert_eq!(
        problems("upstreams: { a: { model: [] } }"),
        [
            ":1:14: `upstreams.a` lacks `base_url`",
            ":1:26: `upstreams.a.model` must be a string, not a list",
        ]
    );
}

#[test]
fn no_message_shows_a_secret() {
    for text in [
        "upstreams: { a: { base_url: \"https://u:sk-hunter2@h\" } }",
        "upstreams: { a: { base_url: \"https://h/?key=sk-hunter2\" } }",
        "upstreams: { a: { base_url: \"${SECRET}\" } }",
        "upstreams: { a: { base_url: http://h, credential: sk-hunter2 } }",
        "upstreams: { a: { base_url: http://h, credential: [sk-hunter2] } }",
        "upstreams: { a: { base_url: http://h, credential: { env: sk-hunter2 } } }",
        "upstreams: { a: { base_url: http://h, credential: { sk-hunter2: } } }",
        "upstreams: { a: { base_url: http://h, credential: { env: A, key: sk-hunter2 } } }",
        "upstreams: { a: { base_url: http://h, credential: { sk-hunter2: 1, sk-hunter2: 2 } } }",
        "upstreams: { a: { base_url: http://h, credential: { value: \"${SECRET}\" } } }",
        "upstreams: { a: { base_url: http://h, credentials: sk-hunter2 } }",
        "upstreams: { a: { base_url: http://h, timeouts: { idle: \"${SECRET}\" } } }",
        "store: sk-hunter2",
        "store: { url: \"mysql://:${SECRET}@h\" }",
        "telemetry: { otlp: \"http://sk-hunter2@h\" }",
        "telemetry: { log: \"${SECRET}\" }",
        "queue: { webhooks: [{ name: a, url: 'https://u:sk-hunter2@h', secret: { env: K } }] }",
        "queue: { encrypt: sk-hunter2 }",
        "queue: { webhooks: [{ name: a, url: 'https://h', secret: sk-hunter2 }] }",
        "routes: [{ upstream: openai, match: { headers: { authorization: \"sk-hunter2*\" } } }]",
        "retry: ${SECRET}",
        "listen: ${SECRET}",
    ] {
        let told = problems(text);
        assert!(!told.is_empty(), "{text}");
        assert!(!told.concat().contains("hunter2"), "{text}\n{told:#?}");
    }
}

#[test]
fn names_from_the_environment_are_not_shown_when_they_lead_nowhere() {
    let told = problems("routes: [{ upstream: \"${SECRET}\" }]");
    assert_eq!(told.len(), 1);
    assert!(!told[0].contains("hunter2"), "{told:#?}");
}

#[test]
fn a_file_that_cannot_be_read_is_one_sentence() {
    let told = Config::load(Path::new("/nonexistent/config.yaml"), &env)
        .unwrap_err()
        .to_string();
    assert!(
        told.starts_with("/nonexistent/config.yaml: the file cannot be read: "),
        "{told}"
    );
    let told = Config::load(Path::new("/"), &env).unwrap_err().to_string();
    assert!(told.starts_with("/: the file cannot be read: "), "{told}");

    let path = std::env::temp_dir().join(format!("surgetank-config-{}.yaml", std::process::id()));
    let load = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        Config::load(&path, &env)
    };
    let name = path.display();
    let told = load(b"retry: {}\n# \xff\n").unwrap_err().to_string();
    assert_eq!(
        told,
        format!("{name}: the file is not UTF-8; the first byte that is not stands on line 2")
    );
    let told = load(&vec![b'#'; 1024 * 1024 + 1]).unwrap_err().to_string();
    assert_eq!(
        told,
        format!("{name}: the file is larger than 1 MiB, which no configuration is")
    );
    let told = load(b"retry: { bse: 1s }").unwrap_err().to_string();
    assert_eq!(
        told,
        format!("{name}:1:10: unknown key `bse` in `retry`; did you mean `base`?")
    );
    assert!(load(SAMPLE.as_bytes()).is_ok());
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn a_file_full_of_faults_ends() {
    let mut text = String::from("upstreams:\n");
    for index in 0..2_000 {
        writeln!(text, "  u{index}: {{ base_url: x, model: [], bad: 1 }}").unwrap();
    }
    let problems = parse(&text).unwrap_err();
    assert_eq!(problems.len(), 101);
    let last = problems.to_string();
    let last = last.lines().last();
    assert_eq!(
        last,
        Some("config.yaml: warning: these are the first 100 errors; there may be more")
    );
}

#[test]
fn warnings_crowd_no_error_out() {
    let mut text = String::from("upstreams:\n");
    for index in 0..300 {
        writeln!(text, "  u{index}: {{ base_url: http://h{index}/v1 }}").unwrap();
    }
    text.push_str("routes: [{ upstream: u0, fallback: [{ upstream: nobody }] }]\n");
    let problems = parse(&text).unwrap_err();
    assert!(
        problems.to_string().contains("which is not there"),
        "{problems}"
    );
}

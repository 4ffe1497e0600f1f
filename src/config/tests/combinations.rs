//! What no single value is to blame for: settings that do not fit together, and those that do nothing.

use super::problems::{one, problems, told_lines};
use super::*;

#[test]
fn routes_that_are_never_reached_are_errors() {
    one(
        "routes:\n  - upstream: openai\n  - match: { path: /v1/messages }\n    upstream: anthropic\n",
        ":3:5: this route is never reached: the one on line 2 takes every request; move that one to the end",
    );
    one(
        "routes:\n  - match: { path: / }\n    upstream: openai\n  - upstream: anthropic\n",
        ":4:5: this route is never reached: the one on line 2 takes every request; move that one to the end",
    );
    let shadowed = "this route is never reached: those before it take every request that it would take; move it up or take it out";
    one(
        "routes:\n  - match: { path: /v1 }\n    upstream: openai\n  - match: { path: /v1/messages }\n    upstream: anthropic\n",
        &format!(":4:5: {shadowed}"),
    );
    one(
        "routes:\n  - { upstream: openai, match: { path: /a } }\n  - { upstream: openai, match: { headers: { x: \"*\" } } }\n  - { upstream: openai, match: { path: [/a/b, /a], headers: { x: y } } }\n",
        &format!(":4:5: {shadowed}"),
    );
    for reached in [
        "routes:\n  - { upstream: openai, match: { path: /a } }\n  - { upstream: openai, match: { path: /ab } }\n",
        "routes:\n  - { upstream: openai, match: { path: /a/b } }\n  - { upstream: openai, match: { path: /a } }\n",
        "routes:\n  - { upstream: openai, match: { path: /a } }\n  - { upstream: openai, match: { path: /a, headers: { x: y } } }\n",
        "routes:\n  - { upstream: openai, match: { headers: { x: y } } }\n  - { upstream: openai, match: { headers: { x: \"*\" } } }\n",
    ] {
        assert_eq!(problems(reached), Vec::<String>::new(), "{reached}");
    }
    // Of a match that could be read in part, nothing is concluded.
    let told = problems(
        "routes:\n  - { upstream: openai, match: { path: v1 } }\n  - { upstream: anthropic }\n",
    );
    assert_eq!(told.len(), 1, "{told:#?}");
    let told = problems(
        "routes:\n  - { upstream: openai, match: { paths: /v1 } }\n  - { upstream: anthropic }\n",
    );
    assert_eq!(told.len(), 1, "{told:#?}");
}

/// Texts with the one error in each.
const UNFIT: &[(&str, &str)] = &[
    (
        "listen: [127.0.0.1:1, 127.0.0.1:1]",
        ":1:23: `127.0.0.1:1` is listened on twice; every listener and `admin` need an address of their own",
    ),
    (
        "listen: 127.0.0.1:4291",
        ":1:9: `127.0.0.1:4291` is listened on twice; every listener and `admin` need an address of their own",
    ),
    (
        "listen: 0.0.0.0:1\nadmin: 127.0.0.1:1",
        ":2:8: `0.0.0.0:1` and `127.0.0.1:1` cannot both be listened on; one takes the port of the other",
    ),
    (
        "listen: []",
        ":1:9: `listen` is empty; name at least one address, such as `127.0.0.1:4290`",
    ),
    (
        "upstreams: {}",
        ":1:12: `upstreams` is empty; name at least one, or leave the block out for Anthropic and OpenAI",
    ),
    (
        "routes: []",
        ":1:9: `routes` is empty; without a route no request goes anywhere",
    ),
    (
        "upstreams: { a: { base_url: http://a }, b: { base_url: http://b } }",
        ":1:1: `routes` is missing: say which requests go to `a` or `b`",
    ),
    (
        "routes: [{ upstream: openai, match: {} }]",
        ":1:37: this `match` is empty; name a `path` or `headers`, or leave it out to take the rest",
    ),
    (
        "routes: [{ upstream: openai, name: a b }]",
        ":1:36: this cannot name a route: a name is made of up to 64 letters, digits, `-`, `_` and `.`",
    ),
    (
        "routes: [{ upstream: openai, match: { path: /a }, name: x }, { upstream: openai, name: x }]",
        ":1:88: a second route is called `x`; give it a `name` of its own",
    ),
    (
        "fallback: [{ upstream: opnai }]",
        ":1:24: `fallback[0].upstream` names the upstream `opnai`, which is not there; did you mean `openai`?",
    ),
    (
        "fallback: [{ error: }, { reply: x }]",
        ":1:12: `error` ends the chain; what stands behind it is never tried",
    ),
    (
        "fallback: [{ upstream: openai, reply: x }]",
        ":1:12: `fallback[0]` must be exactly one of `upstream`, `model`, `reply`, `queue` or `error`, not a mapping",
    ),
    (
        "fallback: [{ queue: { depth: 1 } }]",
        ":1:21: `fallback[0].queue` must be empty, or `{}`, not a mapping",
    ),
    (
        "fallback: [{ when: { structured: true } }]",
        ":1:12: `fallback[0]` must be exactly one of `upstream`, `model`, `reply`, `queue` or `error`, not a mapping",
    ),
    (
        "fallback: [{ upstream: openai, when: { failure: [faulty, context] } }]",
        ":1:58: `fallback[0].when.failure[1]` cannot be `context`: it must be one of `unsent`, `throttled`, `overloaded`, `faulty`, `exhausted` or `context_too_long`; did you mean `context_too_long`?",
    ),
    (
        "limits: { classes: { gold: { match: { users: ann } } } }\nfallback: [{ model: m, when: { class: [gold, golf] } }]",
        ":2:46: `fallback[0].when.class[1]` names the class `golf`, which is not there; did you mean `gold`?",
    ),
    (
        "limits: { classes: { gold: { match: { users: ann } }, free: { match: { users: '*' } } } }\nfallback: [{ error: , when: { class: paying } }]",
        ":2:38: `fallback[0].when.class` names the class `paying`, which is not there; there is `free` or `gold`",
    ),
    (
        "fallback: [{ reply: x, when: { class: gold } }]",
        ":1:39: `fallback[0].when.class` names the class `gold`, which is not there; `limits.classes` has none",
    ),
    (
        "routes: [{ upstream: openai, match: { path: /a }, fallback: [{ reply: x, when: { class: gold } }] }, { upstream: openai, limits: { classes: { gold: { match: { users: ann } } } } }]",
        ":1:89: `routes[0].fallback[0].when.class` names the class `gold`, which is not there; `limits.classes` has none",
    ),
    (
        "fallback: [{ model: m, when: { time: 5s } }]",
        ":1:32: unknown key `time` in `fallback[0].when`; did you mean `time_left`?",
    ),
    (
        "fallback: [{ model: \"\" }]",
        ":1:21: `fallback[0].model` cannot be empty: it must be the name of a model",
    ),
    (
        "fallback: [{ reply: \"in {wiat}\" }]",
        ":1:21: `fallback[0].reply` cannot be `in {wiat}`: there is no placeholder `{wiat}`; there are `{wait}`, `{wait_seconds}` and `{request_id}`, and for a queued request `{queue_id}` and `{location}`",
    ),
    (
        "fallback: [{ reply: { text: a, file: b } }]",
        ":1:21: `fallback[0].reply` cannot be a mapping: `text` and `file` exclude each other",
    ),
    (
        "fallback: [{ reply: { language: de } }]",
        ":1:14: `fallback[0].reply` lacks `text`",
    ),
    (
        "fallback: [{ reply: { text: a, variants: [{ language: german language, text: b }] } }]",
        ":1:55: `fallback[0].reply.variants[0].language` cannot be `german language`: it must be a language tag such as `en`, `de` or `pt-BR`",
    ),
    (
        "fallback: [{ reply: { text: a, json: '[1]' } }]",
        ":1:38: `fallback[0].reply.json` cannot be `[1]`: it must be a JSON object, such as '{\"status\": \"busy\", \"retry_in\": {wait_seconds}}'",
    ),
    (
        "fallback: [{ reply: { text: \"at {location}\" } }]",
        ":1:29: `fallback[0].reply.text` cannot be `at {location}`: only a queued request has a `{location}`",
    ),
    (
        "fallback: [reply]",
        ":1:12: `fallback[0]` must be a mapping of one key and its value, not a single value",
    ),
    (
        "limits: { identify: [] }",
        ":1:21: `identify` is empty, so that all callers would be one user; `peer` at least tells their addresses apart",
    ),
    (
        "stream: { notice: \"a\\nb\" }",
        ":1:19: `stream.notice` cannot be `a b`: it must be one line of text",
    ),
    (
        "telemetry: { otlp: localhost }",
        ":1:20: `telemetry.otlp` is no endpoint such as `http://localhost:4318`: it must begin with `https://` or `http://`",
    ),
    (
        "upstreams: { a: { base_url: http://h, timeouts: { connect: 0s } } }",
        ":1:60: `upstreams.a.timeouts.connect` cannot be `0s`: it must be longer than zero",
    ),
    (
        "upstreams: { a: { base_url: http://h, timeouts: { first_byte: none } } }",
        ":1:63: `upstreams.a.timeouts.first_byte` cannot be switched off; leave it out for 60s on streams and 300s on plain answers",
    ),
    (
        "upstreams: { a: { base_url: http://h, model: \"\" } }",
        ":1:46: `upstreams.a.model` is empty; leave it out to keep the model of the request",
    ),
];

#[test]
fn what_does_not_fit_together_is_told() {
    for (text, expected) in UNFIT {
        let errors: Vec<String> = problems(text)
            .into_iter()
            .filter(|told| !told.contains("warning:"))
            .collect();
        assert_eq!(errors, [*expected], "{text}");
        assert!(parse(text).is_err(), "{text}");
    }
}

#[test]
fn two_names_of_one_target_are_no_fallback() {
    let target = |model| {
        format!(
            "upstreams:\n  a: {{ base_url: http://h }}\n  b: {{ base_url: http://h{model} }}\nroutes: [{{ upstream: a, fallback: [{{ upstream: b }}] }}]\n"
        )
    };
    one(
        &target(""),
        ":4:36: this falls back to the same API and model that have just failed; name another upstream",
    );
    assert_eq!(problems(&target(", model: m")), Vec::<String>::new());
}

#[test]
fn what_works_otherwise_than_it_looks_is_warned_of() {
    for (text, expected) in [
        (
            "retry: { base: 5s, cap: 1s }",
            ":1:25: warning: `cap` (1s) is shorter than `base` (5s), so that every wait is the cap",
        ),
        (
            "retry: { patience: 1s }",
            ":1:20: warning: the first wait (2s) is longer than `patience` (1s), so that nothing is ever tried again",
        ),
        (
            "limits: { per_user: { burst: 4 } }",
            ":1:30: warning: `burst` has no effect without `requests`, the rate that it belongs to",
        ),
        (
            "upstreams: { a: { base_url: http://h/v1 } }",
            ":1:29: warning: requests bring their own path: with this `base_url`, `/v1/models` goes to `/v1/v1/models`; take the `/v1` out unless callers leave it out",
        ),
        (
            "telemetry: { otlp: http://h:4317 }",
            ":1:20: warning: collectors take gRPC on port 4317; traces are sent over HTTP, which they take on 4318",
        ),
        (
            "listen_without_auth: true\nauth: { tokens: { env: A } }",
            ":1:22: warning: `listen_without_auth` has no effect beside `auth`",
        ),
        (
            "admin: none\nadmin_token: { env: A }",
            ":2:14: warning: `admin_token` has no effect, since `admin` is off",
        ),
        (
            "listen: unix:/a\ntls: { cert: c, key: k }",
            ":2:6: warning: `tls` has no effect on a Unix socket",
        ),
        (
            "upstreams: { a: { base_url: http://h, timeouts: { idle: 20m } } }",
            ":1:57: warning: `timeouts.idle` of `a` (20m) never ends a request, since `timeouts.total` (10m) is shorter",
        ),
    ] {
        one(text, expected);
        assert!(parse(text).is_ok(), "{text}");
    }
    for text in [
        "retry: { max_retries: 0, patience: 1s }",
        "retry: { jitter: 0 }",
        "limits: { per_user: { max_wait: 0s } }",
        "listen: 0.0.0.0:1",
        "upstreams: { a: { base_url: http://h, timeouts: { total: 1s } } }",
    ] {
        assert_eq!(problems(text), Vec::<String>::new(), "{text}");
    }
}

#[test]
fn what_asks_for_nothing_unusual_is_not_warned_of() {
    for text in [
        "answers: { on_truncated: mark, unwrap_json: false }",
        "answers: { on_truncated: retry_larger, unwrap_json: true }",
        "answers: { on_truncated: continue, on_broken: continue, continue_by: prefill, max_continuations: 1 }",
        "limits: { per_user: { tokens: none } }",
        "telemetry: { otlp: none }",
        "store: none",
        "store: { url: redis://h, fail: open, replicas: 4 }",
        "store: { url: 'rediss://a,b', cluster: true }",
        "store: { url: sqlite:x }",
        "stream: { notice: Wait., notice_after: never, keepalive: 20s, json_keepalive: 30s }",
    ] {
        assert_eq!(problems(text), Vec::<String>::new(), "{text}");
    }
}

#[test]
fn a_truncated_answer_of_responses_is_not_continued() {
    one(
        "routes: [{ match: { path: /v1/responses }, upstream: openai, answers: { on_truncated: continue } }, { upstream: openai }]",
        ":1:87: a truncated answer of Responses cannot be continued: no vendor documents how to go on within one response; use `mark`, or `retry_larger` for plain answers",
    );
    let broken = "routes: [{ match: { path: /v1/responses }, upstream: openai, answers: { on_broken: continue } }, { upstream: openai }]";
    assert_eq!(problems(broken), Vec::<String>::new());
}

#[test]
fn credentials_are_asked_for_apart_and_at_their_place() {
    let config = config(
        "upstreams:\n  a: { base_url: http://a, credential: { env: SECRET } }\n  b:\n    base_url: http://b\n    credential: { env: NOT_SET }\n  c: { base_url: http://c, credential: { file: /nonexistent/key } }\nroutes: [{ upstream: a }]\n",
    );
    let told = config.check_here(&env).unwrap_err();
    let told = told_lines(&told.to_string());
    assert_eq!(told.len(), 2, "{told:#?}");
    assert_eq!(
        told[0],
        ":5:5: the credential of `b` cannot be had: the environment variable `NOT_SET` is not set; set it, or take `credential` out so that callers send their own"
    );
    assert!(told[1].starts_with(":6:28: the credential of `c` cannot be had: the file `/nonexistent/key` cannot be read: "), "{told:#?}");
    assert!(config.check_here(&|_| Some("x".into())).is_err());
}

#[test]
fn nobody_listens_beyond_this_machine_without_asking_who_calls() {
    for (text, told) in [
        ("listen: 127.0.0.1:1", None),
        ("listen: unix:/a", None),
        ("listen: '[::1]:1'\nadmin: 0.0.0.0:2", None),
        ("listen: 0.0.0.0:1\nlisten_without_auth: true", None),
        ("listen: 0.0.0.0:1\nauth: { tokens: { env: TOKEN } }", None),
        (
            "listen: 0.0.0.0:1",
            Some(":1:1: `0.0.0.0:1` can be reached from other machines"),
        ),
        (
            "retry:\nlisten: [127.0.0.1:1, '[::]:1']",
            Some(":2:1: `[::]:1` can be reached"),
        ),
        (
            "auth: { tokens: { env: NOT_SET } }",
            Some(
                ":1:9: `auth.tokens` cannot be had: the environment variable `NOT_SET` is not set",
            ),
        ),
        (
            "auth: { tokens: [{ env: TOKEN }, { env: SECRET }] }",
            Some(
                ":1:9: `auth.tokens` cannot be had: the environment variable `SECRET` holds a token of fewer than 16 characters",
            ),
        ),
        (
            "admin_token: { file: /nonexistent }",
            Some(":1:1: `admin_token` cannot be had: the file `/nonexistent` cannot be read"),
        ),
    ] {
        let env = |name: &str| match name {
            "TOKEN" => Some("0123456789abcdef".to_owned()),
            name => env(name),
        };
        let problems = config(text)
            .check_here(&env)
            .err()
            .map(|problems| problems.to_string());
        let lines = problems.as_deref().map(told_lines).unwrap_or_default();
        match told {
            None => assert_eq!(lines, Vec::<String>::new(), "{text}"),
            Some(told) => {
                assert_eq!(lines.len(), 1, "{text}: {lines:#?}");
                assert!(lines[0].starts_with(told), "{text}: {}", lines[0]);
                assert!(!lines[0].contains("hunter2"), "{}", lines[0]);
            }
        }
    }
}

#[test]
fn a_token_may_take_the_place_of_a_vendors_key_only_where_surgetank_has_that_key() {
    let with = |header: &str, credential: &str| {
        format!(
            "auth: {{ tokens: {{ env: A }}, header: {header} }}\nupstreams: {{ a: {{ base_url: http://h{credential} }} }}"
        )
    };
    for (header, credential, told) in [
        ("x-door", "", None),
        ("authorization", ", credential: { env: A }", None),
        (
            "[x-door, X-Api-Key]",
            "",
            Some(
                ":1:37: `x-api-key` carries the caller's own key to `a`, which has no `credential`: give it one, or use `x-surgetank-token`",
            ),
        ),
        (
            "host",
            "",
            Some(
                ":1:37: `auth.header`: this header has a meaning of its own and cannot carry a token; `x-surgetank-token` can (what it is may be a secret and is not shown)",
            ),
        ),
        (
            "x-surgetank-user",
            "",
            Some(
                ":1:37: `auth.header`: this header has a meaning of its own and cannot carry a token; `x-surgetank-token` can (what it is may be a secret and is not shown)",
            ),
        ),
        (
            "'a b'",
            "",
            Some(
                ":1:37: `auth.header`: it must be the name of a header (what it is may be a secret and is not shown)",
            ),
        ),
        (
            "[]",
            "",
            Some(
                ":1:37: `auth.header` cannot be a list: it is empty; leave it out for `x-surgetank-token`",
            ),
        ),
    ] {
        let text = with(header, credential);
        match told {
            None => assert_eq!(problems(&text), Vec::<String>::new(), "{text}"),
            Some(told) => one(&text, told),
        }
    }
}

#[test]
fn a_token_written_into_the_file_is_not_shown() {
    for text in [
        "auth: { tokens: hunter2-hunter2-hunter2 }",
        "auth: { tokens: { value: hunter2-hunter2-hunter2 } }",
        "auth: { tokens: { hunter2-hunter2-hunter2: x } }",
        "admin_token: hunter2-hunter2-hunter2",
        "auth: { tokens: [] }",
        "auth: {}",
    ] {
        let told = parse(text).unwrap_err().to_string();
        assert!(!told.contains("hunter2"), "{text}: {told}");
    }
}

#[test]
fn a_queue_needs_a_place_and_a_credential() {
    let upstream = |more: &str| format!("upstreams: {{ a: {{ base_url: http://h{more} }} }}\n");
    let (bare, with_key) = (upstream(""), upstream(", credential: { env: K }"));
    let store = "store: { url: sqlite:x }\n";
    let no_store = ":2:12: `queue` needs a place to keep requests in: set `store`, such as `store: { url: sqlite:surgetank.db }`";
    let no_key = ":3:12: `queue` keeps no credential of a caller, so `a` needs a `credential` for the requests that are carried out later";
    one(&format!("{with_key}fallback: [queue]"), no_store);
    one(&format!("{bare}{store}fallback: [queue]"), no_key);
    for text in [
        format!("{with_key}{store}fallback: [queue]"),
        format!("{with_key}{store}fallback: [{{ queue: }}, {{ reply: x }}]"),
        format!("{bare}{store}"),
    ] {
        assert_eq!(problems(&text), Vec::<String>::new(), "{text}");
    }
}

#[test]
fn settings_of_the_queue_are_read_and_checked() {
    one(
        "queue: { text: 'at {locaton}' }",
        ":1:16: `queue.text` cannot be `at {locaton}`: there is no placeholder `{locaton}`; there are `{wait}`, `{wait_seconds}` and `{request_id}`, and for a queued request `{queue_id}` and `{location}`",
    );
    one(
        "queue: { retry_cap: 1s }",
        ":1:21: warning: `queue.retry_cap` (1s) is shorter than `queue.retry_base` (5s), so that every wait is the cap",
    );
    let webhook = "{ name: a, url: 'https://h/x?y=1', secret: { env: K } }";
    one(
        &format!("queue: {{ webhooks: [{webhook}, {webhook}] }}"),
        ":1:20: a second webhook is called `a`",
    );
    let config = parse(&format!(
        "queue: {{ encrypt: {{ env: K }}, webhooks: [{webhook}], on_read: remove, on_crash: uncertain, pace: 60/min }}"
    ))
    .unwrap();
    assert_eq!(config.queue.encrypt, [Credential::Env("K".into())]);
    assert_eq!(config.queue.webhooks[0].url.as_str(), "https://h/x?y=1");
    assert_eq!(config.queue.on_read, OnRead::Remove);
}

//! The configuration as its users meet it: whole files in, settings or problems out.

mod combinations;
mod examples;
mod garbage;
mod problems;
mod reference;
mod schema;

use std::time::Duration;

use super::*;

/// The sample of the public interface, as it is documented.
const SAMPLE: &str = r#"listen: 127.0.0.1:4290            # or unix:/run/surgetank.sock; also a list
admin:  127.0.0.1:4291

upstreams:
  anthropic:
    base_url: https://api.anthropic.com
    credential: { env: ANTHROPIC_API_KEY }   # or { file: /run/secrets/key }; absent: the caller's own is passed on
    quota_share: 1.0                         # the part of the vendor's quota that this instance may use
    timeouts: { connect: 5s, first_byte: 60s, idle: 90s, total: 10m }
  openai:
    base_url: https://api.openai.com
  openai-small:
    base_url: https://api.openai.com
    model: gpt-small                         # a fallback target may rewrite the request's model

routes:                                      # the first match wins; a route without `match` takes the rest
  - match: { path: /v1/messages, headers: { anthropic-version: "*" } }   # any of the two
    upstream: anthropic
  - upstream: openai
    fallback:                                # this route's own chain; otherwise the one below
      - upstream: openai-small
      - reply: "We're experiencing high demand. Please try again in a moment."

retry:   { max_retries: 3, base: 2s, factor: 2, cap: 30s, jitter: 2s, patience: 60s }
limits:
  identify: [header:x-surgetank-user, body:safety_identifier, body:user, body:metadata.user_id, credential, peer]
  per_user: { requests: 60/min, burst: 20, tokens: 200000/min, concurrent: 8, when_exceeded: wait, max_wait: 10s }
fallback:                                    # tried in order once the retries are spent
  - reply: "I'm temporarily unavailable, please try again."
stream:  { notice: "We're experiencing high demand, please wait a moment.", notice_after: 2s, keepalive: 15s }
answers: { on_truncated: mark, unwrap_json: false }
store:   { url: "sqlite:surgetank.db" }      # or redis://… : shared limits and queue for several replicas
telemetry: { log: json, otlp: http://localhost:4317 }
shutdown: { drain: 10m }
"#;

/// The environment of the tests.
fn env(name: &str) -> Option<String> {
    match name {
        "SECRET" => Some("hunter2".to_owned()),
        "PORT" => Some("4390".to_owned()),
        "EMPTY" => Some(String::new()),
        _ => None,
    }
}

fn upstream(name: &str) -> Link {
    Target::Upstream(name.to_owned()).into()
}

fn reply(text: &str) -> Link {
    Target::Reply(Reply::of(text.parse().unwrap())).into()
}

fn parse(text: &str) -> Result<Config, Problems> {
    Config::parse("config.yaml", text, &env)
}

fn config(text: &str) -> Config {
    parse(text).unwrap_or_else(|problems| panic!("{problems}"))
}

/// Everything of a configuration but the name of its file.
fn settings(config: &Config) -> String {
    let Config {
        listen,
        admin,
        upstreams,
        routes,
        server,
        telemetry,
        shutdown,
        store,
        queue,
        replay,
        ..
    } = config;
    format!(
        "{listen:#?}{admin:#?}{upstreams:#?}{routes:#?}{server:#?}{telemetry:#?}{shutdown:#?}{store:#?}{queue:#?}{replay:#?}"
    )
}

const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

#[test]
fn the_documented_sample_means_what_it_says() {
    let config = config(SAMPLE);
    assert_eq!(config.listen, ["127.0.0.1:4290".parse().unwrap()]);
    assert_eq!(config.admin, Some("127.0.0.1:4291".parse().unwrap()));

    let names: Vec<&str> = config
        .upstreams
        .iter()
        .map(|upstream| upstream.name.as_str())
        .collect();
    assert_eq!(names, ["anthropic", "openai", "openai-small"]);
    let anthropic = config.upstream("anthropic").unwrap();
    assert_eq!(
        anthropic.credential,
        Some(Credential::Env("ANTHROPIC_API_KEY".to_owned()))
    );
    assert_eq!(anthropic.timeouts.first_byte, Some(secs(60)));
    assert_eq!(anthropic.timeouts.total, secs(600));
    assert_eq!(
        config.upstream("openai-small").unwrap().model.as_deref(),
        Some("gpt-small")
    );
    assert!(config.upstream("nobody").is_none());

    let [messages, rest] = config.routes.as_slice() else {
        panic!("{:?}", config.routes);
    };
    assert_eq!(
        (messages.name.as_str(), messages.upstream.as_str()),
        ("route-1", "anthropic")
    );
    assert_eq!(
        (rest.name.as_str(), rest.upstream.as_str()),
        ("route-2", "openai")
    );
    assert!(rest.match_.takes_everything());
    assert_eq!(
        messages.fallback,
        [reply("I'm temporarily unavailable, please try again.")]
    );
    assert_eq!(
        rest.fallback,
        [
            upstream("openai-small"),
            reply("We're experiencing high demand. Please try again in a moment."),
        ]
    );
}

#[test]
fn every_route_of_the_sample_has_its_blocks() {
    let config = config(SAMPLE);
    for route in &config.routes {
        assert_eq!(route.retry, Retry::default());
        assert_eq!(route.stream, Stream::default());
        assert_eq!(route.limits.identify, Limits::default().identify);
        let per_user = route.limits.per_user.as_ref().unwrap();
        assert_eq!(
            per_user.requests,
            Some(Rates(vec![Rate {
                count: 60,
                per: secs(60)
            }]))
        );
        assert_eq!((per_user.burst(), per_user.concurrent), (Some(20), Some(8)));
        assert_eq!(
            (per_user.when_exceeded, per_user.max_wait),
            (WhenExceeded::Wait, secs(10))
        );
    }
    assert_eq!(config.telemetry.log, LogFormat::Json);
    assert_eq!(config.shutdown.drain, secs(600));
    assert!(config.store.is_some());
}

#[test]
fn without_a_file_both_vendors_are_known() {
    let config = Config::built_in();
    assert_eq!(config.warnings(), []);
    assert!(config.check_here(&env).is_ok());
    assert_eq!(config.listen, ["127.0.0.1:4290".parse().unwrap()]);
    assert_eq!(config.admin, Some("127.0.0.1:4291".parse().unwrap()));
    assert!(config.store.is_none() && config.telemetry.otlp.is_none());

    let version: http::HeaderMap = [(
        http::HeaderName::from_static("anthropic-version"),
        "2023-06-01".parse().unwrap(),
    )]
    .into_iter()
    .collect();
    let plain = http::HeaderMap::new();
    for (path, headers, upstream) in [
        ("/v1/messages", &plain, "anthropic"),
        ("/v1/messages/batches", &plain, "anthropic"),
        ("/v1/messages/count_tokens", &plain, "anthropic"),
        ("/v1/complete", &plain, "anthropic"),
        ("/v1/models", &version, "anthropic"),
        ("/v1/files/abc", &version, "anthropic"),
        ("/v1/models", &plain, "openai"),
        ("/v1/files", &plain, "openai"),
        ("/v1/chat/completions", &plain, "openai"),
        ("/v1/completions", &plain, "openai"),
        ("/v1/messagesx", &plain, "openai"),
        ("/anything", &plain, "openai"),
    ] {
        let route = config
            .routes
            .iter()
            .find(|route| route.match_.takes(path, headers))
            .unwrap();
        assert_eq!(route.upstream, upstream, "{path}");
        assert_eq!(route.retry, Retry::default());
        assert_eq!(route.limits.per_user, None);
        assert_eq!(
            route.fallback,
            [reply("I'm temporarily unavailable, please try again.")]
        );
    }
}

#[test]
fn a_block_that_is_left_out_or_empty_has_its_defaults() {
    let built_in = settings(&Config::built_in());
    for text in [
        "listen: 127.0.0.1:4290",
        "retry:",
        "retry: {}",
        "retry: { base: }\nlimits: ~\nupstreams:\nroutes: null\n",
        "telemetry: { otlp: none }\nstore: none\nlimits: { per_user: none }",
        "retry:\n  base: ${EMPTY}\n",
        "retry: { base: \"${NOT_SET:-2s}\" }",
    ] {
        assert_eq!(settings(&config(text)), built_in, "{text}");
    }
}

#[test]
fn listeners_are_one_or_many() {
    let listen = |text: &str| {
        let config = config(text);
        let listen: Vec<String> = config.listen.iter().map(ToString::to_string).collect();
        (
            listen.join(" "),
            config.admin.map(|admin| admin.to_string()),
        )
    };
    let admin = Some("127.0.0.1:4291".to_owned());
    assert_eq!(
        listen("listen: localhost:80"),
        ("127.0.0.1:80".into(), admin.clone())
    );
    assert_eq!(
        listen("listen: 127.0.0.1:${PORT}"),
        ("127.0.0.1:4390".into(), admin.clone())
    );
    assert_eq!(
        listen("listen: [unix:/run/surgetank.sock, 127.0.0.1:4290]\nadmin: none"),
        ("unix:/run/surgetank.sock 127.0.0.1:4290".into(), None)
    );
}

#[test]
fn a_route_refines_blocks_and_replaces_the_chain() {
    let config = config(
        r#"
retry: { max_retries: 5, base: 1s }
limits: { per_user: { requests: 60/min, burst: 20, concurrent: 8 }, identify: [peer] }
stream: { keepalive: 5s }
fallback: [{ upstream: openai }, { reply: "later" }]
routes:
  - match: { path: /a }
    upstream: anthropic
    retry: { base: 3s }
    limits: { per_user: { requests: 10/s, concurrent: none }, max_users: 7 }
    answers: { on_truncated: mark }
  - match: { path: /b }
    upstream: anthropic
    limits: { per_user: none, identify: [credential] }
    stream: { notice: Wait. }
    fallback: []
  - upstream: openai
"#,
    );
    let [a, b, c] = config.routes.as_slice() else {
        panic!("{:?}", config.routes);
    };
    assert_eq!(
        (a.retry.max_retries, a.retry.base, a.retry.cap),
        (5, secs(3), secs(30))
    );
    assert_eq!((c.retry.max_retries, c.retry.base), (5, secs(1)));

    let per_user = a.limits.per_user.as_ref().unwrap();
    assert_eq!(
        per_user.requests,
        Some(Rates(vec![Rate {
            count: 10,
            per: secs(1)
        }]))
    );
    assert_eq!((per_user.burst, per_user.concurrent), (Some(20), None));
    assert_eq!((a.limits.max_users, c.limits.max_users), (7, 100_000));
    assert_eq!(b.limits.per_user, None);
    assert_eq!(b.limits.identify, [IdentitySource::Credential]);
    assert_eq!(c.limits.identify, [IdentitySource::Peer]);
    assert_eq!(c.limits.per_user.as_ref().unwrap().concurrent, Some(8));

    assert_eq!(
        (b.stream.notice.as_str(), b.stream.keepalive),
        ("Wait.", secs(5))
    );
    assert_eq!(a.fallback, [upstream("openai"), reply("later")]);
    assert_eq!(b.fallback, []);
    // Inherited, the link to the route's own upstream is passed over: it has just failed there.
    assert_eq!(c.fallback, [reply("later")]);
}

#[test]
fn every_form_of_a_link_is_read() {
    let config = config(
        "store: { url: sqlite:x }\nupstreams:\n  anthropic: { base_url: http://a, credential: { env: K } }\n\
         \x20 openai: { base_url: http://b, credential: { env: K } }\n\
         fallback:\n  - upstream: openai\n  - queue: {}\n  - queue:\n  - queue\n  - reply: x\n  - error:\n",
    );
    assert_eq!(
        config.routes[0].fallback,
        [
            upstream("openai"),
            Target::Queue.into(),
            Target::Queue.into(),
            Target::Queue.into(),
            reply("x"),
            Target::Error.into(),
        ]
    );
}

#[test]
fn upstreams_of_ones_own_are_routed_to_where_that_is_clear() {
    let lone = config("upstreams: { mine: { base_url: http://localhost:8000 } }");
    assert_eq!(lone.routes.len(), 1);
    assert_eq!(lone.routes[0].upstream, "mine");
    assert!(lone.routes[0].match_.takes_everything());

    let both = config(
        "upstreams:\n  openai: { base_url: http://a }\n  anthropic: { base_url: http://b }\n  more: { base_url: http://c }",
    );
    let upstreams: Vec<&str> = both
        .routes
        .iter()
        .map(|route| route.upstream.as_str())
        .collect();
    assert_eq!(upstreams, ["anthropic", "openai"]);
}

#[test]
fn text_stays_as_it_is_written() {
    let config = config(
        "upstreams: { a: { base_url: http://h, model: 1.50 } }\nroutes:\n  - match: { headers: { x-version: 007, x-b: true } }\n    upstream: a\n",
    );
    assert_eq!(config.upstreams[0].model.as_deref(), Some("1.50"));
    let headers = &config.routes[0].match_.headers;
    assert_eq!(headers[0].1, HeaderPattern::Exact("007".parse().unwrap()));
    assert_eq!(headers[1].1, HeaderPattern::Exact("true".parse().unwrap()));
}

#[test]
fn anchors_and_merge_keys_are_yaml_too() {
    let config = config(
        "upstreams:\n  anthropic: { base_url: http://a, timeouts: &slow { total: 20m, idle: 5m } }\n  openai: { base_url: http://b, timeouts: { <<: *slow, idle: 1m } }\n",
    );
    assert_eq!(config.upstreams[1].timeouts.total, secs(1200));
    assert_eq!(config.upstreams[1].timeouts.idle, secs(60));
}

#[test]
fn the_first_byte_has_two_defaults() {
    let mut timeouts = Timeouts::default();
    assert_eq!(timeouts.first_byte_for(true), secs(60));
    assert_eq!(timeouts.first_byte_for(false), secs(300));
    timeouts.first_byte = Some(secs(7));
    assert_eq!(timeouts.first_byte_for(true), secs(7));
    assert_eq!(timeouts.first_byte_for(false), secs(7));
}

#[test]
fn debug_shows_no_secret() {
    let config = config(
        "store: { url: \"redis://:${SECRET}@h\" }\nroutes: [{ match: { headers: { authorization: \"Bearer ${SECRET}\" } }, upstream: openai }]",
    );
    let debug = format!("{config:?}");
    assert!(!debug.contains("hunter2"), "{debug}");
}

//! Settings that a running process cannot change: what is bound, spawned or opened once.
//!
//! A reload that passed over them in silence would leave an operator with a configuration that is not
//! the one in force, so each is named. A test holds that every setting of the process is either here or
//! known to be live.

use secrecy::ExposeSecret as _;

use crate::config::Config;

/// A setting and whether two configurations differ in it.
type Fixed = (&'static str, fn(&Config, &Config) -> bool);

/// All of them, by key.
const FIXED: &[Fixed] = &[
    ("listen", |a, b| a.listen != b.listen),
    ("admin", |a, b| a.admin != b.admin),
    ("server.head_timeout", |a, b| {
        a.server.head_timeout != b.server.head_timeout
    }),
    ("server.keepalive_idle", |a, b| {
        a.server.keepalive_idle != b.server.keepalive_idle
    }),
    ("server.write_idle", |a, b| {
        a.server.write_idle != b.server.write_idle
    }),
    ("server.max_head", |a, b| {
        a.server.max_head != b.server.max_head
    }),
    ("server.max_headers", |a, b| {
        a.server.max_headers != b.server.max_headers
    }),
    ("server.max_connections", |a, b| {
        a.server.max_connections != b.server.max_connections
    }),
    ("server.workers", |a, b| {
        a.server.workers != b.server.workers
    }),
    ("store", |a, b| {
        let url = |config: &Config| {
            let store = config.store.as_ref();
            store.map(|store| store.url.expose_secret().to_owned())
        };
        url(a) != url(b)
    }),
    ("queue.max_requests", |a, b| {
        a.queue.max_requests != b.queue.max_requests
    }),
    ("queue.max_bytes", |a, b| {
        a.queue.max_bytes != b.queue.max_bytes
    }),
    ("queue.on_crash", |a, b| {
        a.queue.on_crash != b.queue.on_crash
    }),
    ("tls", |a, b| a.tls.is_some() != b.tls.is_some()),
    ("telemetry.log", |a, b| a.telemetry.log != b.telemetry.log),
    ("telemetry.otlp", |a, b| {
        a.telemetry.otlp != b.telemetry.otlp
    }),
];

/// The keys in which `new` differs from what runs and which take effect at the next start only.
#[must_use]
pub fn differing(running: &Config, new: &Config) -> Vec<&'static str> {
    let differing = FIXED.iter().filter(|(_, differ)| differ(running, new));
    differing.map(|(key, _)| *key).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Settings outside upstreams, routes and their blocks that a reload puts in force.
    const LIVE: &[&str] = &[
        "admin_token",
        "auth",
        "listen_without_auth",
        "queue.concurrency",
        "queue.encrypt",
        "queue.keep",
        "queue.max_attempts",
        "queue.on_read",
        "queue.pace",
        "queue.retry_base",
        "queue.retry_cap",
        "queue.text",
        "queue.ttl",
        "queue.webhooks",
        "replay.per_request",
        "replay.total",
        "server.via",
        "shutdown.drain",
        "shutdown.settle",
        "telemetry.sample",
    ];

    /// Blocks of upstreams and routes; all of them are live.
    const OF_REQUESTS: &[&str] = &[
        "answers",
        "fallback",
        "limits",
        "retry",
        "routes",
        "stream",
        "upstreams",
    ];

    fn config(text: &str) -> Config {
        Config::parse("test", text, &|_| None).unwrap_or_else(|problems| panic!("{problems}"))
    }

    #[test]
    fn every_setting_of_the_process_is_either_fixed_or_live() {
        let schema = Config::json_schema();
        let mut unknown = Vec::new();
        for (key, value) in schema["properties"].as_object().expect("a schema") {
            let block = value["$ref"]
                .as_str()
                .and_then(|reference| schema.pointer(reference.trim_start_matches('#')))
                .and_then(|block| block["properties"].as_object());
            let known =
                |key: &str| LIVE.contains(&key) || FIXED.iter().any(|(fixed, _)| *fixed == key);
            if OF_REQUESTS.contains(&key.as_str()) || known(key) {
                continue;
            }
            let keys = block
                .into_iter()
                .flatten()
                .map(|(inner, _)| format!("{key}.{inner}"));
            let keys: Vec<_> = if block.is_some() {
                keys.collect()
            } else {
                vec![key.clone()]
            };
            unknown.extend(keys.into_iter().filter(|key| !known(key)));
        }
        assert_eq!(unknown, Vec::<String>::new());
    }

    #[test]
    fn only_what_differs_is_named() {
        let running = config("listen: 127.0.0.1:1");
        assert_eq!(differing(&running, &running), Vec::<&str>::new());
        let new = config(
            "listen: 127.0.0.1:2\nadmin: none\nserver: { workers: 3, via: false }\n\
             store: { url: 'redis://a' }\ntelemetry: { log: json }\nretry: { max_retries: 0 }",
        );
        assert_eq!(
            differing(&running, &new),
            [
                "listen",
                "admin",
                "server.workers",
                "store",
                "telemetry.log"
            ]
        );
    }
}

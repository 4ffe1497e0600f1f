//! The proxy, in process, with short times.

use std::{fmt::Write as _, net::SocketAddr, sync::Arc};

use surgetank::{
    config::{Config, Listen},
    proxy::Proxy,
    server::Listener,
    telemetry::labels::{self, Values},
};
use tokio::task::JoinHandle;

use super::{Answer, Caller, Request, until};

/// A configuration in the making. Its retries are fast and without jitter, and its chain is empty, so that a test sees
/// what the upstream said.
#[derive(Debug, Clone)]
pub(crate) struct Recipe {
    base_url: String,
    upstream: String,
    timeouts: String,
    total: String,
    retry: String,
    server: String,
    workers: usize,
    fallback: String,
    more: String,
}

/// A running proxy. Dropped, it stops.
pub(crate) struct Tank {
    pub(crate) addr: SocketAddr,
    pub(crate) proxy: Arc<Proxy>,
    serving: JoinHandle<()>,
}

impl Recipe {
    pub(crate) fn over(base_url: &str) -> Self {
        Self {
            base_url: base_url.to_owned(),
            upstream: String::new(),
            timeouts: ", idle: 30s".to_owned(),
            total: "60s".to_owned(),
            retry: "base: 10ms, cap: 40ms, jitter: 0s".to_owned(),
            server: String::new(),
            workers: 1,
            fallback: "[]".to_owned(),
            more: String::new(),
        }
    }

    /// Further keys of the upstream.
    pub(crate) fn upstream(mut self, keys: &str) -> Self {
        let _ = write!(self.upstream, ", {keys}");
        self
    }

    /// Timeouts of the upstream; `idle` is 30 s unless it is among them.
    pub(crate) fn timeouts(mut self, keys: &str) -> Self {
        if keys.contains("idle") {
            self.timeouts.clear();
        }
        let _ = write!(self.timeouts, ", {keys}");
        self
    }

    /// The time of a whole request.
    pub(crate) fn total(mut self, time: &str) -> Self {
        time.clone_into(&mut self.total);
        self
    }

    pub(crate) fn retry(mut self, keys: &str) -> Self {
        let _ = write!(self.retry, ", {keys}");
        self
    }

    /// Other times than the fast ones.
    pub(crate) fn retry_anew(self, keys: &str) -> Self {
        Self {
            retry: format!("jitter: 0s, {keys}"),
            ..self
        }
    }

    /// Other waits than the short ones.
    pub(crate) fn waiting(mut self, keys: &str) -> Self {
        keys.clone_into(&mut self.retry);
        self
    }

    pub(crate) fn server(mut self, keys: &str) -> Self {
        let _ = write!(self.server, ", {keys}");
        self
    }

    pub(crate) fn workers(self, workers: usize) -> Self {
        Self { workers, ..self }
    }

    pub(crate) fn fallback(mut self, chain: &str) -> Self {
        chain.clone_into(&mut self.fallback);
        self
    }

    /// Further upstreams, one a line.
    pub(crate) fn and_upstream(mut self, name: &str, keys: &str) -> Self {
        let _ = write!(self.more, "\n  {name}: {{ {keys} }}");
        self
    }

    pub(crate) fn yaml(&self, blocks: &str) -> String {
        let Self {
            base_url,
            upstream,
            timeouts,
            total,
            retry,
            server,
            workers,
            fallback,
            more,
        } = self;
        format!(
            "listen: 127.0.0.1:0\nadmin: none\n\
            upstreams:\n  lab: {{ base_url: '{base_url}', timeouts: {{ total: {total}{timeouts} }}{upstream} }}{more}\n\
            routes: [ {{ upstream: lab }} ]\n\
            retry: {{ {retry} }}\nserver: {{ workers: {workers}{server} }}\nfallback: {fallback}\n{blocks}\n"
        )
    }

    pub(crate) fn start(&self) -> Tank {
        self.start_with("")
    }

    /// Starts with further blocks at the top level.
    pub(crate) fn start_with(&self, blocks: &str) -> Tank {
        Tank::from_yaml(&self.yaml(blocks))
    }
}

/// The variables that credentials of tests are in.
pub(crate) fn env(name: &str) -> Option<String> {
    let value = match name {
        "TEST_KEY" => "configured-key",
        "TEST_JWT_SECRET" => "0123456789abcdef0123456789abcdef",
        _ => return None,
    };
    Some(value.to_owned())
}

fn parsed(yaml: &str) -> Config {
    Config::parse("test", yaml, &env).unwrap_or_else(|problems| panic!("{problems}\n{yaml}"))
}

impl Tank {
    pub(crate) fn from_yaml(yaml: &str) -> Self {
        let config = parsed(yaml);
        let proxy = Arc::new(Proxy::start(&config, &env).expect("it starts"));
        let listeners: Vec<_> = config
            .listen
            .iter()
            .map(|listen| Listener::bind(listen).expect("it binds"))
            .collect();
        let addr = listeners
            .iter()
            .find_map(Listener::tcp_addr)
            .unwrap_or(SocketAddr::from(([127, 0, 0, 1], 0)));
        let served = proxy.clone();
        let serving =
            tokio::spawn(async move { served.serve(listeners).await.expect("the listeners hold") });
        Self {
            addr,
            proxy,
            serving,
        }
    }

    /// Puts another configuration in force, and returns the keys of what needs a restart.
    pub(crate) fn reload(&self, yaml: &str) -> Vec<&'static str> {
        let reloaded = self.proxy.reload(&parsed(yaml), &env);
        reloaded.unwrap_or_else(|error| panic!("{error}"))
    }

    /// Ends it, and waits until nothing of it is left.
    pub(crate) async fn stop(self) {
        self.proxy
            .lifecycle()
            .advance(surgetank::server::Stage::Ending);
        let gone = Arc::downgrade(&self.proxy);
        drop(self);
        until("the proxy is gone", || gone.strong_count() == 0).await;
    }

    pub(crate) async fn caller(&self) -> Caller {
        Caller::connect(self.addr).await
    }

    /// Sends one request on a connection of its own.
    pub(crate) async fn call(&self, request: &Request) -> Answer {
        self.caller().await.call(request).await
    }

    /// Serves the operator's port beside it.
    pub(crate) fn admin(&self) -> (SocketAddr, surgetank::proxy::AdminServer) {
        let listener =
            Listener::bind(&Listen::Tcp(SocketAddr::from(([127, 0, 0, 1], 0)))).expect("it binds");
        let addr = listener.tcp_addr().expect("TCP");
        (addr, self.proxy.start_admin(listener).expect("it starts"))
    }

    /// The sum of all series of a metric that carry these labels.
    pub(crate) fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let rendered = String::from_utf8(self.proxy.metrics().render()).expect("text");
        let is_wanted = |series: &str| {
            let (family, own) = series.split_once('{').unwrap_or((series, ""));
            family == name
                && labels
                    .iter()
                    .all(|(key, value)| own.contains(&format!("{key}=\"{value}\"")))
        };
        let samples = rendered.lines().filter_map(|line| line.rsplit_once(' '));
        samples
            .filter(|(series, _)| is_wanted(series))
            .map(|(_, value)| value.parse::<f64>().expect("a number"))
            .sum()
    }

    /// Requests that ended so.
    pub(crate) fn outcomes(&self, outcome: &str) -> u64 {
        self.count("surgetank_requests_total", &[("outcome", outcome)])
    }

    /// A counter, which is a whole number.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "counters of tests are small and positive"
    )]
    pub(crate) fn count(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        self.metric(name, labels) as u64
    }

    /// Waits until no request runs and no memory is held, then checks what must hold after every test.
    pub(crate) async fn at_rest(&self) {
        until("no request runs", || {
            self.metric("surgetank_in_flight_requests", &[]) == 0.0
        })
        .await;
        until("no memory is held", || self.proxy.budget().used() == 0).await;
        assert_eq!(
            self.count("surgetank_panics_total", &[]),
            0,
            "a request panicked"
        );
        self.has_only_bounded_labels();
    }

    /// Every label that is exposed has one of the values that are known for it.
    pub(crate) fn has_only_bounded_labels(&self) {
        let rendered = String::from_utf8(self.proxy.metrics().render()).expect("text");
        for series in rendered
            .lines()
            .filter(|line| line.starts_with("surgetank_"))
        {
            let Some((name, rest)) = series.split_once('{') else {
                continue;
            };
            let (own, _) = rest.rsplit_once('}').expect("labels end");
            let parts = ["_bucket", "_sum", "_count"];
            let family = parts.iter().find_map(|part| name.strip_suffix(part));
            let family = family.unwrap_or(name);
            for label in own.split(',').filter(|label| !label.starts_with("le=")) {
                let (label, value) = label.split_once("=\"").expect("a value");
                let value = value.trim_end_matches('"');
                match labels::values(family, label) {
                    Some(Values::OneOf(known)) => {
                        assert!(known.contains(&value), "{series}: {value} is not listed");
                    }
                    Some(_) => {}
                    None => panic!("{series}: {label} is not known in telemetry::labels"),
                }
            }
        }
    }
}

impl Drop for Tank {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

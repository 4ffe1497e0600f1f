//! Checks of listeners, upstreams and the process.

use secrecy::ExposeSecret;

use super::{Checks, NAME, is_name};
use crate::config::base_url::BaseUrl;
use crate::config::decode::At;
use crate::config::listen::Listen;
use crate::config::units::{display_duration, display_size};
use crate::config::upstream::Upstream;

/// hyper refuses to work with less.
const SMALLEST_HEAD: usize = 8 * 1024;
const LARGEST_HEAD: usize = 1024 * 1024;

impl Checks<'_> {
    pub(super) fn process(&mut self) {
        self.listeners();
        self.exposure();
        self.memory();
        self.endpoints();
    }

    /// Two listeners on one address: the second would fail to bind, at start.
    fn listeners(&mut self) {
        let listen = &self.file.listen.0;
        let node = self.root.get("listen");
        if listen.is_empty() && node.is_some_and(|node| node.items().is_empty()) {
            let place = node.and_then(|node| node.place);
            self.problems.error(
                place,
                "`listen` is empty; name at least one address, such as `127.0.0.1:4290`",
            );
        }
        let all: Vec<&At<Listen>> = listen.iter().chain(&self.file.admin).collect();
        for (index, later) in all.iter().enumerate() {
            let Some(earlier) = all[..index]
                .iter()
                .find(|earlier| earlier.value.collides_with(&later.value))
            else {
                continue;
            };
            // A default stands nowhere; then the one that collides with it is to be pointed at.
            let place = [later.id, earlier.id]
                .into_iter()
                .find_map(|id| self.node(id)?.place);
            let message = if earlier.value == later.value {
                format!(
                    "`{}` is listened on twice; every listener and `admin` need an address of their own",
                    later.value
                )
            } else {
                format!(
                    "`{}` and `{}` cannot both be listened on; one takes the port of the other",
                    earlier.value, later.value
                )
            };
            self.problems.error(place, message);
        }
    }

    /// A configured credential is lent to whoever can connect.
    fn exposure(&mut self) {
        let Some(lender) = self
            .file
            .upstreams
            .0
            .iter()
            .find(|upstream| upstream.credential.is_some())
        else {
            return;
        };
        for listen in self
            .file
            .listen
            .0
            .iter()
            .filter(|listen| !listen.value.is_local())
        {
            let place = self.node(listen.id).and_then(|node| node.place);
            let message = format!(
                "whoever reaches `{}` spends the credential of `{}`; listen on `localhost` or keep others out by a network policy",
                listen.value, lender.name,
            );
            self.problems.warning(place, message);
        }
    }

    fn memory(&mut self) {
        let replay = &self.file.replay;
        if replay.per_request > replay.total {
            let settings: [&[&str]; 2] = [&["replay", "per_request"], &["replay", "total"]];
            let place = self.place_of_any(Some(self.root), &settings);
            let message = format!(
                "`replay.per_request` ({}) is more than `replay.total` ({}), which is for all requests together",
                display_size(replay.per_request),
                display_size(replay.total),
            );
            self.problems.error(place, message);
        }
        if !(SMALLEST_HEAD..=LARGEST_HEAD).contains(&self.file.server.max_head) {
            let place = self.place_of_any(Some(self.root), &[&["server", "max_head"]]);
            self.problems
                .error(place, "`server.max_head` must be from `8KiB` to `1MiB`");
        }
    }

    fn endpoints(&mut self) {
        if let Some(store) = &self.file.store {
            let url = store.url.expose_secret();
            let is_known = ["sqlite:", "redis://", "rediss://"].iter().any(|scheme| {
                url.strip_prefix(scheme)
                    .is_some_and(|rest| !rest.is_empty())
            });
            if !is_known {
                let place = self.place_of_any(Some(self.root), &[&["store", "url"]]);
                let message = "`store.url` must be `sqlite:FILE`, `redis://HOST` or `rediss://HOST`; what it is may be a secret and is not shown";
                self.problems.error(place, message);
            }
        }
        if let Some(otlp) = &self.file.telemetry.otlp
            && let Err(error) = otlp.parse::<BaseUrl>()
        {
            let place = self.place_of_any(Some(self.root), &[&["telemetry", "otlp"]]);
            let message =
                format!("`telemetry.otlp` is no endpoint such as `http://localhost:4317`: {error}");
            self.problems.error(place, message);
        }
    }

    pub(super) fn upstreams(&mut self) {
        let Some(node) = self.root.get("upstreams") else {
            return;
        };
        if matches!(&node.kind, crate::config::tree::Kind::Map(entries) if entries.is_empty()) {
            self.problems.error(node.place, "`upstreams` is empty; name at least one, or leave the block out for Anthropic and OpenAI");
        }
        for (name, upstream) in node.entries() {
            if !is_name(name) {
                self.problems.error(
                    upstream.key_place,
                    format!("this cannot name an upstream: {NAME}"),
                );
            }
        }
        for upstream in &self.file.upstreams.0 {
            self.upstream(upstream);
        }
    }

    fn upstream(&mut self, upstream: &Upstream) {
        let node = self.root.at(&["upstreams", &upstream.name]);
        let name = &upstream.name;
        if upstream
            .model
            .as_ref()
            .is_some_and(|model| model.trim().is_empty())
        {
            let place = self.place_of_any(node, &[&["model"]]);
            self.problems.error(place, format!("`upstreams.{name}.model` is empty; leave it out to keep the model of the request"));
        }
        if upstream.base_url.path_prefix.ends_with("/v1") {
            let place = self.place_of_any(node, &[&["base_url"]]);
            let message = format!(
                "requests bring their own path: with this `base_url`, `/v1/models` goes to `{}/v1/models`; take the `/v1` out unless callers leave it out",
                upstream.base_url,
            );
            self.problems.warning(place, message);
        }
        let first_byte = node.and_then(|node| node.at(&["timeouts", "first_byte"]));
        if first_byte.and_then(|node| node.text()) == Some("none") {
            let message = format!(
                "`upstreams.{name}.timeouts.first_byte` cannot be switched off; leave it out for 60s on streams and 300s on plain answers"
            );
            self.problems
                .error(first_byte.and_then(|node| node.place), message);
        }
        let timeouts = &upstream.timeouts;
        let parts = [
            ("connect", Some(timeouts.connect)),
            ("first_byte", timeouts.first_byte),
            ("idle", Some(timeouts.idle)),
        ];
        for (part, duration) in parts {
            let Some(duration) = duration.filter(|duration| *duration > timeouts.total) else {
                continue;
            };
            let place = self.place_of_any(node, &[&["timeouts", part], &["timeouts", "total"]]);
            let message = format!(
                "`timeouts.{part}` of `{name}` ({}) never ends a request, since `timeouts.total` ({}) is shorter",
                display_duration(duration),
                display_duration(timeouts.total),
            );
            self.problems.warning(place, message);
        }
    }
}

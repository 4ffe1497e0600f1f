//! Checks of listeners, who may come in, memory and endpoints.

use secrecy::ExposeSecret;

use super::{Checks, NAME, is_name, place_of_any};
use crate::config::auth::carries_a_key;
use crate::config::base_url::BaseUrl;
use crate::config::decode::At;
use crate::config::listen::Listen;
use crate::config::problem::Severity;
use crate::config::units::display_size;
use crate::store::redis::Address;

/// hyper refuses to work with less.
const SMALLEST_HEAD: usize = 8 * 1024;
const LARGEST_HEAD: usize = 1024 * 1024;

impl Checks<'_> {
    pub(super) fn process(&mut self) {
        self.listeners();
        self.access();
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
            let place = self.place(later.id).or_else(|| self.place(earlier.id));
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

    /// Settings of who may come in that do not go together.
    fn access(&mut self) {
        let place = |keys: &[&str]| place_of_any(Some(self.root), &[keys]);
        let mut found = Vec::new();
        if let Some(auth) = &self.file.auth {
            let header = auth.header.iter().find(|name| carries_a_key(name));
            let mut upstreams = self.file.upstreams.0.iter();
            let bare = upstreams.find(|upstream| upstream.credential.is_none());
            if let (Some(header), Some(bare)) = (header, bare) {
                let message = format!(
                    "`{header}` carries the caller's own key to `{}`, which has no `credential`: give it one, or use `x-surgetank-token`",
                    bare.name
                );
                found.push((Severity::Error, place(&["auth", "header"]), message));
            }
            if self.file.listen_without_auth {
                let message = "`listen_without_auth` has no effect beside `auth`".to_owned();
                found.push((Severity::Warning, place(&["listen_without_auth"]), message));
            }
        }
        if self.file.admin_token.is_some() && self.file.admin.is_none() {
            let message = "`admin_token` has no effect, since `admin` is off".to_owned();
            found.push((Severity::Warning, place(&["admin_token"]), message));
        }
        let is_unix = |listen: &At<Listen>| matches!(listen.value, Listen::Unix(_));
        if self.file.tls.is_some() && self.file.listen.0.iter().all(is_unix) {
            let message = "`tls` has no effect on a Unix socket".to_owned();
            found.push((Severity::Warning, place(&["tls"]), message));
        }
        for (severity, place, message) in found {
            match severity {
                Severity::Error => self.problems.error(place, message),
                Severity::Warning => self.problems.warning(place, message),
            }
        }
    }

    fn memory(&mut self) {
        let replay = &self.file.replay;
        if replay.per_request > replay.total && self.is_whole(self.root.get("replay")) {
            let settings: [&[&str]; 2] = [&["replay", "per_request"], &["replay", "total"]];
            let place = place_of_any(Some(self.root), &settings);
            let message = format!(
                "`replay.per_request` ({}) is more than `replay.total` ({}), which is for all requests together",
                display_size(replay.per_request),
                display_size(replay.total),
            );
            self.problems.error(place, message);
        }
        if !(SMALLEST_HEAD..=LARGEST_HEAD).contains(&self.file.server.max_head) {
            let place = place_of_any(Some(self.root), &[&["server", "max_head"]]);
            self.problems
                .error(place, "`server.max_head` must be from `8KiB` to `1MiB`");
        }
    }

    fn endpoints(&mut self) {
        if let Some(store) = &self.file.store {
            let url = store.url.expose_secret();
            let is = |scheme: &&str| url.len() > scheme.len() && url.starts_with(scheme);
            let place = place_of_any(Some(self.root), &[&["store", "url"]]);
            if !["sqlite:", "redis://", "rediss://"].iter().any(is) {
                let message = "`store.url` must be `sqlite:FILE`, `redis://HOST` or `rediss://HOST`; what it is may be a secret and is not shown";
                self.problems.error(place, message);
            } else if store.is_redis()
                && let Err(error) = Address::check(url, store.cluster)
            {
                self.problems.error(place, error.to_string());
            }
            if !is_name(&store.prefix) {
                let place = place_of_any(Some(self.root), &[&["store", "prefix"]]);
                self.problems.error(
                    place,
                    format!("this cannot begin the keys of a store: {NAME}"),
                );
            }
        }
        if let Some(otlp) = &self.file.telemetry.otlp
            && let Err(error) = otlp.parse::<BaseUrl>()
        {
            let place = place_of_any(Some(self.root), &[&["telemetry", "otlp"]]);
            let message =
                format!("`telemetry.otlp` is no endpoint such as `http://localhost:4317`: {error}");
            self.problems.error(place, message);
        }
    }
}

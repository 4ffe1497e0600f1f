//! Checks of the upstreams, each for itself.

use super::{Checks, NAME, is_name, place_of_any};
use crate::config::tree::{Kind, Node};
use crate::config::units::display_duration;
use crate::config::upstream::Upstream;

impl Checks<'_> {
    pub(super) fn upstreams(&mut self) {
        let Some(node) = self.root.get("upstreams") else {
            return;
        };
        if matches!(&node.kind, Kind::Map(entries) if entries.is_empty()) {
            let message = "`upstreams` is empty; name at least one, or leave the block out for Anthropic and OpenAI";
            self.problems.error(node.place, message);
        }
        for (name, upstream) in node.entries() {
            if !is_name(name) {
                let message = format!("this cannot name an upstream: {NAME}");
                self.problems.error(upstream.key_place, message);
            }
        }
        for upstream in &self.file.upstreams.0 {
            let node = node.get(&upstream.name);
            self.target(upstream, node);
            self.timeouts(upstream, node);
        }
    }

    fn target(&mut self, upstream: &Upstream, node: Option<&Node>) {
        let name = &upstream.name;
        let model = upstream.model.as_ref();
        if model.is_some_and(|model| model.trim().is_empty()) {
            let place = place_of_any(node, &[&["model"]]);
            let message = format!(
                "`upstreams.{name}.model` is empty; leave it out to keep the model of the request"
            );
            self.problems.error(place, message);
        }
        if upstream.base_url.path_prefix.ends_with("/v1") {
            let place = place_of_any(node, &[&["base_url"]]);
            let message = "requests bring their own path: with this `base_url`, `/v1/models` goes to `/v1/v1/models`; take the `/v1` out unless callers leave it out";
            self.problems.warning(place, message);
        }
    }

    fn timeouts(&mut self, upstream: &Upstream, node: Option<&Node>) {
        let name = &upstream.name;
        let Some(written) = node.and_then(|node| node.get("timeouts")) else {
            return;
        };
        if let Some(first_byte) = written
            .get("first_byte")
            .filter(|node| node.text() == Some("none"))
        {
            let message = format!(
                "`upstreams.{name}.timeouts.first_byte` cannot be switched off; leave it out for 60s on streams and 300s on plain answers"
            );
            self.problems.error(first_byte.place, message);
        }
        if !self.is_whole(node) {
            return;
        }
        let timeouts = &upstream.timeouts;
        let parts = [
            ("connect", Some(timeouts.connect)),
            ("first_byte", timeouts.first_byte),
            ("idle", Some(timeouts.idle)),
        ];
        for (part, duration) in parts {
            // A default above a short total was nobody's intention.
            let (Some(duration), Some(node)) = (duration, written.get(part)) else {
                continue;
            };
            if duration > timeouts.total {
                let message = format!(
                    "`timeouts.{part}` of `{name}` ({}) never ends a request, since `timeouts.total` ({}) is shorter",
                    display_duration(duration),
                    display_duration(timeouts.total),
                );
                self.problems.warning(node.place, message);
            }
        }
    }
}

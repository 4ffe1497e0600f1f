//! Checks of the queue: that there is a place to keep requests in, and a credential to carry them out with.

use std::collections::HashSet;

use super::{Checks, NAME, is_name, place_of_any};
use crate::config::decode::At;
use crate::config::fallback::Target;
use crate::config::schema::RouteEntry;
use crate::config::units::display_duration;

impl Checks<'_> {
    pub(super) fn queue(&mut self) {
        for route in &self.file.routes {
            self.queue_of(route);
        }
        if self.is_whole(self.root.get("queue")) {
            self.waits();
            self.webhooks();
        }
    }

    /// A caller's own credential is never stored, so what is queued must be carried out with a configured one.
    fn queue_of(&mut self, route: &At<RouteEntry>) {
        let links = route.value.fallback.iter();
        let Some(link) = links
            .into_iter()
            .find(|link| link.value.to == Target::Queue)
        else {
            return;
        };
        let place = self.place(link.id);
        if self.file.store.is_none() && self.is_whole(self.root.get("store")) {
            let message = "`queue` needs a place to keep requests in: set `store`, such as `store: { url: sqlite:surgetank.db }`";
            self.problems.error(place, message);
        }
        let own = self.file.upstreams.named(&route.value.upstream.value);
        if let Some(bare) = own.filter(|own| own.credential.is_none()) {
            let message = format!(
                "`queue` keeps no credential of a caller, so `{}` needs a `credential` for the requests that are carried out later",
                bare.name
            );
            self.problems.error(place, message);
        }
    }

    fn waits(&mut self) {
        let queue = &self.file.queue;
        if queue.retry_cap < queue.retry_base {
            let settings: [&[&str]; 2] = [&["queue", "retry_cap"], &["queue", "retry_base"]];
            let place = place_of_any(Some(self.root), &settings);
            let message = format!(
                "`queue.retry_cap` ({}) is shorter than `queue.retry_base` ({}), so that every wait is the cap",
                display_duration(queue.retry_cap),
                display_duration(queue.retry_base),
            );
            self.problems.warning(place, message);
        }
    }

    fn webhooks(&mut self) {
        let place = place_of_any(Some(self.root), &[&["queue", "webhooks"]]);
        let mut seen = HashSet::new();
        for webhook in &self.file.queue.webhooks {
            if !is_name(&webhook.name) {
                let message = format!("this cannot name a webhook: {NAME}");
                self.problems.error(place, message);
            } else if !seen.insert(&webhook.name) {
                let message = format!("a second webhook is called `{}`", webhook.name);
                self.problems.error(place, message);
            }
        }
    }
}

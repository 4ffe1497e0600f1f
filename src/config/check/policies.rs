//! Checks of the blocks that say how requests are treated, once for each route that has them.

use super::{Checks, place_of_any};
use crate::config::decode::At;
use crate::config::schema::RouteEntry;
use crate::config::units::display_duration;

impl Checks<'_> {
    pub(super) fn policies(&mut self) {
        for route in &self.file.routes {
            let node = self.node(route.id);
            let is_whole = |key| self.is_whole(node.and_then(|node| node.get(key)));
            let (retry_is_whole, limits_are_whole) = (is_whole("retry"), is_whole("limits"));
            if retry_is_whole {
                self.retry(route);
            }
            if limits_are_whole {
                self.limits(route);
            }
        }
    }

    fn retry(&mut self, route: &At<RouteEntry>) {
        let node = self.node(route.id);
        let retry = &route.value.retry;
        if retry.cap < retry.base {
            let place = place_of_any(node, &[&["retry", "cap"], &["retry", "base"]]);
            let message = format!(
                "`cap` ({}) is shorter than `base` ({}), so that every wait is the cap",
                display_duration(retry.cap),
                display_duration(retry.base),
            );
            self.problems.warning(place, message);
        }
        if retry.max_attempts <= retry.max_retries {
            let settings: [&[&str]; 2] = [&["retry", "max_attempts"], &["retry", "max_retries"]];
            let place = place_of_any(node, &settings);
            let message = format!(
                "`max_attempts` ({}) ends a request before its {} retries are spent, and leaves nothing for its fallbacks",
                retry.max_attempts, retry.max_retries,
            );
            self.problems.warning(place, message);
        }
        let first_wait = retry.base.min(retry.cap);
        if retry.max_retries > 0 && first_wait > retry.patience {
            let settings: [&[&str]; 3] = [
                &["retry", "patience"],
                &["retry", "base"],
                &["retry", "cap"],
            ];
            let place = place_of_any(node, &settings);
            let message = format!(
                "the first wait ({}) is longer than `patience` ({}), so that nothing is ever tried again",
                display_duration(first_wait),
                display_duration(retry.patience),
            );
            self.problems.warning(place, message);
        }
    }

    fn limits(&mut self, route: &At<RouteEntry>) {
        let node = self.node(route.id);
        let limits = &route.value.limits;
        let identify = node.and_then(|node| node.at(&["limits", "identify"]));
        if limits.identify.is_empty() && identify.is_some_and(|node| node.items().is_empty()) {
            let place = identify.and_then(|node| node.place);
            self.problems.error(place, "`identify` is empty, so that all callers would be one user; `peer` at least tells their addresses apart");
        }
        let Some(per_user) = &limits.per_user else {
            return;
        };
        if per_user.burst.is_some() && per_user.requests.is_none() {
            let place = place_of_any(node, &[&["limits", "per_user", "burst"]]);
            self.problems.warning(
                place,
                "`burst` has no effect without `requests`, the rate that it belongs to",
            );
        }
    }
}

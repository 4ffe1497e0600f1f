//! Checks of the blocks that say how requests are treated, once for each route that has them.

use super::{Checks, NAME, is_name, place_of_any};
use crate::config::answers::OnTruncated;
use crate::config::classes::Classes;
use crate::config::decode::At;
use crate::config::matching::PathPrefix;
use crate::config::schema::RouteEntry;
use crate::config::tree::Node;
use crate::config::units::display_duration;
use crate::dialect::{Dialect, Endpoint};
use crate::limit::plan::PlanError;
use crate::limit::settings;

impl Checks<'_> {
    pub(super) fn policies(&mut self) {
        for route in &self.file.routes {
            let node = self.node(route.id);
            let is_whole = |key| self.is_whole(node.and_then(|node| node.get(key)));
            let (retry_is_whole, limits_are_whole) = (is_whole("retry"), is_whole("limits"));
            let answers_are_whole = is_whole("answers") && is_whole("match");
            if retry_is_whole {
                self.retry(route);
            }
            if limits_are_whole {
                self.limits(route);
            }
            if answers_are_whole {
                self.answers(route);
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

    fn answers(&mut self, route: &At<RouteEntry>) {
        let paths = route.value.criteria().paths;
        let is_responses = |path: &PathPrefix| {
            Dialect::detect(path.as_str(), false).endpoint() == Endpoint::Responses
        };
        let is_hopeless = !paths.is_empty() && paths.iter().all(is_responses);
        if is_hopeless && route.value.answers.on_truncated == OnTruncated::Continue {
            let node = self.node(route.id);
            let place = place_of_any(node, &[&["answers", "on_truncated"]]);
            let message = "a truncated answer of Responses cannot be continued: no vendor documents how to go on within one response; use `mark`, or `retry_larger` for plain answers";
            self.problems.error(place, message);
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
        if let Some(per_user) = &limits.per_user {
            let plan = settings::plan_of_user(per_user);
            let useless_burst = per_user.burst.is_some() && per_user.requests.is_none();
            self.plan(node, &["limits", "per_user"], useless_burst, plan.err());
        }
        if let Some(total) = &limits.total {
            let plan = settings::plan_of_all(total);
            let useless_burst = total.burst.is_some() && total.requests.is_none();
            self.plan(node, &["limits", "total"], useless_burst, plan.err());
        }
        self.classes(node, &limits.classes);
    }

    fn classes(&mut self, route: Option<&Node>, classes: &Classes) {
        if classes.0.len() > settings::MAX_CLASSES {
            let place = place_of_any(route, &[&["limits", "classes"]]);
            let most = settings::MAX_CLASSES;
            self.problems
                .error(place, format!("there can be at most {most} classes"));
        }
        for class in &classes.0 {
            let path = ["limits", "classes", class.name.as_str()];
            let place = || place_of_any(route, &[&path]);
            if !is_name(&class.name) {
                let message = format!("this cannot name a class: {NAME}");
                self.problems.error(place(), message);
            }
            if class.match_.is_empty() {
                let message = "this class takes nobody; name `headers`, `users` or a `file` of users in its `match`";
                self.problems.error(place(), message);
            }
            if let Some(per_user) = &class.per_user {
                let plan = settings::plan_of_user(per_user);
                self.plan(route, &path, false, plan.err());
            }
        }
    }

    /// Tells what is wrong with some limits that hold together.
    fn plan(
        &mut self,
        route: Option<&Node>,
        path: &[&str],
        useless_burst: bool,
        error: Option<PlanError>,
    ) {
        let mut burst = path.to_vec();
        burst.push("burst");
        if useless_burst {
            let place = place_of_any(route, &[&burst]);
            self.problems.warning(
                place,
                "`burst` has no effect without `requests`, the rate that it belongs to",
            );
        }
        if let Some(error) = error {
            let place = place_of_any(route, &[&burst, path]);
            self.problems.error(place, error.to_string());
        }
    }
}

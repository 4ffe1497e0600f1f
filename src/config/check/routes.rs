//! Checks of routes: that each leads somewhere, and is reached.

use std::collections::HashSet;

use super::{Checks, NAME, is_name};
use crate::config::decode::At;
use crate::config::fallback::{Link, Target, When};
use crate::config::inherit::REPLACED;
use crate::config::matching::Match;
use crate::config::schema::{File, RouteEntry};
use crate::config::suggest::{list, nearest};
use crate::config::tree::{Kind, Node};
use crate::config::upstream::Upstream;

impl Checks<'_> {
    pub(super) fn routes(&mut self) {
        let routes = self.root.get("routes");
        if let Some(node) =
            routes.filter(|node| matches!(&node.kind, Kind::List(items) if items.is_empty()))
        {
            self.problems.error(
                node.place,
                "`routes` is empty; without a route no request goes anywhere",
            );
        }
        self.names();
        self.reachability();
        for route in &self.file.routes {
            let upstream = &route.value.upstream;
            self.upstream_exists(&upstream.value, upstream.id);
            self.chain(route);
        }
        // The chain at the top level is looked at with the routes that inherit it; there may be none.
        for link in &self.file.fallback {
            self.link_exists(link);
            self.classes_exist(link, None);
        }
    }

    fn names(&mut self) {
        let mut seen = HashSet::new();
        for (index, route) in self.file.routes.iter().enumerate() {
            let name = route.value.name_at(index);
            let given = route.value.name.as_ref().map_or(route.id, |name| name.id);
            let node = self.node(given);
            let place = node.and_then(|node| node.place);
            if !is_name(&name) {
                let message = format!("this cannot name a route: {NAME}");
                self.problems.error(place, message);
            }
            let written = node.and_then(Node::written).unwrap_or(&name);
            let message =
                format!("a second route is called `{written}`; give it a `name` of its own");
            if !seen.insert(name) {
                self.problems.error(place, message);
            }
        }
    }

    /// The first match wins, so a route behind one that takes as much is never reached.
    fn reachability(&mut self) {
        let mut before = Match::default();
        let mut catch_all: Option<&Node> = None;
        for route in &self.file.routes {
            let node = self.node(route.id);
            let written = node.and_then(|node| node.get("match"));
            let criteria = route.value.criteria();
            if !self.is_whole(written) {
                continue;
            }
            if criteria == Match::default() && route.value.criteria.is_some() {
                let message = "this `match` is empty; name a `path` or `headers`, or leave it out to take the rest";
                self.problems
                    .error(written.and_then(|node| node.place), message);
                continue;
            }
            if let Some(first) = catch_all {
                let line = first.place.map(|place| format!(" on line {}", place.line));
                let message = format!(
                    "this route is never reached: the one{} takes every request; move that one to the end",
                    line.unwrap_or_default(),
                );
                self.problems.error(self.place(route.id), message);
            } else if before != Match::default() && before.covers(&criteria) {
                let message = "this route is never reached: those before it take every request that it would take; move it up or take it out";
                self.problems.error(self.place(route.id), message);
            }
            if criteria.takes_everything() {
                catch_all = catch_all.or(node);
            } else {
                before.paths.extend(criteria.paths);
                before.headers.extend(criteria.headers);
            }
        }
    }

    fn chain(&mut self, route: &At<RouteEntry>) {
        let own = &route.value.upstream.value;
        let is_inherited = inherits_chain(route, self.root);
        let links = &route.value.fallback;
        for (index, link) in links.iter().enumerate() {
            let place = self.place(link.id);
            self.link_exists(link);
            self.classes_exist(link, (!is_inherited).then_some(route));
            if !is_inherited && leads_back(link, own, self.file) {
                let message = "this falls back to the same API and model that have just failed; name another upstream";
                self.problems.error(place, message);
            }
            let is_last_word = link.value.to == Target::Error && link.value.when == When::default();
            if is_last_word && index + 1 < links.len() {
                self.problems.error(
                    place,
                    "`error` ends the chain; what stands behind it is never tried",
                );
            }
        }
    }

    fn link_exists(&mut self, link: &At<Link>) {
        if let Target::Upstream(name) = &link.value.to {
            // The name stands below the link's one key.
            let name_id = self
                .node(link.id)
                .and_then(|node| node.get("upstream"))
                .map_or(link.id, |node| node.id);
            self.upstream_exists(name, name_id);
        }
    }

    /// A link of a route's own chain may name the classes of that route; one that several routes inherit those of any.
    fn classes_exist(&mut self, link: &At<Link>, route: Option<&At<RouteEntry>>) {
        if link.value.when.class.is_empty() || !self.are_classes_whole() {
            return;
        }
        let everywhere = self.file.routes.iter().map(|route| &route.value.limits);
        let everywhere = everywhere.chain([&self.file.limits]);
        let classes: Vec<_> = match route {
            Some(route) => vec![&route.value.limits.classes],
            None => everywhere.map(|limits| &limits.classes).collect(),
        };
        let names = classes.iter().flat_map(|classes| &classes.0);
        let mut names: Vec<&str> = names.map(|class| class.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        let node = self
            .node(link.id)
            .and_then(|node| node.at(&["when", "class"]));
        for (index, name) in link.value.when.class.iter().enumerate() {
            if names.contains(&name.as_str()) {
                continue;
            }
            let hint = match nearest(name, &names) {
                Some(near) => format!("did you mean `{near}`?"),
                None if names.is_empty() => "`limits.classes` has none".to_owned(),
                None => format!("there is {}", list(&names)),
            };
            let item = node.map(|node| node.items().get(index).unwrap_or(node));
            let path = item.map_or("", |item| &item.path);
            let written = item.and_then(Node::written).unwrap_or(name);
            let message =
                format!("`{path}` names the class `{written}`, which is not there; {hint}");
            self.problems
                .error(item.and_then(|item| item.place), message);
        }
    }

    /// Whether all classes could be read, of whichever route.
    fn are_classes_whole(&self) -> bool {
        let routes = self.file.routes.iter().map(|route| self.node(route.id));
        let mut holders = routes.chain([Some(self.root)]);
        holders.all(|holder| self.is_whole(holder.and_then(|node| node.get("limits"))))
    }
}

/// The chain of a route, without the links of an inherited one that lead back to where the route failed.
pub(in crate::config) fn chain_of(route: &At<RouteEntry>, file: &File, root: &Node) -> Vec<Link> {
    let own = &route.value.upstream.value;
    let is_inherited = inherits_chain(route, root);
    let links = route.value.fallback.iter();
    links
        .filter(|link| !(is_inherited && leads_back(link, own, file)))
        .map(|link| link.value.clone())
        .collect()
}

/// Whether the route has no chain of its own. A node that is inherited keeps its name.
fn inherits_chain(route: &At<RouteEntry>, root: &Node) -> bool {
    let chain = |node: &Node| node.get(REPLACED).map(|chain| chain.id);
    root.find(route.id).and_then(chain) == chain(root)
}

/// Whether a request that failed at `own` would be the same request again at the link's upstream.
fn leads_back(link: &At<Link>, own: &str, file: &File) -> bool {
    let target = match &link.value.to {
        Target::Upstream(target) => target,
        Target::Model(model) => {
            let own = file.upstreams.named(own);
            return own.is_some_and(|own| own.model.as_ref() == Some(model));
        }
        Target::Reply(_) | Target::Queue | Target::Error => return false,
    };
    let is_same = |(target, own): (&Upstream, &Upstream)| {
        target.base_url == own.base_url
            && target.model == own.model
            && target.credential == own.credential
    };
    let upstreams = &file.upstreams;
    target == own
        || upstreams
            .named(target)
            .zip(upstreams.named(own))
            .is_some_and(is_same)
}

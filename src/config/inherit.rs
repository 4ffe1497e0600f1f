//! What the file leaves out is filled in on the tree, before anything is read from it.
//!
//! A route holds only what differs from the blocks at the top level. Laid over each other as trees,
//! each setting keeps the place where it was really written, and each struct is read complete.

use super::problem::Collector;
use super::suggest::list;
use super::tree::{Ids, Kind, Node};
use super::yaml::read;

/// The upstreams and routes of who configures none.
const BUILT_IN: &str = include_str!("built_in.yaml");

/// The blocks that a route may refine, setting by setting.
pub(super) const REFINED: [&str; 4] = ["retry", "limits", "stream", "answers"];

/// The block that a route replaces as a whole.
pub(super) const REPLACED: &str = "fallback";

/// Puts in the built-in upstreams and routes where the file has none, and lets the routes inherit.
pub(super) fn fill(mut root: Node, ids: &mut Ids, problems: &mut Collector) -> Node {
    let is_absent = |root: &Node, key| root.get(key).is_none_or(Node::is_empty);
    let has_no_routes = is_absent(&root, "routes");
    if has_no_routes && !is_absent(&root, "upstreams") {
        route_to_own_upstreams(&mut root, ids, problems);
    }
    for key in ["upstreams", "routes"] {
        if is_absent(&root, key) {
            root.set(key, built_in(key, ids));
        }
    }
    let blocks: Vec<(&str, Node)> = REFINED
        .into_iter()
        .chain([REPLACED])
        .filter_map(|key| Some((key, root.get(key)?.clone())))
        .collect();
    if let Some(Kind::List(routes)) = root.get_mut("routes").map(|routes| &mut routes.kind) {
        for route in routes
            .iter_mut()
            .filter(|route| matches!(route.kind, Kind::Map(_)))
        {
            for (key, block) in &blocks {
                inherit(route, key, block, ids);
            }
        }
    }
    root
}

/// Routes for upstreams of the author's own: all to a lone one; the built-in ones if their upstreams are there.
fn route_to_own_upstreams(root: &mut Node, ids: &mut Ids, problems: &mut Collector) {
    let Some(upstreams) = root.get("upstreams") else {
        return;
    };
    let names: Vec<String> = upstreams
        .entries()
        .iter()
        .map(|(name, _)| name.clone())
        .collect();
    match names.as_slice() {
        [] => {
            let routes = upstreams.like(ids, Kind::Faulty);
            root.set("routes", routes);
        }
        [only] => {
            let mut upstream = upstreams.like(ids, Kind::Empty);
            upstream.kind = Kind::Text {
                value: only.clone(),
                written: only.clone(),
            };
            let route = upstreams.like(ids, Kind::Map(vec![("upstream".to_owned(), upstream)]));
            let routes = upstreams.like(ids, Kind::List(vec![route]));
            root.set("routes", routes);
        }
        names
            if ["anthropic", "openai"]
                .iter()
                .all(|name| names.iter().any(|own| own == name)) => {}
        names => {
            let place = upstreams.key_or_value_place();
            let names = list(names);
            problems.error(
                place,
                format!("`routes` is missing: say which requests go to {names}"),
            );
            // Told once is enough: an empty list would be told again, and the built-in routes would miss their upstreams.
            let routes = upstreams.like(ids, Kind::Faulty);
            root.set("routes", routes);
        }
    }
}

fn built_in(key: &str, ids: &mut Ids) -> Node {
    let mut problems = Collector::new("built-in configuration");
    let tree = read(BUILT_IN, &|_| None, ids, &mut problems);
    let block = tree.as_ref().and_then(|tree| tree.get(key)).cloned();
    let mut block = block.expect("the built-in configuration is YAML with both blocks: every test that loads a file shows it");
    block.forget_places();
    block
}

/// Lays what `route` has under `key` over the block at the top level.
fn inherit(route: &mut Node, key: &str, block: &Node, ids: &mut Ids) {
    let merged = match route.get(key) {
        Some(own) if !own.is_empty() && key == REPLACED => return,
        Some(own) if !own.is_empty() => lay_over(own, block, ids),
        _ => block.clone(),
    };
    route.set(key, merged);
}

/// `over` where it has something, else `base`; mappings key by key, anything else as a whole.
fn lay_over(over: &Node, base: &Node, ids: &mut Ids) -> Node {
    let (Kind::Map(own), Kind::Map(_)) = (&over.kind, &base.kind) else {
        return over.clone();
    };
    let mut merged = base.entries().to_vec();
    for (key, value) in own.iter().filter(|(_, value)| !value.is_empty()) {
        match merged.iter_mut().find(|(name, _)| name == key) {
            Some((_, inherited)) => *inherited = lay_over(value, inherited, ids),
            None => merged.push((key.clone(), value.clone())),
        }
    }
    over.like(ids, Kind::Map(merged))
}

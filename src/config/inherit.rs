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
const REFINED: [&str; 4] = ["retry", "limits", "stream", "answers"];

/// The block that a route replaces as a whole.
pub(super) const REPLACED: &str = "fallback";

/// What each user may use, in `limits` and in each class there.
const PER_USER: &str = "per_user";

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
        let is_mapping = |route: &&mut Node| matches!(route.kind, Kind::Map(_));
        for route in routes.iter_mut().filter(is_mapping) {
            for (key, block) in &blocks {
                inherit(route, key, block, ids);
            }
            refine_classes(route, ids);
        }
    }
    refine_classes(&mut root, ids);
    root
}

/// A class of users holds only what differs for it from what each user may use.
fn refine_classes(holder: &mut Node, ids: &mut Ids) {
    let Some(limits) = holder.get_mut("limits") else {
        return;
    };
    let Some(per_user) = limits.get(PER_USER).cloned() else {
        return;
    };
    let classes = limits.get_mut("classes").map(|classes| &mut classes.kind);
    if let Some(Kind::Map(classes)) = classes {
        let is_mapping = |class: &&mut Node| matches!(class.kind, Kind::Map(_));
        for class in classes
            .iter_mut()
            .map(|(_, class)| class)
            .filter(is_mapping)
        {
            inherit(class, PER_USER, &per_user, ids);
        }
    }
}

/// Routes for upstreams of the author's own: all to a lone one; the built-in ones if their upstreams are there.
fn route_to_own_upstreams(root: &mut Node, ids: &mut Ids, problems: &mut Collector) {
    let Some(upstreams) = root.get("upstreams") else {
        return;
    };
    let entries = upstreams.entries().iter();
    let names: Vec<&str> = entries.map(|(name, _)| name.as_str()).collect();
    let kind = match names.as_slice() {
        [only] => {
            let text = (*only).to_owned();
            let (value, written) = (text.clone(), text);
            let upstream = upstreams.like(ids, Kind::Text { value, written });
            let route = Kind::Map(vec![("upstream".to_owned(), upstream)]);
            Kind::List(vec![upstreams.like(ids, route)])
        }
        names
            if ["anthropic", "openai"]
                .iter()
                .all(|known| names.contains(known)) =>
        {
            return;
        }
        names => {
            if !names.is_empty() {
                let names = list(names);
                let message = format!("`routes` is missing: say which requests go to {names}");
                problems.error(upstreams.key_or_value_place(), message);
            }
            // The built-in routes would miss their upstreams, and an empty list would be told again.
            Kind::Faulty
        }
    };
    let routes = upstreams.like(ids, kind);
    root.set("routes", routes);
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A place in it would be told as a place in the author's file.
    #[test]
    fn what_is_built_in_stands_nowhere() {
        fn stands_nowhere(node: &Node) -> bool {
            let here = node.place.is_none() && node.key_place.is_none();
            here && node.children().all(stands_nowhere)
        }

        for key in ["upstreams", "routes"] {
            let block = built_in(key, &mut Ids::default());
            assert_eq!(block.children().count(), 2);
            assert!(stands_nowhere(&block), "{block:#?}");
        }
    }
}

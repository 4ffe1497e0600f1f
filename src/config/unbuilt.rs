//! Settings that are read and do nothing yet.
//!
//! Refusing them would make a configuration for the next version fail in this one; taking them in silence would let
//! somebody believe in a limit that is not there. So each is a warning, until its line leaves the table.

use super::inherit::{REFINED, REPLACED};
use super::problem::Collector;
use super::tree::{Kind, Node};

/// Every setting without effect. `*` stands for any name or item; a setting with a value of `unless` (which may end with
/// any text for `*`) asks for nothing.
pub(super) const WITHOUT_EFFECT: [Unbuilt; 1] = [Unbuilt {
    key: "store.url",
    unless: "sqlite:*",
}];

pub(super) struct Unbuilt {
    key: &'static str,
    unless: &'static str,
}

/// Warns of each such setting that the file has.
pub(super) fn warn(root: &Node, problems: &mut Collector) {
    for setting in &WITHOUT_EFFECT {
        let keys: Vec<&str> = setting.key.split('.').collect();
        setting.warn_in(root, &keys, problems);
        if keys[0] == REPLACED || REFINED.contains(&keys[0]) {
            for route in root.get("routes").map_or(&[][..], Node::items) {
                setting.warn_in(route, &keys, problems);
            }
        }
    }
}

impl Unbuilt {
    fn warn_in(&self, node: &Node, keys: &[&str], problems: &mut Collector) {
        let Some((key, deeper)) = keys.split_first() else {
            if !self.is_idle(node) {
                let message = format!("`{}` has no effect in this version", node.path);
                problems.warning(node.key_or_value_place(), message);
            }
            return;
        };
        match &node.kind {
            Kind::Map(_) | Kind::List(_) if *key == "*" => {
                for child in node.children() {
                    self.warn_in(child, deeper, problems);
                }
            }
            // A word alone stands for a key without a value, as in `- queue`.
            Kind::Text { value, .. } if value == key => {
                let message = format!("`{}.{key}` has no effect in this version", node.path);
                problems.warning(node.place, message);
            }
            _ => {
                if let Some(child) = node.get(key) {
                    self.warn_in(child, deeper, problems);
                }
            }
        }
    }

    /// Whether the value asks for nothing that is not there.
    fn is_idle(&self, node: &Node) -> bool {
        let Some(text) = node.text() else {
            // An empty key counts as left out, but for a link, which is all key.
            return node.is_empty() && !self.key.starts_with(REPLACED);
        };
        let number = |text: &str| text.parse::<f64>().ok();
        self.unless.split('|').any(|idle| {
            let begins = |prefix| text.starts_with(prefix);
            text == idle
                || idle.strip_suffix('*').is_some_and(begins)
                || number(text).is_some_and(|value| Some(value) == number(idle))
        })
    }
}

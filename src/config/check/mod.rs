//! What can only be told from several settings together.
//!
//! Whatever concerns a single value is refused by the type of that value; here the values meet.
//! Checks run on whatever could be read, so that one misspelt duration does not hide a route that leads nowhere.

mod policies;
mod process;
mod queue;
mod routes;
mod upstreams;

pub(super) use self::routes::chain_of;
use super::decode::Faulty;
use super::problem::{Collector, Place};
use super::schema::File;
use super::suggest::{list, nearest};
use super::tree::{Node, NodeId};

/// Tells everything that does not fit together.
pub(super) fn check(file: &File, root: &Node, faulty: &Faulty, problems: &mut Collector) {
    let mut checks = Checks {
        file,
        root,
        faulty,
        problems,
    };
    checks.process();
    checks.upstreams();
    checks.routes();
    checks.policies();
    checks.queue();
}

/// What every check needs.
struct Checks<'a> {
    file: &'a File,
    root: &'a Node,
    faulty: &'a Faulty,
    problems: &'a mut Collector,
}

impl<'a> Checks<'a> {
    fn node(&self, id: NodeId) -> Option<&'a Node> {
        self.root.find(id)
    }

    fn place(&self, id: NodeId) -> Option<Place> {
        self.node(id)?.place
    }

    /// Whether all of a block could be read. Of a part, nothing can be concluded.
    fn is_whole(&self, block: Option<&Node>) -> bool {
        block.is_none_or(|block| !self.faulty.touches(block))
    }

    /// The names of all upstreams in the file, those included that could not be read.
    fn upstream_names(&self) -> Vec<&'a str> {
        let upstreams = self.root.get("upstreams").map_or(&[][..], Node::entries);
        upstreams.iter().map(|(name, _)| name.as_str()).collect()
    }

    /// Tells a reference to an upstream that is not there.
    fn upstream_exists(&mut self, name: &str, at: NodeId) {
        let names = self.upstream_names();
        if names.contains(&name) {
            return;
        }
        let hint = match nearest(name, &names) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("there is {}", list(&names)),
        };
        let node = self.node(at);
        let path = node.map_or("", |node| &node.path);
        // As it is written: what a variable holds is not shown.
        let written = node.and_then(Node::written).unwrap_or(name);
        let message =
            format!("`{path}` names the upstream `{written}`, which is not there; {hint}");
        self.problems
            .error(node.and_then(|node| node.place), message);
    }
}

/// Where the first of several settings that is written in the file stands.
fn place_of_any(below: Option<&Node>, settings: &[&[&str]]) -> Option<Place> {
    let below = below?;
    settings.iter().find_map(|keys| below.at(keys)?.place)
}

/// Names appear in headers, logs and metrics, and are typed by people.
fn is_name(name: &str) -> bool {
    const LONGEST: usize = 64;
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    !name.is_empty() && name.len() <= LONGEST && name.chars().all(allowed)
}

/// What [`is_name`] demands.
const NAME: &str = "a name is made of up to 64 letters, digits, `-`, `_` and `.`";

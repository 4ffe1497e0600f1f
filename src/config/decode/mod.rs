//! Reads plain serde structs from the tree, and finds every fault on the way instead of the first.
//!
//! A derived `Deserialize` gives up at its first error. So a value that cannot be read is noted, taken as left out,
//! and the reading starts over, until it succeeds; a file with n faults costs n + 1 readings of a few microseconds.
//! The structs stay what serde makes of them: no wrapper in a field, no second description of a block.

mod access;
mod at;
mod fault;
mod reader;

use std::cell::RefCell;
use std::collections::HashSet;

use serde::de::DeserializeOwned;

pub(super) use self::at::{At, OneOrMany};
use self::reader::{Notes, Reader};
use super::problem::Collector;
use super::tree::{Kind, Node, NodeId};

/// Reads a `T`, telling everything that is wrong. `None` when nothing of it could be read.
pub(super) fn decode<T: DeserializeOwned>(root: &Node, problems: &mut Collector) -> Option<T> {
    let mut faulty = HashSet::new();
    collect_faulty(root, &mut faulty);
    loop {
        let notes = RefCell::new(&mut *problems);
        let result = T::deserialize(Reader::new(root, Notes::new(&faulty, &notes)));
        let fault = match result {
            Ok(value) => return Some(value),
            Err(fault) => fault.at(root.id),
        };
        let node = fault.place().and_then(|id| root.find(id)).unwrap_or(root);
        if !fault.follows_from_another(node, &faulty) {
            fault.tell(node, problems);
        }
        if node.id == root.id || problems.is_full() || !faulty.insert(node.id) {
            return None;
        }
    }
}

/// Values whose fault is told already, such as one with a missing variable.
fn collect_faulty(node: &Node, faulty: &mut HashSet<NodeId>) {
    if matches!(node.kind, Kind::Faulty) {
        faulty.insert(node.id);
    }
    for child in node.children() {
        collect_faulty(child, faulty);
    }
}

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

pub(super) use self::at::{At, BESIDE_WHEN, OneOrMany, SHORT_FORM};
use self::reader::{Notes, Reader};
use super::problem::Collector;
use super::tree::{Kind, Node, NodeId};

/// Reads a `T`, telling everything that is wrong, and what was taken as left out for it.
/// `None` when nothing of it could be read.
pub(super) fn decode<T: DeserializeOwned>(
    root: &Node,
    problems: &mut Collector,
) -> (Option<T>, Faulty) {
    let faulty = RefCell::new(Faulty::told_before(root));
    let value = loop {
        let problems = RefCell::new(&mut *problems);
        let result = T::deserialize(Reader::new(root, Notes::new(&faulty, &problems)));
        let fault = match result {
            Ok(value) => break Some(value),
            Err(fault) => fault.at(root.id),
        };
        let node = fault.place().and_then(|id| root.find(id)).unwrap_or(root);
        let mut faulty = faulty.borrow_mut();
        let mut problems = problems.borrow_mut();
        if !fault.follows_from_another(node, &faulty) {
            fault.tell(node, &mut problems);
        }
        if node.id == root.id || problems.is_full() || !faulty.add(node.id) {
            break None;
        }
    };
    (value, faulty.into_inner())
}

/// The values that could not be read, each told, and taken as left out.
#[derive(Debug, Default)]
pub(super) struct Faulty(HashSet<NodeId>);

impl Faulty {
    /// Those that the tree came with, such as a value with a missing variable.
    fn told_before(root: &Node) -> Self {
        let mut faulty = Self::default();
        faulty.collect(root);
        faulty
    }

    fn collect(&mut self, node: &Node) {
        if matches!(node.kind, Kind::Faulty) {
            self.add(node.id);
        }
        for child in node.children() {
            self.collect(child);
        }
    }

    /// Whether it is new.
    fn add(&mut self, id: NodeId) -> bool {
        self.0.insert(id)
    }

    fn contains(&self, node: &Node) -> bool {
        self.0.contains(&node.id)
    }

    /// Whether a node or anything below it is among them, so that nothing follows from what was read of it.
    pub(super) fn touches(&self, node: &Node) -> bool {
        self.contains(node) || node.children().any(|child| self.touches(child))
    }
}

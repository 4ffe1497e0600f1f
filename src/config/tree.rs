//! A YAML file as a tree in which every value knows where it stands.
//!
//! Serde stops at the first fault and forgets positions as soon as a value becomes a Rust value.
//! The tree keeps them: blocks are inherited on it, structs are read from it, and whatever is found wrong later,
//! even between two distant settings, can be pointed at.
//! Scalars stay text until a setting asks for a number or a duration, so that `1.50` in a header stays `1.50`.

use super::problem::Place;

/// Looks an environment variable up; `None` when it is not set.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Names a node of one tree; a node that is inherited keeps its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct NodeId(pub(super) u64);

impl NodeId {
    /// Of a default that stands in no file.
    pub(super) const NOWHERE: Self = Self(u64::MAX);
}

/// Hands out names that are used once.
#[derive(Debug, Default)]
pub(super) struct Ids(u64);

impl Ids {
    pub(super) fn next(&mut self) -> NodeId {
        self.0 += 1;
        NodeId(self.0)
    }
}

/// A value of the file.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) id: NodeId,
    /// The way to it, such as `routes[0].retry.base`; empty for the file itself.
    pub(super) path: String,
    /// `None` for what is built in.
    pub(super) place: Option<Place>,
    /// Where its key stands, for a value of a mapping.
    pub(super) key_place: Option<Place>,
    pub(super) kind: Kind,
}

/// What a node holds.
#[derive(Clone, Debug)]
pub(super) enum Kind {
    /// A key without a value, or a variable that is empty: as if it were left out.
    Empty,
    /// A value that cannot be known; why was told.
    Faulty,
    /// Any scalar. `written` is what stands in the file, which is safe to show where `value` may come from the environment.
    Text {
        value: String,
        written: String,
    },
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
}

impl Node {
    /// The value under a key.
    pub(super) fn get(&self, key: &str) -> Option<&Node> {
        self.entries()
            .iter()
            .find_map(|(name, node)| (name == key).then_some(node))
    }

    /// The same, to be changed.
    pub(super) fn get_mut(&mut self, key: &str) -> Option<&mut Node> {
        let Kind::Map(entries) = &mut self.kind else {
            return None;
        };
        entries
            .iter_mut()
            .find_map(|(name, node)| (name == key).then_some(node))
    }

    /// Puts a value under a key of a mapping, in the place of one that is there.
    pub(super) fn set(&mut self, key: &str, value: Node) {
        if let Some(old) = self.get_mut(key) {
            *old = value;
        } else if let Kind::Map(entries) = &mut self.kind {
            entries.push((key.to_owned(), value));
        }
    }

    /// A new node that stands where this one does.
    pub(super) fn like(&self, ids: &mut Ids, kind: Kind) -> Node {
        Node {
            id: ids.next(),
            path: self.path.clone(),
            place: self.place,
            key_place: self.key_place,
            kind,
        }
    }

    /// Makes it a part of no file.
    pub(super) fn forget_places(&mut self) {
        self.place = None;
        self.key_place = None;
        match &mut self.kind {
            Kind::List(items) => items.iter_mut().for_each(Self::forget_places),
            Kind::Map(entries) => entries
                .iter_mut()
                .for_each(|(_, node)| node.forget_places()),
            _ => {}
        }
    }

    /// The value at the end of a way of keys.
    pub(super) fn at(&self, keys: &[&str]) -> Option<&Node> {
        keys.iter().try_fold(self, |node, key| node.get(key))
    }

    /// The entries of a mapping; none for anything else.
    pub(super) fn entries(&self) -> &[(String, Node)] {
        match &self.kind {
            Kind::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The items of a list; none for anything else.
    pub(super) fn items(&self) -> &[Node] {
        match &self.kind {
            Kind::List(items) => items,
            _ => &[],
        }
    }

    /// The text of a scalar, with its variables replaced.
    pub(super) fn text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Text { value, .. } => Some(value),
            _ => None,
        }
    }

    /// The text of a scalar as it stands in the file.
    pub(super) fn written(&self) -> Option<&str> {
        match &self.kind {
            Kind::Text { written, .. } => Some(written),
            _ => None,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        matches!(self.kind, Kind::Empty)
    }

    /// Whether a secret may stand here, on purpose or by a slip, so that no message may show what does.
    pub(super) fn is_private(&self) -> bool {
        let holds_secrets = |key: &str| {
            matches!(
                key,
                "credential" | "store" | "headers" | "auth" | "admin_token" | "encrypt" | "secret"
            )
        };
        let in_url = |text: &str| text.contains(['@', '?']);
        self.path.split('.').any(holds_secrets)
            || (self.path.ends_with("url") && self.text().is_some_and(in_url))
    }

    /// The nodes right below.
    pub(super) fn children(&self) -> impl Iterator<Item = &Node> {
        let values = self.entries().iter().map(|(_, node)| node);
        values.chain(self.items())
    }

    /// The node of this name, wherever it is.
    pub(super) fn find(&self, id: NodeId) -> Option<&Node> {
        if self.id == id {
            return Some(self);
        }
        self.children().find_map(|child| child.find(id))
    }

    /// Where its key stands, or the value itself where there is no key.
    pub(super) fn key_or_value_place(&self) -> Option<Place> {
        self.key_place.or(self.place)
    }
}

impl Node {
    /// The mapping of a file that says nothing.
    pub(super) fn nothing(ids: &mut Ids) -> Self {
        Self {
            id: ids.next(),
            path: String::new(),
            place: None,
            key_place: None,
            kind: Kind::Map(Vec::new()),
        }
    }
}

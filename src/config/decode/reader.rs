//! The serde deserializer over the tree.

use std::cell::RefCell;

use serde::de::{DeserializeSeed, Deserializer, Error, Unexpected, Visitor};

use super::Faulty;
use super::access::{Choice, Entries, Items, Placed, WithWhen};
use super::at::{AT, BESIDE_WHEN, ONE_OR_MANY, SHORT_FORM};
use super::fault::{Fault, unknown_key};
use crate::config::problem::Collector;
use crate::config::suggest::list;
use crate::config::tree::{Kind, Node, NodeId};

/// What a reading knows of the ones before it, and where it tells what does not stop it.
#[derive(Clone, Copy)]
pub(super) struct Notes<'a> {
    faulty: &'a RefCell<Faulty>,
    problems: &'a RefCell<&'a mut Collector>,
}

impl<'a> Notes<'a> {
    pub(super) fn new(
        faulty: &'a RefCell<Faulty>,
        problems: &'a RefCell<&'a mut Collector>,
    ) -> Self {
        Self { faulty, problems }
    }

    pub(super) fn is_faulty(&self, node: &Node) -> bool {
        self.faulty.borrow().contains(node)
    }

    pub(super) fn unknown_key(&self, node: &Node, key: &str, value: &Node, known: &[&str]) {
        unknown_key(node, key, value, known, &mut self.problems.borrow_mut());
        self.faulty.borrow_mut().add(value.id);
    }
}

/// Delivers one node.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    node: &'a Node,
    notes: Notes<'a>,
    /// A key that belongs to no choice: it stands beside one.
    beside: Option<&'static str>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(node: &'a Node, notes: Notes<'a>) -> Self {
        Self {
            node,
            notes,
            beside: None,
        }
    }

    /// The same node, whose choice is among its keys other than `key`.
    pub(super) fn without(self, key: &'static str) -> Self {
        Self {
            beside: Some(key),
            ..self
        }
    }

    /// What stands under `key`, if it is there and can be read.
    pub(super) fn under(self, key: &str) -> Option<Self> {
        let node = self.node.get(key)?;
        (!self.notes.is_faulty(node)).then(|| Self::new(node, self.notes))
    }

    pub(super) fn id(&self) -> NodeId {
        self.node.id
    }

    /// Reads the node. Whatever is wrong with it and was not placed further down is placed here:
    /// a value may be refused after it was delivered, by a `deserialize_with`.
    pub(super) fn deliver<'de, S>(self, seed: S) -> Result<S::Value, Fault>
    where
        S: DeserializeSeed<'de>,
    {
        let id = self.node.id;
        seed.deserialize(self).map_err(|fault| fault.at(id))
    }

    fn text(&self, what: &str) -> Result<&'a str, Fault> {
        self.node.text().ok_or_else(|| Fault::expected(what))
    }

    fn whole_number<T: std::str::FromStr>(&self) -> Result<T, Fault> {
        let text = self.text("a whole number")?;
        text.parse()
            .map_err(|_| Fault::refused("it must be a whole number, neither negative nor huge"))
    }

    fn items(&self, nodes: &'a [Node]) -> Items<'a> {
        Items {
            rest: nodes.iter(),
            notes: self.notes,
        }
    }

    fn entries(&self, known: Option<&'static [&'static str]>) -> Entries<'a> {
        Entries {
            node: self.node,
            rest: self.node.entries().iter(),
            value: None,
            known,
            notes: self.notes,
        }
    }
}

impl<'de> Deserializer<'de> for Reader<'_> {
    type Error = Fault;

    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_u32(self.whole_number()?)
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_u64(self.whole_number()?)
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.node.kind {
            Kind::Text { value, .. } => visitor.visit_str(value),
            Kind::List(_) => self.deserialize_seq(visitor),
            Kind::Map(_) => self.deserialize_map(visitor),
            Kind::Empty => visitor.visit_unit(),
            Kind::Faulty => Err(Fault::told()),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.text("`true` or `false`")? {
            "true" => visitor.visit_bool(true),
            "false" => visitor.visit_bool(false),
            _ => Err(Fault::refused("it must be `true` or `false`")),
        }
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let number = self.text("a number")?.parse();
        visitor.visit_f64(number.map_err(|_| Fault::refused("it must be a number"))?)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.node.text() {
            Some(text) => visitor.visit_str(text),
            None => Err(Error::invalid_type(Unexpected::Other("no text"), &visitor)),
        }
    }

    /// `none` switches off whatever may be absent; an empty value leaves it as if the key were not there.
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        if self.node.is_empty() || self.node.text() == Some("none") {
            visitor.visit_none()
        } else {
            visitor.visit_some(self)
        }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        if self.node.is_empty()
            || matches!(&self.node.kind, Kind::Map(entries) if entries.is_empty())
        {
            visitor.visit_unit()
        } else {
            Err(Fault::expected("empty, or `{}`"))
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match name {
            AT => visitor.visit_seq(Placed::Id(self)),
            BESIDE_WHEN => visitor.visit_seq(WithWhen::Choice(self)),
            SHORT_FORM => match self.node.text() {
                Some(text) => visitor.visit_str(text),
                None => visitor.visit_newtype_struct(self),
            },
            ONE_OR_MANY if matches!(self.node.kind, Kind::List(_)) => self.deserialize_seq(visitor),
            ONE_OR_MANY => {
                let alone = std::slice::from_ref(self.node);
                visitor.visit_seq(self.items(alone))
            }
            _ => visitor.visit_newtype_struct(self),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.node.kind {
            Kind::List(nodes) => visitor.visit_seq(self.items(nodes)),
            _ => Err(Fault::expected("a list")),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.node.kind {
            Kind::Map(_) | Kind::Empty => visitor.visit_map(self.entries(None)),
            _ => Err(Fault::expected("a mapping (`key: value`)")),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match &self.node.kind {
            Kind::Map(_) | Kind::Empty => visitor.visit_map(self.entries(Some(fields))),
            _ => Err(Fault::expected("a mapping (`key: value`)")),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let is_choice = |(key, _): &&(String, Node)| Some(key.as_str()) != self.beside;
        let entries: Vec<&(String, Node)> = self.node.entries().iter().filter(is_choice).collect();
        let choice = match (entries.as_slice(), self.node.text()) {
            ([(_, value)], _) if self.notes.is_faulty(value) => return Err(Fault::told()),
            ([(key, value)], _) if variants.contains(&key.as_str()) => Choice {
                key,
                value: Some(Reader::new(value, self.notes)),
            },
            ([(key, value)], _) => {
                self.notes.unknown_key(self.node, key, value, variants);
                return Err(Fault::told());
            }
            (_, Some(key)) => Choice { key, value: None },
            (_, None) => {
                let one = format!("exactly one of {}", list(variants));
                return Err(Fault::expected(one));
            }
        };
        visitor.visit_enum(choice)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_unit()
    }

    // No setting has one of these types.
    serde::forward_to_deserialize_any! { i8 i16 i32 i64 i128 u8 u16 u128 f32 char bytes byte_buf }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_str(visitor)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_str(visitor)
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.deserialize_seq(visitor)
    }
}

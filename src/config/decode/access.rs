//! Lists, mappings and choices of the tree, as serde walks through them.
//!
//! Here values whose fault was told are passed over, and keys that no struct knows are told and passed over.

use std::marker::PhantomData;

use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, MapAccess, SeqAccess,
    VariantAccess, Visitor,
};

use super::fault::Fault;
use super::reader::{Notes, Reader};
use crate::config::tree::Node;

/// The two parts of an [`At`](super::at::At): the node's name, then its value.
pub(super) enum Placed<'a> {
    Id(Reader<'a>),
    Value(Reader<'a>),
    Done,
}

impl<'de> SeqAccess<'de> for Placed<'_> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Fault> {
        match std::mem::replace(self, Self::Done) {
            Self::Id(reader) => {
                *self = Self::Value(reader);
                seed.deserialize(reader.id().0.into_deserializer())
                    .map(Some)
            }
            Self::Value(reader) => reader.deliver(seed).map(Some),
            Self::Done => Ok(None),
        }
    }
}

/// The two parts of a choice with conditions: the choice, then what stands under `when`.
pub(super) enum WithWhen<'a> {
    Choice(Reader<'a>),
    When(Reader<'a>),
    Done,
}

impl<'de> SeqAccess<'de> for WithWhen<'_> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Fault> {
        const WHEN: &str = "when";
        match std::mem::replace(self, Self::Done) {
            Self::Choice(reader) => {
                *self = Self::When(reader);
                reader.without(WHEN).deliver(seed).map(Some)
            }
            Self::When(reader) => match reader.under(WHEN) {
                Some(when) => when.deliver(seed).map(Some),
                None => Ok(None),
            },
            Self::Done => Ok(None),
        }
    }
}

/// The items of a list.
pub(super) struct Items<'a> {
    pub(super) rest: std::slice::Iter<'a, Node>,
    pub(super) notes: Notes<'a>,
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Fault> {
        match self.rest.find(|node| !self.notes.is_faulty(node)) {
            Some(node) => Reader::new(node, self.notes).deliver(seed).map(Some),
            None => Ok(None),
        }
    }
}

/// The entries of a mapping.
pub(super) struct Entries<'a> {
    pub(super) node: &'a Node,
    pub(super) rest: std::slice::Iter<'a, (String, Node)>,
    pub(super) value: Option<&'a Node>,
    /// The keys of a struct; `None` for a mapping whose keys are the author's own.
    pub(super) known: Option<&'static [&'static str]>,
    pub(super) notes: Notes<'a>,
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Fault> {
        for (key, value) in self.rest.by_ref() {
            if self.notes.is_faulty(value) {
                continue;
            }
            if let Some(known) = self.known {
                if !known.contains(&key.as_str()) {
                    self.notes.unknown_key(self.node, key, value, known);
                    continue;
                }
                if value.is_empty() {
                    continue;
                }
            }
            self.value = Some(value);
            let key: StrDeserializer<'_, Fault> = key.as_str().into_deserializer();
            // A key that is refused goes with its value.
            let result = seed.deserialize(key).map(Some);
            return result.map_err(|fault| fault.of_key().at(value.id));
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        match self.value.take() {
            Some(node) => Reader::new(node, self.notes).deliver(seed),
            None => Err(Fault::told()),
        }
    }
}

/// One of several: a word alone, or a mapping of one key.
pub(super) struct Choice<'a> {
    pub(super) key: &'a str,
    pub(super) value: Option<Reader<'a>>,
}

impl<'de, 'a> EnumAccess<'de> for Choice<'a> {
    type Error = Fault;
    type Variant = Chosen<'a>;

    fn variant_seed<V: DeserializeSeed<'de>>(
        self,
        seed: V,
    ) -> Result<(V::Value, Chosen<'a>), Fault> {
        let key: StrDeserializer<'_, Fault> = self.key.into_deserializer();
        Ok((seed.deserialize(key)?, Chosen(self.value)))
    }
}

/// The value of what was chosen, if it has one.
pub(super) struct Chosen<'a>(Option<Reader<'a>>);

impl Chosen<'_> {
    fn lacks_value<T>() -> Result<T, Fault> {
        Err(Fault::expected("a mapping of one key and its value"))
    }
}

impl<'de> VariantAccess<'de> for Chosen<'_> {
    type Error = Fault;

    fn unit_variant(self) -> Result<(), Fault> {
        match self.0 {
            Some(reader) => reader.deliver(PhantomData),
            None => Ok(()),
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Fault> {
        match self.0 {
            Some(reader) => reader.deliver(seed),
            None => Self::lacks_value(),
        }
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Fault> {
        match self.0 {
            Some(reader) => reader.deserialize_seq(visitor),
            None => Self::lacks_value(),
        }
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match self.0 {
            Some(reader) => reader.deserialize_struct("", fields, visitor),
            None => Self::lacks_value(),
        }
    }
}

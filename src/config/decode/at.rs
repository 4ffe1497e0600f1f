//! What a struct may ask of the tree beyond serde: where a value stood, and a list of one without its brackets.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};

use crate::config::tree::NodeId;

/// Tells the reader to deliver the name of the node before its value.
pub(super) const AT: &str = "surgetank::config::At";
/// Tells the reader to deliver a lone value as a list of one.
pub(super) const ONE_OR_MANY: &str = "surgetank::config::OneOrMany";
/// Tells the reader to deliver a mapping in two parts: a choice by its one key, and what stands beside it under `when`.
pub(in crate::config) const BESIDE_WHEN: &str = "surgetank::config::BesideWhen";
/// Tells the reader to deliver a lone value as text, and anything else as itself.
pub(in crate::config) const SHORT_FORM: &str = "surgetank::config::ShortForm";

/// A value and the node it was read from.
#[derive(Clone, Debug)]
pub(in crate::config) struct At<T> {
    pub(in crate::config) id: NodeId,
    pub(in crate::config) value: T,
}

impl<T> At<T> {
    /// A default, which stands in no file.
    pub(in crate::config) fn nowhere(value: T) -> Self {
        Self {
            id: NodeId::NOWHERE,
            value,
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for At<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_newtype_struct(AT, AtVisitor(PhantomData))
    }
}

struct AtVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for AtVisitor<T> {
    type Value = At<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value of the configuration tree")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<At<T>, A::Error> {
        match (parts.next_element()?, parts.next_element()?) {
            (Some(id), Some(value)) => Ok(At {
                id: NodeId(id),
                value,
            }),
            _ => Err(Error::invalid_length(0, &self)),
        }
    }
}

impl<T: JsonSchema> JsonSchema for At<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

/// A value, or a list of them.
#[derive(Clone, Debug)]
pub(in crate::config) struct OneOrMany<T>(pub(in crate::config) Vec<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for OneOrMany<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_newtype_struct(ONE_OR_MANY, OneOrManyVisitor(PhantomData))
    }
}

struct OneOrManyVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for OneOrManyVisitor<T> {
    type Value = OneOrMany<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value or a list of values")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<OneOrMany<T>, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(OneOrMany(list))
    }
}

impl<T: JsonSchema> JsonSchema for OneOrMany<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("OneOrMany_{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let one = generator.subschema_for::<T>();
        json_schema!({ "anyOf": [one, { "type": "array", "items": one, "minItems": 1 }] })
    }
}

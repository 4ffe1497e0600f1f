//! The friendly reply: what it says to whom.

use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::{Deserializer, Error, Visitor};

use super::template::{Template, Values};
use super::when::{FailureKind, one_or_many};
use crate::config::decode::SHORT_FORM;
use crate::config::units::text_form;

/// A friendly answer. In a file it is a text alone, or a mapping with more to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// What is said when nothing of `variants` fits better.
    pub text: Source,
    /// The language of what does not name its own.
    pub language: Language,
    /// What is said in other languages and after particular failures.
    pub variants: Vec<Variant>,
    /// The object that requests for JSON get, as JSON text. Without it they get the vendor's form of a refusal.
    pub json: Option<Template>,
}

/// A text for some.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variant {
    /// For those who read this language; the reply's own, if left out.
    pub language: Option<Language>,
    /// After these failures; any, if there is none.
    pub failure: Vec<FailureKind>,
    /// What is said.
    pub text: Source,
}

/// Where a text is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// In the configuration.
    Inline(Template),
    /// Alone in a file, which is read at start.
    File(PathBuf),
}

/// A language tag such as `de` or `pt-BR`, in lower case.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Language(String);

/// The text is no language tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it must be a language tag such as `en`, `de` or `pt-BR`")]
pub struct LanguageError;

impl Language {
    /// In lower case.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Language {
    type Err = LanguageError;

    fn from_str(text: &str) -> Result<Self, LanguageError> {
        let mut subtags = text.split('-');
        let is_primary = |tag: &str| {
            (2..=8).contains(&tag.len()) && tag.bytes().all(|c| c.is_ascii_alphabetic())
        };
        let is_further = |tag: &str| {
            (1..=8).contains(&tag.len()) && tag.bytes().all(|c| c.is_ascii_alphanumeric())
        };
        if subtags.next().is_some_and(is_primary) && subtags.all(is_further) {
            Ok(Self(text.to_ascii_lowercase()))
        } else {
            Err(LanguageError)
        }
    }
}

impl Reply {
    /// This text, to everybody.
    #[must_use]
    pub fn of(text: Template) -> Self {
        Self {
            text: Source::Inline(text),
            language: default_language(),
            variants: Vec::new(),
            json: None,
        }
    }
}

impl Reply {
    /// The files that hold its texts.
    pub(super) fn files(&self) -> impl Iterator<Item = &Path> {
        let variants = self.variants.iter().map(|variant| &variant.text);
        let texts = std::iter::once(&self.text).chain(variants);
        texts.filter_map(|text| match text {
            Source::File(path) => Some(path.as_path()),
            Source::Inline(_) => None,
        })
    }
}

fn default_language() -> Language {
    Language("en".to_owned())
}

/// The long form as it is written.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Written {
    /// What is said when nothing below fits better. `{wait}`, `{wait_seconds}` and `{request_id}` are replaced.
    #[serde(default)]
    text: Option<ReplyTemplate>,
    /// A file that holds the text, in the place of `text`.
    #[serde(default)]
    file: Option<PathBuf>,
    /// The language of what does not name its own.
    #[serde(default = "default_language")]
    language: Language,
    /// What is said in other languages and after particular failures.
    #[serde(default)]
    variants: Vec<WrittenVariant>,
    /// The object that requests for JSON get, as JSON text. Left out, they get the vendor's form of a refusal.
    #[serde(default)]
    json: Option<JsonTemplate>,
}

/// A text of a reply for some.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ReplyVariant")]
struct WrittenVariant {
    /// For those who read this language, by their `Accept-Language`.
    #[serde(default)]
    language: Option<Language>,
    /// After these failures.
    #[serde(default, deserialize_with = "one_or_many")]
    #[schemars(with = "crate::config::decode::OneOrMany<FailureKind>")]
    failure: Vec<FailureKind>,
    /// What is said.
    #[serde(default)]
    text: Option<ReplyTemplate>,
    /// A file that holds it.
    #[serde(default)]
    file: Option<PathBuf>,
}

/// A text of a reply.
struct ReplyTemplate(Template);

/// A text of a reply that is a JSON object.
struct JsonTemplate(Template);

fn source<E: Error>(text: Option<ReplyTemplate>, file: Option<PathBuf>) -> Result<Source, E> {
    match (text, file) {
        (Some(ReplyTemplate(text)), None) => Ok(Source::Inline(text)),
        (None, Some(file)) => Ok(Source::File(file)),
        (None, None) => Err(E::missing_field("text")),
        (Some(_), Some(_)) => Err(E::custom("`text` and `file` exclude each other")),
    }
}

impl Written {
    fn into_reply<E: Error>(self) -> Result<Reply, E> {
        let variant = |written: WrittenVariant| {
            Ok(Variant {
                language: written.language,
                failure: written.failure,
                text: source(written.text, written.file)?,
            })
        };
        Ok(Reply {
            text: source(self.text, self.file)?,
            language: self.language,
            variants: self
                .variants
                .into_iter()
                .map(variant)
                .collect::<Result<_, E>>()?,
            json: self.json.map(|JsonTemplate(json)| json),
        })
    }
}

impl<'de> Deserialize<'de> for Reply {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Forms;

        impl<'de> Visitor<'de> for Forms {
            type Value = Reply;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, or a mapping with `text` and more")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Reply, E> {
                Template::of_reply(text).map(Reply::of).map_err(E::custom)
            }

            fn visit_newtype_struct<D: Deserializer<'de>>(
                self,
                long: D,
            ) -> Result<Reply, D::Error> {
                Written::deserialize(long)?.into_reply()
            }
        }

        deserializer.deserialize_newtype_struct(SHORT_FORM, Forms)
    }
}

impl JsonSchema for Reply {
    fn schema_name() -> Cow<'static, str> {
        "Reply".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let long = generator.subschema_for::<Written>();
        json_schema!({
            "description": "A friendly answer: a text, or a mapping with `text` and more.",
            "oneOf": [{ "type": "string", "minLength": 1 }, long],
        })
    }
}

impl FromStr for ReplyTemplate {
    type Err = super::template::TemplateError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Template::of_reply(text).map(Self)
    }
}

impl FromStr for JsonTemplate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let ReplyTemplate(template) = text
            .parse::<ReplyTemplate>()
            .map_err(|error| error.to_string())?;
        let sample = template.render(&Values::default());
        match serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&sample) {
            Ok(_) => Ok(Self(template)),
            Err(_) => Err("it must be a JSON object, such as '{\"status\": \"busy\", \"retry_in\": {wait_seconds}}'".to_owned()),
        }
    }
}

text_form! {
    Language, "Language", "a language tag such as `de`", r"^([A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*|.*\$\{.*)$";
    ReplyTemplate, "ReplyText", "a text", r"\S";
    JsonTemplate, "ReplyJson", "the text of a JSON object", r"^\s*(\{|.*\$\{)";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn language_tags_are_kept_in_lower_case() {
        for (text, expected) in [
            ("de", Some("de")),
            ("pt-BR", Some("pt-br")),
            ("zh-Hant-TW", Some("zh-hant-tw")),
        ] {
            assert_eq!(
                text.parse::<Language>().ok().as_ref().map(Language::as_str),
                expected
            );
        }
        for text in [
            "",
            "d",
            "*",
            "de-",
            "de_CH",
            "german language",
            "deutschland",
        ] {
            assert_eq!(text.parse::<Language>(), Err(LanguageError), "{text}");
        }
    }
}

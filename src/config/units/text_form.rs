//! What is read by [`FromStr`](std::str::FromStr) stands in the file and in the schema as a text.

/// Reads types from their text and gives them a schema: the type, its name there, the noun phrase for messages, and the
/// pattern of a text that may be one (`${…}` always may).
macro_rules! text_form {
    ($($text:ty, $name:literal, $expecting:literal, $pattern:literal;)*) => {$(
        impl<'de> serde::Deserialize<'de> for $text {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                $crate::config::units::from_text(deserializer, $expecting)
            }
        }

        impl schemars::JsonSchema for $text {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> std::borrow::Cow<'static, str> {
                $name.into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "pattern": $pattern })
            }
        }
    )*};
}

pub(in crate::config) use text_form;

//! `${NAME}` and `${NAME:-default}` in the values of a file.
//!
//! The YAML reader could replace variables itself, but only outside quotes and only up to the first one that is missing.
//! Within `{ }` and `[ ]`, YAML itself demands the quotes, and a variable that stays as it is written fails far from its cause.
//! So quoted values are expanded like plain ones, and every missing variable is told.
//! A value is replaced after the file was parsed: what a variable holds can never become a key or a list.

use super::tree::Environment;

/// Why a value could not be expanded. Never holds what a variable holds.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ExpandError {
    #[error("the variable `{0}` is not set; set it, or give a default as in `${{{0}:-default}}`")]
    Unset(String),
    #[error(
        "a `${{` here does not begin a variable; write `${{NAME}}` or `${{NAME:-default}}`, \
         where NAME is made of letters, digits and `_`, or `$${{` to mean the characters themselves"
    )]
    Malformed,
}

/// Replaces the variables in `text`; `None` when it has none.
///
/// A default applies when the variable is unset or empty, as in a shell, and is taken as it stands up to the next `}`.
pub(super) fn expand(text: &str, env: Environment<'_>) -> Result<Option<String>, Vec<ExpandError>> {
    if !text.contains("${") {
        return Ok(None);
    }
    let mut out = String::new();
    let mut faults = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        let (before, reference) = rest.split_at(start);
        if let Some(before) = before.strip_suffix('$') {
            out.push_str(before);
            out.push_str("${");
            rest = &reference[2..];
            continue;
        }
        out.push_str(before);
        let Some((body, after)) = reference[2..].split_once('}') else {
            faults.push(ExpandError::Malformed);
            return Err(faults);
        };
        match value_of(body, env) {
            Ok(value) => out.push_str(&value),
            Err(fault) => faults.push(fault),
        }
        rest = after;
    }
    out.push_str(rest);
    if faults.is_empty() {
        Ok(Some(out))
    } else {
        Err(faults)
    }
}

/// The value of `NAME` or `NAME:-default`.
fn value_of(body: &str, env: Environment<'_>) -> Result<String, ExpandError> {
    let (name, default) = match body.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (body, None),
    };
    if !is_variable_name(name) || default.is_some_and(|text| text.contains("${")) {
        return Err(ExpandError::Malformed);
    }
    match (env(name), default) {
        (Some(value), None) => Ok(value),
        (Some(value), Some(_)) if !value.is_empty() => Ok(value),
        (_, Some(default)) => Ok(default.to_owned()),
        (None, None) => Err(ExpandError::Unset(name.to_owned())),
    }
}

/// Letters, digits and `_`, not beginning with a digit: what every shell takes as a name.
pub(super) fn is_variable_name(name: &str) -> bool {
    let is_word = |c: char| c == '_' || c.is_ascii_alphanumeric();
    name.chars().all(is_word)
        && name
            .chars()
            .next()
            .is_some_and(|first| !first.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn env(name: &str) -> Option<String> {
        match name {
            "PORT" => Some("4290".to_owned()),
            "EMPTY" => Some(String::new()),
            "TRICKY" => Some("${PORT}\nkey: value".to_owned()),
            _ => None,
        }
    }

    #[test]
    fn variables_are_replaced_wherever_they_stand() {
        for (text, expected) in [
            ("${PORT}", "4290"),
            ("127.0.0.1:${PORT}/${PORT}", "127.0.0.1:4290/4290"),
            ("${EMPTY}", ""),
            ("${EMPTY:-x}", "x"),
            ("${NONE:-}", ""),
            ("${NONE:-http://h:1/a:-b}", "http://h:1/a:-b"),
            ("${PORT:-1}", "4290"),
            ("$${PORT}", "${PORT}"),
            ("${TRICKY}", "${PORT}\nkey: value"),
        ] {
            assert_eq!(expand(text, &env), Ok(Some(expected.to_owned())), "{text}");
        }
        for text in ["", "plain", "5 $", "$PORT", "{PORT}"] {
            assert_eq!(expand(text, &env), Ok(None), "{text}");
        }
    }

    #[test]
    fn every_fault_is_told() {
        use ExpandError::{Malformed, Unset};
        for (text, expected) in [
            (
                "${A} ${PORT} ${B}",
                vec![Unset("A".into()), Unset("B".into())],
            ),
            ("${}", vec![Malformed]),
            ("${1A}", vec![Malformed]),
            ("${A B}", vec![Malformed]),
            ("${PORT", vec![Malformed]),
            ("${A:-${PORT}}", vec![Malformed]),
            ("${A?why}", vec![Malformed]),
        ] {
            assert_eq!(expand(text, &env), Err(expected), "{text}");
        }
    }

    #[test]
    fn the_message_names_the_variable_and_the_default() {
        assert_eq!(
            ExpandError::Unset("KEY".into()).to_string(),
            "the variable `KEY` is not set; set it, or give a default as in `${KEY:-default}`"
        );
        assert!(
            ExpandError::Malformed
                .to_string()
                .contains("write `${NAME}` or `${NAME:-default}`")
        );
    }

    proptest! {
        #[test]
        fn any_text_is_taken(text in "[${}:a-z -]{0,40}") {
            let _ = expand(&text, &env);
        }
    }
}

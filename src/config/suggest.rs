//! "Did you mean": the likely word for a misspelt one.

/// The known word that `word` was probably meant to be.
///
/// Dashes, capitals and the many ways to join words count for nothing; beyond that one slip in three letters is forgiven,
/// and a word that is a part of the known one (`url` for `base_url`) is taken for it.
pub(super) fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let word = plain(word);
    if word.is_empty() {
        return None;
    }
    let slips = |known: &str| strsim::damerau_levenshtein(&word, &plain(known));
    let closest = known.iter().copied().min_by_key(|known| slips(known))?;
    let allowed = word.len().max(plain(closest).len()) / 3;
    if slips(closest) <= allowed {
        return Some(closest);
    }
    let mut parts = known
        .iter()
        .copied()
        .filter(|known| known.split('_').any(|part| part == word));
    match (parts.next(), parts.next()) {
        (Some(only), None) => Some(only),
        _ => None,
    }
}

/// The words in a sentence: "`a`, `b` or `c`".
pub(super) fn list<W: AsRef<str>>(words: &[W]) -> String {
    let quoted: Vec<String> = words
        .iter()
        .map(|word| format!("`{}`", word.as_ref()))
        .collect();
    match quoted.split_last() {
        None => "nothing".to_owned(),
        Some((only, [])) => only.clone(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
    }
}

/// Lower case, without what people put between words.
fn plain(word: &str) -> String {
    word.chars()
        .filter(|c| c.is_alphanumeric())
        .flat_map(char::to_lowercase)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_and_other_spellings_find_their_word() {
        let known = [
            "max_retries",
            "base",
            "factor",
            "cap",
            "jitter",
            "base_url",
            "timeouts",
        ];
        for (word, expected) in [
            ("max_retry", Some("max_retries")),
            ("maxRetries", Some("max_retries")),
            ("max-retries", Some("max_retries")),
            ("bsae", Some("base")),
            ("url", Some("base_url")),
            ("timeout", Some("timeouts")),
            ("retries", Some("max_retries")),
            ("colour", None),
            ("", None),
            ("-", None),
            ("x", None),
        ] {
            assert_eq!(nearest(word, &known), expected, "{word}");
        }
        assert_eq!(nearest("word", &[]), None);
    }

    #[test]
    fn a_part_that_two_words_share_names_neither() {
        assert_eq!(nearest("max", &["max_head", "max_headers"]), None);
    }

    #[test]
    fn lists_read_as_english() {
        assert_eq!(list::<&str>(&[]), "nothing");
        assert_eq!(list(&["a"]), "`a`");
        assert_eq!(list(&["a", "b", "c"]), "`a`, `b` or `c`");
    }
}

//! Which of the languages that are there a caller would read: the lookup of RFC 4647 §3.4 over `Accept-Language`.

/// Ranges beyond these are not looked at: nobody reads that many languages.
const MOST_RANGES: usize = 16;

/// The languages that a header's value asks for, the most wanted first; `*` for any. Those that are refused
/// (`q=0`) and what cannot be read are left out.
pub(super) fn wanted(accept_language: &str) -> Vec<String> {
    let range = |part: &str| {
        let (range, weight) = part.split_once(';').unwrap_or((part, ""));
        let weight = match weight.trim().strip_prefix("q=") {
            Some(weight) => weight.trim().parse::<f32>().ok()?,
            None => 1.0,
        };
        let range = range.trim();
        (weight > 0.0 && !range.is_empty()).then(|| (range.to_ascii_lowercase(), weight))
    };
    let mut ranges: Vec<_> = accept_language
        .split(',')
        .take(MOST_RANGES)
        .filter_map(range)
        .collect();
    // Stable: of equals, the first named goes first.
    ranges.sort_by(|(_, one), (_, other)| other.total_cmp(one));
    ranges.into_iter().map(|(range, _)| range).collect()
}

/// The first of the wanted languages for which `found` finds something, each shortened subtag by subtag as it must.
/// `*` ends the search: any will do.
pub(super) fn look_up<T>(wanted: &[String], mut found: impl FnMut(&str) -> Option<T>) -> Option<T> {
    for range in wanted {
        if range == "*" {
            return None;
        }
        let mut range = range.as_str();
        loop {
            if let Some(found) = found(range) {
                return Some(found);
            }
            let Some((shorter, last)) = range.rsplit_once('-') else {
                break;
            };
            // A single letter only introduces what stood behind it.
            range = match shorter.rsplit_once('-') {
                Some((shortest, single)) if single.len() == 1 && last.len() > 1 => shortest,
                _ => shorter,
            };
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn weights_order_and_zero_refuses() {
        for (header, expected) in [
            ("de", vec!["de"]),
            (
                "de-CH, fr;q=0.9, en;q=0.8, *;q=0.1",
                vec!["de-ch", "fr", "en", "*"],
            ),
            ("en;q=0.2, DE;q=0.7", vec!["de", "en"]),
            ("en;q=0, de", vec!["de"]),
            ("a, b, c", vec!["a", "b", "c"]),
            ("de;q=much", vec![]),
            (" , ;q=1", vec![]),
            ("en;q=NaN, de", vec!["de"]),
        ] {
            assert_eq!(wanted(header), expected, "{header}");
        }
    }

    #[test]
    fn a_range_is_shortened_until_it_is_found() {
        let there = |tags: &'static [&'static str]| {
            move |range: &str| tags.iter().find(|tag| **tag == range).copied()
        };
        for (header, tags, expected) in [
            ("de-ch-1996", &["de", "fr"][..], Some("de")),
            ("zh-hant-tw", &["zh-hant", "zh"], Some("zh-hant")),
            ("fr, de", &["de"], Some("de")),
            ("fr, *, de", &["de"], None),
            ("en-x-pirate", &["en"], Some("en")),
            ("pt", &["pt-br"], None),
            ("", &["de"], None),
        ] {
            assert_eq!(look_up(&wanted(header), there(tags)), expected, "{header}");
        }
    }

    proptest! {
        #[test]
        fn any_header_is_read(header in ".{0,60}|[a-z,;=q0-9.* -]{0,60}") {
            let ranges = wanted(&header);
            prop_assert!(ranges.len() <= MOST_RANGES);
            let _ = look_up(&ranges, |_| None::<()>);
        }
    }
}

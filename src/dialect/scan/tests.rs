use proptest::prelude::*;

use super::*;

#[path = "../../../fuzz/properties/scan.rs"]
mod properties;

use properties::is_value;

/// Pieces that JSON is made of, and some that it is not.
fn text() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"a\"",
        "\"\"",
        "\"\\u00e4\\\"\"",
        "\"\\x\"",
        "\"\\u00g0\"",
        "\"\n\"",
        "\"é\"",
        "0",
        "-",
        "-1",
        "01",
        "1.",
        "2.5e+7",
        "1e",
        ".5",
        "true",
        "fals",
        "null",
        " ",
        "\n",
        "\u{b}",
        "\"a\":",
        "\"b\" :",
        "{\"a\":[",
        "]}",
    ]);
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

#[test]
fn containers_of_any_depth_are_passed() {
    for depth in [1, 63, 64, 65, 128, 129, 100_000] {
        let (open, close) = ("[{\"a\":".repeat(depth), "}]".repeat(depth));
        assert!(is_value(format!("{open}1{close}").as_bytes()), "{depth}");
        assert!(!is_value(format!("{open}1{close}]").as_bytes()), "{depth}");
        let wrong = close.replacen('}', "]", 1);
        assert!(!is_value(format!("{open}1{wrong}").as_bytes()), "{depth}");
    }
}

#[test]
fn entries_are_given_as_they_are_spelt() {
    let mut scan = Scan::new(br#" { "a" : [1, "}"] ,"\u0062":"\"", "c":1.50 } "#);
    assert_eq!(scan.object(), Some(()));
    let mut entries = Vec::new();
    while let Entry::Is(key, value) = scan.entry(entries.len()).expect("well-formed") {
        entries.push((
            key.into_owned(),
            String::from_utf8_lossy(value).into_owned(),
        ));
    }
    let expected = [("a", r#"[1, "}"]"#), ("b", r#""\"""#), ("c", "1.50")];
    assert_eq!(
        entries,
        expected.map(|(key, value)| (key.into(), value.into()))
    );
    assert!(scan.is_at_end());
}

proptest! {
    #[test]
    fn it_takes_what_a_parser_takes(text in text()) {
        properties::holds(text.as_bytes());
    }

    #[test]
    fn strings_end_where_they_end(before in "[ -!#-\\[\\]-~é]{0,100}", special in "[\"\\\\\\x00-\\x1f]", behind in ".{0,40}") {
        prop_assert_eq!(plain(format!("{before}{special}{behind}").as_bytes()), before.len());
        prop_assert_eq!(plain(before.as_bytes()), before.len());
    }

    #[test]
    fn every_document_and_no_part_of_it_is_taken(text in "[a-z\"\\\\\\n]{0,80}", cut in any::<prop::sample::Index>()) {
        let document = serde_json::json!({ "a": [text.clone(), 1, { "b": null, &text: true }], "c": -1.5e-7 }).to_string();
        prop_assert!(is_value(document.as_bytes()));
        prop_assert!(!is_value(&document.as_bytes()[..cut.index(document.len())]));
    }
}

//! Whatever is in the file, reading it ends, without a panic, in a configuration or in problems.

use std::fmt::Write;

use proptest::prelude::*;

use super::*;

/// Words that lead deep into the schema, and punctuation that leads out of YAML.
fn fragment() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z${}\\[\\]:,#&*!|>'\"%@`~? \n\t.-]{1,12}",
        prop::sample::select(vec![
            "listen:",
            "upstreams:",
            "routes:",
            "retry:",
            "limits:",
            "fallback:",
            "stream:",
            "match:",
            "per_user:",
            "base_url:",
            "upstream:",
            "credential:",
            "{ env: A }",
            "http://h",
            "1s",
            "60/min",
            "none",
            "[]",
            "{}",
            "\n",
            "\n  ",
            "\n    - ",
            "- ",
            ": ",
            "${SECRET}",
            "&a ",
            "*a",
            "<<: *a",
            "queue",
            "reply:",
            "é",
            "\u{feff}",
            "\r\n",
            "---\n",
            "!!binary ",
        ])
        .prop_map(str::to_owned),
    ]
}

fn accept(text: &str) {
    match parse(text) {
        Ok(config) => assert!(
            !config.listen.is_empty() && !config.routes.is_empty() && !config.upstreams.is_empty(),
            "{text:?}"
        ),
        Err(problems) => {
            assert!(
                problems
                    .iter()
                    .any(|problem| problem.severity() == Severity::Error),
                "{text:?}\n{problems}"
            );
            assert!(
                !problems.to_string().contains("hunter2"),
                "{text:?}\n{problems}"
            );
        }
    }
}

proptest! {
    #[test]
    fn random_fragments_are_taken(fragments in prop::collection::vec(fragment(), 0..30)) {
        accept(&fragments.concat());
    }

    #[test]
    fn random_text_is_taken(text in any::<String>()) {
        accept(&text);
    }

    #[test]
    fn the_sample_with_a_piece_cut_out_is_taken(start in 0..SAMPLE.len(), len in 0..200_usize) {
        let end = (start + len).min(SAMPLE.len());
        if let (Some(before), Some(after)) = (SAMPLE.get(..start), SAMPLE.get(end..)) {
            accept(&format!("{before}{after}"));
        }
    }

    #[test]
    fn the_sample_with_a_piece_put_in_is_taken(at in 0..SAMPLE.len(), piece in fragment()) {
        if let (Some(before), Some(after)) = (SAMPLE.get(..at), SAMPLE.get(at..)) {
            accept(&format!("{before}{piece}{after}"));
        }
    }
}

#[test]
fn bombs_do_not_go_off() {
    let deep = "[".repeat(100_000);
    let mut deep_block = String::new();
    for depth in 0..2_000 {
        writeln!(deep_block, "{}a:", " ".repeat(depth)).unwrap();
    }
    let mut aliases = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let previous = format!("*a{}", level - 1);
        let list = [previous.as_str(); 10].join(", ");
        writeln!(aliases, "a{level}: &a{level} [{list}]").unwrap();
    }
    let variables = "listen: ".to_owned() + &"${A:-".repeat(50_000);
    for text in [deep, deep_block, aliases, variables] {
        assert!(parse(&text).is_err());
    }
}

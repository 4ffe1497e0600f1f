//! The properties of the fuzz targets, on inputs made of what streams are made of: for a bounded number of them.
//!
//! `SURGETANK_FUZZ_CASES=100000` runs longer. What is private to surgetank is held to its properties by its unit tests.

#[path = "../../fuzz/properties/cut.rs"]
mod cut;
#[path = "../../fuzz/properties/dialects.rs"]
mod dialects;
#[path = "../../fuzz/properties/framer.rs"]
mod framer;

use proptest::{prelude::*, test_runner::Config};
use surgetank::stream::sse;

/// Pieces of all dialects' streams, whole and damaged; hostile bytes; line ends of all kinds.
const PARTS: &[&str] = &[
    "data: ",
    "data:",
    "event: ",
    "event: message_delta",
    "event: content_block_delta",
    "event: content_block_start",
    "event: content_block_stop",
    "event: message_start",
    "event: error",
    "id: 1",
    "retry: 5",
    ": comment",
    "[DONE]",
    "\n",
    "\r",
    "\r\n",
    "\n\n",
    "\r\n\r\n",
    "\u{feff}",
    "{",
    "}",
    "[",
    "]",
    "\"",
    ",",
    ":",
    "\\u0000",
    "\\",
    "null",
    "{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"Größe 🌊\"}}",
    "{\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}",
    "{\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"max_tokens\"},\"usage\":{\"output_tokens\":18446744073709551615}}",
    "{\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":-1,\"x\":{}}}}",
    "{\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"x\"},\"finish_reason\":\"length\"}],\"usage\":{}}",
    "{\"choices\":[{\"index\":99999999999,\"delta\":[],\"finish_reason\":{}}]}",
    "{\"error\":{\"message\":\"m\",\"type\":\"overloaded_error\"}}",
    "{\"type\":\"response.created\",\"sequence_number\":3,\"response\":{\"id\":\"../../x\"}}",
    "{\"model\":\"m\",\"stream\":true,\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]}",
    "\"finish_reason\":",
    "\"usage\":",
    "\"stop_reason\":\"",
    "1e999",
    "-0",
    "true",
];

fn input() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        8 => proptest::sample::select(PARTS).prop_map(|part| part.as_bytes().to_vec()),
        1 => proptest::collection::vec(any::<u8>(), 0..9),
        1 => (1_usize..6_000).prop_map(|length| vec![b'x'; length]),
    ];
    proptest::collection::vec(part, 0..40).prop_map(|parts| parts.concat())
}

fn cases() -> Config {
    let cases = std::env::var("SURGETANK_FUZZ_CASES").ok();
    let cases = cases.and_then(|cases| cases.parse().ok()).unwrap_or(2_000);
    Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn frames_are_what_stands_there_whatever_the_pieces(stream in input(), sizes in proptest::collection::vec(any::<u8>(), 0..8)) {
        framer::holds(&cut::pieces(&stream, &sizes));
    }

    #[test]
    fn no_reader_fails_on_any_input(input in input()) {
        dialects::hold(&input);
    }
}

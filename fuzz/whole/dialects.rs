//! Everything that reads what came over the wire.
#![no_main]

#[path = "../properties/dialects.rs"]
mod properties;

libfuzzer_sys::fuzz_target!(|input: &[u8]| properties::hold(input));

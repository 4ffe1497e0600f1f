//! Everything that reads what came over the wire.
#![no_main]

#[path = "../properties.rs"]
#[allow(dead_code, reason = "each target checks its own properties")]
mod properties;

libfuzzer_sys::fuzz_target!(|input: &[u8]| properties::dialects(input));

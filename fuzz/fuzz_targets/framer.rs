//! The first bytes say how the rest is cut into pieces.
#![no_main]

#[path = "../properties.rs"]
#[allow(dead_code, reason = "each target checks its own properties")]
mod properties;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let (sizes, stream) = input.split_at(input.len().min(8));
    properties::framer(stream, sizes);
});

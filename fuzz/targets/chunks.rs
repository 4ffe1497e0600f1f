#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| surgetank_fuzz::chunks(input));

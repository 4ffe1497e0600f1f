//! surgetank
fn main() {}

//! The parsers under test, each with its properties where these can see it, as its tests do.

#![allow(
    dead_code,
    reason = "surgetank uses more of them than their properties do"
)]

#[path = "properties/cut.rs"]
mod cut;

#[path = "../src/dialect"]
mod dialect {
    mod scan;

    use scan::{Entry, Scan};

    #[path = "../../fuzz/properties/scan.rs"]
    pub mod properties;
}

#[path = "../src/stream"]
mod stream {
    pub mod sse;

    #[path = "../../fuzz/properties/framer.rs"]
    pub mod properties;
}

#[path = "../src/upstream"]
mod upstream {
    pub mod h1 {
        mod chunks;
        mod heads;

        use chunks::{Chunks, MOST_EXTENSIONS, MOST_FIELDS, MOST_LINE, MOST_TRAILERS, Piece};
        use heads::{Heads, MOST_INTERIM};

        #[path = "../../../fuzz/properties/chunks.rs"]
        pub mod chunk_properties;
        #[path = "../../../fuzz/properties/heads.rs"]
        pub mod head_properties;
    }
}

/// The first bytes of an input say how the rest is cut into pieces.
fn in_pieces(input: &[u8]) -> Vec<&[u8]> {
    let (sizes, rest) = input.split_at(input.len().min(8));
    cut::pieces(rest, sizes)
}

pub fn framer(input: &[u8]) {
    stream::properties::holds(&in_pieces(input));
}

pub fn chunks(input: &[u8]) {
    upstream::h1::chunk_properties::holds(&in_pieces(input));
}

pub fn heads(input: &[u8]) {
    upstream::h1::head_properties::holds(&in_pieces(input));
}

pub fn scan(input: &[u8]) {
    dialect::properties::holds(input);
}

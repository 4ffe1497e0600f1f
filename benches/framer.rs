//! How fast the framer reads, on one core: a realistic chat stream, in pieces of a usual read.
//!
//! Fails below 1 GB/s. The watch that follows every stream is measured beside it, for comparison.

use std::{hint::black_box, process::ExitCode};

use bytes::Bytes;
use surgetank::{
    dialect::Dialect,
    stream::{coding::Coding, sse::Framer, watch::Watch},
};
use tokio::time::Instant;

const LEAST: f64 = 1e9;
const PIECE: usize = 16 * 1024;
const ROUNDS: usize = 15;

/// Chunks as a vendor sends them, of different lengths.
fn stream() -> Vec<Bytes> {
    let words = [
        "the ",
        "pressure",
        " of",
        " a pipe — größer",
        " \\n\\n",
        " as one would expect of it",
    ];
    let mut bytes = Vec::new();
    for number in 0..200_000 {
        let word = words[number % words.len()];
        bytes.extend_from_slice(
            format!(
                "data: {{\"id\":\"chatcmpl-9f0c2b7a5d3e4f61\",\"object\":\"chat.completion.chunk\",\"created\":1795651200,\"model\":\"gpt-lab\",\"service_tier\":\"default\",\"system_fingerprint\":\"fp_44709d6fcb\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{word}\"}},\"logprobs\":null,\"finish_reason\":null}}]}}\n\n"
            )
            .as_bytes(),
        );
    }
    bytes.chunks(PIECE).map(Bytes::copy_from_slice).collect()
}

/// Bytes a second, in the median of some rounds.
fn rate(pieces: &[Bytes], mut read: impl FnMut(&[Bytes])) -> f64 {
    let total: usize = pieces.iter().map(Bytes::len).sum();
    let mut rates: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let began = Instant::now();
            read(pieces);
            total as f64 / began.elapsed().as_secs_f64()
        })
        .collect();
    rates.sort_by(f64::total_cmp);
    rates[ROUNDS / 2]
}

fn main() -> ExitCode {
    let pieces = stream();
    let framed = rate(&pieces, |pieces| {
        let mut framer = Framer::new(1 << 20);
        for piece in pieces {
            framer.push(piece.clone());
            while let Some(frame) = framer.next_frame() {
                black_box(frame);
            }
        }
    });
    let watched = rate(&pieces, |pieces| {
        let mut watch = Watch::new(Dialect::CHAT_COMPLETIONS, Coding::Identity);
        for piece in pieces {
            watch.see(piece);
        }
        black_box(watch.is_complete());
    });
    println!("framer: {:.2} GB/s", framed / 1e9);
    println!("watch:  {:.2} GB/s", watched / 1e9);
    if framed < LEAST {
        eprintln!("the framer is slower than {:.0} GB/s", LEAST / 1e9);
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

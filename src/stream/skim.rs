//! Reads a plain answer beside its way to the caller, without changing, holding or delaying a byte.

use bytes::Bytes;
use http::HeaderMap;

use super::coding::{Coding, Decoder};
use crate::dialect::{AnswerReader, Dialect, Reading};

/// What is known of a plain answer so far.
#[derive(Debug)]
pub struct Skim {
    decoder: Decoder,
    reader: AnswerReader,
}

impl Skim {
    /// At an answer's beginning; `None` where its coding cannot be read.
    #[must_use]
    pub fn new(dialect: Dialect, headers: &HeaderMap, reads_compressed: bool) -> Option<Self> {
        let coding = Coding::of(headers)?;
        (reads_compressed || coding == Coding::Identity).then(|| Self {
            decoder: Decoder::new(coding),
            reader: AnswerReader::new(dialect),
        })
    }

    /// Takes the next piece, as it came.
    pub fn see(&mut self, piece: &Bytes) {
        if let Some(clear) = self.decoder.decode(piece) {
            self.reader.see(&clear);
        }
    }

    /// What the answer has told of itself so far.
    #[must_use]
    pub fn reading(&self) -> Reading {
        self.reader.reading()
    }
}

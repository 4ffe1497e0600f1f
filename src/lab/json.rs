//! Writing JSON in the order in which the vendors write it.

use std::fmt;

/// A string as JSON has it, with quotes and escapes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Quoted<'a>(pub(super) &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&serde_json::to_string(self.0).map_err(|_| fmt::Error)?)
    }
}

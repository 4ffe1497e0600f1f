//! stream
pub mod sse;

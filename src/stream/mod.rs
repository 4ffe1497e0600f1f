//! Streams: reading server-sent events beside their way, judging an answer by its first event, and
//! ending honestly.

pub mod coding;
mod inspect;
pub mod peek;
pub mod relay;
pub mod skim;
pub mod sse;
pub mod watch;

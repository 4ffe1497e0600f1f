//! Streams: reading server-sent events beside their way, judging an answer by its first event, and
//! ending honestly.

mod inspect;
pub mod peek;
pub mod relay;
pub mod sse;
pub mod watch;

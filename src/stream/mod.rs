//! Streams: reading server-sent events beside their way, judging an answer by its first content,
//! keeping alive who waits for it, and ending honestly.

pub mod coding;
pub(crate) mod head;
pub(crate) mod inspect;
pub mod keepalive;
pub mod late;
pub mod peek;
pub mod relay;
pub mod skim;
pub mod sse;
pub mod watch;

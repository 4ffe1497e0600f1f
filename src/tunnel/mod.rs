//! Tunnels: what flows once both sides have switched from HTTP to WebSocket.
//!
//! Until then a handshake is a request like any other: its caller is known, its limits hold, an upstream
//! that fails is retried or replaced. From the 101 on, bytes pass both ways as they come, read only as far
//! as is needed to know where a frame ends.
//!
//! * [`handshake`] knows which request may become a tunnel, and which answer makes it one;
//! * [`ends`] are the upstream's side, as a body and a sink, so that everything which holds an answer's
//!   body (limits, the report) holds the tunnel;
//! * [`bridge`] joins them to the caller's connection, in that connection's own task: a caller that leaves
//!   takes its tunnel with it, and a process that drains waits for it;
//! * [`frames`] finds the place where a close frame of ours can stand.

pub mod bridge;
pub mod ends;
pub mod frames;
pub mod handshake;

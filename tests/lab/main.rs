//! The lab over real sockets: each fault is on the wire what its name says.

mod client;
mod everything;
mod protocol;
mod quota;
mod records;
mod scenarios;
mod scripts;
mod silence;
mod statuses;
mod streams;
mod wrong;

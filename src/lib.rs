//! surgetank
#![forbid(unsafe_code)]

pub mod cli;
pub mod config;
pub mod dialect;
pub mod lab;
pub mod lane;
pub mod limit;
pub mod retry;
pub mod stream;

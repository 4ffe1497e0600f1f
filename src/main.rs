//! What the process does: arguments, then one command.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser as _;
use surgetank::cli::{Arguments, Failed};

fn main() -> ExitCode {
    // Usage errors end with 64 (sysexits' EX_USAGE); clap's own 2 means nothing to an init system.
    let arguments = Arguments::try_parse().unwrap_or_else(|error| {
        let _ = error.print();
        std::process::exit(if error.use_stderr() { 64 } else { 0 });
    });
    match arguments.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failed { code, message }) => {
            eprintln!("surgetank: {message}");
            ExitCode::from(code)
        }
    }
}

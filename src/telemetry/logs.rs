//! The log: one line an event on standard error, JSON for machines or text for people.

use std::io::IsTerminal as _;

use tracing_subscriber::{EnvFilter, fmt, prelude::*};

use super::json_lines::{self, JsonLines};
use crate::config::LogFormat;

/// Without a filter of the operator's, our own words are enough: hyper and rustls speak of every
/// connection.
const DEFAULT_FILTER: &str = "surgetank=info,warn";

/// Starts logging. `filter` is `SURGETANK_LOG` (`debug`, `surgetank=debug,hyper=info` …).
///
/// # Errors
/// When `filter` is not a filter; the text says where.
pub fn start(format: LogFormat, filter: Option<&str>) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(filter.unwrap_or(DEFAULT_FILTER)).map_err(|error| {
        anyhow::anyhow!(
            "SURGETANK_LOG is not a log filter: {error}; try `info` or `surgetank=debug`"
        )
    })?;
    let as_json = match format {
        LogFormat::Json => true,
        LogFormat::Human => false,
        LogFormat::Auto => !std::io::stderr().is_terminal(),
    };
    let registry = tracing_subscriber::registry().with(filter);
    let started = if as_json {
        registry.with(JsonLines).try_init()
    } else {
        let colours = std::io::stderr().is_terminal();
        registry
            .with(
                fmt::layer()
                    .compact()
                    .with_ansi(colours)
                    .with_writer(std::io::stderr),
            )
            .try_init()
    };
    started.map_err(|error| anyhow::anyhow!("logging could not start: {error}"))
}

/// Lets the lines of this thread leave together, each time that it is about to sleep; see [`flush`].
///
/// For threads that serve many requests and never block: a line may stay as long as the thread has other work.
pub fn gather() {
    json_lines::gather();
}

/// Writes the lines that this thread has gathered: to be called whenever it is about to sleep.
pub fn flush() {
    json_lines::flush();
}

//! The log: one line an event on standard error, JSON for machines or text for people.

use std::{
    io::{self, IsTerminal as _},
    panic::PanicHookInfo,
    sync::LazyLock,
    time::Duration,
};

use prometheus::IntCounter;
use tracing_subscriber::{EnvFilter, fmt, prelude::*};

use super::{
    json_lines::{self, JsonLines},
    log_queue::{LogQueue, MOST_BYTES},
};
use crate::config::LogFormat;

/// Without a filter of the operator's, our own words are enough: hyper and rustls speak of every
/// connection.
const DEFAULT_FILTER: &str = "surgetank=info,warn";

/// The log is the process's, and so is this count; the metrics of every proxy in it show it.
static DROPPED: LazyLock<IntCounter> = LazyLock::new(|| {
    IntCounter::new(
        "surgetank_log_lines_dropped_total",
        "Lines of the log that were dropped because nobody took them from standard error.",
    )
    .expect("the name has only letters and underscores")
});

/// Lines of the log that found no room.
pub(super) fn dropped() -> IntCounter {
    DROPPED.clone()
}

/// The running log.
#[derive(Clone, Debug)]
pub struct Log(LogQueue);

impl Log {
    /// Waits until every line so far is written, in at most `patience`: what reads it may have stopped.
    pub fn flush(&self, patience: Duration) {
        // Whoever does not read the log cannot be told that it is not whole.
        let _ = self.0.flush(patience);
    }
}

/// Starts logging. `filter` is `SURGETANK_LOG` (`debug`, `surgetank=debug,hyper=info` …). No line waits for
/// whoever reads standard error: a reader that stands still loses lines, which are counted.
///
/// From here on a panic is a line of the log as well, with its place and without values.
///
/// # Errors
/// When `filter` is not a filter, and the text says where; when there is no thread to write with.
pub fn start(format: LogFormat, filter: Option<&str>) -> anyhow::Result<Log> {
    let filter = EnvFilter::try_new(filter.unwrap_or(DEFAULT_FILTER)).map_err(|error| {
        anyhow::anyhow!(
            "SURGETANK_LOG is not a log filter: {error}; try `info` or `surgetank=debug`"
        )
    })?;
    let as_json = match format {
        LogFormat::Json => true,
        LogFormat::Human => false,
        LogFormat::Auto => !io::stderr().is_terminal(),
    };
    let queue = LogQueue::start(io::stderr(), MOST_BYTES, dropped())?;
    let registry = tracing_subscriber::registry().with(filter);
    let started = if as_json {
        let lines = registry.with(JsonLines(queue.clone()));
        lines
            .try_init()
            .inspect(|()| json_lines::are_the_log(&queue))
    } else {
        let colours = io::stderr().is_terminal();
        let lines = fmt::layer().compact().with_ansi(colours);
        registry.with(lines.with_writer(queue.clone())).try_init()
    };
    started.map_err(|error| anyhow::anyhow!("logging could not start: {error}"))?;
    std::panic::set_hook(Box::new(tell_of_panic));
    Ok(Log(queue))
}

/// The standard hook writes to standard error, which may stand still, and shows the values that a message was
/// made of, which may be a caller's words. Only a message that stands in the program as it is may be told.
fn tell_of_panic(panic: &PanicHookInfo<'_>) {
    let place = panic.location().map(ToString::to_string);
    let message = panic.payload().downcast_ref::<&'static str>();
    tracing::error!(
        reason = message,
        "panicked at {}",
        place.as_deref().unwrap_or("a place that is not known")
    );
}

/// Lets the lines of this thread leave together, each time that it is about to sleep; see [`flush`].
///
/// For threads that serve many requests and never block: a line may stay as long as the thread has other work.
pub fn gather() {
    json_lines::gather();
}

/// Hands on the lines that this thread has gathered: to be called whenever it is about to sleep.
pub fn flush() {
    json_lines::flush();
}

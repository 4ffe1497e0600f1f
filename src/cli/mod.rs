//! The command line: one file a command.

mod check;
mod demo;
mod dumps;
mod health;
pub mod lab;
mod queue;
mod run;
mod schema;
mod source;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::{
    config::{Config, Listen, Problems},
    lab::ScenarioError,
};

/// A reverse proxy beside your application that keeps its AI API calls alive.
///
/// Without a command it runs the proxy; without a file, on 127.0.0.1:4290 with Anthropic and OpenAI
/// built in. Point your SDK at it and change nothing else:
///
///   `ANTHROPIC_BASE_URL=http://localhost:4290`
///   `OPENAI_BASE_URL=http://localhost:4290/v1`
#[derive(Debug, Parser)]
#[command(
    name = "surgetank",
    version,
    verbatim_doc_comment,
    args_conflicts_with_subcommands = true
)]
pub struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: run::RunArguments,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the proxy (the default).
    Run(run::RunArguments),
    /// Check a configuration file and say how to mend what is wrong with it.
    Check(ConfigFile),
    /// Show the spike in under a minute: a fake API with a quota, a crowd, without and with surgetank.
    Demo,
    /// Run the fake AI API, with quotas and every fault, to drill an application.
    Lab(lab::LabArgs),
    /// Print the JSON Schema of the configuration file.
    Schema,
    /// Exit with 0 if a running surgetank is ready, or with `--alive` alive, for probes in containers without a shell.
    Health(health::HealthArguments),
    /// Look after queued requests: list, show, retry, drop.
    Queue(queue::QueueArguments),
}

/// Which configuration.
#[derive(Clone, Debug, clap::Args)]
struct ConfigFile {
    /// The configuration file; without it, the built-in configuration.
    #[arg(long, short, value_name = "FILE", env = "SURGETANK_CONFIG")]
    config: Option<PathBuf>,
}

impl ConfigFile {
    fn load(&self) -> Result<Config, Problems> {
        match &self.config {
            Some(path) => Config::load(path, &environment),
            None => Ok(Config::built_in()),
        }
    }
}

/// A variable of the process's environment.
fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Why a command failed: a sentence for a person and a code for a script.
#[derive(Debug)]
pub struct Failed {
    /// From sysexits: 64 usage or configuration, 69 unavailable, 70 internal.
    pub code: u8,
    /// What happened, where, and what to do.
    pub message: String,
}

impl Failed {
    fn usage(message: impl std::fmt::Display) -> Self {
        Self {
            code: 64,
            message: message.to_string(),
        }
    }

    fn unavailable(message: impl std::fmt::Display) -> Self {
        Self {
            code: 69,
            message: message.to_string(),
        }
    }

    fn internal(message: impl std::fmt::Display) -> Self {
        Self {
            code: 70,
            message: message.to_string(),
        }
    }
}

impl Arguments {
    /// Does what they say.
    ///
    /// # Errors
    /// With the process's exit code and a sentence that says why.
    pub fn run(self) -> Result<(), Failed> {
        match self.command {
            None => run::run(&self.run),
            Some(Command::Run(arguments)) => run::run(&arguments),
            Some(Command::Check(file)) => check::run(&file),
            Some(Command::Lab(arguments)) => on_a_runtime(run_lab(arguments)),
            Some(Command::Demo) => on_a_runtime(demo::run()),
            Some(Command::Schema) => schema::run(),
            Some(Command::Queue(arguments)) => on_a_runtime(queue::run(arguments)),
            Some(Command::Health(arguments)) => on_a_runtime(health::run(arguments)),
        }
    }
}

async fn run_lab(arguments: lab::LabArgs) -> Result<(), Failed> {
    lab::run(arguments).await.map_err(|error| {
        let is_usage = error.downcast_ref::<ScenarioError>().is_some();
        let message = format!("{error:#}");
        if is_usage {
            Failed::usage(message)
        } else {
            Failed::unavailable(message)
        }
    })
}

fn on_a_runtime(work: impl Future<Output = Result<(), Failed>>) -> Result<(), Failed> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    runtime
        .map_err(|error| Failed::internal(format!("no runtime could be started: {error}")))?
        .block_on(work)
}

/// An address from a flag or the environment, in the words of the configuration.
fn listen(text: &str) -> Result<Listen, String> {
    text.parse::<Listen>().map_err(|error| error.to_string())
}

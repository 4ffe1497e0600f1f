//! Both ends of the comparison with other proxies: a fake API, a load generator and the bare relay that is the floor.
//!
//! Everything here is far cheaper than what it measures: one thread, prepared bytes, no HTTP library. `run` checks
//! that it is not the bottleneck.

mod hold;
mod load;
mod relay;
mod stats;
mod streams;
mod upstream;
mod wire;

use std::{net::SocketAddr, path::PathBuf};

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(about = "Both ends of a comparison of proxies.")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// The fake API: a JSON answer of 1 KB, or a stream where the body asks for one.
    Upstream(upstream::Settings),
    /// The floor: copies bytes both ways.
    Relay {
        /// Where it listens.
        #[arg(long)]
        listen: SocketAddr,
        /// Where it connects to.
        #[arg(long)]
        to: SocketAddr,
    },
    /// Plain requests, as fast as the answers come or at a fixed rate.
    Load(load::Settings),
    /// Streams, and the delay of every event.
    Streams(streams::Settings),
    /// Holds slow streams open until standard input ends.
    Hold(hold::Settings),
}

/// The files of a certificate.
#[derive(clap::Args, Clone)]
struct Tls {
    /// Speaks TLS with this certificate (PEM).
    #[arg(long, requires = "key")]
    cert: Option<PathBuf>,
    /// Its key (PEM).
    #[arg(long)]
    key: Option<PathBuf>,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        match arguments.command {
            Command::Upstream(settings) => upstream::run(settings).await,
            Command::Relay { listen, to } => relay::run(listen, to).await,
            Command::Load(settings) => load::run(settings).await,
            Command::Streams(settings) => streams::run(settings).await,
            Command::Hold(settings) => hold::run(settings).await,
        }
    })
}

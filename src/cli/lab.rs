//! `surgetank lab`: the fake AI API on its own, for users who want to drill their application.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::interval;

use crate::lab::{CATALOGUE, Lab, LabConfig, LabHandle, Stats};

/// Where the lab listens if nobody says otherwise.
const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 4299);

/// How often the counters are printed, when they have changed.
const REPORT_EVERY: Duration = Duration::from_secs(2);

const HELP: &str = "\
How to use it:
  Point an SDK at the lab:
    ANTHROPIC_BASE_URL=http://127.0.0.1:4299  OPENAI_BASE_URL=http://127.0.0.1:4299/v1
  or surgetank at the lab (base_url of an upstream) and the SDK at surgetank.
  Any credential will do. Without a scenario every answer is healthy.

Choosing faults:
  For one request, by a header:
    curl -H 'x-lab-fault: 429;retry-after=2' …
  For the attempts of one call, by a script and a key of your choice: the first attempt gets
  a 429, the second a 529, the third is healthy. `429*3` is three attempts, `529*` all that follow.
    curl -H 'x-lab-script: 429,529,ok' -H 'x-lab-key: call-1' …
  For all requests, by a scenario file (--scenario):
    answer: { words: 50, first_token: 300ms, interval: 20ms }
    quota:  { rate: 60/min, burst: 10, rejects_cost: 0.5 }
    rules:
      - { match: { path: /v1/messages, nth: 3 }, fault: 529 }
      - { match: { probability: 0.05 }, fault: 'cut;after=3' }

What it saw:
  GET /_lab/stats · GET /_lab/requests?key=call-1 · GET /_lab/faults · POST /_lab/reset
  any method on /echo/… answers with a report of the request

--list-faults names every fault with its parameters.";

/// Runs a fake AI API with quotas and every fault.
#[derive(Debug, Args)]
#[command(after_long_help = HELP)]
pub struct LabArgs {
    /// The address to listen on; goes before the scenario's. Default 127.0.0.1:4299.
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<SocketAddr>,
    /// A scenario file: answers, quota, rules for faults.
    #[arg(long, value_name = "FILE")]
    pub scenario: Option<PathBuf>,
    /// Lists all faults with their parameters, and ends.
    #[arg(long)]
    pub list_faults: bool,
}

/// Runs the lab until it is interrupted or terminated.
///
/// The error's chain holds a [`crate::lab::ScenarioError`] if the scenario is at fault, or the [`std::io::Error`] of an
/// address that cannot be taken.
pub async fn run(args: LabArgs) -> anyhow::Result<()> {
    if args.list_faults {
        print!("{}", fault_list());
        return Ok(());
    }
    let mut config = match &args.scenario {
        Some(path) => LabConfig::load(path).with_context(|| format!("in {}", path.display()))?,
        None => LabConfig::default(),
    };
    if let Some(listen) = args.listen {
        config.listen = listen;
    } else if config.listen.port() == 0 {
        config.listen = DEFAULT_LISTEN;
    }
    let listen = config.listen;
    let lab = Lab::start(config).with_context(|| {
        format!("the lab cannot listen on {listen}; choose another address with --listen")
    })?;
    println!("surgetank lab listens on {}", lab.url());
    println!(
        "  ANTHROPIC_BASE_URL={0}  OPENAI_BASE_URL={0}/v1",
        lab.url()
    );
    println!(
        "  counters: {}/_lab/stats   faults: surgetank lab --list-faults",
        lab.url()
    );
    tokio::select! {
        () = report(&lab) => {}
        ended = told_to_end() => ended?,
    }
    println!("{}", line(&lab.stats()));
    lab.stop().await;
    Ok(())
}

/// Prints the counters whenever they have changed.
async fn report(lab: &LabHandle) {
    let mut ticks = interval(REPORT_EVERY);
    let mut told = Stats::default();
    loop {
        ticks.tick().await;
        let stats = lab.stats();
        if stats != told {
            println!("{}", line(&stats));
            told = stats;
        }
    }
}

/// Resolves at SIGINT or SIGTERM.
async fn told_to_end() -> anyhow::Result<()> {
    let mut terminated = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted.context("cannot listen for SIGINT"),
        _ = terminated.recv() => Ok(()),
    }
}

/// The counters in one line.
fn line(stats: &Stats) -> String {
    format!(
        "requests {} (live {}) · answered {} · broken {} · throttled {} · overloaded {} · callers left {} · \
         executions {} · connections {} (live {})",
        stats.requests,
        stats.live_requests,
        stats.answered,
        stats.broken,
        stats.throttled,
        stats.overloaded,
        stats.cancelled,
        stats.executions,
        stats.connections,
        stats.live_connections,
    )
}

/// All faults, a line each, with the parameters that they take.
fn fault_list() -> String {
    let mut list = String::from(
        "NAME[;key=value…], values may be percent-encoded.\n\
         Parameters stand below the first of the faults in a row that share them.\n\n",
    );
    let mut told: &[&str] = &[];
    for entry in CATALOGUE {
        // Writing to a string cannot fail.
        let _ = writeln!(list, "{:<26}{}", entry.name, entry.about);
        if !entry.takes.is_empty() && entry.takes != told {
            let _ = writeln!(list, "{:<26}  {}", "", entry.takes.join(" "));
        }
        told = entry.takes;
    }
    list.push_str(
        "\nAny other status from 400 to 599 works as well, with the parameters of 500.\n\
         Faults built on a healthy answer also take: words text headers-after first-token interval chunked.\n\
         early (in x-lab-fault): the answer comes before the request's body is read.\n\
         retry-after=none|past|double|date+3s|digits:4000 or any text; after=N counts content events of a stream,\n\
         bytes of anything else, `end` is just before the last; split breaks inside the next event,\n\
         split=char inside its first character of several bytes.\n",
    );
    list
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    #[derive(Debug, Parser)]
    enum Cli {
        Lab(LabArgs),
    }

    #[test]
    fn the_help_says_how_to_choose_faults() {
        let mut cli = Cli::command();
        let help = cli
            .find_subcommand_mut("lab")
            .unwrap()
            .render_long_help()
            .to_string();
        for told in [
            "x-lab-fault",
            "x-lab-script",
            "--list-faults",
            "--scenario",
            "Runs a fake AI API",
        ] {
            assert!(help.contains(told), "{told} is missing in: {help}");
        }
    }

    #[test]
    fn every_fault_is_listed() {
        let list = fault_list();
        for entry in CATALOGUE {
            assert!(
                list.lines()
                    .any(|line| line.starts_with(&format!("{} ", entry.name))),
                "{}",
                entry.name
            );
        }
    }

    #[tokio::test]
    async fn a_taken_port_and_a_bad_scenario_are_told_apart() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let args = |listen, scenario| LabArgs {
            listen,
            scenario,
            list_faults: false,
        };
        let error = run(args(taken.local_addr().ok(), None)).await.unwrap_err();
        assert!(
            error.downcast_ref::<std::io::Error>().is_some(),
            "{error:#}"
        );
        assert!(error.to_string().contains("--listen"), "{error:#}");

        let error = run(args(None, Some("/nowhere/scenario.yaml".into())))
            .await
            .unwrap_err();
        assert!(
            error.downcast_ref::<crate::lab::ScenarioError>().is_some(),
            "{error:#}"
        );
    }
}

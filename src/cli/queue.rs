//! `surgetank queue`: looks after queued requests, beside the process that serves from the same store.
//!
//! It tells which entries there are and where they stand, and nothing of what was asked or answered.

use std::{path::PathBuf, time::Duration};

use clap::{Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::{ConfigFile, Failed};
use crate::{
    config::{Config, units::display_duration},
    queue,
    store::jobs::{JobId, Jobs, Millis, Record, State, StoreError},
};

#[derive(Clone, Debug, clap::Args)]
pub(super) struct QueueArguments {
    /// The configuration file; without it, the built-in configuration.
    // Global, so that it may also stand behind the word for what is to be done.
    #[arg(
        long,
        short,
        value_name = "FILE",
        env = "SURGETANK_CONFIG",
        global = true
    )]
    config: Option<PathBuf>,
    #[command(subcommand)]
    what: What,
}

#[derive(Clone, Debug, Subcommand)]
enum What {
    /// List queued requests, the latest first.
    List {
        /// Only those in this state.
        #[arg(long, value_enum)]
        state: Option<StateArgument>,
        /// At most so many.
        #[arg(long, default_value_t = 50)]
        limit: usize,
        /// As JSON, one object a line.
        #[arg(long)]
        json: bool,
    },
    /// Tell all that is known of one, but for what was asked and answered.
    Show {
        /// Its id, as the caller got it in `x-surgetank-queue-id`.
        id: JobId,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Put failed or uncertain requests back in their place.
    Retry {
        /// Their ids.
        #[arg(required = true)]
        ids: Vec<JobId>,
    },
    /// Remove requests and their answers, whatever they are at.
    Drop {
        /// Their ids.
        #[arg(required = true)]
        ids: Vec<JobId>,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum StateArgument {
    Pending,
    Running,
    Done,
    Failed,
    Uncertain,
    Gone,
}

impl From<StateArgument> for State {
    fn from(state: StateArgument) -> Self {
        match state {
            StateArgument::Pending => Self::Pending,
            StateArgument::Running => Self::Running,
            StateArgument::Done => Self::Done,
            StateArgument::Failed => Self::Failed,
            StateArgument::Uncertain => Self::Uncertain,
            StateArgument::Gone => Self::Gone,
        }
    }
}

pub(super) async fn run(arguments: QueueArguments) -> Result<(), Failed> {
    let file = ConfigFile {
        config: arguments.config,
    };
    let config = file.load().map_err(|problems| {
        Failed::usage(format!("the configuration cannot be used\n{problems}"))
    })?;
    let store = open(&config)?;
    let desk = Desk {
        store: store.as_ref(),
        config: &config,
        now: Millis::now(),
    };
    match arguments.what {
        What::List { state, limit, json } => desk.list(state.map(State::from), limit, json).await,
        What::Show { id, json } => desk.show(id, json).await,
        What::Retry { ids } => desk.retry(&ids).await,
        What::Drop { ids } => desk.remove(&ids).await,
    }
}

fn open(config: &Config) -> Result<Box<dyn Jobs>, Failed> {
    // To look is not to make one.
    if let Some(path) = queue::file_of(config).filter(|path| !path.exists()) {
        return Err(Failed::unavailable(format!(
            "there is no queue at `{}`; a relative path counts from the directory that surgetank was started in",
            path.display()
        )));
    }
    let opened = queue::visit(config).map_err(Failed::internal)?;
    opened.ok_or_else(|| {
        Failed::usage("this configuration has no queue: it needs `store: { url: sqlite:FILE }` or `redis://…`; name the file with --config")
    })
}

struct Desk<'a> {
    store: &'a dyn Jobs,
    config: &'a Config,
    now: Millis,
}

impl Desk<'_> {
    async fn list(&self, state: Option<State>, limit: usize, json: bool) -> Result<(), Failed> {
        let records = self.store.list(state, limit).await.map_err(told)?;
        if json {
            for record in &records {
                println!("{}", as_json(record));
            }
            return Ok(());
        }
        println!(
            "{:<32}  {:<9}  {:>8}  {:>5}  {:>10}  ROUTE",
            "ID", "STATE", "AGE", "TRIES", "BYTES"
        );
        for record in &records {
            println!(
                "{}  {:<9}  {:>8}  {:>5}  {:>10}  {}{}",
                record.id,
                record.state.as_str(),
                self.ago(record.queued),
                record.attempts,
                record.bytes,
                record.route,
                record
                    .note
                    .as_ref()
                    .map_or(String::new(), |note| format!("  {note}")),
            );
        }
        Ok(())
    }

    async fn show(&self, id: JobId, json: bool) -> Result<(), Failed> {
        let record = self
            .store
            .look(id)
            .await
            .map_err(told)?
            .ok_or_else(|| unknown(id))?;
        if json {
            println!("{}", as_json(&record));
            return Ok(());
        }
        println!("id         {}", record.id);
        println!(
            "state      {}, for {}",
            record.state.as_str(),
            self.ago(record.changed)
        );
        println!(
            "uncertain  {}",
            if record.uncertain {
                "yes: it may have been carried out more than once"
            } else {
                "no"
            }
        );
        println!("route      {}", record.route);
        println!("queued     {} ago", self.ago(record.queued));
        println!(
            "expires    in {}",
            whole_seconds(record.expires.since(self.now))
        );
        println!("tries      {}", record.attempts);
        println!("bytes      {}", record.bytes);
        if let Some(note) = &record.note {
            println!("note       {note}");
        }
        Ok(())
    }

    async fn retry(&self, ids: &[JobId]) -> Result<(), Failed> {
        let expires = self.now.after(self.config.queue.ttl);
        for id in ids {
            if !self
                .store
                .retry(*id, self.now, expires)
                .await
                .map_err(told)?
            {
                return Err(Failed::unavailable(format!(
                    "{id} is neither failed nor uncertain, so there is nothing to retry; `surgetank queue show {id}` tells what it is"
                )));
            }
            println!("{id} will be tried again");
        }
        Ok(())
    }

    async fn remove(&self, ids: &[JobId]) -> Result<(), Failed> {
        let forget = self.now.after(self.config.queue.keep);
        for id in ids {
            let before = self
                .store
                .remove(*id, self.now, forget)
                .await
                .map_err(told)?;
            match before {
                Some(State::Gone) => println!("{id} was gone already"),
                Some(state) => println!("{id} is dropped; it was {}", state.as_str()),
                None => return Err(unknown(*id)),
            }
        }
        Ok(())
    }

    fn ago(&self, then: Millis) -> String {
        whole_seconds(self.now.since(then))
    }
}

fn as_json(record: &Record) -> Value {
    json!({
        "id": record.id.to_string(),
        "state": record.state.as_str(),
        "uncertain": record.uncertain,
        "route": record.route,
        "queued_ms": record.queued.0,
        "changed_ms": record.changed.0,
        "expires_ms": record.expires.0,
        "tries": record.attempts,
        "bytes": record.bytes,
        "note": record.note,
    })
}

fn whole_seconds(time: Duration) -> String {
    display_duration(Duration::from_secs(time.as_secs())).to_string()
}

fn unknown(id: JobId) -> Failed {
    Failed::unavailable(format!("there is no queued request {id}"))
}

fn told(error: StoreError) -> Failed {
    Failed::unavailable(error)
}

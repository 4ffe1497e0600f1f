//! `surgetank check`: everything that is wrong with a configuration, at once.

use super::{ConfigFile, Failed, environment};
use crate::{rules::Rules, server::Certificate};

pub(super) fn run(file: &ConfigFile) -> Result<(), Failed> {
    let name = file
        .config
        .as_ref()
        .map_or("the built-in configuration".into(), |path| {
            path.display().to_string()
        });
    let config = file
        .load()
        .map_err(|problems| Failed::usage(format!("{name} cannot be used\n{problems}")))?;
    config.check_here(&environment).map_err(|problems| {
        Failed::usage(format!(
            "{name} is correct, but cannot be used here\n{problems}"
        ))
    })?;
    // What is read beside the configuration, such as the texts of replies.
    Rules::new(&config, &environment, None, None)
        .map_err(|error| Failed::usage(format!("{name} cannot be put in force: {error}")))?;
    if let Some(tls) = &config.tls {
        Certificate::read(tls).map_err(Failed::usage)?;
    }
    for warning in config.warnings() {
        eprintln!("{warning}");
    }
    println!(
        "{name} is fine: {} upstreams, {} routes",
        config.upstreams.len(),
        config.routes.len()
    );
    Ok(())
}

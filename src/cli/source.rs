//! Where `surgetank run` has its configuration from: a file, and what the command line says instead.

use super::{environment, run::RunArguments};
use crate::{
    config::{Config, Problems, Severity},
    reload::{Loaded, Prints, Source},
};

impl RunArguments {
    /// Reads the configuration, with what the command line says in its place. The error holds every
    /// problem, one a line, after a heading.
    pub(super) fn config(&self) -> (Prints, Result<Config, Refused>) {
        let mut prints = Prints::default();
        if let Some(path) = &self.file.config {
            prints.take(path);
        }
        let mut config = match self.file.load() {
            Ok(config) => config,
            Err(problems) => return (prints, Err(self.refused("cannot be used", problems))),
        };
        for file in config.files() {
            prints.take(file);
        }
        if !self.listen.is_empty() {
            config.listen.clone_from(&self.listen);
        }
        if self.admin.is_some() {
            config.admin.clone_from(&self.admin);
        }
        config.listen_without_auth |= self.listen_without_auth;
        if let Err(problems) = config.check_here(&environment) {
            let what = "is correct, but cannot be used here";
            return (prints, Err(self.refused(what, problems)));
        }
        (prints, Ok(config))
    }

    fn refused(&self, what: &'static str, problems: Problems) -> Refused {
        let file = self.file.config.as_ref();
        Refused {
            name: file.map_or("the configuration".into(), |path| {
                path.display().to_string()
            }),
            what,
            problems,
        }
    }
}

/// A configuration that cannot be used.
pub(super) struct Refused {
    name: String,
    what: &'static str,
    problems: Problems,
}

impl Refused {
    /// Everything, for a terminal.
    pub(super) fn in_full(&self) -> String {
        format!("{} {}\n{}", self.name, self.what, self.problems)
    }

    /// One line, for a log.
    fn in_short(&self) -> String {
        let problems = self.problems.iter();
        let mut errors = problems.filter(|problem| problem.severity() == Severity::Error);
        let Some(first) = errors.next() else {
            return format!("{} {}", self.name, self.what);
        };
        match errors.count() {
            0 => first.to_string(),
            more => format!("{first} (and {more} more: `surgetank check` tells all)"),
        }
    }
}

impl Source for RunArguments {
    fn load(&self) -> Loaded {
        let (prints, config) = self.config();
        Loaded {
            prints,
            config: config.map_err(|refused| refused.in_short()),
        }
    }

    fn variable(&self, name: &str) -> Option<String> {
        environment(name)
    }
}

//! What is wrong with a configuration, said so that it can be mended.
//!
//! Who writes a configuration is rarely who runs it, and between the two stands a deployment.
//! A message that names one fault at a time costs one deployment a fault.
//! So everything that can be known is said at once, each fault at its line and column, each with the way out,
//! and none with a value that might be a secret.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

/// Where something stands in its file: line and column from 1, columns counted in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The line, from 1.
    pub line: u32,
    /// The column, from 1, in characters.
    pub column: u32,
}

/// Whether a problem forbids to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Severity {
    /// The configuration cannot be used.
    Error,
    /// The configuration can be used, but something in it does not do what it seems to.
    Warning,
}

/// One fault of a configuration, with the way to mend it.
///
/// It prints as `config.yaml:12:3: what is wrong`, the form that editors and terminals can follow.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Problem {
    source: Arc<str>,
    place: Option<Place>,
    severity: Severity,
    message: String,
}

impl Problem {
    /// The name of the file, as it was given.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Where in the file; `None` when the fault is the file itself, or something it lacks.
    #[must_use]
    pub fn place(&self) -> Option<Place> {
        self.place
    }

    /// Whether it forbids to run.
    #[must_use]
    pub fn severity(&self) -> Severity {
        self.severity
    }

    /// What is wrong and how to mend it, without the place.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.source)?;
        if let Some(Place { line, column }) = self.place {
            write!(f, ":{line}:{column}")?;
        }
        match self.severity {
            Severity::Error => write!(f, ": {}", self.message),
            Severity::Warning => write!(f, ": warning: {}", self.message),
        }
    }
}

/// Every problem of one configuration, in the order of the file. Prints one a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// The one problem of a file that could not even be read.
    pub(super) fn of(source: &str, message: String) -> Self {
        let mut problems = Collector::new(source);
        problems.error(None, message);
        problems.into_problems()
    }

    /// The problems, warnings included.
    pub fn iter(&self) -> std::slice::Iter<'_, Problem> {
        self.0.iter()
    }

    /// How many there are, warnings included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'a> IntoIterator for &'a Problems {
    type Item = &'a Problem;
    type IntoIter = std::slice::Iter<'a, Problem>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// Gathers problems while a configuration is read.
#[derive(Debug)]
pub(super) struct Collector {
    source: Arc<str>,
    found: Vec<Problem>,
    /// Inherited settings are looked at once for each route that inherits them; their faults are told once.
    told: HashSet<(Option<Place>, String)>,
}

impl Collector {
    /// A file with more errors than this is not a configuration; reading on helps nobody. Warnings are counted apart,
    /// since they must never crowd an error out.
    const ENOUGH: usize = 100;

    pub(super) fn new(source: &str) -> Self {
        Self {
            source: source.into(),
            found: Vec::new(),
            told: HashSet::new(),
        }
    }

    pub(super) fn error(&mut self, place: Option<Place>, message: impl Into<String>) {
        self.add(place, Severity::Error, message.into());
    }

    pub(super) fn warning(&mut self, place: Option<Place>, message: impl Into<String>) {
        self.add(place, Severity::Warning, message.into());
    }

    /// Whether enough errors were found to stop looking.
    pub(super) fn is_full(&self) -> bool {
        self.count(Severity::Error) >= Self::ENOUGH
    }

    fn count(&self, severity: Severity) -> usize {
        let of_severity = self
            .found
            .iter()
            .filter(|problem| problem.severity == severity);
        of_severity.count()
    }

    /// The name of the file.
    pub(super) fn source(&self) -> &str {
        &self.source
    }

    /// Everything, in the order of the file.
    pub(super) fn into_problems(mut self) -> Problems {
        self.found.sort_by_key(|problem| problem.place);
        if self.is_full() {
            self.found.push(Problem {
                source: Arc::clone(&self.source),
                place: None,
                severity: Severity::Warning,
                message: format!(
                    "these are the first {} errors; there may be more",
                    Self::ENOUGH
                ),
            });
        }
        Problems(self.found)
    }

    /// The warnings, when there is no error; else everything.
    pub(super) fn finish(self) -> Result<Vec<Problem>, Problems> {
        let Problems(problems) = self.into_problems();
        if problems
            .iter()
            .any(|problem| problem.severity == Severity::Error)
        {
            Err(Problems(problems))
        } else {
            Ok(problems)
        }
    }

    fn add(&mut self, place: Option<Place>, severity: Severity, message: String) {
        let is_full = self.count(severity) >= Self::ENOUGH;
        if is_full || !self.told.insert((place, message.clone())) {
            return;
        }
        self.found.push(Problem {
            source: Arc::clone(&self.source),
            place,
            severity,
            message,
        });
    }
}

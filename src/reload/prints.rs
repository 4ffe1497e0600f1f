//! What files held, without keeping it: a key's file must not lie in memory a second time.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};

/// More of a file is not looked at; nothing that surgetank reads is as long.
const LONGEST: u64 = 1024 * 1024;

/// The fingerprint of one file's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Print {
    Content([u8; 32]),
    /// There is none, or it cannot be read.
    Unreadable(io::ErrorKind),
    /// A pipe, say: what is read of it is gone for its real reader.
    NoFile,
}

/// The fingerprints of some files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prints(BTreeMap<PathBuf, Print>);

impl Prints {
    /// Adds a file, as it is now.
    pub fn take(&mut self, path: &Path) {
        self.0.insert(path.to_owned(), print(path));
    }

    /// Whether every file still holds what it held.
    #[must_use]
    pub fn are_current(&self) -> bool {
        self.0.iter().all(|(path, known)| print(path) == *known)
    }

    /// The files, in the order of their paths.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.0.keys().map(PathBuf::as_path)
    }

    /// Adds the files of `others` that are not among these, as they were there.
    #[must_use]
    pub(super) fn and(mut self, others: &Self) -> Self {
        for (path, print) in &others.0 {
            self.0.entry(path.clone()).or_insert(*print);
        }
        self
    }
}

fn print(path: &Path) -> Print {
    let hashed = fs::metadata(path).and_then(|about| {
        if !about.is_file() {
            return Ok(Print::NoFile);
        }
        let mut content = Vec::new();
        File::open(path)?.take(LONGEST).read_to_end(&mut content)?;
        Ok(Print::Content(Sha256::digest(&content).into()))
    });
    hashed.unwrap_or_else(|error| Print::Unreadable(error.kind()))
}

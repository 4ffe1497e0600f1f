//! A place for files.

use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

/// A directory of its own, removed at the end.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("surgetank-test-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).expect("a directory");
        Self(path)
    }

    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.0.join(name)
    }

    /// Puts a file there, or another in its place, in one step: nobody ever sees half of it.
    pub(crate) fn write(&self, name: &str, content: &str) -> PathBuf {
        let (path, new) = (self.path(name), self.path("being-written"));
        std::fs::write(&new, content).expect("a writable directory");
        std::fs::rename(new, &path).expect("a move");
        path
    }

    /// Replaces what the symbolic link `name` points to, in one step, as Kubernetes does with `..data`.
    pub(crate) fn swap_link(&self, name: &str, target: &str) {
        let new = self.path(format!("{name}_tmp"));
        std::os::unix::fs::symlink(target, &new).expect("a link");
        std::fs::rename(&new, self.path(name)).expect("a swap");
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

//! Events of the file system.
//!
//! Folders are watched and not the files in them. A file that is replaced (by an editor, a deployment,
//! or Kubernetes, which swaps a symbolic link one level up) is another file under the same name, and a
//! watch on the old one would wait for ever.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
};

use notify::{Event, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::Notify;

use super::Prints;

/// Tells that something happened in the folders of some files.
pub(super) struct Watch {
    /// Absent where the system has no events to give.
    watcher: Option<RecommendedWatcher>,
    changed: Arc<Notify>,
    folders: BTreeSet<PathBuf>,
}

impl Watch {
    pub(super) fn start() -> Self {
        let changed = Arc::new(Notify::new());
        let told = changed.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            // Reading a file is an event too, and we read: taking it for a change would be a circle.
            if !event.is_ok_and(|event| event.kind.is_access()) {
                told.notify_one();
            }
        });
        let watcher = watcher
            .inspect_err(|error| {
                tracing::warn!(%error, "changes of the configuration are found only every 30 s or on SIGHUP: the system gives no events");
            })
            .ok();
        Self {
            watcher,
            changed,
            folders: BTreeSet::new(),
        }
    }

    /// Watches the folders of these files, and no others any more.
    pub(super) fn follow(&mut self, prints: &Prints) {
        let Some(watcher) = &mut self.watcher else {
            return;
        };
        let folders: BTreeSet<_> = prints.files().map(folder_of).collect();
        for gone in self.folders.difference(&folders) {
            let _ = watcher.unwatch(gone);
        }
        for folder in &folders {
            // One that is not there yet is found by the regular look, and watched from then on.
            let _ = watcher.watch(folder, RecursiveMode::NonRecursive);
        }
        self.folders = folders;
    }

    /// Waits for the next event; those since the last wait count.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }
}

fn folder_of(file: &Path) -> PathBuf {
    match file.parent() {
        Some(folder) if folder != Path::new("") => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_name_lies_in_the_working_directory() {
        for (file, folder) in [
            ("a.yaml", "."),
            ("/a.yaml", "/"),
            ("/etc/surgetank/a.yaml", "/etc/surgetank"),
            ("conf/a.yaml", "conf"),
        ] {
            assert_eq!(folder_of(Path::new(file)), Path::new(folder), "{file}");
        }
    }
}

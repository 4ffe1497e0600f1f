//! Events of the file system.
//!
//! Folders are watched and not the files in them. A file that is replaced (by an editor, a deployment,
//! or Kubernetes, which swaps a symbolic link one level up) is another file under the same name, and a
//! watch on the old one would wait for ever. What else lies in such a folder is no news while it is only written to: a
//! log beside the configuration grows with every request.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use notify::{
    Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _, event::ModifyKind,
};
use tokio::sync::Notify;

use super::Prints;

/// Tells that something happened in the folders of some files.
pub(super) struct Watch {
    /// Absent where the system has no events to give.
    watcher: Option<RecommendedWatcher>,
    changed: Arc<Notify>,
    folders: BTreeSet<PathBuf>,
    names: Names,
}

/// What the files are called, and the files that symbolic links among them lead to.
#[derive(Clone, Default)]
struct Names(Arc<Mutex<BTreeSet<OsString>>>);

impl Names {
    /// Nothing that can panic is done while they are held.
    fn lock(&self) -> MutexGuard<'_, BTreeSet<OsString>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn follow<'a>(&self, files: impl Iterator<Item = &'a Path>) {
        let names = files.flat_map(|file| {
            let behind = fs::canonicalize(file).ok();
            let paths = [Some(file.to_owned()), behind];
            paths
                .into_iter()
                .flatten()
                .filter_map(|path| path.file_name().map(OsString::from))
        });
        *self.lock() = names.collect();
    }

    /// Whether an event may have changed one of the files.
    fn are_touched_by(&self, event: &Event) -> bool {
        match event.kind {
            // Reading a file is an event too, and we read: taking it for a change would be a circle.
            EventKind::Access(_) => false,
            EventKind::Modify(ModifyKind::Data(_)) => {
                let names = self.lock();
                let mut written = event.paths.iter().filter_map(|path| path.file_name());
                written.any(|name| names.contains(name))
            }
            // What was created, moved or removed may be the folder that a link leads through.
            _ => true,
        }
    }
}

impl Watch {
    pub(super) fn start() -> Self {
        let changed = Arc::new(Notify::new());
        let (told, names) = (changed.clone(), Names::default());
        let followed = names.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            if !event.is_ok_and(|event| !followed.are_touched_by(&event)) {
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
            names,
        }
    }

    /// Watches the folders of these files, and no others any more.
    pub(super) fn follow(&mut self, prints: &Prints) {
        let Some(watcher) = &mut self.watcher else {
            return;
        };
        self.names.follow(prints.files());
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
    use notify::event::{AccessKind, CreateKind, DataChange};

    use super::*;

    #[test]
    fn only_what_may_have_changed_a_file_is_news() {
        let names = Names::default();
        names.follow([Path::new("/etc/surgetank/a.yaml")].into_iter());
        let written = EventKind::Modify(ModifyKind::Data(DataChange::Any));
        for (kind, file, is_news) in [
            (written, "/etc/surgetank/a.yaml", true),
            (written, "/etc/surgetank/a.log", false),
            (
                EventKind::Create(CreateKind::Any),
                "/etc/surgetank/..data",
                true,
            ),
            (
                EventKind::Access(AccessKind::Any),
                "/etc/surgetank/a.yaml",
                false,
            ),
        ] {
            let event = Event::new(kind).add_path(PathBuf::from(file));
            assert_eq!(names.are_touched_by(&event), is_news, "{kind:?} {file}");
        }
    }

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

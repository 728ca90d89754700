//! `plugsock dev`: notices that a project's sources have changed.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use plugsock::shown;

use super::notices::Notices;

/// An editor that saves several files has them built together.
const QUIET: Duration = Duration::from_millis(100);

/// Folders that a build writes into, or that package managers do.
const NOT_SOURCES: [&str; 3] = ["build", "node_modules", "target"];

/// The files of a project that somebody writes.
pub struct Sources {
    folder: PathBuf,
    notices: Notices,
    last: Snapshot,
}

/// Each file, and what tells it from what was there before.
#[derive(Default, PartialEq)]
struct Snapshot {
    folders: BTreeSet<PathBuf>,
    files: BTreeMap<PathBuf, (u64, u64, Option<SystemTime>)>,
}

impl Sources {
    /// From now on, no change is missed.
    pub fn watch(folder: &Path) -> Self {
        let mut notices = Notices::new(shown(folder));
        let folders = Snapshot::of(folder).folders;
        notices.follow(folders);
        Self { folder: folder.to_owned(), notices, last: Snapshot::of(folder) }
    }

    /// Waits until a file is another than at the end of the last wait.
    pub fn wait_for_change(&mut self) {
        loop {
            let now = Snapshot::of(&self.folder);
            if now != self.last {
                self.notices.wait_for_quiet(QUIET);
                let now = Snapshot::of(&self.folder);
                self.notices.follow(now.folders.clone());
                self.last = now;
                return;
            }
            self.notices.wait();
        }
    }
}

impl Snapshot {
    fn of(folder: &Path) -> Self {
        let mut snapshot = Self::default();
        snapshot.add(folder);
        snapshot
    }

    fn add(&mut self, folder: &Path) {
        self.folders.insert(folder.to_owned());
        for entry in folder.read_dir().into_iter().flatten().flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            let path = entry.path();
            if !is_source(&entry.file_name()) {
                continue;
            }
            if metadata.is_dir() {
                self.add(&path);
            } else {
                self.files.insert(path, (metadata.ino(), metadata.len(), metadata.modified().ok()));
            }
        }
    }
}

fn is_source(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    // Cargo and npm write lock files of their own accord.
    !name.starts_with('.')
        && !NOT_SOURCES.contains(&&*name)
        && name != "Cargo.lock"
        && name != "package-lock.json"
}

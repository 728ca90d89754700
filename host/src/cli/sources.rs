//! `plugsock dev`: notices that a project's sources have changed.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::Context;
use crossbeam::channel::{Receiver, unbounded};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher, recommended_watcher};

/// An editor that saves several files has them built together.
const QUIET: Duration = Duration::from_millis(100);

/// Folders that a build writes into, or that package managers do.
const NOT_SOURCES: [&str; 3] = ["build", "node_modules", "target"];

/// The files of a project that somebody writes.
pub struct Sources {
    folder: PathBuf,
    watcher: RecommendedWatcher,
    events: Receiver<()>,
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
    pub fn watch(folder: &Path) -> anyhow::Result<Self> {
        let (sender, events) = unbounded();
        let watcher = recommended_watcher(move |event: notify::Result<Event>| {
            // To read a file is an event too.
            if !event.is_ok_and(|event| matches!(event.kind, EventKind::Access(_))) {
                let _ = sender.send(());
            }
        })
        .context("cannot watch files")?;
        let mut sources = Self { folder: folder.to_owned(), watcher, events, last: Snapshot::default() };
        sources.look();
        Ok(sources)
    }

    /// Waits until a file is another than at the end of the last wait.
    pub fn wait_for_change(&mut self) {
        while self.events.recv().is_ok() {
            while self.events.recv_timeout(QUIET).is_ok() {}
            if self.look() {
                return;
            }
        }
    }

    /// Whether anything has changed.
    fn look(&mut self) -> bool {
        let mut now = Snapshot::default();
        now.add(&self.folder);
        for folder in now.folders.difference(&self.last.folders) {
            if let Err(error) = self.watcher.watch(folder, RecursiveMode::NonRecursive) {
                tracing::warn!("cannot watch {}: {error}", folder.display());
            }
        }
        let is_new = now != self.last;
        self.last = now;
        is_new
    }
}

impl Snapshot {
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

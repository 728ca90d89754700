//! `--watch`: notices that a handler's file has changed, whichever way it is replaced.

use std::collections::BTreeSet;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::Context;
use crossbeam::channel::{Receiver, RecvTimeoutError, unbounded};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher, recommended_watcher};

use super::lease::has_writer;

/// A file is loaded when nothing has changed for so long.
const QUIET: Duration = Duration::from_millis(150);

/// What a file was when it was last loaded; a process that takes over goes on from there.
pub type Seen = Arc<Mutex<Option<Identity>>>;

/// Runs `changed` whenever the file is another than was seen, as long as the process lives.
pub fn watch(file: &Path, seen: Seen, changed: impl Fn() + Send + 'static) -> anyhow::Result<()> {
    let file = std::path::absolute(file)?;
    let (events, noticed) = unbounded();
    // It may have changed since it was loaded.
    let _ = events.send(());
    let mut watcher = recommended_watcher(move |event: notify::Result<Event>| {
        // To read the file is an event too.
        if !event.is_ok_and(|event| matches!(event.kind, EventKind::Access(_))) {
            let _ = events.send(());
        }
    })
    .context("cannot watch files")?;
    let mut watched = BTreeSet::new();
    follow(&mut watcher, &mut watched, &file);
    thread::Builder::new().name("watch".to_owned()).spawn(move || {
        while noticed.recv().is_ok() {
            // A link in the path may lead elsewhere now.
            follow(&mut watcher, &mut watched, &file);
            let now = settled(&file, &noticed);
            let is_new = now.is_some() && now != *seen.lock().unwrap_or_else(PoisonError::into_inner);
            match is_new {
                true => changed(),
                false => tracing::debug!("{} is as it was", file.display()),
            }
            *seen.lock().unwrap_or_else(PoisonError::into_inner) = now;
        }
    })?;
    Ok(())
}

/// What the file is when it has stopped changing and nobody is writing it; `None` while there is none.
fn settled(file: &Path, noticed: &Receiver<()>) -> Option<Identity> {
    let mut before = Identity::of(file);
    let mut is_said = false;
    while let Ok(()) | Err(RecvTimeoutError::Timeout) = noticed.recv_timeout(QUIET) {
        let now = Identity::of(file);
        if now == before {
            if !has_writer(file) {
                break;
            }
            if !is_said {
                tracing::info!("{} is being written: it is loaded when that is over", file.display());
                is_said = true;
            }
        }
        before = now;
    }
    before
}

/// Watches every directory on the way to the file, links followed.
fn follow(watcher: &mut RecommendedWatcher, watched: &mut BTreeSet<PathBuf>, file: &Path) {
    let mut wanted = BTreeSet::new();
    directories(file, &mut wanted, LINKS_MAX);
    for gone in watched.difference(&wanted) {
        let _ = watcher.unwatch(gone);
    }
    // Watched anew even if it was before: another directory may have its name now.
    for directory in &wanted {
        let _ = watcher.unwatch(directory);
        if let Err(error) = watcher.watch(directory, RecursiveMode::NonRecursive) {
            tracing::debug!("cannot watch {}: {error}", directory.display());
        }
    }
    *watched = wanted;
}

/// As many as the kernel follows.
const LINKS_MAX: usize = 40;

fn directories(path: &Path, found: &mut BTreeSet<PathBuf>, links: usize) {
    for step in path.ancestors() {
        let Some(parent) = step.parent() else { continue };
        found.insert(parent.to_owned());
        if let (Ok(target), 1..) = (std::fs::read_link(step), links) {
            directories(&parent.join(target), found, links - 1);
        }
    }
}

/// What tells a file from what was there before.
#[derive(Clone, PartialEq)]
pub struct Identity {
    device: u64,
    inode: u64,
    length: u64,
    /// When its status changed, in seconds and nanoseconds: that cannot be set, as the time of its last change
    /// can.
    changed: (i64, i64),
}

impl Identity {
    pub fn of(file: &Path) -> Option<Self> {
        std::fs::metadata(file).ok().filter(Metadata::is_file).map(|metadata| Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            length: metadata.len(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }

    /// For a process that takes over.
    pub fn to_bytes(&self) -> Vec<u8> {
        let Self { device, inode, length, changed: (seconds, nanoseconds) } = self;
        let numbers = [*device, *inode, *length, *seconds as u64, *nanoseconds as u64];
        numbers.into_iter().flat_map(u64::to_ne_bytes).collect()
    }

    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (numbers, []) = bytes.as_chunks() else { return None };
        let numbers: Vec<u64> = numbers.iter().map(|number| u64::from_ne_bytes(*number)).collect();
        let [device, inode, length, seconds, nanoseconds] = numbers[..] else { return None };
        Some(Self { device, inode, length, changed: (seconds as i64, nanoseconds as i64) })
    }
}

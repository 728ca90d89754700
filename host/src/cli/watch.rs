//! Notices that files have changed, whichever way they are replaced: handlers' with `--watch`, and certificates'; and
//! that a tag in a registry stands for something else (`tag`).

pub mod tag;

use std::collections::BTreeSet;
use std::fs::Metadata;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use plugsock::{Digest, shown, signature_path};
use serde::{Deserialize, Serialize};

use super::lease::has_writer;
use super::notices::Notices;

/// A file is loaded when nothing has changed for so long.
const QUIET: Duration = Duration::from_millis(150);

/// What something is loaded from. It is called by the first, and without that it cannot be loaded.
#[derive(Clone)]
pub struct Files(Vec<PathBuf>);

impl Files {
    /// A handler's.
    pub fn new(handler: &Path, is_signed: bool) -> Self {
        // Absolute, whatever becomes of the working directory; that fails only if it is gone already.
        let handler = std::path::absolute(handler).unwrap_or_else(|_| handler.to_owned());
        let signature = is_signed.then(|| signature_path(&handler));
        Self([Some(handler), signature].into_iter().flatten().collect())
    }

    /// Files that belong together, with their absolute paths.
    pub fn all(files: Vec<PathBuf>) -> Self {
        Self(files)
    }

    /// What they are now.
    pub fn look(&self) -> Look {
        Look(Seeable::Files(self.0.iter().map(|file| Identity::of(file)).collect()))
    }

    fn name(&self) -> String {
        self.0.first().map(|file| shown(file)).unwrap_or_default()
    }
}

/// What files were when they were looked at, or why they could not be; or what a tag stood for.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Look(Seeable);

#[derive(Clone, PartialEq, Serialize, Deserialize)]
enum Seeable {
    Files(Vec<Result<Identity, String>>),
    /// The manifest that a tag stood for.
    Tag(String),
}

impl Look {
    /// What the first of the files was.
    fn first(&self) -> Option<&Result<Identity, String>> {
        match &self.0 {
            Seeable::Files(files) => files.first(),
            Seeable::Tag(_) => None,
        }
    }

    /// That a tag stands for this manifest.
    pub fn at_tag(manifest: Digest) -> Self {
        Self(Seeable::Tag(manifest.to_string()))
    }

    /// For a process that takes over.
    pub fn to_bytes(&self) -> Option<Vec<u8>> {
        postcard::to_stdvec(self).ok()
    }

    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        postcard::from_bytes(bytes).ok()
    }
}

/// What the files were when they were last loaded, if that is known; a process that takes over goes on from there.
pub type Seen = Arc<Mutex<Option<Look>>>;

/// Runs `changed` whenever the files are others than were seen, as long as somebody else has `seen`.
pub fn watch(files: Files, seen: &Seen, changed: impl Fn() + Send + 'static) -> anyhow::Result<()> {
    let seen = Arc::downgrade(seen);
    let mut notices = Notices::new(files.name());
    notices.follow(directories(&files));
    thread::Builder::new().name("watch".to_owned()).spawn(move || {
        let mut is_told = false;
        while let Some(seen) = seen.upgrade() {
            // They may have changed since they were loaded.
            let (now, last) = (files.look(), seen.lock().unwrap_or_else(PoisonError::into_inner).clone());
            if Some(&now) != last.as_ref() {
                let now = settled(now, &files, &notices);
                // A link in the path may lead elsewhere now.
                notices.follow(directories(&files));
                match now.first() {
                    Some(Ok(_)) if Some(&now) != last.as_ref() => changed(),
                    Some(Err(reason)) if last.as_ref().and_then(Look::first) != now.first() => {
                        let file = files.name();
                        tracing::warn!(
                            "{file} cannot be looked at: {reason}: what was loaded before serves on, and the file \
                             is loaded when it is there again"
                        );
                    }
                    _ => {}
                }
                *seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
            } else if is_told {
                tracing::debug!("{} is as it was", files.name());
            }
            drop(seen);
            is_told = notices.wait();
        }
    })?;
    Ok(())
}

/// What the files are when they have stopped changing and nobody is writing them.
fn settled(mut before: Look, files: &Files, notices: &Notices) -> Look {
    let mut is_said = false;
    loop {
        notices.wait_for_quiet(QUIET);
        let now = files.look();
        if now == before {
            if !files.0.iter().any(|file| has_writer(file)) {
                return now;
            }
            if !is_said {
                let file = files.name();
                tracing::info!("{file} is being written: it is loaded when that is over");
                is_said = true;
            }
        }
        before = now;
    }
}

/// Every directory on the way to the files, links followed.
fn directories(files: &Files) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    files.0.iter().for_each(|file| add_directories(file, &mut found, LINKS_MAX));
    found
}

/// As many as the kernel follows.
const LINKS_MAX: usize = 40;

fn add_directories(path: &Path, found: &mut BTreeSet<PathBuf>, links: usize) {
    for step in path.ancestors() {
        let Some(parent) = step.parent() else { continue };
        found.insert(parent.to_owned());
        if let (Ok(target), 1..) = (std::fs::read_link(step), links) {
            add_directories(&parent.join(target), found, links - 1);
        }
    }
}

/// What tells a file from what was there before.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
struct Identity {
    device: u64,
    inode: u64,
    length: u64,
    /// When its status changed, in seconds and nanoseconds: that cannot be set, as the time of its last change
    /// can.
    changed: (i64, i64),
}

impl Identity {
    fn of(file: &Path) -> Result<Self, String> {
        let metadata = std::fs::metadata(file).map_err(|error| error.kind().to_string())?;
        Some(metadata).filter(Metadata::is_file).ok_or_else(|| ErrorKind::IsADirectory.to_string()).map(
            |metadata| Self {
                device: metadata.dev(),
                inode: metadata.ino(),
                length: metadata.len(),
                changed: (metadata.ctime(), metadata.ctime_nsec()),
            },
        )
    }
}

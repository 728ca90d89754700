//! Notices that something in a set of directories may have changed: at once where the kernel tells, and in any case
//! at a slow beat, since it does not tell of all changes (by another name of a file, on a network's file system) and
//! not everybody (who has used up what it allows, or may not read a directory).

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender, unbounded};
use notify::{ErrorKind, Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher, recommended_watcher};
use plugsock::{one_line, shown};
use rustix::io::Errno;

/// How often to look without being told.
const BEAT: Duration = Duration::from_secs(1);

pub struct Notices {
    /// What is looked at, for messages.
    what: String,
    /// `None` where the kernel has no more of them.
    watcher: Option<RecommendedWatcher>,
    events: Receiver<()>,
    /// Keeps `events` open where there is no watcher.
    _sender: Sender<()>,
    watched: BTreeSet<PathBuf>,
    /// Directories that cannot be watched, which was said.
    unwatched: BTreeSet<PathBuf>,
}

impl Notices {
    /// Notices nothing but the beat until there are directories to follow.
    pub fn new(what: String) -> Self {
        let (sender, events) = unbounded();
        let noticed = sender.clone();
        let watcher = recommended_watcher(move |event: notify::Result<Event>| {
            // To read the file is an event too.
            if !event.is_ok_and(|event| matches!(event.kind, EventKind::Access(_))) {
                let _ = noticed.send(());
            }
        });
        let watcher = watcher
            .inspect_err(|error| {
                let reason = reason(error);
                tracing::warn!("changes cannot be watched for: {reason}: {what} is looked at every {BEAT:?}");
            })
            .ok();
        let (watched, unwatched) = (BTreeSet::new(), BTreeSet::new());
        Self { what, watcher, events, _sender: sender, watched, unwatched }
    }

    /// From now on watches these directories and no others.
    pub fn follow(&mut self, directories: BTreeSet<PathBuf>) {
        let Some(watcher) = &mut self.watcher else { return };
        for gone in self.watched.difference(&directories) {
            let _ = watcher.unwatch(gone);
        }
        // Watched anew even if it was before: another directory may have its name now.
        for directory in &directories {
            let _ = watcher.unwatch(directory);
            match watcher.watch(directory, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    self.unwatched.remove(directory);
                }
                // Whoever makes it is noticed in the one above.
                Err(error) if is_missing(&error) => {}
                Err(error) => {
                    if self.unwatched.insert(directory.clone()) {
                        let directory = shown(directory);
                        let (reason, what) = (reason(&error), &self.what);
                        tracing::warn!(
                            "directory {directory} cannot be watched: {reason}: {what} is looked at every {BEAT:?}"
                        );
                    }
                }
            }
        }
        self.watched = directories;
    }

    /// Waits until there may be something to see; whether the kernel said so.
    pub fn wait(&self) -> bool {
        self.events.recv_timeout(BEAT).is_ok()
    }

    /// Waits until nothing has been noticed for so long, or for a while where that does not happen.
    pub fn wait_for_quiet(&self, quiet: Duration) {
        let latest = Instant::now() + BEAT;
        while Instant::now() < latest && self.events.recv_timeout(quiet).is_ok() {}
    }
}

fn is_missing(error: &notify::Error) -> bool {
    match &error.kind {
        ErrorKind::PathNotFound => true,
        ErrorKind::Io(error) => {
            [Some(Errno::NOENT), Some(Errno::NOTDIR)].contains(&Errno::from_io_error(error))
        }
        _ => false,
    }
}

/// Why not, and what to do.
fn reason(error: &notify::Error) -> String {
    let errno = match &error.kind {
        ErrorKind::MaxFilesWatch => Some(Errno::NOSPC),
        ErrorKind::Io(error) => Errno::from_io_error(error),
        _ => None,
    };
    match errno {
        Some(Errno::NOSPC) => "no more watches are allowed; raise fs.inotify.max_user_watches".to_owned(),
        Some(Errno::MFILE) => {
            "no more inotify instances are allowed; raise fs.inotify.max_user_instances (or `ulimit -n`)"
                .to_owned()
        }
        Some(errno) => errno.to_string(),
        None => one_line(&error.to_string()),
    }
}

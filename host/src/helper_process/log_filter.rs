//! By what helpers filter their log: a file in memory that grows by a line with each change.
//!
//! It has to reach children that serve a request and listen to nobody meanwhile. So a helper looks at the file when it is
//! about to log what a guest prints, which costs a system call beside the one that logs.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

/// No filter is longer, in bytes.
const FILTER_MAX: usize = 1024;

/// The host's.
static CHANGES: Mutex<Changes> = Mutex::new(Changes { file: None, last: String::new() });

struct Changes {
    /// Made for the first helper that is to follow.
    file: Option<File>,
    /// What was told before; empty if nothing was.
    last: String,
}

/// A helper's.
static FOLLOWED: OnceLock<File> = OnceLock::new();

/// How much of that it has read.
static READ: AtomicU64 = AtomicU64::new(0);

type Apply = Box<dyn Fn(&str) + Send + Sync>;

/// What a helper does with a filter.
static APPLY: OnceLock<Apply> = OnceLock::new();

fn changes() -> MutexGuard<'static, Changes> {
    CHANGES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Tells helpers of another filter.
pub(crate) fn set(filter: &str) -> io::Result<()> {
    if filter.len() > FILTER_MAX || filter.contains('\n') {
        return Err(io::Error::other(format!("a filter has one line of at most {FILTER_MAX} bytes")));
    }
    let mut changes = changes();
    if let Some(file) = &mut changes.file {
        append(file, filter)?;
    }
    filter.clone_into(&mut changes.last);
    Ok(())
}

fn append(file: &mut File, filter: &str) -> io::Result<()> {
    let line = format!("{filter}\n");
    let size = file.metadata()?.len() + line.len() as u64;
    // Who writes beyond this limit is sent a signal that would end the process.
    if getrlimit(Resource::Fsize).current.is_some_and(|max| size > max) {
        return Err(Errno::FBIG.into());
    }
    file.write_all(line.as_bytes())
}

/// For a helper that is to follow: the same file, which it cannot write to.
pub(crate) fn to_follow() -> io::Result<OwnedFd> {
    let mut changes = changes();
    if changes.file.is_none() {
        let mut file = File::from(memfd_create("log-filter", MemfdFlags::CLOEXEC)?);
        if !changes.last.is_empty() {
            append(&mut file, &changes.last)?;
        }
        changes.file = Some(file);
    }
    let file = changes.file.as_ref().expect("it was made above");
    Ok(File::open(format!("/proc/self/fd/{}", file.as_raw_fd()))?.into())
}

/// Says what is done with a filter; what was said before stays.
pub(crate) fn follow_by(apply: Apply) {
    let _ = APPLY.set(apply);
}

/// From now on this process, and what it forks, takes over the filters that are told there.
pub(crate) fn follow(changes: OwnedFd) {
    let _ = FOLLOWED.set(changes.into());
    look();
}

/// Takes over the last filter that was told, if there is a new one. In a process that follows none it does nothing.
pub(crate) fn look() {
    let Some(changes) = FOLLOWED.get() else { return };
    let (mut told, mut at) = (Vec::new(), READ.load(Relaxed));
    let mut chunk = [0; FILTER_MAX + 1];
    while let Ok(length @ 1..) = changes.read_at(&mut chunk, at) {
        told.extend_from_slice(&chunk[..length]);
        at += length as u64;
    }
    // A line may be on its way.
    let Some(end) = told.iter().rposition(|byte| *byte == b'\n') else { return };
    READ.fetch_add(end as u64 + 1, Relaxed);
    let last = told[..end].rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
    if let (Ok(filter), Some(apply)) = (std::str::from_utf8(last), APPLY.get()) {
        apply(filter);
    }
}
